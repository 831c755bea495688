/**
 * The DMA API for single ranges: makes memory reachable for one device and says under which
 * address. What it does depends on the device's domain: with an IOMMU an entry in its table,
 * without one the physical address itself.
 *
 * @source kernel/dma/mapping.c, drivers/iommu/dma-iommu.c, v7.2; reference/linux-dma-buf.md C.2,
 *   C.3
 */

import {
  alignUp,
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
  type IommuDomain,
  type IovaRights,
  type Machine,
  type PhysRange,
  type SlotAllocation,
  TranslateIova,
} from '../../machine/index.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import {
  dmaDirectMap,
  dmaToPhys,
  type MappedKind,
  needsClean,
  streamingLimit,
} from './dma-direct.ts';
import {
  copyOf,
  swiotlbFind,
  swiotlbFree,
  swiotlbMap,
  swiotlbSyncForCpu,
  swiotlbSyncForDevice,
} from './swiotlb.ts';

/** What the device may do with memory that is mapped in this direction. */
export function rightsFor(direction: DmaDirection): IovaRights {
  return { readable: direction !== 'from-device', writable: direction !== 'to-device' };
}

/** The domain that translates a device's requests; null: none does. */
export function domainOf({ pci }: Device): IommuDomain | null {
  return pci?.domain.value ?? null;
}

/**
 * False if the device was never told what it can address: a warning, and nothing is mapped. A
 * direction that is none stops the kernel.
 *
 * @source `dma_map_phys()`, `__dma_map_sg_attrs()`
 */
export function mayMap(
  { scheduler }: Machine,
  device: Device,
  direction: DmaDirection,
  call: string,
): boolean {
  const known: readonly string[] = ['bidirectional', 'to-device', 'from-device'];
  if (!known.includes(direction)) scheduler.oops(`${call}: '${direction}' is no direction for DMA`);
  if (device.dmaMask !== null) return true;
  scheduler.warn(call, `${device.name} has no DMA mask`);
  return false;
}

/**
 * Maps a physical range for one device. RAM that a non-coherent device will use is cleaned first.
 *
 * @param range - Any bytes; behind an IOMMU the device reaches the rest of their pages, too.
 * @returns Where the device finds it.
 * @throws {@link DmaBufError} `ENOMEM`, for whatever `dma_mapping_error()` says: no I/O address is
 *   left; the device cannot send such an address and there is no bounce buffer; it has no mask; it
 *   is not coherent and has to be.
 * @context Any. No check of peer-to-peer reachability is made: the caller asked `p2pdma` before.
 * @source `dma_map_phys()`
 */
export function* dmaMapPhys(
  machine: Machine,
  device: Device,
  range: PhysRange,
  direction: DmaDirection,
  kind: MappedKind,
  attrs: DmaAttrs = {},
): Atomic<DmaAddr> {
  const call = 'dma_map_phys';
  if (!mayMap(machine, device, direction, call)) {
    throw new DmaBufError('ENOMEM', call, 'device-without-a-dma-mask');
  }
  if (attrs.requireCoherent === true && !device.isCoherent) {
    throw new DmaBufError('ENOMEM', call, 'range-for-a-device-that-is-not-coherent');
  }
  const domain = domainOf(device);
  const address =
    domain === null
      ? yield* dmaDirectMap(machine, device, range, kind, attrs)
      : yield* iommuMap(machine, device, domain, range, direction, kind, attrs);
  if (address === null && domain === null) {
    throw new DmaBufError('ENOMEM', call, 'range-out-of-reach');
  }
  if (address === null) throw new DmaBufError('ENOMEM', call, 'no-io-address-left');
  return address;
}

/**
 * Takes a mapping back. What a non-coherent device wrote becomes visible to the CPU, and so does
 * what was written to a bounce buffer.
 *
 * @param range - As at the map; so are `kind` and `attrs`, which may add `skipCpuSync`.
 * @context Any.
 * @source `dma_unmap_phys()`
 */
export function* dmaUnmapPhys(
  machine: Machine,
  device: Device,
  address: DmaAddr,
  range: PhysRange,
  direction: DmaDirection,
  kind: MappedKind,
  attrs: DmaAttrs = {},
): Atomic {
  const domain = domainOf(device);
  const slots = kind === 'mmio' ? null : yield* slotsAt(machine, device, address);
  const seen = attrs.skipCpuSync !== true;
  if (domain !== null) {
    const offset = address % PAGE_SIZE;
    const start = dmaAddr(address - offset);
    yield* domain.unmap(start, alignUp(range.size + offset, PAGE_SIZE));
  }
  if (slots !== null) {
    if (seen) yield* swiotlbSyncForCpu(machine, device, slots, copyOf(slots, range), direction);
    yield* swiotlbFree(machine, slots);
  } else if (kind === 'ram' && seen) yield* dmaSyncForCpu(machine, device, range, direction);
}

/**
 * Maps registers or memory of another device.
 *
 * DIFFERS: Linux's is told a CPU address only, and so is this; but it cannot be told RAM by its
 * kind, so nothing is ever cleaned or bounced for it.
 *
 * @throws {@link DmaBufError} `ENOMEM` as {@link dmaMapPhys}.
 * @context Any. It does not ask whether the device can reach the other: on a bus with another view
 *   the address leads nowhere (rule MP-011). Ask `p2pdma` first, or use `dmaBufPhysVecToSgt`.
 * @source `dma_map_resource()`
 */
export function* dmaMapResource(
  machine: Machine,
  device: Device,
  range: PhysRange,
  direction: DmaDirection,
  attrs: DmaAttrs = {},
): Atomic<DmaAddr> {
  return yield* dmaMapPhys(machine, device, range, direction, 'mmio', attrs);
}

/**
 * Takes a mapping of {@link dmaMapResource} back.
 *
 * @context Any.
 * @source `dma_unmap_resource()`
 */
export function* dmaUnmapResource(
  machine: Machine,
  device: Device,
  address: DmaAddr,
  range: PhysRange,
  direction: DmaDirection,
): Atomic {
  yield* dmaUnmapPhys(machine, device, address, range, direction, 'mmio');
}

/**
 * Gives a part of a mapped range to the CPU: it sees what the device wrote.
 *
 * @param address - Of the part, as the device sends it.
 * @context Any.
 * @source `dma_sync_single_for_cpu()`
 */
export function* dmaSyncSingleForCpu(
  machine: Machine,
  device: Device,
  address: DmaAddr,
  size: number,
  direction: DmaDirection,
): Atomic {
  const phys = yield* physOf(device, address);
  if (phys === null) return warnOfUnmapped(machine, 'dma_sync_single_for_cpu');
  const slots = yield* swiotlbFind(machine, phys);
  if (slots !== null) yield* swiotlbSyncForCpu(machine, device, slots, { phys, size }, direction);
  else yield* dmaSyncForCpu(machine, device, { phys, size }, direction);
}

/**
 * Gives a part of a mapped range to its device: it sees what the CPU wrote.
 *
 * @param address - Of the part, as the device sends it.
 * @context Any.
 * @source `dma_sync_single_for_device()`
 */
export function* dmaSyncSingleForDevice(
  machine: Machine,
  device: Device,
  address: DmaAddr,
  size: number,
  direction: DmaDirection,
): Atomic {
  const phys = yield* physOf(device, address);
  if (phys === null) return warnOfUnmapped(machine, 'dma_sync_single_for_device');
  const slots = yield* swiotlbFind(machine, phys);
  if (slots === null) yield* dmaSyncForDevice(machine, device, { phys, size });
  else yield* swiotlbSyncForDevice(machine, device, slots, { phys, size }, direction);
}

function warnOfUnmapped({ scheduler }: Machine, call: string): void {
  scheduler.warn(call, 'nothing is mapped at this address');
}

/**
 * Cleans a range that was not bounced: what the CPU wrote is in memory afterwards, whatever the
 * direction, as arm64 does it.
 *
 * @context Any. Nothing to do for a coherent device.
 * @source `arch_sync_dma_for_device()`
 */
export function* dmaSyncForDevice(
  machine: Machine,
  device: Device,
  { phys, size }: PhysRange,
): Atomic {
  if (!device.isCoherent) yield* machine.cpu.clean(phys, size);
}

/**
 * Forgets what is cached of a range that was not bounced: the CPU sees what the device wrote
 * afterwards.
 *
 * @context Any. Nothing to do for a coherent device.
 * @source `arch_sync_dma_for_cpu()`
 */
export function* dmaSyncForCpu(
  machine: Machine,
  device: Device,
  { phys, size }: PhysRange,
  direction: DmaDirection,
): Atomic {
  if (device.isCoherent || direction === 'to-device') return;
  yield* machine.cpu.invalidate(phys, size);
}

/** Behind an IOMMU: whole pages, or a copy if the device must not see what is beside. */
function* iommuMap(
  machine: Machine,
  device: Device,
  domain: IommuDomain,
  range: PhysRange,
  direction: DmaDirection,
  kind: MappedKind,
  attrs: DmaAttrs,
): Atomic<DmaAddr | null> {
  let { phys } = range;
  const { size } = range;
  const bounces = device.isUntrusted === true && !(isPageAligned(phys) && isPageAligned(size));
  if (bounces) {
    const copy = kind === 'mmio' ? null : yield* swiotlbMap(machine, device, range);
    if (copy === null) return null;
    phys = copy;
  }
  const offset = phys % PAGE_SIZE;
  const pages = { phys: (phys - offset) as PhysAddr, size: alignUp(size + offset, PAGE_SIZE) };
  const iova = yield* domain.mapAnywhere([pages], rightsFor(direction), streamingLimit(device));
  if (iova !== null) {
    if (!bounces && needsClean(device, kind, attrs))
      yield* dmaSyncForDevice(machine, device, range);
    return dmaAddr(iova + offset);
  }
  const slots = bounces ? yield* swiotlbFind(machine, phys) : null;
  if (slots !== null) yield* swiotlbFree(machine, slots);
  return null;
}

/** Where an address of a mapping leads; null: nowhere. */
function* physOf(device: Device, address: DmaAddr): Atomic<PhysAddr | null> {
  const domain = domainOf(device);
  if (domain === null) return dmaToPhys(device, address);
  return yield* new TranslateIova(domain, address);
}

/** The bounce buffer behind an address; null if it leads to the buffer itself. */
function* slotsAt(
  machine: Machine,
  device: Device,
  address: DmaAddr,
): Atomic<SlotAllocation | null> {
  if (machine.bouncePool === null) return null;
  return yield* swiotlbFind(machine, yield* physOf(device, address));
}
