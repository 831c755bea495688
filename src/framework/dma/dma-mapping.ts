/**
 * The DMA API: makes memory reachable for one device and says under which address. What it does
 * depends on the device's domain: with an IOMMU an entry in its table, without one the physical
 * address itself.
 *
 * @source kernel/dma/mapping.c, drivers/iommu/dma-iommu.c, v7.2; reference/linux-dma-buf.md C.2 to
 *   C.4
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
import type {
  Atomic,
  Device,
  IommuDomain,
  IovaRights,
  Machine,
  PhysRange,
} from '../../machine/index.ts';

/** What kind of memory is mapped: RAM, or the registers or memory of a device (`DMA_ATTR_MMIO`). */
export type MappedKind = 'ram' | 'mmio';

/**
 * `struct dma_iova_state`: a block of I/O addresses that holds several pieces one behind the other.
 */
export interface DmaIova {
  readonly domain: IommuDomain;
  readonly address: DmaAddr;
  readonly size: number;
}

/** What the device may do with memory that is mapped in this direction. */
export function rightsFor(direction: DmaDirection): IovaRights {
  return { readable: direction !== 'from-device', writable: direction !== 'to-device' };
}

/**
 * Maps a physical range for one device. RAM that a non-coherent device will use is cleaned first.
 *
 * @returns Where the device finds it.
 * @throws {@link DmaBufError} `ENOMEM` no I/O address is left.
 * @context Any. No check of peer-to-peer reachability is made: the caller asked `p2pdma` before.
 * @source `dma_map_phys()`
 */
export function* dmaMapPhys(
  machine: Machine,
  device: Device,
  range: PhysRange,
  direction: DmaDirection,
  kind: MappedKind,
): Atomic<DmaAddr> {
  const { phys, size } = range;
  if (kind === 'ram') yield* dmaSyncForDevice(machine, device, range);
  const domain = device.pci?.domain.value ?? null;
  if (domain === null) return directAddress(device, phys, kind);
  const offset = phys % PAGE_SIZE;
  const start = (phys - offset) as PhysAddr;
  const pages = { phys: start, size: alignUp(size + offset, PAGE_SIZE) };
  const iova = yield* domain.mapAnywhere([pages], rightsFor(direction));
  if (iova === null) throw new DmaBufError('ENOMEM', 'dma_map_phys', 'no-io-address-left');
  return dmaAddr(iova + offset);
}

/**
 * Takes a mapping back. What a non-coherent device wrote becomes visible to the CPU.
 *
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
): Atomic {
  const domain = device.pci?.domain.value ?? null;
  if (domain !== null) {
    const offset = address % PAGE_SIZE;
    const start = dmaAddr(address - offset);
    yield* domain.unmap(start, alignUp(range.size + offset, PAGE_SIZE));
  }
  if (kind === 'ram') yield* dmaSyncForCpu(machine, device, range, direction);
}

/**
 * Maps several physical ranges one behind the other into one block of I/O addresses.
 *
 * @returns Null if the device has no IOMMU domain: map each range by itself then.
 * @throws {@link DmaBufError} `ENOMEM` no block is left.
 * @context Any.
 * @source `dma_iova_try_alloc()`, `dma_iova_link()`, `dma_iova_sync()`
 */
export function* dmaIovaMap(
  device: Device,
  ranges: readonly PhysRange[],
  direction: DmaDirection,
): Atomic<DmaIova | null> {
  const domain = device.pci?.domain.value ?? null;
  if (domain === null) return null;
  assert(
    ranges.every(({ phys, size }) => isPageAligned(phys) && isPageAligned(size)),
    'ranges that share a block of I/O addresses are whole pages',
  );
  const address = yield* domain.mapAnywhere(ranges, rightsFor(direction));
  if (address === null) throw new DmaBufError('ENOMEM', 'dma_iova_link', 'no-io-block-left');
  return { domain, address, size: ranges.reduce((sum, range) => sum + range.size, 0) };
}

/**
 * Takes a block back.
 *
 * @context Any.
 * @source `dma_iova_destroy()`
 */
export function* dmaIovaDestroy({ domain, address, size }: DmaIova): Atomic {
  yield* domain.unmap(address, size);
}

/**
 * Hands a mapped range to the device: what the CPU wrote is in memory afterwards, whatever the
 * direction, as arm64 does it.
 *
 * @context Any. Nothing to do for a coherent device.
 * @source `dma_sync_single_for_device()`, `arch_sync_dma_for_device()`
 */
export function* dmaSyncForDevice(
  machine: Machine,
  device: Device,
  { phys, size }: PhysRange,
): Atomic {
  if (!device.isCoherent) yield* machine.cpu.clean(phys, size);
}

/**
 * Hands a mapped range to the CPU: it sees what the device wrote afterwards.
 *
 * @context Any. Nothing to do for a coherent device.
 * @source `dma_sync_single_for_cpu()`
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

/**
 * Without an IOMMU: RAM where the device sees it, and device memory at its physical address
 * unchanged, also where the bus has another view. Linux does just that.
 */
function directAddress(device: Device, phys: PhysAddr, kind: MappedKind): DmaAddr {
  const dmaOffset = device.pci?.node.hostBridge.spec.dmaOffset ?? 0;
  return dmaAddr(kind === 'ram' ? phys + dmaOffset : phys);
}
