/**
 * The exporter's side of a buffer: the pages it is made of. The other table, where a device finds
 * them, is `scatterlist.ts`; in Linux the two are one struct, and much went wrong for it.
 *
 * Memory without pages, a device's BAR or a carved-out region, has no page list: it does not
 * compile where pages are needed.
 *
 * @source `struct sg_table`'s CPU part; reference/linux-dma-buf.md C.1; thread S002
 */

import { assert, DmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import type { PhysRange } from '../../machine/index.ts';
import type { P2pdma, P2pProvider } from '../p2pdma/p2pdma-provider.ts';

/** LIMIT: bytes of one entry, because Linux counts them in 32 bits. */
const ENTRY_MAX = 2 ** 32 - PAGE_SIZE;

declare const pages: unique symbol;

/** Device memory for which the kernel made pages (`MEMORY_DEVICE_PCI_P2PDMA`). */
export interface PeerMemory {
  readonly state: P2pdma;
  readonly provider: P2pProvider;
}

/** Pages in a row. */
export interface PageRange extends PhysRange {
  /** Absent: RAM. */
  readonly peer?: PeerMemory;
}

/** Ranges that the kernel has `struct page` for, in the order of the buffer. */
export interface PageList {
  readonly [pages]: true;
  readonly ranges: readonly PageRange[];
}

class Pages {
  readonly ranges: readonly PageRange[];
  /** Who made pages of what has none; null: the pages are real. */
  readonly culprit: string | null;

  constructor(ranges: readonly PageRange[], culprit: string | null) {
    this.ranges = ranges;
    this.culprit = culprit;
  }
}

/** States that the kernel has pages for these ranges: who allocated them knows. */
export function pageList(ranges: readonly PageRange[]): PageList {
  return new Pages(ranges, null) as unknown as PageList;
}

/** Pages that do not exist, computed from an address: whoever looks at one takes a page fault. */
export function pagelessList(ranges: readonly PageRange[], culprit: string): PageList {
  return new Pages(ranges, culprit) as unknown as PageList;
}

/** Who computed pages that do not exist; null if they do. */
export function culpritOf(list: PageList): string | null {
  return list instanceof Pages ? list.culprit : null;
}

/** True if it came from {@link pageList}; what a cast makes of something else did not. */
export function isPageList(list: unknown): list is PageList {
  return list instanceof Pages;
}

/**
 * Single pages as a list: neighbours become one range.
 *
 * @param maxSegment - Bytes of a range at most; a multiple of the page size. What a device can take
 *   in one piece, if the list is for one device.
 * @throws {@link DmaBufError} `EINVAL` there is no page.
 * @source `sg_alloc_table_from_pages_segment()`
 */
export function sgAllocTableFromPages(
  single: readonly PhysAddr[],
  maxSegment: number = ENTRY_MAX,
): PageList {
  if (single.length === 0) throw new DmaBufError('EINVAL', 'sg_alloc_table', 'table-of-no-pages');
  const longest = Math.min(maxSegment, ENTRY_MAX);
  const ranges: PageRange[] = [];
  for (const phys of single) {
    const last = ranges.at(-1);
    const follows = last !== undefined && last.phys + last.size === phys;
    if (follows && last.size + PAGE_SIZE <= longest) {
      ranges[ranges.length - 1] = { phys: last.phys, size: last.size + PAGE_SIZE };
    } else ranges.push({ phys, size: PAGE_SIZE });
  }
  return pageList(ranges);
}

/** Bytes in it. */
export function sizeOfPages({ ranges }: PageList): number {
  return ranges.reduce((sum, { size }) => sum + size, 0);
}

/** The start of each single page, in order. What has no pages traps. */
export function pagesOf(list: PageList): readonly PhysAddr[] {
  assert(isPageList(list), 'only memory with pages has a list of them');
  assert(culpritOf(list) === null, `no page is there: ${culpritOf(list)}`);
  return list.ranges.flatMap(({ phys, size }) =>
    Array.from({ length: size / PAGE_SIZE }, (_, i) => (phys + i * PAGE_SIZE) as PhysAddr),
  );
}
