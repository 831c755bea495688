/**
 * Goal: the text of lspci gives the machine, as far as it tells of it. Method: made-up listings of
 * each kind, presets printed with their bytes, and spoilt text.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { type CaptureFacts, machineFromLspci } from '../../src/doctor/index.ts';
import type { FunctionSpec, MachineSpec } from '../../src/machine/index.ts';
import { PRESETS } from '../../src/machine/presets/index.ts';
import { readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { fixtureText } from './fixture.ts';
import { lspciOfMachine } from './lspci-of-machine.ts';

const ROOT = fixtureText('listing-as-root');
const USER = fixtureText('listing-as-user');
const SHORT = fixtureText('listing-short');
const UNASSIGNED = 0xff0000;

function read(text: string, facts: CaptureFacts = {}): MachineSpec {
  return readMachineSpec(machineFromLspci(text, 'test', facts), 'test');
}

function at(spec: MachineSpec, address: string): FunctionSpec {
  const found = spec.functions.find((fn) => fn.address === address);
  if (found === undefined) throw new Error(`no function ${address}`);
  return found;
}

/** One function with these detail lines. */
function one(title: string, ...details: string[]): FunctionSpec {
  const text = [`00:01.0 ${title}`, ...details.map((line) => `\t${line}`)].join('\n');
  return at(read(text), '0000:00:01.0');
}

describe('a listing by root', () => {
  const spec = read(ROOT);

  test('gives a port', () => {
    expect(at(spec, '0000:00:01.1')).toMatchObject({
      parent: null,
      classCode: 0x060400,
      type: 'root-port',
      command: 0x407,
      bridge: {
        secondary: 1,
        subordinate: 2,
        memory: { base: 0xb8800000, limit: 0xb8afffff },
        prefetch: { base: 0x70000000000, limit: 0x700ffffffff },
      },
      acs: { capability: 0x5f, control: 0x1d },
      link: { speed: 16, width: 8, maxSpeed: 32, maxWidth: 16 },
      node: 1,
      iommuGroup: 4,
      driver: 'pcieport',
      config: null,
    });
  });

  test('gives BARs, but not the regions of capabilities', () => {
    expect(at(spec, '0000:01:00.0')).toMatchObject({
      parent: '0000:00:01.1',
      command: 0x546,
      revision: 3,
      bars: [
        { index: 0, address: 0x70000000000, size: 2 ** 25, prefetchable: true, is64: true },
        { index: 3, address: 0, size: 2 ** 14, prefetchable: false, is64: true },
      ],
      acs: null,
    });
  });

  test('gives virtual functions, also on the next bus', () => {
    for (const [address, bar] of [
      ['0000:01:1f.7', 0x70002000000],
      ['0000:02:00.1', 0x70002100000],
    ] as const) {
      expect(at(spec, address)).toMatchObject({
        parent: '0000:00:01.1',
        physicalFunction: '0000:01:00.0',
        device: 0x101e,
        command: 0x6,
        bars: [{ index: 0, address: bar, size: 2 ** 20 }],
      });
    }
    expect(at(spec, '0000:01:1f.7').link).toEqual({
      speed: null,
      width: 0,
      maxSpeed: 16,
      maxWidth: 8,
    });
  });

  test('says in one note each what names do not tell', () => {
    expect(at(spec, '0000:40:00.0')).toMatchObject({
      vendor: 0,
      classCode: UNASSIGNED,
      type: 'root-complex-endpoint',
    });
    expect(spec.notes.filter((note) => note.includes('taken as 0'))).toHaveLength(1);
    expect(spec.notes).toContain('0000:40:00.0: the name of its class says no class number.');
    expect(spec.hostBridges).toMatchObject([
      { bus: 0, node: 1 },
      { bus: 0x40, node: null },
    ]);
  });

  test('is the same inside of a longer report', () => {
    const report = `report of today\n\n${ROOT}\n\n$ dmesg\n${'[ 0.1] Region 0: x\n'.repeat(5000)}`;
    expect(read(report)).toEqual(spec);
  });

  test('is the same with other line ends, and with spaces for tabs', () => {
    expect(read(ROOT.replaceAll('\n', '\r\n'))).toEqual(spec);
    expect(read(ROOT.replaceAll('\t', '        '))).toEqual(spec);
    expect(read(ROOT.replaceAll(/^\t+/gm, '').replaceAll('\n\n', '\n'))).toEqual(spec);
  });
});

describe('a listing by a user', () => {
  const spec = read(USER, { cmdline: 'iommu=pt' });

  test('tells types from the place', () => {
    expect(spec.functions.map(({ address, type }) => [address, type])).toEqual([
      ['0000:00:00.0', 'conventional'],
      ['0000:00:02.0', 'root-port'],
      ['0000:01:00.0', 'upstream-port'],
      ['0000:02:00.0', 'downstream-port'],
      ['0000:02:01.0', 'downstream-port'],
      ['0000:03:00.0', 'endpoint'],
      ['0000:04:00.0', 'pcie-to-pci-bridge'],
      ['0000:05:00.0', 'conventional'],
    ]);
  });

  test('has ids, groups, and ACS that is not known', () => {
    expect(spec.iommu).toBe('passthrough');
    expect(at(spec, '0000:03:00.0')).toMatchObject({
      vendor: 0x10de,
      device: 0x20f1,
      subsystemVendor: 0x10de,
      subsystemDevice: 0x145f,
      classCode: 0x030200,
      revision: 0xa1,
      acs: 'unknown',
      iommuGroup: 4,
      driver: 'nvidia',
    });
    expect(at(spec, '0000:00:00.0').acs).toBeNull();
    expect(spec.notes.join('\n')).not.toContain('taken as 0');
  });
});

describe('a short listing', () => {
  const spec = read(SHORT);

  test('gives what flags say', () => {
    expect(at(spec, '0000:00:1f.2')).toMatchObject({
      vendor: 0x8086,
      device: 0x2922,
      classCode: 0x010601,
      command: 0x7,
      bars: [
        { index: 0, kind: 'io', address: 0xc0a0, size: 32 },
        { index: 1, kind: 'memory', address: 0xfea15000, size: 4096 },
      ],
      node: 0,
      iommuGroup: 13,
    });
    expect(at(spec, '10000:01:00.0').command).toBe(0);
  });

  test('has wide domains, and does not take a named capability for a known one', () => {
    expect(at(spec, '10000:01:00.0')).toMatchObject({ parent: '10000:00:02.0', acs: null });
    expect(at(spec, '10000:00:02.0')).toMatchObject({ type: 'root-port', acs: 'unknown' });
  });
});

describe('a slot line', () => {
  test.each([
    ['PCI bridge [0604]: Some [AMD] Thing [1022:1483] (rev 01) (prog-if 00 [x])', 0x1022, 0x060400],
    ['0604: 1022:1483 (rev 01)', 0x1022, 0x060400],
    ['Class 0604: Device 1022:1483', 0x1022, 0x060400],
    ['VGA compatible controller: Device 1234:1111 (rev 02) (prog-if 00 [x])', 0x1234, 0x030000],
    ['Non-Volatile memory controller: X (prog-if 02 [NVM Express])', 0, 0x010802],
    ['Generic system peripheral [0807]: AMD Device 153c', 0, 0x080700],
    ['Infiniband controller: Mellanox Technologies MT28908', 0, 0x020700],
    ['InfiniBand controller: Mellanox Technologies MT28908', 0, 0x020700],
    ['Processing accelerators: X', 0, 0x120000],
    ['IOMMU: X', 0, 0x080600],
    ['Something else: X', 0, UNASSIGNED],
  ])('%s gives ids and class', (title, vendor, classCode) => {
    expect(one(title, 'Status: Cap-')).toMatchObject({ vendor, classCode });
  });
});

describe('details', () => {
  test.each([
    ['Root Port (Slot+), MSI 00', 'root-port'],
    ['Endpoint, IntMsgNum 0', 'endpoint'],
    ['Legacy Endpoint, MSI 00', 'legacy-endpoint'],
    ['Root Complex Integrated Endpoint, MSI 00', 'root-complex-endpoint'],
    ['Root Complex Event Collector, MSI 00', 'root-complex-event-collector'],
    ['Upstream Port, MSI 00', 'endpoint'],
  ])('Express %s of what is no bridge is %s', (words, type) => {
    expect(one('Host bridge: X', `Capabilities: [58] Express (v2) ${words}`).type).toBe(type);
  });

  test.each([
    ['Upstream Port, MSI 00', 'upstream-port'],
    ['Downstream Port (Slot+), MSI 00', 'downstream-port'],
    ['PCI-Express to PCI/PCI-X Bridge, MSI 00', 'pcie-to-pci-bridge'],
    ['PCI/PCI-X to PCI-Express Bridge, MSI 00', 'pci-to-pcie-bridge'],
    ['Endpoint, MSI 00', 'conventional'],
  ])('Express %s of a bridge is %s', (words, type) => {
    const buses = 'Bus: primary=00, secondary=01, subordinate=01, sec-latency=0';
    expect(one('PCI bridge: X', buses, `Capabilities: [58] Express (v2) ${words}`).type).toBe(type);
  });

  test.each([
    ['Memory at 90000000 (32-bit, non-prefetchable) [size=4K]', 0x90000000, 4096],
    ['Memory at 90000000 (low-1M, prefetchable) [disabled] [size=1M]', 0x90000000, 2 ** 20],
    ['Memory at 4000000000 (64-bit, prefetchable) [virtual] [size=64G]', 0x4000000000, 2 ** 36],
    ['[virtual] Memory at 90000000 (32-bit, non-prefetchable) [size=512]', 0x90000000, 512],
    ['[enhanced] Memory at 90000000 (32-bit, non-prefetchable) [size=512]', 0x90000000, 512],
    ['Memory at <ignored> (64-bit, prefetchable) [size=2T]', 0, 2 ** 41],
    ['Memory at <unassigned> (64-bit, prefetchable) [disabled] [size=256M]', 0, 2 ** 28],
    ['I/O ports at c0a0 [size=32]', 0xc0a0, 32],
    ['I/O ports at <unassigned> [disabled] [size=32]', 0, 32],
  ])('Region 2: %s is a BAR', (line, address, size) => {
    expect(one('X: Y', `Region 2: ${line}`).bars).toMatchObject([{ index: 2, address, size }]);
  });

  test('a BAR without size is a page, and said', () => {
    const spec = read('00:01.0 X: Y\n\tRegion 2: Memory at 90000000 (32-bit, prefetchable)\n');
    expect(spec.functions[0]?.bars).toMatchObject([{ index: 2, size: 4096 }]);
    expect(spec.notes.join()).toContain('sizes of BARs are not in the source');
  });

  test('windows that are closed are null', () => {
    const buses = 'Bus: primary=00, secondary=01, subordinate=01, sec-latency=0';
    expect(
      one(
        'PCI bridge: X',
        buses,
        'Memory behind bridge: fff00000-000fffff [disabled] [32-bit]',
        'Prefetchable memory behind bridge: None',
      ).bridge,
    ).toEqual({ secondary: 1, subordinate: 1, memory: null, prefetch: null });
  });
});

describe('bus numbers', () => {
  const bridge = (slot: string, secondary: string, subordinate: string): string =>
    `${slot} PCI bridge: X\n\tStatus: Cap-\n\tBus: primary=00, secondary=${secondary}, ` +
    `subordinate=${subordinate}, sec-latency=0\n`;
  const device = (slot: string): string => `${slot} X: Y\n\tStatus: Cap-\n`;
  const parents = (...lines: string[]): (string | null)[] =>
    read(lines.join('\n')).functions.map(({ parent }) => parent);

  test('lead to the deepest bridge', () => {
    const lines = [bridge('00:01.0', '01', '03'), bridge('01:00.0', '02', '03'), device('02:00.0')];
    expect(parents(...lines)).toEqual([null, '0000:00:01.0', '0000:01:00.0']);
  });

  test('mean nothing in another domain', () => {
    const lines = [bridge('0000:00:01.0', '01', '01'), device('0001:01:00.0')];
    expect(parents(...lines)).toEqual([null, null]);
  });

  test('of an unconfigured bridge lead nowhere', () => {
    expect(parents(bridge('00:01.0', '00', '00'), device('00:02.0'))).toEqual([null, null]);
  });

  test('that cannot be are not believed', () => {
    const spec = read([bridge('01:00.0', '01', '01'), bridge('01:01.0', '05', '04')].join('\n'));
    expect(spec.functions.map(({ bridge: buses }) => buses?.secondary)).toEqual([0, 0]);
    expect(spec.notes.join()).toContain('its bus numbers cannot be');
  });

  test('that two claim belong to the first', () => {
    const lines = [bridge('00:01.0', '01', '01'), bridge('00:02.0', '01', '01')];
    expect(parents(...lines, device('01:00.0'))).toEqual([null, null, '0000:00:01.0']);
  });

  test('beyond those of the bridge above are cut off', () => {
    const lines = [bridge('00:01.0', '01', '02'), bridge('01:00.0', '02', '04')];
    const spec = read(lines.join('\n'));
    expect(at(spec, '0000:01:00.0').bridge?.subordinate).toBe(2);
  });

  test('that no bridge leads to leave the function out', () => {
    const spec = read([bridge('00:01.0', '01', '03'), device('02:00.0')].join('\n'));
    expect(spec.functions).toHaveLength(1);
    expect(spec.notes).toContain('0000:02:00.0: no bridge leads to its bus; it is left out.');
  });
});

describe('a listing with bytes', () => {
  test.each(PRESETS.map((spec) => [spec.name, spec] as const))('of %s comes back', (_, spec) => {
    const physical = spec.functions.filter((fn) => fn.physicalFunction === null);
    const back = read(lspciOfMachine(spec));
    const shown = (fn: FunctionSpec): object => ({ ...fn, config: null });
    expect(back.functions.map(shown)).toEqual(physical.map(shown));
    expect(back.hostBridges).toMatchObject(
      spec.hostBridges.map(({ domain, bus, busOffset }) => ({ domain, bus, busOffset })),
    );
  });

  test('and no text keeps domains apart', () => {
    const bytes = `00: 34 12 01 00 06 00 00 00 00 00 00 02 00 00 00 00
10: 00 00 00 e0 00 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
30: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`;
    const spec = read(`0000:00:01.0 X: Y\n${bytes}\n\n0001:00:01.0 X: Y\n${bytes}\n`);
    expect(spec.functions.map(({ bars }) => bars[0]?.address)).toEqual([
      0xe0000000,
      0xe0000000 + 2 ** 44,
    ]);
    expect(spec.hostBridges.map(({ busOffset }) => busOffset)).toEqual([0, -(2 ** 44)]);
  });

  test('believes the bytes where text differs', () => {
    const bytes = `00: 34 12 01 00 06 00 00 00 00 00 00 02 00 00 00 00
10: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
30: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`;
    const text = '00:01.0 VGA compatible controller [0300]: X [aaaa:bbbb]\n\tControl: I/O+ Mem-';
    expect(read(`${text}\n${bytes}`).functions[0]).toMatchObject({
      vendor: 0x1234,
      device: 1,
      classCode: 0x020000,
      command: 6,
    });
  });

  test('ignores bytes behind a gap, and odd lines', () => {
    const line = '00: 34 12 01 00 06 00 00 00 00 00 00 02 00 00 00 00';
    expect(read(`00:01.0 X: Y\n${line}\n20: 00 00\n`).functions[0]?.config).toBeNull();
  });
});

describe('text that is no listing', () => {
  test.each([
    ['', "test: expected the output of lspci -vvv, found ''"],
    ['hello\nworld', "test: expected the output of lspci -vvv, found 'hello'"],
    ['00:01.0 X: Y\n\n0000:00:01.0 X: Y\n', 'test: line 3: expected 0000:00:01.0 only once'],
    [
      '00:00.0 Host bridge: X\n00:01.0 PCI bridge: X\n',
      'test: line 2: expected the details of lspci -vvv below this bridge',
    ],
    ['x'.repeat(5_000_000), 'test: expected the output of lspci -vvv, found'],
    [`00:01.0 X: Y\n${'\tz\n'.repeat(5000)}`, 'test: 0000:00:01.0: expected at most 4096 lines'],
    ['\n'.repeat(4_000_002), 'test: line 4000001: expected at most 4000000 lines'],
  ])('%.20j is refused', (text, message) => {
    expect(() => read(text)).toThrow(InputError);
    expect(() => read(text)).toThrow(message);
  });

  test('of any kind gives a machine or one line', () => {
    const lines = [ROOT, USER, SHORT].flatMap((text) => text.split('\n'));
    const line = fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...lines) },
      { weight: 1, arbitrary: fc.string() },
      { weight: 1, arbitrary: fc.constantFrom('00: ff ff', '10: 0c', '\t', '00:00.0 a: b') },
    );
    const digits = fc.stringMatching(/^[0-9a-f]{2}$/);
    const slot = fc.tuple(digits, digits).map(([bus, at]) => `${bus}:${at}.0 PCI bridge: X`);
    const buses = fc
      .tuple(digits, digits)
      .map(([one, two]) => `\tBus: primary=00, secondary=${one}, subordinate=${two}`);
    fc.assert(
      fc.property(fc.array(fc.oneof(line, slot, buses), { maxLength: 60 }), (chosen) => {
        try {
          read(chosen.join('\n'));
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          expect(String(error)).not.toMatch(/[\n\r]/);
        }
      }),
      { numRuns: 400 },
    );
  });

  test('of a hundred thousand lines ends', () => {
    const garbage = Array.from({ length: 100_000 }, (_, n) => `line ${n * 7919}: zzzz`).join('\n');
    expect(() => read(garbage)).toThrow(InputError);
    const slots = Array.from({ length: 65_536 }, (_, n) => {
      const bus = (n >> 8).toString(16).padStart(2, '0');
      const device = ((n >> 3) & 31).toString(16).padStart(2, '0');
      return `${bus}:${device}.${n & 7} X: Y`;
    });
    expect(read(slots.join('\n')).functions).toHaveLength(65_536);
  });
});
