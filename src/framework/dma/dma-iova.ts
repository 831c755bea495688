/**
 * Blocks of I/O addresses: several ranges, one behind the other, as one piece for the device. A
 * block is allocated, filled range by range, and synced before use.
 *
 * @source `dma_iova_*()`, drivers/iommu/dma-iommu.c, v7.2; reference/linux-dma-buf.md C.4
 */

import {
  alignUp,
  assert,
  type DmaAddr,
  DmaBufError,
  type DmaDirection,
  dmaAddr,
  isPageAligned,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import {
  type Atomic,
  type Device,
  HoldIova,
  type IommuDomain,
  LinkIova,
  type Machine,
  type PhysRange,
  ReleaseIova,
  TranslateIova,
  UnlinkIova,
} from '../../machine/index.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { type MappedKind, needsClean, streamingLimit } from './dma-direct.ts';
import { dmaSyncForCpu, dmaSyncForDevice, domainOf, rightsFor } from './dma-mapping.ts';
import { swiotlbFind, swiotlbFree, swiotlbMap, swiotlbSyncForCpu } from './swiotlb.ts';

/** LIMIT: bytes of a block; the bit above says in Linux that bounce buffers are in it. */
const IOVA_SIZE_LIMIT = 2 ** 63;

/** `struct dma_iova_state`: a block of I/O addresses. */
export interface DmaIova {
  readonly domain: IommuDomain;
  readonly address: DmaAddr;
  /** Bytes; 0 for no block. */
  readonly size: number;
}

/**
 * Allocates a block.
 *
 * @param phys - What comes first: the block begins as far into a page.
 * @returns Null if the device has no IOMMU domain, or no address is left: map each range by itself.
 * @context Any.
 * @source `dma_iova_try_alloc()`
 */
export function* dmaIovaTryAlloc(
  machine: Machine,
  device: Device,
  phys: PhysAddr,
  size: number,
): Atomic<DmaIova | null> {
  const domain = domainOf(device);
  if (domain === null) return null;
  if (size === 0 || size >= IOVA_SIZE_LIMIT) {
    machine.scheduler.warn('dma_iova_try_alloc', `a block of ${size} bytes`);
    return null;
  }
  const inPage = phys % PAGE_SIZE;
  const held = alignUp(size + inPage, PAGE_SIZE);
  const start = yield* new HoldIova(domain, held, streamingLimit(device));
  return start === null ? null : { domain, address: dmaAddr(start + inPage), size };
}

/**
 * True if there is a block.
 *
 * @source `dma_use_iova()`
 */
export function dmaUseIova(state: DmaIova | null): state is DmaIova {
  return state !== null && state.size !== 0;
}

/**
 * Fills a part of a block with a range.
 *
 * @param offset - Where in the block.
 * @throws {@link DmaBufError} `EIO` the range begins in a page and is not the block's first, or the
 *   part is filled already; `EOPNOTSUPP` the device is not coherent and has to be; `EPERM` device
 *   memory would need a bounce buffer; `ENOMEM` there is no such buffer.
 * @context Any.
 * @source `dma_iova_link()`
 */
export function* dmaIovaLink(
  machine: Machine,
  device: Device,
  state: DmaIova,
  { phys, size }: PhysRange,
  offset: number,
  direction: DmaDirection,
  kind: MappedKind,
  attrs: DmaAttrs = {},
): Atomic {
  const call = 'dma_iova_link';
  const inPage = phys % PAGE_SIZE;
  if (inPage > 0 && offset > 0) {
    machine.scheduler.warn(call, 'a later range begins within a page');
    throw new DmaBufError('EIO', call, 'later-range-begins-within-a-page');
  }
  if (attrs.requireCoherent === true && !device.isCoherent) {
    throw new DmaBufError('EOPNOTSUPP', call, 'block-for-a-device-that-is-not-coherent');
  }
  let start = phys;
  const bounces = device.isUntrusted === true && !(isPageAligned(phys) && isPageAligned(size));
  if (bounces) {
    if (kind === 'mmio') throw new DmaBufError('EPERM', call, 'device-memory-has-no-bounce-buffer');
    const copy = yield* swiotlbMap(machine, device, { phys, size });
    if (copy === null) throw new DmaBufError('ENOMEM', call, 'no-bounce-buffer-for-the-block');
    start = copy;
  } else if (needsClean(device, kind, attrs)) {
    yield* dmaSyncForDevice(machine, device, { phys, size });
  }
  const linked = yield* new LinkIova(state.domain, {
    iova: state.address + offset - inPage,
    phys: start - inPage,
    size: alignUp(size + inPage, PAGE_SIZE),
    ...rightsFor(direction),
  });
  if (linked) return;
  const slots = bounces ? yield* swiotlbFind(machine, start) : null;
  if (slots !== null) yield* swiotlbFree(machine, slots);
  throw new DmaBufError('EIO', call, 'part-of-the-block-is-taken');
}

/**
 * Makes what was linked visible to the device.
 *
 * DIFFERS: the modelled IOMMU remembers nothing of empty entries, so there is nothing to flush; a
 * part that was not linked is a warning.
 *
 * @context Any.
 * @source `dma_iova_sync()`
 */
export function* dmaIovaSync(
  machine: Machine,
  state: DmaIova,
  offset: number,
  size: number,
): Atomic {
  for (let at = 0; at < size; at += PAGE_SIZE) {
    const phys = yield* new TranslateIova(state.domain, state.address + offset + at);
    if (phys !== null) continue;
    machine.scheduler.warn('dma_iova_sync', 'a part of the block is not linked');
    return;
  }
}

/**
 * Empties a part of a block, which stays allocated.
 *
 * @param offset - A multiple of the page size, as at the link; so are `direction` and `kind`.
 * @context Any.
 * @source `dma_iova_unlink()`
 */
export function* dmaIovaUnlink(
  machine: Machine,
  device: Device,
  state: DmaIova,
  offset: number,
  size: number,
  direction: DmaDirection,
  kind: MappedKind,
  attrs: DmaAttrs = {},
): Atomic {
  const first = state.address + offset;
  const start = first - (first % PAGE_SIZE);
  const removed = yield* new UnlinkIova(
    state.domain,
    start,
    alignUp(first + size - start, PAGE_SIZE),
  );
  for (const entry of removed) {
    if (kind === 'mmio') continue;
    // Only the bytes that were asked for, not the rest of their pages.
    const from = Math.max(entry.iova, first);
    const length = Math.min(entry.iova + entry.size, first + size) - from;
    const phys = (entry.phys + from - entry.iova) as PhysAddr;
    const slots = yield* swiotlbFind(machine, phys);
    const seen = attrs.skipCpuSync !== true;
    if (slots === null) {
      if (seen) yield* dmaSyncForCpu(machine, device, { phys, size: length }, direction);
      continue;
    }
    const piece = { phys, size: length };
    if (seen) yield* swiotlbSyncForCpu(machine, device, slots, piece, direction);
    yield* swiotlbFree(machine, slots);
  }
}

/**
 * Lets go of a block that is empty.
 *
 * @context Any.
 * @source `dma_iova_free()`
 */
export function* dmaIovaFree(state: DmaIova): Atomic {
  const inPage = state.address % PAGE_SIZE;
  const size = alignUp(state.size + inPage, PAGE_SIZE);
  yield* new ReleaseIova(state.domain, state.address - inPage, size);
}

/**
 * Maps several whole ranges one behind the other into one block, in one step: what allocating,
 * linking and syncing come to where nothing can go wrong between.
 *
 * @returns Null if the device has no IOMMU domain: map each range by itself then.
 * @throws {@link DmaBufError} `ENOMEM` no block is left.
 * @context Any. For device memory; nothing is cleaned.
 * @source `dma_iova_try_alloc()`, `dma_iova_link()`, `dma_iova_sync()`
 */
export function* dmaIovaMap(
  device: Device,
  ranges: readonly PhysRange[],
  direction: DmaDirection,
): Atomic<DmaIova | null> {
  const domain = domainOf(device);
  if (domain === null) return null;
  assert(
    ranges.every(({ phys, size }) => isPageAligned(phys) && isPageAligned(size)),
    'ranges that share a block of I/O addresses are whole pages',
  );
  const limit = streamingLimit(device);
  const address = yield* domain.mapAnywhere(ranges, rightsFor(direction), limit);
  if (address === null) throw new DmaBufError('ENOMEM', 'dma_iova_link', 'no-io-block-left');
  return { domain, address, size: ranges.reduce((sum, range) => sum + range.size, 0) };
}

/**
 * Takes a whole block back, that {@link dmaIovaMap} filled with device memory.
 *
 * @context Any.
 * @source `dma_iova_destroy()`
 */
export function* dmaIovaDestroy({ domain, address, size }: DmaIova): Atomic {
  yield* domain.unmap(address, size);
}
