/**
 * Goal: a list of pages holds pages and nothing else, joined as far as may be. Method: random
 * pages; what is no list; reference C.1, thread S002.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isDmaBufError, physAddr } from '../../src/base/index.ts';
import {
  isPageList,
  type PageList,
  pageList,
  pagesOf,
  sgAllocTableFromPages,
  sizeOfPages,
} from '../../src/framework/index.ts';

const PAGE = 4096;

describe('A list from single pages', () => {
  test('joins neighbours in order, up to the segment size (C.1)', () => {
    const pages = [3, 4, 5, 9, 8].map((number) => physAddr(number * PAGE));
    expect(sgAllocTableFromPages(pages).ranges).toEqual([
      { phys: 3 * PAGE, size: 3 * PAGE },
      { phys: 9 * PAGE, size: PAGE },
      { phys: 8 * PAGE, size: PAGE },
    ]);
    expect(sgAllocTableFromPages(pages, 2 * PAGE).ranges.map(({ size }) => size / PAGE)).toEqual([
      2, 1, 1, 1,
    ]);
  });

  test('is EINVAL of no page: table-of-no-pages (C.1)', () => {
    try {
      sgAllocTableFromPages([]);
      expect.fail('a table of nothing');
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'table-of-no-pages' });
    }
  });

  test('has the very pages that it was made from, in their order', () => {
    const numbers = fc.array(fc.nat(20), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 5 }), (some, longest) => {
        const pages = some.map((number) => physAddr(number * PAGE));
        const list = sgAllocTableFromPages(pages, longest * PAGE);
        expect(pagesOf(list)).toEqual(pages);
        expect(sizeOfPages(list)).toBe(pages.length * PAGE);
        expect(list.ranges.every(({ size }) => size <= longest * PAGE)).toBe(true);
      }),
    );
  });
});

describe('What has no pages', () => {
  const forged = { ranges: [{ phys: physAddr(PAGE), size: PAGE }] } as unknown as PageList;

  test('is told from a list that has, whatever its shape (S002-7)', () => {
    expect(isPageList(pageList(forged.ranges))).toBe(true);
    expect([forged, null, undefined, 5, { ranges: null }].map(isPageList)).not.toContain(true);
  });

  test('traps whoever asks for its pages (S002-8, MP-013)', () => {
    expect(() => pagesOf(forged)).toThrow('only memory with pages');
  });
});
