/**
 * Goal: what a machine is comes back from the sysfs that it would show. Method: presets and random
 * machines are written as Linux would show them to root, and read again.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MapTree, machineFromSysfs } from '../../src/doctor/index.ts';
import type { FunctionSpec, MachineSpec } from '../../src/machine/index.ts';
import { generateFabric } from '../../src/machine/presets/generate.ts';
import { PRESETS } from '../../src/machine/presets/index.ts';
import { readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { type CopyOptions, sysfsOfMachine } from './sysfs-of-machine.ts';

function readBack(spec: MachineSpec, options: CopyOptions): MachineSpec {
  const tree = new MapTree(spec.name, sysfsOfMachine(spec, options));
  return readMachineSpec(machineFromSysfs(tree, spec.name), spec.name);
}

/** What a copy shows of a function: not the evidence, and of a link what the kind of copy has. */
function shown(fn: FunctionSpec): object {
  const { config, link, acs, ...rest } = fn;
  return { ...rest, acs: acs === 'unknown' ? null : acs, hasConfig: config !== null };
}

function expectSame(spec: MachineSpec, back: MachineSpec): void {
  const wanted = spec.functions.map((fn) => ({ ...shown(fn), hasConfig: true }));
  expect(back.functions.map(shown)).toEqual(wanted);
  const roots = spec.hostBridges.map(({ domain, bus, busOffset }) => ({ domain, bus, busOffset }));
  expect(back.hostBridges).toMatchObject(roots);
  for (const [at, { link }] of spec.functions.entries()) {
    if (link !== null && link.speed !== null) expect(back.functions[at]?.link).toEqual(link);
  }
}

describe('a machine written as sysfs', () => {
  test.each(PRESETS.map((spec) => [spec.name, spec] as const))('%s comes back', (_, spec) => {
    expectSame(spec, readBack(spec, { hasLinks: true, hasSpeeds: true }));
  });

  test('comes back from any copy of any machine', () => {
    const options = fc.record({ hasLinks: fc.boolean(), hasSpeeds: fc.boolean() });
    const input = fc.tuple(fc.nat(1_000_000), fc.integer({ min: 1, max: 40 }), options);
    fc.assert(
      fc.property(input, ([seed, endpoints, copy]) => {
        const spec = generateFabric({ seed, endpoints });
        expectSame(spec, readBack(spec, copy));
      }),
      { numRuns: 30 },
    );
  });
});
