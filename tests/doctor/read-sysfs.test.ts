/**
 * Goal: a machine is read off sysfs as it is, from full and from partial copies. Method: made-up
 * machines, whole and with each file removed in turn.
 */

import { describe, expect, test } from 'vitest';
import type { TreeEntry } from '../../src/doctor/index.ts';
import { type CaptureFacts, MapTree, machineFromSysfs } from '../../src/doctor/index.ts';
import type { FunctionSpec, MachineSpec } from '../../src/machine/index.ts';
import { readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { fixtureEntries, textFile } from './fixture.ts';

const SWITCH = fixtureEntries('switch-with-virtual-functions');
const VMD = fixtureEntries('vmd-seen-by-a-user');
const ARM = fixtureEntries('arm-with-shifted-addresses');

function read(entries: readonly TreeEntry[], facts: CaptureFacts = {}): MachineSpec {
  return readMachineSpec(machineFromSysfs(new MapTree('test', entries), 'test', facts), 'test');
}

function at(spec: MachineSpec, address: string): FunctionSpec {
  const found = spec.functions.find((fn) => fn.address === address);
  if (found === undefined) throw new Error(`no function ${address}`);
  return found;
}

/** The entries without those whose path matches, and with others in their place. */
function changed(
  entries: readonly TreeEntry[],
  form: RegExp,
  ...added: readonly TreeEntry[]
): TreeEntry[] {
  return [...entries.filter(({ path }) => !form.test(path)), ...added];
}

describe('a copy made by root', () => {
  const spec = read(SWITCH);

  test('gives the machine as a whole', () => {
    expect(spec).toMatchObject({
      title: 'Example Switch Board 1',
      cpu: { arch: 'x86_64', vendor: 'AuthenticAMD', family: 25, model: 17 },
      coherentDma: true,
      iommu: 'passthrough',
      hostBridges: [{ domain: 0, bus: 0, node: 0, busOffset: 0, peerForwarding: 'none' }],
      notes: ['Which RAM is on which node is not in the source; it is told from the sizes.'],
    });
  });

  test('gives RAM where it is', () => {
    expect(spec.memory.map(({ node, start }) => [node, start])).toEqual([
      [0, 0x1000],
      [0, 0x100000],
      [0, 0x100000000],
      [1, 0x180030000],
    ]);
    const bytes = spec.memory.reduce((sum, { size }) => sum + size, 0);
    expect(bytes).toBe(0x9f000 + 0x7ff00000 + 0x180000000);
  });

  test('gives every function its place and kind', () => {
    expect(spec.functions.map(({ address, parent, type }) => [address, parent, type])).toEqual([
      ['0000:00:00.0', null, 'conventional'],
      ['0000:00:01.0', null, 'root-port'],
      ['0000:01:00.0', '0000:00:01.0', 'upstream-port'],
      ['0000:02:00.0', '0000:01:00.0', 'downstream-port'],
      ['0000:02:01.0', '0000:01:00.0', 'downstream-port'],
      ['0000:03:00.0', '0000:02:00.0', 'endpoint'],
      ['0000:04:00.0', '0000:02:01.0', 'endpoint'],
      ['0000:04:00.1', '0000:02:01.0', 'endpoint'],
      ['0000:04:00.2', '0000:02:01.0', 'endpoint'],
    ]);
  });

  test('gives a port', () => {
    expect(at(spec, '0000:02:01.0')).toMatchObject({
      vendor: 0x1000,
      device: 0xc030,
      classCode: 0x060400,
      revision: 0xb0,
      command: 0x406,
      bars: [],
      bridge: {
        secondary: 4,
        subordinate: 4,
        memory: { base: 0xc0100000, limit: 0xc01fffff },
        prefetch: { base: 0x8010000000, limit: 0x802fffffff },
      },
      acs: { capability: 0x7f, control: 0x11 },
      link: { speed: 8, width: 8, maxSpeed: 16, maxWidth: 8 },
      node: 0,
      iommuGroup: 4,
      driver: 'pcieport',
    });
  });

  test('gives a drive', () => {
    expect(at(spec, '0000:03:00.0')).toMatchObject({
      vendor: 0x144d,
      subsystemVendor: 0x144d,
      subsystemDevice: 0xa801,
      classCode: 0x010802,
      bars: [
        { index: 0, kind: 'memory', address: 0xc0000000, size: 0x4000, prefetchable: false },
        { index: 2, kind: 'memory', address: 0x8000000000, size: 0x10000000, prefetchable: true },
      ],
      bridge: null,
      acs: null,
      physicalFunction: null,
    });
  });

  test('gives virtual functions what the physical one decodes for them', () => {
    expect(at(spec, '0000:04:00.2')).toMatchObject({
      vendor: 0x15b3,
      device: 0x101e,
      command: 0x6,
      bars: [{ index: 0, address: 0x8020200000, size: 0x200000, is64: true }],
      link: { speed: null, width: 0, maxSpeed: null, maxWidth: 0 },
      physicalFunction: '0000:04:00.0',
    });
  });

  test('keeps configuration space as it is', () => {
    for (const { address, config } of spec.functions) {
      const entry = SWITCH.find(({ path }) => path.endsWith(`${address}/config`));
      expect(config).toBe(Buffer.from(entry?.kind === 'file' ? entry.bytes : []).toString('hex'));
    }
  });
});

describe('a copy made by a user', () => {
  const spec = read(VMD);

  test('gives a root bus inside of another its own domain', () => {
    expect(spec.functions.map(({ address, parent, type }) => [address, parent, type])).toEqual([
      ['0000:64:00.0', null, 'conventional'],
      ['0000:64:05.5', null, 'conventional'],
      ['10000:00:02.0', null, 'root-port'],
      ['10000:01:00.0', '10000:00:02.0', 'endpoint'],
    ]);
    expect(spec.hostBridges).toMatchObject([
      { domain: 0, bus: 0x64, node: 1 },
      { domain: 0x10000, bus: 0, node: 1 },
    ]);
  });

  test('says unknown of what only root sees, and says so', () => {
    expect(at(spec, '10000:00:02.0').acs).toBe('unknown');
    expect(spec.notes).toEqual([
      'The source does not tell of RAM; 4 GiB on one node are assumed.',
      '0000:64:00.0 and 3 more: its PCI Express type is not in the source; told from its place.',
      '0000:64:00.0 and 3 more: ACS is not in the source; it takes root to read.',
      '0000:64:05.5: a BAR overlaps another and is taken as not assigned.',
    ]);
  });

  test('keeps what is in the window of a VMD controller, and not the window', () => {
    expect(at(spec, '10000:01:00.0').bars).toMatchObject([{ index: 0, address: 0xd0000000 }]);
    const bars = at(spec, '0000:64:05.5').bars.map(({ index, address }) => [index, address]);
    expect(bars).toEqual([
      [0, 0x30000000000],
      [2, 0],
      [4, 0x30040000000],
    ]);
  });

  test('still has windows, links and drivers', () => {
    expect(at(spec, '10000:00:02.0')).toMatchObject({
      bridge: { secondary: 1, subordinate: 1, memory: { base: 0xd0000000, limit: 0xd00fffff } },
      link: { speed: 8, width: 4, maxSpeed: 16, maxWidth: 4 },
      driver: 'pcieport',
    });
  });

  test('is the same if tar filled it up with zeros', () => {
    const padded = VMD.map((entry): TreeEntry => {
      if (entry.kind !== 'file' || !/pci/.test(entry.path)) return entry;
      const bytes = new Uint8Array(4096);
      bytes.set(entry.bytes);
      return { ...entry, bytes };
    });
    expect(read(padded)).toEqual(spec);
  });
});

describe('an Arm machine', () => {
  const spec = read(ARM);

  test('has bus addresses of its own', () => {
    expect(spec.hostBridges).toMatchObject([{ bus: 0, busOffset: -0x600000000 }]);
    expect(at(spec, '0000:01:00.0').bars).toMatchObject([
      { index: 0, address: 0x640000000, is64: false },
      { index: 1, address: 0x640100000, prefetchable: true },
    ]);
    expect(at(spec, '0000:00:00.0').bridge?.memory?.base).toBe(0x40000000);
  });

  test('is assumed to be coherent, and its RAM to be somewhere', () => {
    expect(spec.cpu).toEqual({ arch: 'arm64', vendor: 'ARM', family: 0, model: 0xd0c });
    expect(spec.memory.reduce((sum, { size }) => sum + size, 0)).toBe(8 * 2 ** 30);
    expect(spec.notes).toEqual([
      expect.stringMatching(/^The place of RAM is not in the source/),
      'Whether DMA on arm64 is coherent is not in the source; assumed so.',
    ]);
  });

  test('has no offset if BARs disagree', () => {
    const resource = ARM.find(({ path }) => path.endsWith('01:00.0/resource'));
    const text = Buffer.from(resource?.kind === 'file' ? resource.bytes : []).toString();
    const other = textFile(
      resource?.path ?? '',
      text.replaceAll('0000000640100000', '0000000740100000').replaceAll('64010ffff', '74010ffff'),
    );
    const mixed = read(changed(ARM, /01:00\.0\/resource/, other));
    expect(mixed.hostBridges[0]?.busOffset).toBe(0);
    expect(mixed.notes.join()).toContain('shifts addresses in more than one way');
  });
});

describe('partial copies', () => {
  test('without links to functions give the same machine', () => {
    expect(read(changed(SWITCH, /^sys\/bus/))).toEqual(read(SWITCH));
  });

  test('that begin inside of sys give the same functions', () => {
    const inside = SWITCH.filter(({ path }) => path.startsWith('sys/')).map((entry) => ({
      ...entry,
      path: entry.path.slice('sys/'.length),
    }));
    expect(read(inside).functions).toEqual(read(SWITCH).functions);
  });

  test('with directories for links give the same tree by bus numbers', () => {
    const flat = SWITCH.flatMap((entry): TreeEntry[] => {
      const name = /\/([0-9a-f:]+\.[0-7]\/[^/]+)$/.exec(entry.path)?.[1];
      if (name === undefined || entry.path.startsWith('sys/bus')) return [];
      return [{ ...entry, path: `sys/bus/pci/devices/${name}` }];
    });
    const parents = (spec: MachineSpec): object[] =>
      spec.functions.map(({ address, parent, physicalFunction }) => ({
        address,
        parent,
        physicalFunction,
      }));
    expect(parents(read(flat))).toEqual(parents(read(SWITCH)));
  });

  test('without physfn recognise virtual functions by their numbers', () => {
    expect(read(changed(SWITCH, /\/physfn$/)).functions).toEqual(read(SWITCH).functions);
  });

  test('without group links ask the groups', () => {
    const group: TreeEntry = {
      kind: 'link',
      path: 'sys/kernel/iommu_groups/5/devices/0000:03:00.0',
      target: 'x',
    };
    const spec = read(changed(SWITCH, /iommu_group$/, group));
    expect(at(spec, '0000:03:00.0').iommuGroup).toBe(5);
    expect(at(spec, '0000:02:00.0').iommuGroup).toBeNull();
  });

  test('take from the caller what they lack', () => {
    const cpu = { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 85 };
    const facts = { name: 'My Box!', cpu, cmdline: 'iommu=pt' };
    const bare = changed(SWITCH, /^proc|\/type$|dmi/);
    expect(read(bare, facts)).toMatchObject({ name: 'my-box', cpu, iommu: 'passthrough' });
    expect(read(bare)).toMatchObject({ name: 'test', cpu: null, iommu: 'translated' });
    expect(read(SWITCH, facts).cpu?.vendor).toBe('AuthenticAMD');
  });

  test('without any configuration space still have a tree', () => {
    const spec = read(changed(SWITCH, /\/config$/));
    expect(spec.functions).toHaveLength(9);
    expect(at(spec, '0000:01:00.0')).toMatchObject({
      type: 'upstream-port',
      bridge: {
        secondary: 2,
        subordinate: 4,
        memory: { base: 0xc0000000, limit: 0xc01fffff },
        prefetch: { base: 0x8000000000, limit: 0x802fffffff },
      },
      acs: 'unknown',
      config: null,
    });
  });

  test('of a machine without IOMMU say off only if they would show one', () => {
    const bare = changed(SWITCH, /iommu/);
    expect(read(bare).iommu).toBe('off');
    expect(read(bare).notes.join()).not.toContain('IOMMU');
    expect(read(changed(bare, /\/driver$/)).notes.join()).toContain('no IOMMU driver is assumed');
  });

  test('that name functions which are not there say so', () => {
    const spec = read(changed(SWITCH, /03:00\.0\//));
    expect(spec.functions).toHaveLength(8);
    expect(spec.notes).toContain('1 of the functions in sys/bus/pci/devices are not in the copy.');
  });

  test('of devices that are gone give their place', () => {
    const bytes = new Uint8Array(4096).fill(0xff);
    const path = SWITCH.find((entry) => entry.path.endsWith('03:00.0/config'))?.path ?? '';
    const spec = read(changed(SWITCH, /03:00\.0\/config/, { kind: 'file', path, bytes }));
    expect(at(spec, '0000:03:00.0')).toMatchObject({ vendor: 0x144d, acs: 'unknown' });
    expect(spec.notes.join()).toContain('0000:03:00.0: configuration space reads as ones');
  });
});

describe('any file that is missing', () => {
  test.each(SWITCH.map(({ path }) => path))('%s: leaves a valid machine', (path) => {
    expect(read(SWITCH.filter((entry) => entry.path !== path)).functions).toHaveLength(
      /bus.*0000:0[034]:00\.[0-2]$/.test(path) ? 8 : 9,
    );
  });

  test.each(ARM.map(({ path }) => path))('%s: leaves a valid machine', (path) => {
    expect(read(ARM.filter((entry) => entry.path !== path)).functions.length).toBeGreaterThan(0);
  });

  test.each(VMD.map(({ path }) => path))('%s: leaves a valid machine', (path) => {
    expect(read(VMD.filter((entry) => entry.path !== path)).functions).toHaveLength(4);
  });
});
