/**
 * Goal: coherent memory and mapped pages are two worlds: neither passes for the other (S002-16).
 */

import type { DmaAddr } from '../../src/base/index.ts';
import type { CoherentMemory, DmaAttrs, PageList, SgTable } from '../../src/framework/index.ts';
import {
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMapCoherent,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaSyncSingleForCpu,
  dmaUnmapSgtable,
  pageList,
  pagesOf,
} from '../../src/framework/index.ts';
import type { Device, Machine, PhysRange } from '../../src/machine/index.ts';

declare const machine: Machine;
declare const device: Device;
declare const memory: CoherentMemory;
declare const pages: PageList;
declare const table: SgTable;
declare const ranges: readonly PhysRange[];

/** Right as it is: each in its own world, and the one way from one to the other. */
export const right = [
  dmaMapSgtable(machine, device, pages, 'to-device'),
  dmaMapSgtable(machine, device, dmaGetSgtable(memory), 'to-device'),
  dmaMapCoherent(machine, device, memory, 'to-device'),
  dmaFreeCoherent(memory),
  dmaSyncSgtableForCpu(machine, device, table, 'to-device'),
];

/** Coherent memory in streaming calls (S002-16, AC-19). */
// @ts-expect-error It is not mapped: it has its address.
export const mapped = dmaMapSgtable(machine, device, memory, 'to-device');
// @ts-expect-error It is not unmapped.
export const unmapped = dmaUnmapSgtable(machine, device, memory, 'to-device');
// @ts-expect-error It is never synced.
export const forCpu = dmaSyncSgtableForCpu(machine, device, memory, 'to-device');
// @ts-expect-error It is never synced.
export const forDevice = dmaSyncSgtableForDevice(machine, device, memory, 'to-device');
// @ts-expect-error It is never synced, in parts either.
export const single = dmaSyncSingleForCpu(machine, device, memory, 4096, 'to-device');

/** Page-wise use of what may have no pages (S002-8, S002-14). */
// @ts-expect-error It is no list of pages.
export const found = pagesOf(memory);
// @ts-expect-error It has no page to look up.
export const page = memory.page;
// @ts-expect-error It is not mapped page by page.
export const kmap = memory.kmap;
// @ts-expect-error Nor is a table.
export const kmapped = table.kmap;
// @ts-expect-error Its place in memory is the DMA API's.
export const place = memory.phys;

/** A table and pages (MP-013). */
// @ts-expect-error A table of addresses has no pages to map again.
export const again = dmaMapSgtable(machine, device, table, 'to-device');
// @ts-expect-error Nor pages to look up.
export const looked = pagesOf(table);
// @ts-expect-error Ranges are pages once somebody who knows says so.
export const list: PageList = { ranges };
// @ts-expect-error Pages are no table.
export const tableOfPages: SgTable = pageList(ranges);
// @ts-expect-error Streaming memory is not freed as coherent.
export const freed = dmaFreeCoherent(table);
// @ts-expect-error The pages of a table are not asked for.
export const pagesOfTable = dmaGetSgtable(table);

/** The kind of memory belongs to the allocation, not to the call (S002-3, S002-4). */
// @ts-expect-error No attribute says that there are no pages.
export const attrs: DmaAttrs = { noPages: true };
// @ts-expect-error A direction is one of three.
export const none = dmaMapSgtable(machine, device, pages, 'none');
// @ts-expect-error What an allocation is does not change.
memory.origin = 'general';
/** Right as it is. */
export const address: DmaAddr = memory.address;
