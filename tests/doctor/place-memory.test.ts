/**
 * Goal: RAM is laid out so that nothing overlaps and no byte is lost. Method: cases, and random
 * machines.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import type { MemoryEvidence } from '../../src/doctor/capture.ts';
import { type BusyRange, placeMemory } from '../../src/doctor/place-memory.ts';
import type { MemorySpec } from '../../src/machine/index.ts';

const GIB = 2 ** 30;
const NOTHING: MemoryEvidence = { ranges: [], sizes: [] };

function place(
  evidence: Partial<MemoryEvidence>,
  bars: readonly BusyRange[] = [],
  windows: readonly BusyRange[] = [],
): [MemorySpec[], string[]] {
  const notes: string[] = [];
  return [placeMemory({ ...NOTHING, ...evidence }, { bars, windows }, 'test', notes), notes];
}

function bytesOf(memory: readonly MemorySpec[]): number {
  return memory.reduce((total, { size }) => total + size, 0);
}

describe('placeMemory', () => {
  test('assumes 4 GiB around the hole of a PC', () => {
    const [memory, notes] = place({});
    expect(memory).toEqual([
      { node: 0, start: 2 ** 20, size: 3 * GIB - 2 ** 20 },
      { node: 0, start: 4 * GIB, size: GIB + 2 ** 20 },
    ]);
    expect(notes).toEqual(['The source does not tell of RAM; 4 GiB on one node are assumed.']);
  });

  test('starts the hole at the lowest BAR or window', () => {
    const [memory] = place({}, [{ start: 2 * GIB, end: 2 * GIB + 4096 }]);
    expect(memory[0]).toEqual({ node: 0, start: 2 ** 20, size: 2 * GIB - 2 ** 20 });
    expect(place({}, [], [{ start: GIB, end: GIB + 4096 }])[0][0]?.size).toBe(GIB - 2 ** 20);
  });

  test('lays the nodes out one after the other', () => {
    const sizes = [
      { node: 0, size: 4 * GIB },
      { node: 2, size: GIB + 1 },
    ];
    const [memory, notes] = place({ sizes });
    expect(memory.at(-1)).toEqual({ node: 2, start: 5 * GIB + 2 ** 20, size: GIB });
    expect(notes[0]).toMatch(/^The place of RAM is not in the source/);
  });

  test('takes the ranges that the source shows', () => {
    const ranges = [
      { start: 4096, size: GIB },
      { start: 4 * GIB, size: GIB },
    ];
    expect(place({ ranges })).toEqual([ranges.map((range) => ({ node: 0, ...range })), []]);
  });

  test('shares ranges out among the nodes by their sizes', () => {
    const ranges = [
      { start: 0, size: GIB },
      { start: 4 * GIB, size: 3 * GIB },
    ];
    const sizes = [0, 1].map((node) => ({ node, size: 2 * GIB - 8192 }));
    const [memory, notes] = place({ ranges, sizes });
    expect(memory).toEqual([
      { node: 0, start: 0, size: GIB },
      { node: 0, start: 4 * GIB, size: GIB },
      { node: 1, start: 5 * GIB, size: 2 * GIB },
    ]);
    expect(notes[0]).toMatch(/^Which RAM is on which node/);
  });

  test('does not believe ranges that lie where a BAR is', () => {
    const ranges = [{ start: 0, size: 2 * GIB }];
    const bars = [{ start: GIB, end: GIB + 4096 }];
    const [memory] = place({ ranges, sizes: [{ node: 0, size: GIB }] }, bars);
    expect(memory[0]).toEqual({ node: 0, start: 2 ** 20, size: GIB - 2 ** 20 });
  });

  test('gives way to windows only while there is room', () => {
    const all = [{ start: 0, end: 2 ** 52 }];
    expect(bytesOf(place({}, [], all)[0])).toBe(4 * GIB);
    expect(() => place({}, all)).toThrow(InputError);
  });

  test('keeps every page, apart from what is busy, in ascending order', () => {
    const range = fc
      .tuple(fc.nat(2 ** 30), fc.integer({ min: 1, max: 2 ** 28 }))
      .map(([start, size]) => ({ start: start * 16, end: start * 16 + size * 16 }));
    const sizes = fc.array(
      fc.tuple(fc.nat(7), fc.nat(2 ** 31)).map(([node, size]) => ({ node, size: size * 8 })),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(fc.array(range), fc.array(range), sizes, (bars, windows, evidence) => {
        const [memory] = place({ sizes: evidence }, bars, windows);
        const wanted = evidence.reduce((sum, { size }) => sum + size - (size % 4096), 0);
        expect(bytesOf(memory)).toBe(wanted === 0 ? 4 * GIB : wanted);
        let end = 0;
        for (const { start, size } of memory) {
          expect(start % 4096).toBe(0);
          expect(size % 4096).toBe(0);
          expect(start).toBeGreaterThanOrEqual(end);
          end = start + size;
          expect(bars.some((bar) => bar.start < start + size && start < bar.end)).toBe(false);
        }
      }),
    );
  });
});
