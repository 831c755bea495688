/**
 * Mapping the pages of a buffer for one device: pages go in, a table of device addresses comes out.
 * Behind an IOMMU the pieces lie one behind the other and are joined; without one each piece keeps
 * an address of its own.
 *
 * DIFFERS: Linux merges device entries past a device's segment size when the entry before is
 * already longer than that, because a subtraction wraps; here such entries stay apart.
 *
 * @source kernel/dma/mapping.c, kernel/dma/direct.c, drivers/iommu/dma-iommu.c, v7.2;
 *   reference/linux-dma-buf.md C.1, C.2
 */

import {
  type DmaAddr,
  DmaBufError,
  type DmaDirection,
  dmaAddr,
  isDmaBufError,
  isPageAligned,
  PAGE_SIZE,
} from '../../base/index.ts';
import {
  type Access,
  type Atomic,
  Cell,
  type Device,
  type Machine,
  MAX_SEGMENT_SIZE_DEFAULT,
  type PhysRange,
  PreemptStep,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import {
  dmaMapPhys,
  dmaSyncForCpu,
  dmaSyncForDevice,
  dmaUnmapPhys,
  rightsFor,
} from './dma-mapping.ts';
import type { PageList } from './page-list.ts';
import type { SgEntry, SgTable } from './scatterlist.ts';

/** LIMIT: the longest entry, because Linux's entries count bytes in 32 bits. */
const PIECE_SIZE_MAX = 2 ** 32 - PAGE_SIZE;

/** Entries of a table do not cross a multiple of this (`dma_get_seg_boundary()`). */
const SEGMENT_BOUNDARY = 2 ** 32;

/** Where one piece of the pages went. */
interface MappedPiece extends PhysRange {
  readonly address: DmaAddr;
}

/**
 * A table that {@link dmaMapSgtable} made, with what is needed to sync it and take it back. It is
 * the exporter's; importers see an {@link SgTable}. Its cell says whether it is still mapped.
 */
export class MappedSgTable extends Cell<boolean> implements SgTable {
  readonly entries: readonly SgEntry[];
  readonly device: Device;
  readonly direction: DmaDirection;
  private readonly pieces: readonly MappedPiece[];

  constructor(
    scheduler: Scheduler,
    device: Device,
    direction: DmaDirection,
    pieces: readonly MappedPiece[],
  ) {
    super(scheduler, `table for ${device.name}`, true);
    this.device = device;
    this.direction = direction;
    this.pieces = pieces;
    this.entries = joined(device, pieces);
  }

  /** What was mapped where. For the DMA API only. */
  static piecesOf(table: MappedSgTable): readonly MappedPiece[] {
    return table.pieces;
  }

  /** A step that ends it; false if it was ended before. */
  end(): PreemptStep<boolean> {
    return new EndMapping(this);
  }
}

class EndMapping extends PreemptStep<boolean> {
  readonly cell: MappedSgTable;

  constructor(cell: MappedSgTable) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'end mapping';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): boolean {
    const wasMapped = this.cell.value;
    this.cell.value = false;
    return wasMapped;
  }
}

/**
 * Maps pages for one device and gives them to it: what the CPU wrote is in memory afterwards.
 *
 * @param pages - What the exporter allocated, in the order of the buffer; whole pages.
 * @returns Pieces in the order of the buffer. Behind an IOMMU often one, of up to the device's
 *   `maxSegmentSize` if it was joined; without an IOMMU one for each range.
 * @throws {@link DmaBufError} `EINVAL` no pages, or parts of pages; `ENOMEM` no I/O address left;
 *   `EIO` the device cannot reach a piece.
 * @context Any.
 * @source `dma_map_sgtable()`
 */
export function* dmaMapSgtable(
  machine: Machine,
  device: Device,
  pages: PageList,
  direction: DmaDirection,
  attrs: DmaAttrs = {},
): Atomic<MappedSgTable> {
  const ranges = cpuEntries(pages);
  const domain = device.pci?.domain.value ?? null;
  const pieces: MappedPiece[] = [];
  if (domain === null) {
    yield* mapEach(machine, device, ranges, direction, attrs, pieces);
  } else {
    const start = yield* domain.mapAnywhere(ranges, rightsFor(direction));
    if (start === null) throw new DmaBufError('ENOMEM', 'dma_map_sgtable', 'no-room-for-the-table');
    let at: number = start;
    for (const range of ranges) {
      pieces.push({ ...range, address: dmaAddr(at) });
      at += range.size;
      if (attrs.skipCpuSync !== true) yield* dmaSyncForDevice(machine, device, range);
    }
  }
  return new MappedSgTable(machine.scheduler, device, direction, pieces);
}

/**
 * Takes a table back. What the device wrote is visible to the CPU afterwards.
 *
 * @param table - One of {@link dmaMapSgtable}.
 * @param direction - As at the map.
 * @param attrs - As at the map, or `skipCpuSync` besides.
 * @context Any.
 * @source `dma_unmap_sgtable()`
 */
export function* dmaUnmapSgtable(
  machine: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
  attrs: DmaAttrs = {},
): Atomic {
  const call = 'dma_unmap_sgtable';
  if (!(table instanceof MappedSgTable)) {
    machine.scheduler.warn(call, 'the table has no pages: dmaMapSgtable did not make it');
    return;
  }
  if (table.device !== device || table.direction !== direction) {
    machine.scheduler.warn(call, 'the table was mapped for another device or direction');
  }
  if (!(yield* table.end())) {
    machine.scheduler.warn(call, 'the table was unmapped before');
    return;
  }
  const pieces = MappedSgTable.piecesOf(table);
  const domain = table.device.pci?.domain.value ?? null;
  if (domain === null) {
    for (const piece of pieces) {
      yield* dmaUnmapPhys(machine, table.device, piece.address, piece, direction, 'ram');
    }
    return;
  }
  if (attrs.skipCpuSync !== true) {
    for (const piece of pieces) yield* dmaSyncForCpu(machine, device, piece, direction);
  }
  const [first] = pieces;
  const size = pieces.reduce((sum, piece) => sum + piece.size, 0);
  if (first !== undefined) yield* domain.unmap(first.address, size);
}

/**
 * Gives a mapped table to the CPU: it sees what the device wrote.
 *
 * @context Any.
 * @source `dma_sync_sgtable_for_cpu()`
 */
export function* dmaSyncSgtableForCpu(
  machine: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
): Atomic {
  if (!isSyncable(machine, table, direction, 'dma_sync_sgtable_for_cpu')) return;
  for (const piece of MappedSgTable.piecesOf(table)) {
    yield* dmaSyncForCpu(machine, device, piece, direction);
  }
}

/**
 * Gives a mapped table back to its device: it sees what the CPU wrote.
 *
 * @context Any.
 * @source `dma_sync_sgtable_for_device()`
 */
export function* dmaSyncSgtableForDevice(
  machine: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
): Atomic {
  if (!isSyncable(machine, table, direction, 'dma_sync_sgtable_for_device')) return;
  for (const piece of MappedSgTable.piecesOf(table)) {
    yield* dmaSyncForDevice(machine, device, piece);
  }
}

function isSyncable(
  machine: Machine,
  table: SgTable,
  direction: DmaDirection,
  call: string,
): table is MappedSgTable {
  if (!(table instanceof MappedSgTable)) {
    machine.scheduler.warn(call, 'the table has no pages to sync');
    return false;
  }
  if (table.direction !== 'bidirectional' && table.direction !== direction) {
    machine.scheduler.warn(call, 'the table was mapped for another direction');
  }
  if (!table.value) machine.scheduler.warn(call, 'the table is not mapped');
  return table.value;
}

/** The entries of Linux's CPU part: ranges, cut where 32 bits end. */
function cpuEntries({ ranges }: PageList): readonly PhysRange[] {
  const whole = ranges.every(({ phys, size }) => isPageAligned(phys) && isPageAligned(size));
  if (ranges.length === 0 || !whole || ranges.some(({ size }) => size <= 0)) {
    throw new DmaBufError('EINVAL', 'dma_map_sgtable', 'no-whole-pages-to-map');
  }
  return ranges.flatMap(({ phys, size }) => {
    const entries: PhysRange[] = [];
    for (let at = 0; at < size; at += PIECE_SIZE_MAX) {
      const start = (phys + at) as PhysRange['phys'];
      entries.push({ phys: start, size: Math.min(PIECE_SIZE_MAX, size - at) });
    }
    return entries;
  });
}

/** Without an IOMMU: each range by itself; all of them or none. */
function* mapEach(
  machine: Machine,
  device: Device,
  ranges: readonly PhysRange[],
  direction: DmaDirection,
  _attrs: DmaAttrs,
  pieces: MappedPiece[],
): Atomic {
  try {
    for (const range of ranges) {
      const address = yield* dmaMapPhys(machine, device, range, direction, 'ram');
      pieces.push({ ...range, address });
    }
  } catch (error) {
    for (const piece of pieces) {
      yield* dmaUnmapPhys(machine, device, piece.address, piece, direction, 'ram');
    }
    if (!isDmaBufError(error)) throw error;
    throw new DmaBufError('EIO', 'dma_map_sgtable', 'piece-out-of-reach', { cause: error });
  }
}

/** Neighbours in the device's address space become one entry, if a device may have such. */
function joined(device: Device, pieces: readonly MappedPiece[]): readonly SgEntry[] {
  if ((device.pci?.domain.value ?? null) === null) {
    return pieces.map(({ address, size }) => ({ address, length: size }));
  }
  const longest = device.maxSegmentSize ?? MAX_SEGMENT_SIZE_DEFAULT;
  const entries: SgEntry[] = [];
  for (const { address, size } of pieces) {
    const last = entries.at(-1);
    const fits =
      last !== undefined &&
      last.address + last.length === address &&
      last.length + size <= longest &&
      address % SEGMENT_BOUNDARY !== 0;
    if (fits) entries[entries.length - 1] = { ...last, length: last.length + size };
    else entries.push({ address, length: size });
  }
  return entries;
}
