/**
 * What an importer gets for a buffer: where its device finds it. There is no page and no CPU
 * address in here, so importers cannot use what they must not.
 *
 * DIFFERS: Linux's `struct sg_table` is two tables in one, pages and device addresses; importers
 * were told to look at the second only, and some looked at the first. This one has no first.
 *
 * @source reference/linux-dma-buf.md C.1; threads S000, S002, S004
 */

import type { DmaAddr } from '../../base/index.ts';

/** One piece of a mapped buffer. */
export interface SgEntry {
  /** In the DMA address space of the device it was mapped for. Page aligned. */
  readonly address: DmaAddr;
  /** Bytes; a multiple of the page size. */
  readonly length: number;
}

/**
 * A mapped buffer (`struct sg_table`): pieces in the order of the buffer; lengths add up to its
 * size.
 */
export interface SgTable {
  readonly entries: readonly SgEntry[];
}
