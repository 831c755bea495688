/**
 * Goal: sparse bytes behave as one large array of zeros. Method: random writes and reads against a
 * plain array, small and across many chunks.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SparseBytes } from '../../src/machine/sparse-bytes.ts';

const SIZE = 400_000;

describe('SparseBytes', () => {
  test('reads what was written last, and zeros elsewhere', () => {
    const operation = fc.record({
      offset: fc.nat(SIZE - 1),
      length: fc.oneof(fc.nat(100), fc.nat(70_000)),
      fill: fc.integer({ min: 1, max: 255 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 12 }), (operations) => {
        const sparse = new SparseBytes(SIZE);
        const plain = new Uint8Array(SIZE);
        for (const { offset, length, fill } of operations) {
          const bytes = new Uint8Array(Math.min(length, SIZE - offset)).fill(fill);
          sparse.write(offset, bytes);
          plain.set(bytes, offset);
          const from = Math.max(0, offset - 5000);
          const seen = new Uint8Array(Math.min(length + 10_000, SIZE - from)).fill(9);
          sparse.read(from, seen);
          expect(Buffer.compare(seen, plain.subarray(from, from + seen.length))).toBe(0);
        }
      }),
    );
  });

  test('forgets everything when cleared', () => {
    const sparse = new SparseBytes(SIZE);
    sparse.write(10, new Uint8Array(100_000).fill(1));
    sparse.clear();
    const seen = new Uint8Array(200).fill(7);
    sparse.read(0, seen);
    expect(seen.every((byte) => byte === 0)).toBe(true);
  });
});
