/**
 * Goal: generated machines are valid, varied and depend on their seed alone. Method: many seeds.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { GENERATED_ENDPOINTS_MAX, generateFabric } from '../../src/machine/presets/generate.ts';
import type { MachineSpec } from '../../src/machine/spec/machine-spec.ts';
import { parseMachineSpec, readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { machineSpecToJson } from '../../src/machine/spec/write-machine-spec.ts';
import { bridgesAbove, expectReachable, functionsOf } from './machine-facts.ts';

function endpointsOf({ functions }: MachineSpec): number {
  return functions.filter(({ type }) => type === 'endpoint').length;
}

describe('a generated fabric', () => {
  test('is a valid machine with as many endpoints as asked for', () => {
    const options = fc.record({
      seed: fc.nat(),
      endpoints: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 500 })),
    });
    fc.assert(
      fc.property(options, (chosen) => {
        const machine = generateFabric(chosen);
        expect(readMachineSpec(machine, 'generated')).toEqual(machine);
        expect(endpointsOf(machine)).toBe(chosen.endpoints);
        expectReachable(machine);
      }),
      { numRuns: 150 },
    );
  });

  test('is the same for the same seed, and another for another', () => {
    const one = generateFabric({ seed: 5, endpoints: 200 });
    expect(generateFabric({ seed: 5, endpoints: 200 })).toEqual(one);
    expect(generateFabric({ seed: 6, endpoints: 200 }).functions).not.toEqual(one.functions);
  });

  test('has domains, cascades, several functions in a slot, virtual functions, mixed ACS', () => {
    const machine = generateFabric({ seed: 1, endpoints: 1000 });
    const byAddress = functionsOf(machine);
    expect(new Set(machine.hostBridges.map(({ domain }) => domain)).size).toBeGreaterThan(5);
    expect(machine.hostBridges.length).toBeGreaterThan(10);
    expect(machine.hostBridges.some(({ busOffset }) => busOffset !== 0)).toBe(true);
    expect(machine.hostBridges.some(({ dmaOffset }) => dmaOffset !== 0)).toBe(true);
    const depths = machine.functions.map((fn) => bridgesAbove(byAddress, fn).length);
    expect(Math.max(...depths)).toBe(7);
    expect(machine.functions.some(({ address }) => /:00\.[1-7]$/.test(address))).toBe(true);
    expect(machine.functions.some((fn) => fn.physicalFunction !== null)).toBe(true);
    const controls = machine.functions.map(({ acs }) => acs && acs !== 'unknown' && acs.control);
    expect(new Set(controls)).toEqual(new Set([null, 0x00, 0x04, 0x0c, 0x11, 0x1d, 0x20]));
  });

  test('may be as large as the limit', () => {
    const machine = generateFabric({ seed: 1, endpoints: GENERATED_ENDPOINTS_MAX });
    expect(endpointsOf(machine)).toBe(GENERATED_ENDPOINTS_MAX);
    const text = machineSpecToJson(machine);
    expect(machineSpecToJson(parseMachineSpec(text, 'generated'))).toBe(text);
    expectReachable(machine);
  });

  test.each([0, -1, 1.5, Number.NaN, GENERATED_ENDPOINTS_MAX + 1])(
    'cannot have %d endpoints',
    (endpoints) => {
      const generate = (): MachineSpec => generateFabric({ seed: 1, endpoints });
      expect(generate).toThrow(InputError);
      expect(generate).toThrow(`endpoints: expected an integer of 1 to 20000, got ${endpoints}`);
    },
  );
});
