/** Goal: the presets are valid, and are the machines that stories rely on. Method: look at each. */

import { describe, expect, test } from 'vitest';
import { present } from '../../src/base/index.ts';
import { decodeConfig } from '../../src/machine/pci/config-space.ts';
import { encodeConfig } from '../../src/machine/pci/encode-config.ts';
import {
  buildMachine,
  conventional,
  endpoint,
  type Plan,
  rootPort,
  switchWith,
} from '../../src/machine/presets/build.ts';
import {
  ASM2824,
  BROADWELL_HOST,
  BROADWELL_PORT,
  NVME_DRIVE,
  PEX890,
} from '../../src/machine/presets/catalogue.ts';
import { findPreset, PRESETS } from '../../src/machine/presets/index.ts';
import type { FunctionSpec, MachineSpec } from '../../src/machine/spec/machine-spec.ts';
import { parseMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { machineSpecToJson } from '../../src/machine/spec/write-machine-spec.ts';
import { expectReachable, functionsOf, hostBridgeOf } from './machine-facts.ts';

const NVME = 0x010802;
const MIB = 2 ** 20;

function preset(name: string): MachineSpec {
  return present(findPreset(name), name);
}

function ofClass(machine: MachineSpec, ...classes: number[]): FunctionSpec[] {
  return machine.functions.filter((fn) => classes.includes(fn.classCode));
}

function controls(machine: MachineSpec, type: string): (number | null)[] {
  return machine.functions
    .filter((fn) => fn.type === type)
    .map(({ acs }) => (acs === null || acs === 'unknown' ? null : acs.control));
}

/** Root bus of each function of these classes. */
function rootBuses(machine: MachineSpec, ...classes: number[]): number[] {
  const byAddress = functionsOf(machine);
  return ofClass(machine, ...classes).map((fn) => hostBridgeOf(machine, byAddress, fn).bus);
}

describe('presets', () => {
  test('have their names', () => {
    expect(PRESETS.map(({ name }) => name)).toEqual([
      'desktop',
      'server-switch',
      'server-switch-acs',
      'epyc-2s',
      'icelake-2s',
      'arm-soc',
      'workstation-zen',
    ]);
    expect(findPreset('arm-soc')?.name).toBe('arm-soc');
    expect(findPreset('toaster')).toBeNull();
  });

  test.each(PRESETS)('survive being written and read: $name', (machine) => {
    const text = machineSpecToJson(machine);
    expect(parseMachineSpec(text, machine.name)).toEqual(machine);
    expect(machineSpecToJson(parseMachineSpec(text, machine.name))).toBe(text);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  });

  test.each(PRESETS)('let every BAR be reached, and no device mistake RAM for one: $name', (m) => {
    expectReachable(m);
  });

  test.each(PRESETS)('have configuration spaces that say what they are: $name', (machine) => {
    const byAddress = functionsOf(machine);
    for (const fn of machine.functions) {
      const { busOffset } = hostBridgeOf(machine, byAddress, fn);
      const facts = decodeConfig(encodeConfig(fn, busOffset));
      const isVirtual = fn.physicalFunction !== null;
      expect(facts).toMatchObject({
        vendor: isVirtual ? 0xffff : fn.vendor,
        classCode: fn.classCode,
        type: fn.type,
        acs: fn.acs,
        link: fn.link,
        problems: [],
      });
      const assigned = fn.bars.map(
        ({ kind, address }) => (kind === 'io' ? 0 : busOffset) + address,
      );
      expect(facts.bars.map(({ address }) => address)).toEqual(isVirtual ? [] : assigned);
    }
  });

  test.each(PRESETS)('have drives with a memory buffer, cards and GPUs with memory: $name', (m) => {
    const drives = ofClass(m, NVME);
    const cards = ofClass(m, 0x020000, 0x020700);
    expect(drives.length).toBeGreaterThan(0);
    expect(cards.length).toBeGreaterThan(0);
    const bufferSize = m.name === 'arm-soc' ? 64 * 2 ** 10 : MIB;
    for (const { bars } of drives) {
      expect(bars).toMatchObject([
        { index: 0, size: 16 * 2 ** 10, is64: true, prefetchable: false },
        { index: 2, size: bufferSize, is64: true, prefetchable: true },
      ]);
    }
    for (const { bars } of cards) {
      expect(bars).toMatchObject([{ index: 0, size: MIB, is64: true, prefetchable: true }]);
    }
    for (const { bars } of ofClass(m, 0x030000, 0x030200)) {
      const largest = Math.max(...bars.map((bar) => bar.size));
      expect(largest).toBeGreaterThanOrEqual(256 * MIB);
      expect(largest).toBeLessThanOrEqual(16 * 2 ** 30);
    }
  });

  test.each(PRESETS)('have IOMMU groups if there is an IOMMU: $name', (machine) => {
    for (const { iommuGroup } of machine.functions) {
      expect(iommuGroup === null).toBe(machine.iommu === 'off');
    }
  });
});

describe('single presets', () => {
  test('desktop has a host bridge that nobody lists, and two root ports', () => {
    const machine = preset('desktop');
    expect(machine.functions[0]).toMatchObject({ address: '0000:00:00.0', device: 0x4c43 });
    expect(machine).toMatchObject({ iommu: 'off', hostBridges: [{ peerForwarding: 'none' }] });
    const drive = ofClass(machine, NVME)[0];
    const card = ofClass(machine, 0x020000)[0];
    expect(drive?.parent).not.toBe(card?.parent);
    expect(ofClass(machine, 0x030000)).toMatchObject([{ type: 'root-complex-endpoint' }]);
  });

  test('server-switch and server-switch-acs differ in ACS control alone, and what follows', () => {
    const [open, closed] = [preset('server-switch'), preset('server-switch-acs')];
    expect(controls(open, 'downstream-port')).toEqual([0, 0, 0, 0]);
    expect(controls(closed, 'downstream-port')).toEqual([0x1d, 0x1d, 0x1d, 0x1d]);
    expect(controls(open, 'root-port')).toEqual([0x1d]);
    const plain = ({ functions }: MachineSpec): object[] =>
      functions.map(({ acs: _, iommuGroup: __, ...rest }) => rest);
    expect(plain(open)).toEqual(plain(closed));
    expect(ofClass(open, NVME, 0x020700, 0x030200)).toHaveLength(4);
    const groups = (machine: MachineSpec): number =>
      new Set(machine.functions.map((fn) => fn.iommuGroup)).size;
    expect(groups(closed)).toBe(closed.functions.length);
    expect(groups(open)).toBe(open.functions.length - 4);
  });

  test('epyc-2s has a root bus for every device, on both sockets', () => {
    const machine = preset('epyc-2s');
    expect(machine.hostBridges.map(({ bus, node }) => [bus, node])).toEqual([
      [0x00, 0],
      [0x20, 0],
      [0x40, 0],
      [0x60, 0],
      [0x80, 1],
      [0xa0, 1],
      [0xc0, 1],
      [0xe0, 1],
    ]);
    expect(rootBuses(machine, NVME)).toEqual([0x20, 0x20, 0xa0]);
    const cards = ofClass(machine, 0x020000, 0x020700);
    const physical = cards.filter((fn) => fn.physicalFunction === null);
    expect(physical.map((fn) => fn.node)).toEqual([0, 1]);
    const virtual = cards.filter((fn) => fn.physicalFunction === physical[1]?.address);
    expect(virtual.map((fn) => fn.address)).toEqual(['0000:81:00.1', '0000:81:00.2']);
    expect(virtual[0]?.iommuGroup).not.toBe(virtual[1]?.iommuGroup);
    expect(machine.cpu).toMatchObject({ vendor: 'AuthenticAMD', family: 0x19 });
    expect(controls(machine, 'root-port')).toEqual(Array(6).fill(0x1d));
  });

  test('icelake-2s starts every root bus with the device that the kernel lists', () => {
    const machine = preset('icelake-2s');
    for (const { bus } of machine.hostBridges) {
      const address = `0000:${bus.toString(16).padStart(2, '0')}:00.0`;
      expect(functionsOf(machine).get(address)).toMatchObject({ vendor: 0x8086, device: 0x09a2 });
    }
    expect(rootBuses(machine, NVME)).toEqual([0x16, 0x97]);
    expect(rootBuses(machine, 0x020700)).toEqual([0x30]);
  });

  test('arm-soc has three kinds of address that all differ', () => {
    const machine = preset('arm-soc');
    expect(machine).toMatchObject({ coherentDma: false, iommu: 'off', cpu: { arch: 'arm64' } });
    expect(machine.hostBridges).toMatchObject([
      { busOffset: 0xc0000000 - 0x600000000, dmaOffset: 0x400000000 },
    ]);
    expect(machine.functions.every(({ acs }) => acs === null)).toBe(true);
    const drive = present(ofClass(machine, NVME)[0], 'drive');
    expect(drive.bars[0]?.address).toBe(0x600000000);
    expect(functionsOf(machine).get(drive.parent ?? '')).toMatchObject({ vendor: 0x1b21 });
  });

  test('workstation-zen has a root bus for each device and an IOMMU that passes through', () => {
    const machine = preset('workstation-zen');
    expect(machine.iommu).toBe('passthrough');
    expect(rootBuses(machine, NVME, 0x020000, 0x030000)).toEqual([0x20, 0x40, 0x60]);
  });
});

/** A machine with one root bus, on which `devices` are. */
function machineOf(devices: readonly Plan[], iommu: MachineSpec['iommu']): MachineSpec {
  const low = { base: 0x80000000, size: 0x10000000 };
  const high = { base: 2 ** 40, size: 2 ** 40 };
  return buildMachine({
    name: 'test',
    title: 'Test',
    cpu: { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 1 },
    memory: [],
    iommu,
    roots: [{ bus: 0, node: null, peerForwarding: 'none', low, high, devices }],
  });
}

describe('the builder', () => {
  const drive = endpoint(NVME_DRIVE);

  test('numbers buses depth-first', () => {
    const inner = switchWith(PEX890, [[drive], [drive]]);
    const outer = switchWith(PEX890, [[inner], [drive]]);
    const machine = machineOf([rootPort(BROADWELL_PORT, '01.0', [outer])], 'off');
    const ports = machine.functions.filter((fn) => fn.bridge !== null);
    expect(ports.map(({ address, bridge }) => [address, bridge?.subordinate])).toEqual([
      ['0000:00:01.0', 7],
      ['0000:01:00.0', 7],
      ['0000:02:00.0', 6],
      ['0000:02:01.0', 7],
      ['0000:03:00.0', 6],
      ['0000:04:00.0', 5],
      ['0000:04:01.0', 6],
    ]);
    expectReachable(machine);
  });

  test('lets a link be as good as the worse of its ends, and an empty slot have none', () => {
    const slots = switchWith(PEX890, [[drive], []]);
    const machine = machineOf([rootPort(BROADWELL_PORT, '01.0', [slots])], 'off');
    const links = machine.functions.map(({ link }) => link && [link.speed, link.width]);
    expect(links).toEqual([
      [8, 16],
      [8, 16],
      [16, 4],
      [2.5, 0],
      [16, 4],
    ]);
  });

  // As measured with Linux 7.2.12: shared/vm-topologies/54.
  test('forms IOMMU groups as Linux does', () => {
    const functions = [endpoint(NVME_DRIVE, { at: '00.0' }), endpoint(NVME_DRIVE, { at: '00.1' })];
    const nested = switchWith(ASM2824, [[drive], functions]);
    const top = switchWith(ASM2824, [[drive], [drive], [nested]]);
    const ports = (top.below ?? []).map((port, index) =>
      index === 1 ? { ...port, part: PEX890.downstream } : port,
    );
    const port = rootPort(BROADWELL_PORT, '06.0', [{ ...top, below: ports }]);
    const machine = machineOf([conventional(BROADWELL_HOST, '00.0'), port], 'translated');
    expect(machine.functions.map(({ address, iommuGroup }) => [address, iommuGroup])).toEqual([
      ['0000:00:00.0', 0],
      ['0000:00:06.0', 1],
      ['0000:01:00.0', 2],
      ['0000:02:00.0', 3],
      ['0000:02:01.0', 4],
      ['0000:02:02.0', 5],
      ['0000:03:00.0', 3],
      ['0000:04:00.0', 6],
      ['0000:05:00.0', 5],
      ['0000:06:00.0', 5],
      ['0000:06:01.0', 5],
      ['0000:07:00.0', 5],
      ['0000:08:00.0', 5],
      ['0000:08:00.1', 5],
    ]);
  });

  test('puts functions that cannot isolate themselves into one group', () => {
    const functions = [endpoint(NVME_DRIVE, { at: '00.0' }), endpoint(NVME_DRIVE, { at: '00.1' })];
    const machine = machineOf([rootPort(BROADWELL_PORT, '01.0', functions)], 'translated');
    expect(machine.functions.map(({ iommuGroup }) => iommuGroup)).toEqual([0, 1, 1]);
  });

  test('fails if buses or addresses do not suffice', () => {
    const port = rootPort(BROADWELL_PORT, null, [drive]);
    const tooMany = switchWith(PEX890, Array(32).fill([port]));
    const nested = switchWith(PEX890, Array(8).fill([tooMany]));
    const many = rootPort(BROADWELL_PORT, '01.0', [nested]);
    expect(() => machineOf([many], 'off')).toThrow('buses suffice below root bus 0');
    const large = { ...NVME_DRIVE, bars: [{ ...NVME_DRIVE.bars[0], size: 2 ** 30 }] } as never;
    const wide = rootPort(BROADWELL_PORT, '01.0', [endpoint(large)]);
    expect(() => machineOf([wide], 'off')).toThrow('fit into the pool at 0x80000000');
  });
});
