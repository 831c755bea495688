/**
 * Physical ranges of a device, made reachable for another one: the helper that exporters of device
 * memory share. Across a switch it hands out bus addresses and touches no IOMMU; through the root
 * complex it maps.
 *
 * DIFFERS: in 7.2 several ranges behind an IOMMU are all linked at offset 0 and the table leaks;
 * here they are linked one behind the other, as the code means to, and nothing leaks.
 *
 * @source `dma_buf_phys_vec_to_sgt()`, drivers/dma-buf/dma-buf-mapping.c, v7.2;
 *   reference/linux-dma-buf.md C.6
 */

import {
  assert,
  type DmaAddr,
  DmaBufError,
  type DmaDirection,
  dmaAddr,
  isDmaBufError,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import type { Device, PhysRange, Task } from '../../machine/index.ts';
import type { Attachment } from './attachment.ts';
import { type DmaIova, dmaIovaDestroy, dmaIovaMap } from '../dma/dma-iova.ts';
import { dmaMapPhys, dmaUnmapPhys } from '../dma/dma-mapping.ts';
import type { P2pRoute } from '../p2pdma/p2pdma.ts';
import { explainRoute } from '../p2pdma/p2pdma-advice.ts';
import { type P2pProvider, pciP2pdmaBusAddrMap } from '../p2pdma/p2pdma-provider.ts';
import type { SgEntry, SgTable } from '../dma/scatterlist.ts';

/** `struct phys_vec`: a range of physical addresses. For exporters and the core only. */
export interface PhysVec {
  readonly paddr: PhysAddr;
  /** Bytes; a multiple of the page size. */
  readonly length: number;
}

/** LIMIT: the longest entry, because Linux's entries count bytes in 32 bits. */
export const ENTRY_SIZE_MAX: number = 2 ** 32 - PAGE_SIZE;

/** How a table came about, and so how it goes. */
type Undo =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'iova'; readonly iova: DmaIova }
  | { readonly kind: 'each'; readonly addresses: readonly DmaAddr[] };

/** A table with what is needed to take it back. Importers see a {@link SgTable}. */
class PhysVecTable implements SgTable {
  readonly entries: readonly SgEntry[];
  readonly undo: Undo;
  readonly ranges: readonly PhysRange[];

  constructor(entries: readonly SgEntry[], undo: Undo, ranges: readonly PhysRange[]) {
    this.entries = entries;
    this.undo = undo;
    this.ranges = ranges;
  }
}

/**
 * Maps physical ranges of a provider for the attachment's device.
 *
 * @param physVec - Page-aligned ranges, in the order of the buffer.
 * @throws {@link DmaBufError} `EINVAL` the device cannot reach the provider: `detail` says why and
 *   what would help; or there is no range at all. `ENOMEM` no memory, or no I/O address left.
 * @context May sleep. The caller holds the reservation.
 */
export function* dmaBufPhysVecToSgt(
  attachment: Attachment,
  provider: P2pProvider,
  physVec: readonly PhysVec[],
  direction: DmaDirection,
): Task<SgTable> {
  const { buf, device } = attachment;
  buf.resv.assertHeld('dma_buf_phys_vec_to_sgt');
  if (!(yield* buf.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'mapDmaBuf', 'no-memory-for-a-table');
  }
  const route = yield* buf.kernel.p2pdmaOf(provider.owner).mapType(device);
  const refused = route?.mapType === 'not-supported' || route?.mapType === 'unknown';
  if (route === null || refused) throw noRoute(attachment, provider, route);
  if (physVec.length === 0) {
    throw new DmaBufError('EINVAL', 'mapDmaBuf', 'no-ranges-to-map');
  }
  const ranges = physVec.map(({ paddr, length }) => ({ phys: paddr, size: length }));
  if (route.mapType === 'bus-address') {
    const starts = physVec.map(({ paddr }) => dmaAddr(pciP2pdmaBusAddrMap(provider, paddr)));
    return new PhysVecTable(entriesOf(starts, ranges), { kind: 'nothing' }, ranges);
  }
  const iova = yield* mapBlock(device, ranges, direction);
  if (iova !== null) {
    const entries = entriesOf([iova.address], [{ size: iova.size }]);
    return new PhysVecTable(entries, { kind: 'iova', iova }, ranges);
  }
  const addresses = yield* mapEach(attachment, ranges, direction);
  return new PhysVecTable(entriesOf(addresses, ranges), { kind: 'each', addresses }, ranges);
}

/** All ranges in one block. Null: there is no block for all; each range may find a place yet. */
function* mapBlock(
  device: Device,
  ranges: readonly PhysRange[],
  direction: DmaDirection,
): Task<DmaIova | null> {
  try {
    return yield* dmaIovaMap(device, ranges, direction);
  } catch (error) {
    if (isDmaBufError(error) && error.code === 'ENOMEM') return null;
    throw error;
  }
}

/** Each range by itself; if one cannot be mapped, those before it are taken back. */
function* mapEach(
  { buf, device }: Attachment,
  ranges: readonly PhysRange[],
  direction: DmaDirection,
): Task<readonly DmaAddr[]> {
  const { machine } = buf.kernel;
  const addresses: DmaAddr[] = [];
  try {
    for (const range of ranges) {
      addresses.push(yield* dmaMapPhys(machine, device, range, direction, 'mmio'));
    }
    return addresses;
  } catch (error) {
    for (const [i, address] of addresses.entries()) {
      yield* dmaUnmapPhys(machine, device, address, ranges[i] as PhysRange, direction, 'mmio');
    }
    throw error;
  }
}

/**
 * Takes a table of {@link dmaBufPhysVecToSgt} back.
 *
 * @context May sleep. The caller holds the reservation.
 * @source `dma_buf_free_sgt()`
 */
export function* dmaBufFreeSgt(
  attachment: Attachment,
  table: SgTable,
  direction: DmaDirection,
): Task {
  const { buf, device } = attachment;
  buf.resv.assertHeld('dma_buf_free_sgt');
  assert(table instanceof PhysVecTable, 'the table is one of dmaBufPhysVecToSgt');
  const { undo, ranges } = table;
  if (undo.kind === 'iova') yield* dmaIovaDestroy(undo.iova);
  if (undo.kind !== 'each') return;
  for (const [i, range] of ranges.entries()) {
    const address = undo.addresses[i] as DmaAddr;
    yield* dmaUnmapPhys(buf.kernel.machine, device, address, range, direction, 'mmio');
  }
}

/** Each range begins an entry of its own; one that is too long is cut. */
function entriesOf(
  starts: readonly DmaAddr[],
  ranges: readonly { readonly size: number }[],
): readonly SgEntry[] {
  return ranges.flatMap(({ size }, i) => {
    const start = starts[i] as DmaAddr;
    const entries: SgEntry[] = [];
    for (let at = 0; at < size; at += ENTRY_SIZE_MAX) {
      const length = Math.min(ENTRY_SIZE_MAX, size - at);
      entries.push({ address: dmaAddr(start + at), length });
    }
    return entries;
  });
}

function noRoute(
  { device }: Attachment,
  { owner, bar }: P2pProvider,
  route: P2pRoute | null,
): DmaBufError {
  const client = device.pci?.node ?? null;
  const explanation =
    route === null || client === null
      ? { why: `${device.name} is not a PCI device`, advice: [] }
      : explainRoute(owner.node, client, route);
  return new DmaBufError('EINVAL', 'mapDmaBuf', 'no-peer-to-peer-route', {
    detail: {
      refusedBy: 'core',
      class: 'connectivity',
      rule: 'p2p-only-if-reachable',
      provider: owner.name,
      bar,
      client: device.name,
      verdict: route?.mapType ?? 'not-supported',
      distance: -1,
      ...explanation,
    },
  });
}
