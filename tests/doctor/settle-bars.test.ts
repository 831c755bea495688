/** Goal: whatever BARs a capture has, those that are left can exist together. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NoteTally } from '../../src/doctor/note-tally.ts';
import { type BarHolder, settleBars } from '../../src/doctor/settle-bars.ts';
import type { BarSpec } from '../../src/machine/index.ts';

const BAR: BarSpec = {
  index: 0,
  kind: 'memory',
  address: 0xe0000000,
  size: 4096,
  prefetchable: false,
  is64: false,
};

function settle(...holders: Partial<BarHolder>[]): [BarSpec[][], string[]] {
  const tally = new NoteTally();
  const full = holders.map((holder, at) => ({
    address: `0000:00:0${at}.0`,
    command: 0x7,
    isBridge: false,
    busOffset: 0,
    bars: [BAR],
    ...holder,
  }));
  return [settleBars(full, tally), tally.notes()];
}

function one(bar: Partial<BarSpec>, holder: Partial<BarHolder> = {}): BarSpec[] {
  return settle({ ...holder, bars: [{ ...BAR, ...bar }] })[0][0] ?? [];
}

describe('a BAR by itself', () => {
  test('stays as it is if it can be', () => {
    expect(settle({})).toEqual([[[BAR]], []]);
  });

  test('is left out without a register, or if too small for one', () => {
    expect(one({ index: 6 })).toEqual([]);
    expect(one({ index: 5, is64: true })).toEqual([]);
    expect(one({ index: 2 }, { isBridge: true })).toEqual([]);
    expect(one({ kind: 'io', size: 1, address: 0x3f6 })).toEqual([]);
    expect(one({ size: 8 })).toEqual([]);
    const pair = [
      { ...BAR, is64: true },
      { ...BAR, index: 1, address: 0 },
    ];
    expect(settle({ bars: pair })[0]).toEqual([[pair[0]]]);
  });

  test('is rounded up to a power of two', () => {
    expect(one({ size: 3000 })[0]?.size).toBe(4096);
  });

  test('is not assigned where it cannot be', () => {
    expect(one({ address: 0xe0000800 })[0]?.address).toBe(0);
    expect(one({ address: 2 ** 32 })[0]?.address).toBe(0);
    expect(one({ address: 2 ** 32, is64: true })[0]?.address).toBe(2 ** 32);
    expect(one({ address: 2 ** 33 }, { busOffset: -(2 ** 32 + 2 ** 31) })[0]?.address).toBe(
      2 ** 33,
    );
    expect(one({}, { busOffset: -(2 ** 32) })[0]?.address).toBe(0);
    expect(one({}, { busOffset: 256 })[0]?.address).toBe(0);
  });
});

describe('BARs that overlap', () => {
  test('leave the place to the first', () => {
    const [bars, notes] = settle({}, { bars: [{ ...BAR, address: 0xe0000000, size: 16 }] });
    expect(bars.flat().map(({ address }) => address)).toEqual([0xe0000000, 0]);
    expect(notes).toEqual(['0000:00:01.0: a BAR overlaps another and is taken as not assigned.']);
  });

  test('leave the place to the one whose function answers', () => {
    const [bars] = settle({ command: 0 }, {});
    expect(bars.flat().map(({ address }) => address)).toEqual([0, 0xe0000000]);
  });

  test('do not meet if one is of ports and one of memory', () => {
    const [, notes] = settle({}, { bars: [{ ...BAR, kind: 'io', size: 16 }] });
    expect(notes).toEqual([]);
  });
});

test('no two of any BARs overlap in the end', () => {
  const bar: fc.Arbitrary<BarSpec> = fc.record({
    index: fc.nat(7),
    kind: fc.constantFrom('memory', 'io'),
    address: fc.nat(64).map((page) => page * 1024),
    size: fc.nat(5000),
    prefetchable: fc.boolean(),
    is64: fc.boolean(),
  });
  const holder = fc.record({
    command: fc.nat(7),
    isBridge: fc.boolean(),
    busOffset: fc.constantFrom(0, 4096, -4096),
    bars: fc.array(bar, { maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(holder, { maxLength: 8 }), (holders) => {
      const all = settle(...holders)[0].flat();
      for (const kind of ['memory', 'io']) {
        const placed = all.filter((item) => item.kind === kind && item.address !== 0);
        placed.sort((first, second) => first.address - second.address);
        for (const [at, { address, size }] of placed.entries()) {
          expect(address % size).toBe(0);
          expect(placed[at + 1]?.address ?? Infinity).toBeGreaterThanOrEqual(address + size);
        }
      }
    }),
  );
});
