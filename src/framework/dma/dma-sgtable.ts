/**
 * Mapping the pages of a buffer for one device: pages go in, a table of device addresses comes out.
 * Behind an IOMMU the pieces lie one behind the other and are joined; without one each piece keeps
 * an address of its own.
 *
 * @source kernel/dma/mapping.c, kernel/dma/direct.c, drivers/iommu/dma-iommu.c, v7.2;
 *   reference/linux-dma-buf.md C.1, C.2
 */

import {
  type DmaAddr,
  DmaBufError,
  type DmaDirection,
  dmaAddr,
  isPageAligned,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import { type Atomic, type Device, type IommuDomain, type Machine } from '../../machine/index.ts';
import { pciP2pdmaBusAddrMap } from '../p2pdma/p2pdma-provider.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { dmaDirectMap, dmaToPhys, needsClean, streamingLimit } from './dma-direct.ts';
import { dmaSyncForCpu, dmaSyncForDevice, domainOf, mayMap, rightsFor } from './dma-mapping.ts';
import { culpritOf, isPageList, type PageList, type PageRange } from './page-list.ts';
import { MappedSgTable, type MappedPiece, type Piece, type PieceKind } from './mapped-sgtable.ts';
import type { SgTable } from './scatterlist.ts';
import {
  copyOf,
  swiotlbFind,
  swiotlbFree,
  swiotlbSyncForCpu,
  swiotlbSyncForDevice,
} from './swiotlb.ts';

/** LIMIT: the longest entry, because Linux's entries count bytes in 32 bits. */
const PIECE_SIZE_MAX = 2 ** 32 - PAGE_SIZE;

/**
 * Maps pages for one device and gives them to it: what the CPU wrote is in memory afterwards.
 *
 * @param list - What the exporter allocated, in the order of the buffer; whole pages.
 * @returns Pieces in the order of the buffer. Behind an IOMMU often one: neighbours are joined up
 *   to the device's `maxSegmentSize`. Without an IOMMU one for each range. None at all for a device
 *   without a DMA mask, with a warning.
 * @throws {@link DmaBufError} `EINVAL` no pages, or parts of pages; `EREMOTEIO` pages of a device
 *   that this one cannot reach; `ENOMEM` no I/O address left; `EIO` the device cannot send the
 *   address of a piece, and there is no bounce buffer for it; `EOPNOTSUPP` it is not coherent and
 *   has to be.
 * @context Any.
 * @source `dma_map_sgtable()`
 */
export function* dmaMapSgtable(
  machine: Machine,
  device: Device,
  list: PageList,
  direction: DmaDirection,
  attrs: DmaAttrs = {},
): Atomic<MappedSgTable> {
  const { scheduler } = machine;
  const call = 'dma_map_sgtable';
  if (!isPageList(list)) {
    scheduler.warn(call, 'memory without pages is given as pages');
    throw new DmaBufError('EINVAL', call, 'pages-that-are-none');
  }
  const culprit = culpritOf(list);
  if (culprit !== null) scheduler.oops(`page fault at a struct page: ${call} < ${culprit}`);
  const domain = domainOf(device);
  const made = { device, direction, domain };
  if (!mayMap(machine, device, direction, call)) {
    return new MappedSgTable(scheduler, { ...made, pieces: [], block: null });
  }
  if (attrs.requireCoherent === true && !device.isCoherent) {
    throw new DmaBufError('EOPNOTSUPP', call, 'table-for-a-device-that-is-not-coherent');
  }
  const pieces = yield* piecesFor(device, list);
  if (domain === null) {
    const mapped = yield* mapEach(machine, device, pieces, direction, attrs);
    return new MappedSgTable(scheduler, { ...made, pieces: mapped, block: null });
  }
  const through = pieces.filter(({ kind }) => kind !== 'bus');
  const size = through.reduce((sum, piece) => sum + piece.size, 0);
  let start: DmaAddr | null = null;
  if (size > 0) {
    const limit = streamingLimit(device);
    start = yield* domain.mapAnywhere(through, rightsFor(direction), limit);
    if (start === null) throw new DmaBufError('ENOMEM', call, 'no-room-for-the-table');
  }
  let at: number = start ?? 0;
  const mapped: MappedPiece[] = [];
  for (const piece of pieces) {
    const address = piece.kind === 'bus' ? busAddressOf(piece) : dmaAddr(at);
    mapped.push({ ...piece, address, slots: null });
    if (piece.kind !== 'bus') at += piece.size;
    if (piece.kind === 'ram' && needsClean(device, 'ram', attrs)) {
      yield* dmaSyncForDevice(machine, device, piece);
    }
  }
  const block = start === null ? null : { address: start, size };
  return new MappedSgTable(scheduler, { ...made, pieces: mapped, block });
}

/**
 * Takes a table back. What the device wrote is visible to the CPU afterwards.
 *
 * @param table - One of {@link dmaMapSgtable}, and mapped; anything else is a warning.
 * @param direction - As at the map.
 * @param attrs - As at the map, or `skipCpuSync` besides.
 * @context Any.
 * @source `dma_unmap_sgtable()`; the warnings are those of kernel/dma/debug.c
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
  const { pieces, domain, block } = MappedSgTable.mappingOf(table);
  if (block !== null) yield* (domain as IommuDomain).unmap(block.address, block.size);
  for (const piece of pieces) {
    yield* letGo(machine, table.device, piece, direction, attrs.skipCpuSync !== true);
  }
}

/**
 * Gives a mapped table to the CPU: it sees what the device wrote.
 *
 * @param table - One of {@link dmaMapSgtable}, and mapped; anything else is a warning.
 * @context Any.
 * @source `dma_sync_sgtable_for_cpu()`
 */
export function* dmaSyncSgtableForCpu(
  machine: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
): Atomic {
  const call = 'dma_sync_sgtable_for_cpu';
  for (const piece of piecesToSync(machine, device, table, direction, call)) {
    const { slots } = piece;
    if (slots === null) yield* dmaSyncForCpu(machine, device, piece, direction);
    else yield* swiotlbSyncForCpu(machine, device, slots, copyOf(slots, piece), direction);
  }
}

/**
 * Gives a mapped table back to its device: it sees what the CPU wrote.
 *
 * @param table - One of {@link dmaMapSgtable}, and mapped; anything else is a warning.
 * @context Any.
 * @source `dma_sync_sgtable_for_device()`
 */
export function* dmaSyncSgtableForDevice(
  machine: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
): Atomic {
  const call = 'dma_sync_sgtable_for_device';
  for (const piece of piecesToSync(machine, device, table, direction, call)) {
    const { slots } = piece;
    if (slots === null) yield* dmaSyncForDevice(machine, device, piece);
    else yield* swiotlbSyncForDevice(machine, device, slots, copyOf(slots, piece), direction);
  }
}

/** The RAM of a table; nothing, and a warning, if it is not one that can be synced so. */
function piecesToSync(
  { scheduler }: Machine,
  device: Device,
  table: SgTable,
  direction: DmaDirection,
  call: string,
): readonly MappedPiece[] {
  if (!(table instanceof MappedSgTable)) {
    scheduler.warn(call, 'the table has no pages to sync');
    return [];
  }
  if (!table.value) {
    scheduler.warn(call, 'the table is not mapped');
    return [];
  }
  const isOther = table.direction !== 'bidirectional' && table.direction !== direction;
  if (isOther || table.device !== device) {
    scheduler.warn(call, 'the table was mapped for another device or direction');
  }
  return MappedSgTable.mappingOf(table).pieces.filter(({ kind }) => kind === 'ram');
}

/** The entries of Linux's CPU part, and how this device reaches each. */
function* piecesFor(device: Device, { ranges }: PageList): Atomic<readonly Piece[]> {
  const whole = ranges.every(
    ({ phys, size }) => size > 0 && isPageAligned(phys) && isPageAligned(size),
  );
  if (ranges.length === 0 || !whole) {
    throw new DmaBufError('EINVAL', 'dma_map_sgtable', 'no-whole-pages-to-map');
  }
  const pieces: Piece[] = [];
  for (const range of ranges) {
    const kind = yield* kindFor(device, range);
    for (let at = 0; at < range.size; at += PIECE_SIZE_MAX) {
      const phys = (range.phys + at) as PhysAddr;
      pieces.push({ ...range, kind, phys, size: Math.min(PIECE_SIZE_MAX, range.size - at) });
    }
  }
  return pieces;
}

function* kindFor(device: Device, { peer }: PageRange): Atomic<PieceKind> {
  if (peer === undefined) return 'ram';
  const route = yield* peer.state.mapType(device);
  if (route?.mapType === 'bus-address') return 'bus';
  if (route?.mapType === 'through-host-bridge') return 'mmio';
  throw new DmaBufError('EREMOTEIO', 'dma_map_sgtable', 'pages-of-a-device-out-of-reach', {
    detail: { provider: peer.provider.owner.name, client: device.name },
  });
}

function busAddressOf({ peer, phys }: Piece): DmaAddr {
  return dmaAddr(peer === undefined ? phys : pciP2pdmaBusAddrMap(peer.provider, phys));
}

/** Without an IOMMU: each piece by itself; all of them or none. */
function* mapEach(
  machine: Machine,
  device: Device,
  pieces: readonly Piece[],
  direction: DmaDirection,
  attrs: DmaAttrs,
): Atomic<readonly MappedPiece[]> {
  const mapped: MappedPiece[] = [];
  for (const piece of pieces) {
    const { kind } = piece;
    const address =
      kind === 'bus'
        ? busAddressOf(piece)
        : yield* dmaDirectMap(machine, device, piece, kind, attrs);
    if (address === null) {
      for (const one of mapped) yield* letGo(machine, device, one, direction, false);
      throw new DmaBufError('EIO', 'dma_map_sgtable', 'piece-out-of-reach');
    }
    const slots = kind === 'ram' ? yield* swiotlbFind(machine, dmaToPhys(device, address)) : null;
    mapped.push({ ...piece, address, slots });
  }
  return mapped;
}

/** Takes one piece back, but for its I/O address. */
function* letGo(
  machine: Machine,
  device: Device,
  piece: MappedPiece,
  direction: DmaDirection,
  isSeen: boolean,
): Atomic {
  const { slots } = piece;
  if (piece.kind !== 'ram') return;
  if (slots === null) {
    if (isSeen) yield* dmaSyncForCpu(machine, device, piece, direction);
    return;
  }
  const copy = copyOf(slots, piece);
  if (isSeen) yield* swiotlbSyncForCpu(machine, device, slots, copy, direction);
  yield* swiotlbFree(machine, slots);
}
