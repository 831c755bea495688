/**
 * Goal: Linux trusts exactly the CPUs and host bridges that it says it trusts. Method: every entry
 * of the list, alone, in pairs of host bridges and on other functions; the list was also read out
 * of the binary of Debian's 7.2.12, entry by entry. p2p-topology 1.4, 1.5.
 */

import { describe, expect, test } from 'vitest';
import {
  cpuSupportsP2pdma,
  hostBridgeDevice,
  hostBridgesAllow,
} from '../../src/framework/index.ts';
import { type HostBridge, type MachineSpec, PciTree } from '../../src/machine/index.ts';
import { conventional, type Plan, rootPort } from '../../src/machine/presets/build.ts';
import {
  card,
  INTEL,
  LISTED,
  machineOf,
  PORT,
  port,
  UNLISTED,
  ZEN,
} from '../machine/test-machines.ts';
import { judge, withCpu, withIds } from './p2p-facts.ts';

/** Listed for pairs below one host bridge. */
const SAME_ONLY: readonly (readonly [number, number])[] = [0x3c00, 0x3c01, 0x2f00, 0x2f01].map(
  (device) => [0x8086, device],
);
/** Listed for any pair. */
const ANY: readonly (readonly [number, number])[] = [
  ...[0x2030, 0x2031, 0x2032, 0x2033, 0x2020, 0x09a2],
  ...[0x0b25, 0x0cfe, 0x11fb, 0x1212, 0x1216],
  ...[0x4940, 0x4942, 0x4944, 0x4946, 0x4948],
].map((device) => [0x8086, device] as const);
const GOOGLE: readonly (readonly [number, number])[] = [0x0001, 0x0042, 0xffff].map((device) => [
  0x1ae0,
  device,
]);
/** Neighbours of listed ids, and what people expect there. */
const NOT_LISTED: readonly (readonly [number, number])[] = [
  ...[0x6f00, 0x0e00, 0x29c0, 0x1237, 0x4c43, 0x3c02, 0x2f02, 0x2034, 0x2021].map(
    (device) => [0x8086, device] as const,
  ),
  ...[0x0b24, 0x0cff, 0x4941, 0x4943].map((device) => [0x8086, device] as const),
  [0x1022, 0x09a2],
  [0x1022, 0x1450],
  // In other lists than that of 7.2.12: NVIDIA's CPUs, Zhaoxin.
  ...[0x2f95, 0x2f96, 0x2f97, 0x2f98].map((device) => [0x10de, device] as const),
  ...[0x1003, 0x1005, 0x1006, 0x1007, 0x1008].map((device) => [0x1d17, device] as const),
];

/** Two host bridges, 00 and 40; below the first two cards, below the other one. */
function twoBridges(one: readonly [number, number], other: readonly [number, number]): MachineSpec {
  const spec = machineOf({
    0: [port('01.0', [card()]), port('02.0', [card()])],
    64: [port('01.0', [card()])],
  });
  const idsOf = ([vendor, device]: readonly [number, number]) => ({ vendor, device });
  return withIds(spec, { '00:00.0': idsOf(one), '40:00.0': idsOf(other) });
}

const NEAR = ['01:00.0', '02:00.0'] as const;
const FAR = ['01:00.0', '41:00.0'] as const;

/** The verdict below one host bridge, and across two. */
function verdicts(one: readonly [number, number], other: readonly [number, number]) {
  const spec = twoBridges(one, other);
  return [judge(spec, ...NEAR), judge(spec, ...FAR)].map(({ reason }) => reason);
}

const ID = (pair: readonly [number, number]) => pair.map((id) => id.toString(16)).join(':');

describe('A host bridge (D.4)', () => {
  test.each(SAME_ONLY.map((id) => [ID(id), id] as const))(
    '%s is trusted for pairs below itself, not for pairs of two (N41)',
    (_, id) => {
      expect(verdicts(id, id)).toEqual(['host-bridge-listed', 'host-bridges-differ']);
      const [any] = ANY;
      if (any === undefined) return expect.fail('an entry');
      expect(verdicts(id, any)).toEqual(['host-bridge-listed', 'host-bridges-differ']);
      expect(verdicts(any, id)).toEqual(['host-bridge-listed', 'host-bridges-differ']);
    },
  );

  test.each([...ANY, ...GOOGLE].map((id) => [ID(id), id] as const))(
    '%s is trusted, also together with another that is',
    (_, id) => {
      expect(verdicts(id, id)).toEqual(['host-bridge-listed', 'host-bridge-listed']);
      for (const other of [...ANY, ...GOOGLE]) {
        expect(verdicts(id, other)[1]).toBe('host-bridge-listed');
      }
      expect(verdicts(id, [0x8086, 0x6f00])[1]).toBe('host-bridge-not-listed');
      expect(verdicts([0x8086, 0x6f00], id)[1]).toBe('host-bridge-not-listed');
    },
  );

  test.each(NOT_LISTED.map((id) => [ID(id), id] as const))('%s is not trusted', (_, id) => {
    expect(verdicts(id, id)).toEqual(['host-bridge-not-listed', 'host-bridge-not-listed']);
  });

  test('that is not listed decides before one that is listed with a restriction', () => {
    expect(verdicts([0x8086, 0x6f00], [0x8086, 0x2f00])[1]).toBe('host-bridge-not-listed');
    expect(verdicts([0x8086, 0x2f00], [0x8086, 0x6f00])[1]).toBe('host-bridges-differ');
  });
});

describe('What stands for a host bridge', () => {
  function firstOf(devices: readonly Plan[]): { readonly bridge: HostBridge; spec: MachineSpec } {
    const built = machineOf({ 0: devices });
    // The builder's own 00.0 goes; the first function is what the test put there.
    const functions = built.functions.filter(({ address }) => address !== '0000:00:00.0');
    const spec = { ...built, functions };
    return { bridge: new PciTree(spec).hostBridges[0] ?? expect.fail('a bridge'), spec };
  }

  test('is the function at 00.0', () => {
    const bridge = new PciTree(twoBridges([0x8086, 0x09a2], [1, 1])).hostBridges[0];
    expect(bridge && hostBridgeDevice(bridge)?.address).toBe('0000:00:00.0');
  });

  test('is the first root port where nothing is at 00.0', () => {
    const listed = { ...PORT, vendor: 0x8086, device: 0x2030 };
    const { bridge, spec } = firstOf([rootPort(listed, '02.0', [card()]), port('03.0', [card()])]);
    expect(hostBridgeDevice(bridge)?.address).toBe('0000:00:02.0');
    expect(judge(spec, '01:00.0', '02:00.0').reason).toBe('host-bridge-listed');
  });

  test('is nobody if the first function is neither, whatever comes behind', () => {
    const { bridge, spec } = firstOf([
      conventional(LISTED, '01.0'),
      rootPort({ ...PORT, vendor: 0x8086, device: 0x2030 }, '02.0', [card()]),
      port('03.0', [card()]),
    ]);
    expect(hostBridgeDevice(bridge)).toBeNull();
    expect(judge(spec, '01:00.0', '02:00.0').reason).toBe('host-bridge-not-listed');
    expect(hostBridgesAllow(bridge, bridge)).toBe('not-listed');
  });

  test('is nobody at 00.1, and on an empty bus', () => {
    const { bridge } = firstOf([conventional(LISTED, '00.1')]);
    expect(hostBridgeDevice(bridge)).toBeNull();
    expect(hostBridgeDevice(firstOf([]).bridge)).toBeNull();
  });

  test('is not any listed function further down, nor one below a port', () => {
    const spec = twoBridges([0x8086, 0x6f00], [0x8086, 0x6f00]);
    const listed = withIds(spec, {
      '00:01.0': { vendor: 0x8086, device: 0x2030 },
      '01:00.0': { vendor: 0x8086, device: 0x09a2 },
    });
    expect(judge(listed, ...NEAR).reason).toBe('host-bridge-not-listed');
  });
});

describe('The CPU rule (D.4)', () => {
  test.each([
    ['Zen', { ...ZEN, family: 0x17 }, true],
    ['Zen 5', { ...ZEN, family: 0x1a }, true],
    ['the family before Zen', { ...ZEN, family: 0x16 }, false],
    ['an old Opteron', { ...ZEN, family: 0x15 }, false],
    ['Hygon, which is another vendor', { ...ZEN, vendor: 'HygonGenuine', family: 0x18 }, false],
    ['Intel, whatever its family', { ...INTEL, family: 0x19 }, false],
    ['Zhaoxin', { ...INTEL, vendor: 'CentaurHauls', family: 7 }, false],
    ['Arm', { arch: 'arm64', vendor: 'ARM', family: 0x19, model: 0 }, false],
    ['an AMD of another architecture', { ...ZEN, arch: 'arm64' }, false],
  ] as const)('%s', (_, cpu, trusted) => {
    expect(cpuSupportsP2pdma(cpu)).toBe(trusted);
    const spec = withCpu(twoBridges([0x1022, 0x1480], [0x1022, 0x1480]), cpu);
    const reasons = [judge(spec, ...NEAR), judge(spec, ...FAR)].map(({ reason }) => reason);
    const expected = trusted ? 'cpu' : 'host-bridge-not-listed';
    expect(reasons).toEqual([expected, expected]);
  });

  test('comes before the list: on Zen nothing has to be listed', () => {
    const spec = machineOf({ 0: [port('01.0', [card()]), port('02.0', [card()])] }, { cpu: ZEN });
    expect(judge(spec, '01:00.0', '02:00.0')).toMatchObject({
      mapType: 'through-host-bridge',
      reason: 'cpu',
    });
    const unlisted = withCpu(spec, INTEL);
    expect(UNLISTED.device).toBe(0x6f00);
    expect(judge(unlisted, '01:00.0', '02:00.0').mapType).toBe('not-supported');
  });
});
