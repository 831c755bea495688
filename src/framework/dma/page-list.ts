/**
 * The exporter's side of a buffer: the pages it is made of. The other table, where a device finds
 * them, is `scatterlist.ts`; in Linux the two are one struct, and much went wrong for it.
 *
 * Memory without pages, a device's BAR or a carved-out region, has no page list: it does not
 * compile where pages are needed.
 *
 * @source `struct sg_table`'s CPU part; reference/linux-dma-buf.md C.1; thread S002
 */

import { PAGE_SIZE } from '../../base/index.ts';
import type { PhysRange } from '../../machine/index.ts';

declare const pages: unique symbol;

/** Ranges of RAM that the kernel has `struct page` for, in the order of the buffer. */
export interface PageList {
  readonly [pages]: true;
  readonly ranges: readonly PhysRange[];
}

/** States that the kernel has pages for these ranges: who allocated them knows. */
export function pageList(ranges: readonly PhysRange[]): PageList {
  return { ranges } as unknown as PageList;
}

/** Bytes in it. */
export function sizeOfPages({ ranges }: PageList): number {
  return ranges.reduce((sum, { size }) => sum + size, 0);
}

/** The range of each single page, in order. */
export function pagesOf({ ranges }: PageList): readonly PhysRange['phys'][] {
  return ranges.flatMap(({ phys, size }) =>
    Array.from({ length: size / PAGE_SIZE }, (_, i) => (phys + i * PAGE_SIZE) as PhysRange['phys']),
  );
}
