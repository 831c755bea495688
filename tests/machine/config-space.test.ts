/**
 * Goal: whatever the bytes, decoding ends and tells what is there. Method: bytes made by hand for
 * each block of registers, and random bytes. What real devices say is in config-captures.test.ts.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hexOfBytes, setDword, setWord } from '../../src/machine/pci/config-bytes.ts';
import { decodeConfig } from '../../src/machine/pci/config-space.ts';
import { bridge, endpoint } from './config-sample.ts';

describe('the header', () => {
  test('holds ids, class and command', () => {
    const bytes = endpoint();
    setDword(bytes, 0x00, 0x1021_15b3);
    setWord(bytes, 0x04, 0x0406);
    setDword(bytes, 0x08, 0x020700_05);
    bytes[0x0e] = 0x80;
    setDword(bytes, 0x2c, 0x0023_15b3);
    expect(decodeConfig(bytes)).toMatchObject({
      vendor: 0x15b3,
      device: 0x1021,
      command: 0x0406,
      classCode: 0x020700,
      revision: 5,
      header: 'endpoint',
      isMultiFunction: true,
      subsystemVendor: 0x15b3,
      subsystemDevice: 0x0023,
      problems: [],
    });
  });

  test('of a bridge holds buses and windows, and the subsystem is a capability', () => {
    const bytes = bridge();
    bytes.set([0x40, 0x41, 0x48], 0x18);
    setDword(bytes, 0x20, 0xb8a0_b880);
    setDword(bytes, 0x24, 0x0fd1_0001);
    setDword(bytes, 0x28, 0x700);
    setDword(bytes, 0x2c, 0x7b0);
    bytes[0x41] = 0x80;
    bytes[0x80] = 0x0d;
    setDword(bytes, 0x84, 0x1453_1022);
    expect(decodeConfig(bytes)).toMatchObject({
      type: 'downstream-port',
      bridge: {
        primary: 0x40,
        secondary: 0x41,
        subordinate: 0x48,
        memory: { base: 0xb8800000, limit: 0xb8afffff },
        prefetch: { base: 0x70000000000, limit: 0x7b00fdfffff },
      },
      subsystemVendor: 0x1022,
      subsystemDevice: 0x1453,
    });
  });

  test('of a bridge may have closed windows, or no prefetchable one', () => {
    const bytes = bridge();
    setDword(bytes, 0x20, 0x0000_fff0);
    setDword(bytes, 0x24, 0x0001_fff1);
    expect(decodeConfig(bytes).bridge).toMatchObject({ memory: null, prefetch: null });
    setDword(bytes, 0x24, 0);
    expect(decodeConfig(bytes).bridge).toMatchObject({ prefetch: null });
  });

  test('ignores upper halves of a 32-bit prefetchable window', () => {
    const bytes = bridge();
    setDword(bytes, 0x24, 0x0010_0000);
    setDword(bytes, 0x28, 0xffffffff);
    expect(decodeConfig(bytes).bridge?.prefetch).toEqual({ base: 0, limit: 0x1fffff });
  });

  test('of a CardBus bridge holds buses, and its list pointer elsewhere', () => {
    const bytes = new Uint8Array(256);
    bytes[0x0e] = 2;
    setWord(bytes, 0x06, 0x10);
    bytes[0x14] = 0xa0;
    bytes[0xa0] = 0x01;
    bytes.set([5, 6, 9], 0x18);
    const facts = decodeConfig(bytes);
    expect(facts.header).toBe('cardbus');
    expect(facts.bridge).toMatchObject({ primary: 5, secondary: 6, subordinate: 9 });
    expect(facts.capabilities).toEqual([{ id: 1, offset: 0xa0, extended: false, version: 0 }]);
  });

  test('of all ones is a device that does not answer', () => {
    const facts = decodeConfig(new Uint8Array(4096).fill(0xff));
    expect(facts).toMatchObject({ vendor: 0xffff, bars: [], header: 'unknown', acs: null });
  });
});

describe('BAR registers', () => {
  test('are read by kind, and pairs are joined', () => {
    const bytes = endpoint();
    setDword(bytes, 0x10, 0x90000004);
    setDword(bytes, 0x18, 0x0000000c);
    setDword(bytes, 0x1c, 0x00003800);
    setDword(bytes, 0x20, 0x0000e001);
    setDword(bytes, 0x24, 0xa0000008);
    const memory = { kind: 'memory', is64: true };
    expect(decodeConfig(bytes).bars).toEqual([
      { index: 0, ...memory, address: 0x90000000, prefetchable: false },
      { index: 2, ...memory, address: 0x380000000000, prefetchable: true },
      { index: 4, kind: 'io', address: 0xe000, prefetchable: false, is64: false },
      { index: 5, kind: 'memory', address: 0xa0000000, prefetchable: true, is64: false },
    ]);
  });

  test('that make no sense are noted', () => {
    const bytes = endpoint();
    setDword(bytes, 0x10, 0x00000004);
    setDword(bytes, 0x14, 0xffffffff);
    setDword(bytes, 0x18, 0x90000006);
    setDword(bytes, 0x24, 0x90000004);
    const facts = decodeConfig(bytes);
    expect(facts.bars.map(({ index, address, is64 }) => [index, address, is64])).toEqual([
      [0, 0, true],
      [2, 0x90000000, false],
      [5, 0x90000000, false],
    ]);
    expect(facts.problems).toEqual([
      'BAR 0 holds an address of 2^52 or more',
      'BAR 2 is of a reserved type',
      'BAR 5 is 64-bit and has no register after it',
    ]);
  });
});

describe('what was not read', () => {
  test('is unknown: the type if the list leads beyond 64 bytes', () => {
    const facts = decodeConfig(endpoint(64));
    expect(facts).toMatchObject({ type: 'unknown', acs: 'unknown', link: null });
    expect(facts.problems).toEqual([
      'the capability list goes on at 0x40, beyond the 64 bytes at hand',
    ]);
  });

  test('is unknown: ACS if only 256 bytes of a PCI Express function are there', () => {
    expect(decodeConfig(endpoint(256))).toMatchObject({ type: 'endpoint', acs: 'unknown' });
    expect(decodeConfig(endpoint(4096))).toMatchObject({ type: 'endpoint', acs: null });
  });

  test('is known not to be there: ACS of a conventional function', () => {
    expect(decodeConfig(new Uint8Array(64))).toMatchObject({ type: 'conventional', acs: null });
  });

  test('counts as zero, and bytes that lack are noted', () => {
    expect(decodeConfig(new Uint8Array(3)).problems).toEqual(['expected at least 64 bytes, got 3']);
  });
});

describe('the PCI Express type', () => {
  test.each([
    ['is not believed if the header contradicts', 0x0062, 0, 'endpoint'],
    ['is endpoint if the code is reserved', 0x0032, 0, 'endpoint'],
    ['is conventional for a bridge with a reserved code', 0x00f2, 1, 'conventional'],
  ])('%s', (_, flags, header, type) => {
    const bytes = endpoint();
    setWord(bytes, 0x42, flags);
    bytes[0x0e] = header;
    const facts = decodeConfig(bytes);
    expect(facts.type).toBe(type);
    expect(facts.problems).toHaveLength(1);
  });
});

describe('link registers', () => {
  test('hold speed and width by code', () => {
    const bytes = endpoint();
    setDword(bytes, 0x4c, 0x105);
    setWord(bytes, 0x52, 0x041);
    const link = { speed: 2.5, width: 4, maxSpeed: 32, maxWidth: 16 };
    expect(decodeConfig(bytes).link).toEqual(link);
  });

  test('are null where the code is reserved, and no lane is no link', () => {
    const bytes = endpoint();
    setDword(bytes, 0x4c, 0x07f);
    setWord(bytes, 0x52, 0x000);
    const link = { speed: null, width: 0, maxSpeed: null, maxWidth: null };
    expect(decodeConfig(bytes).link).toEqual(link);
  });
});

describe('ACS registers', () => {
  test('are read without the bits that nobody models', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0x1_000d);
    setWord(bytes, 0x104, 0x08ff);
    setWord(bytes, 0x106, 0xff9d);
    bytes[0x108] = 0x81;
    const facts = decodeConfig(bytes);
    expect(facts.acs).toEqual({ capability: 0x7f, control: 0x1d });
    expect(facts.egressVector).toEqual(Uint8Array.of(0x81));
  });

  test('have a vector of 256 bits if its size is 0, and none that goes beyond the end', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0xff00_0000 + 0x1_0001);
    setDword(bytes, 0xff0, 0x1_000d);
    setWord(bytes, 0xff4, 0x0020);
    expect(decodeConfig(bytes)).toMatchObject({ acs: { capability: 0x20 }, egressVector: null });
    setDword(bytes, 0x100, 0x2000_0000 + 0x1_0001);
    setDword(bytes, 0x200, 0x1_000d);
    setWord(bytes, 0x204, 0x0020);
    expect(decodeConfig(bytes).egressVector).toHaveLength(32);
  });

  test('are 32 bits wide in root ports of the Sunrise Point era', () => {
    const bytes = bridge();
    setDword(bytes, 0, 0xa110_8086);
    setWord(bytes, 0x42, 0x0042);
    setDword(bytes, 0x100, 0x1_000d);
    setDword(bytes, 0x104, 0x0000_000f);
    setDword(bytes, 0x108, 0x0000_000d);
    expect(decodeConfig(bytes).acs).toEqual({ capability: 0x0f, control: 0x0d });
  });

  test('that are cut off are unknown', () => {
    const bytes = endpoint(0x206);
    setDword(bytes, 0x100, 0x2000_0000 + 0x1_0001);
    setDword(bytes, 0x200, 0x1_000d);
    expect(decodeConfig(bytes).acs).toBe('unknown');
  });

  test('that would reach beyond configuration space are unknown', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0xffc0_0000 + 0x1_0001);
    setDword(bytes, 0xffc, 0x1_000d);
    const facts = decodeConfig(bytes);
    expect(facts.acs).toBe('unknown');
    expect(facts.problems).toEqual(['the ACS capability goes beyond the bytes at hand']);
  });
});

describe('other capabilities', () => {
  test('SR-IOV says where virtual functions are', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0x1_0010);
    setWord(bytes, 0x10e, 16);
    setWord(bytes, 0x110, 2);
    setWord(bytes, 0x114, 0x80);
    setWord(bytes, 0x116, 1);
    setWord(bytes, 0x11a, 0x101e);
    const facts = { offset: 0x80, stride: 1, numVfs: 2, totalVfs: 16, vfDevice: 0x101e };
    expect(decodeConfig(bytes).srIov).toEqual(facts);
  });

  test('resizable BARs have sizes: bit n of the capability is 2^(n-4) MB', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0x1_0015);
    setDword(bytes, 0x104, 0x0000_0210);
    setDword(bytes, 0x108, 0x0001_0041);
    setDword(bytes, 0x10c, 0x8000_0000);
    setDword(bytes, 0x110, 0x0000_0502);
    expect(decodeConfig(bytes).resizableBars).toEqual([
      { index: 1, size: 2 ** 20, supported: [2 ** 20, 2 ** 25, 2 ** 48] },
      { index: 2, size: 2 ** 25, supported: [2 ** 47] },
    ]);
  });
});

describe('decoding any bytes', () => {
  /** Random bytes in which lists of capabilities are likely. */
  const LISTED = fc
    .tuple(
      fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
      fc.array(fc.tuple(fc.integer({ min: 0x10, max: 0x3f }), fc.integer({ min: 0, max: 0x3f }))),
      fc.array(fc.tuple(fc.integer({ min: 0x40, max: 0x3ff }), fc.integer({ max: 0x3ff, min: 0 }))),
      fc.constantFrom(64, 100, 256, 300, 4095, 4096),
    )
    .map(([bytes, short, long, length]) => {
      bytes[0x06] = 0x10;
      bytes[0x0e] = (bytes[0x0e] ?? 0) & 0x83;
      bytes[0x34] = 0x40;
      bytes[0x40] = 0x10;
      for (const [at, next] of short) bytes[at * 4 + 1] = next * 4;
      const ids = [0x0d, 0x10, 0x15];
      for (const [index, [at, next]] of [[0x40, 0x41] as const, ...long].entries()) {
        setDword(bytes, at * 4, next * 2 ** 22 + 0x10000 + (ids[index % 3] ?? 0));
      }
      return bytes.slice(0, length);
    });

  test.each([
    ['random ones', fc.uint8Array({ maxLength: 5000 })],
    ['ones with lists', LISTED],
  ])('never throws, and lists each capability once: %s', (_, arbitrary) => {
    fc.assert(
      fc.property(arbitrary, (bytes) => {
        const before = hexOfBytes(bytes);
        const facts = decodeConfig(bytes);
        const offsets = facts.capabilities.map(({ offset }) => offset);
        expect(new Set(offsets).size).toBe(offsets.length);
        expect(facts.problems.length).toBeLessThan(20);
        for (const bar of facts.bars) expect(Number.isSafeInteger(bar.address)).toBe(true);
        expect(decodeConfig(bytes)).toEqual(facts);
        expect(hexOfBytes(bytes)).toBe(before);
      }),
      { numRuns: 300 },
    );
  });
});
