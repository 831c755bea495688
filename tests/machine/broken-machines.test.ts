/**
 * Goal: no input makes the reader crash, hang or answer wrongly. Method: presets with every field
 * broken in turn, presets with random parts replaced, random JSON, and input of absurd size.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { PRESETS } from '../../src/machine/presets/index.ts';
import {
  FUNCTIONS_MAX,
  parseMachineSpec,
  readMachineSpec,
} from '../../src/machine/spec/read-machine-spec.ts';
import { machineSpecToJson } from '../../src/machine/spec/write-machine-spec.ts';
import { change, problemOf, smallMachine } from './small-machine.ts';

type Json = Record<string, unknown>;

/** A preset that may be broken. */
function copyOf(preset: object): Json {
  return structuredClone(preset) as Json;
}

/** The paths of everything in `value`: of objects and lists, too. */
function pathsOf(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inside = Object.entries(value).flatMap(([step, item]) => {
    const label = Array.isArray(value) ? `[${step}]` : `.${step}`;
    return pathsOf(item, path === '' ? step : path + label);
  });
  return path === '' ? inside : [path, ...inside];
}

function at(root: unknown, path: string): unknown {
  const steps = path.split(/[.[\]]+/).filter((step) => step !== '');
  return steps.reduce((value, step) => (value as Json | undefined)?.[step], root);
}

/** Reads, and expects an {@link InputError} or a machine that reads as itself. */
function readAnything(json: unknown): void {
  let machine: unknown;
  try {
    machine = readMachineSpec(json, 'box');
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).not.toContain('\n');
    return;
  }
  expect(readMachineSpec(machine, 'box')).toEqual(machine);
}

describe.each(PRESETS.map((preset) => [preset.name, preset] as const))('%s', (_, preset) => {
  test('is refused with the place of any value that is of a wrong type', () => {
    for (const path of pathsOf(preset)) {
      const machine = copyOf(preset);
      change(machine, path, typeof at(preset, path) === 'boolean' ? 'yes' : true);
      const problem = problemOf(() => readMachineSpec(machine, 'box'));
      expect(problem.slice(0, path.length + 7)).toBe(`box: ${path}: `);
    }
  });

  test('is refused with the place of any number that is out of range', () => {
    const numbers = pathsOf(preset).filter((path) => typeof at(preset, path) === 'number');
    for (const path of numbers) {
      for (const value of [-(2 ** 53), 2 ** 53, 0.5, Number.NaN]) {
        const machine = copyOf(preset);
        change(machine, path, value);
        const problem = problemOf(() => readMachineSpec(machine, 'box'));
        expect(problem.slice(0, path.length + 7)).toBe(`box: ${path}: `);
      }
    }
  });

  test('is refused with the right name for any field that is misspelt', () => {
    for (const path of pathsOf(preset).filter((candidate) => !candidate.endsWith(']'))) {
      const machine = copyOf(preset);
      change(machine, `${path}s`, 0);
      const name = path.split('.').at(-1);
      const problem = problemOf(() => readMachineSpec(machine, 'box'));
      expect(problem).toBe(`box: ${path}s: unknown field; did you mean "${name}"?`);
    }
  });

  test('with any part replaced is refused, or is another machine', () => {
    const part = fc.tuple(fc.constantFrom(...pathsOf(preset)), fc.jsonValue({ maxDepth: 2 }));
    const number = fc.tuple(
      fc.constantFrom(...pathsOf(preset)),
      fc.oneof(
        fc.nat({ max: 300 }),
        fc.nat().map((n) => n * 4096),
      ),
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(part, number), { maxLength: 2 }), (changes) => {
        const machine = copyOf(preset);
        for (const [path, value] of changes) {
          const parent = at(machine, path.replace(/(\.\w+|\[\d+\]|^\w+)$/, ''));
          if (typeof parent === 'object' && parent !== null) change(machine, path, value);
        }
        readAnything(machine);
      }),
      { numRuns: 300 },
    );
  });
});

describe('random input', () => {
  test('is refused', () => {
    const json = fc.oneof(fc.jsonValue(), fc.object({ maxDepth: 4 }), fc.anything());
    fc.assert(fc.property(json, readAnything), { numRuns: 500 });
  });

  test('in any field is refused, or is another machine', () => {
    const fields = ['memory', 'hostBridges', 'functions', 'cpu', 'notes', 'functions[4].bars'];
    const field = fc.constantFrom(...fields);
    fc.assert(
      fc.property(field, fc.oneof(fc.jsonValue(), fc.array(fc.jsonValue())), (path, value) => {
        readAnything(smallMachine({ [path]: value }));
      }),
      { numRuns: 500 },
    );
  });

  test('as text is refused', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(problemOf(() => parseMachineSpec(text, 'box'))).toMatch(/^box: /);
      }),
    );
  });

  test('with a field called __proto__ is refused', () => {
    const text = machineSpecToJson(readMachineSpec(smallMachine(), 'box'));
    const problem = problemOf(() =>
      parseMachineSpec(text.replace('{', '{"__proto__": {},'), 'box'),
    );
    expect(problem).toBe('box: __proto__: unknown field');
  });

  test('that nests deeply or is very long is refused', () => {
    let deep: unknown = null;
    for (let depth = 0; depth < 100_000; depth += 1) deep = [deep];
    expect(problemOf(() => readMachineSpec(deep, 'box'))).toContain('got a list of 1');
    const notes = smallMachine({ notes: [deep] });
    expect(problemOf(() => readMachineSpec(notes, 'box'))).toContain('notes[0]: expected a string');
    const long = smallMachine({ functions: new Array(10_000_000).fill(null) });
    expect(problemOf(() => readMachineSpec(long, 'box'))).toContain('expected at most 65536 items');
    const name = smallMachine({ name: 'a'.repeat(10_000_000) });
    expect(problemOf(() => readMachineSpec(name, 'box'))).toContain('at most 4096 characters');
    const hex = smallMachine({ 'functions[0].vendor': `0x${'f'.repeat(10_000_000)}` });
    expect(problemOf(() => readMachineSpec(hex, 'box'))).toContain('functions[0].vendor: expected');
  });
});

describe('the limits', () => {
  /** A chain of `depth` bridges, one below another. */
  function chain(depth: number): Json {
    const address = (bus: number): string => `${bus.toString(16).padStart(2, '0')}:00.0`;
    const functions = Array.from({ length: depth + 1 }, (_, bus) => ({
      address: address(bus),
      parent: bus === 0 ? null : address(bus - 1),
      vendor: 1,
      device: 2,
      classCode: 0x060400,
      type: 'conventional',
      bridge: bus < depth ? { secondary: bus + 1, subordinate: depth } : null,
    }));
    return smallMachine({ hostBridges: [{ bus: 0 }], functions });
  }

  test('let 64 bridges stand one below another, and no more', () => {
    expect(problemOf(() => readMachineSpec(chain(64), 'box'))).toBe('no problem');
    expect(problemOf(() => readMachineSpec(chain(65), 'box'))).toBe(
      'box: functions[65].parent: expected at most 64 bridges above, got 65',
    );
    expect(problemOf(() => readMachineSpec(chain(200), 'box'))).toContain('at most 64 bridges');
  });

  test('are not needed for bridges that form a circle', () => {
    const machine = smallMachine({
      'functions[0].address': '04:02.0',
      'functions[0].parent': '02:01.0',
      'functions[1].parent': '04:02.0',
    });
    expect(problemOf(() => readMachineSpec(machine, 'box'))).toMatch(
      /^box: functions\[\d\]\.parent: the bridges above this function form a circle$/,
    );
  });

  test('let a domain be full', () => {
    const hostBridges = Array.from({ length: 256 }, (_, bus) => ({ bus }));
    const functions = Array.from({ length: FUNCTIONS_MAX }, (_, id) => {
      const [bus, device] = [id >> 8, (id >> 3) & 31].map((n) => n.toString(16).padStart(2, '0'));
      const ids = { vendor: 1, device: 2, classCode: 3, type: 'conventional' };
      return { address: `${bus}:${device}.${id & 7}`, ...ids };
    });
    const machine = readMachineSpec(smallMachine({ hostBridges, functions }), 'box');
    expect(machine.functions).toHaveLength(FUNCTIONS_MAX);
  });
});
