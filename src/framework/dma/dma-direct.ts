/**
 * DMA without an IOMMU: a device sends physical addresses, shifted where the bus has another view,
 * and RAM that it cannot reach is bounced.
 *
 * @source kernel/dma/direct.h, v7.2; reference/linux-dma-buf.md C.2, C.3, I.6
 */

import { ADDRESS_LIMIT, type DmaAddr, dmaAddr, type PhysAddr } from '../../base/index.ts';
import {
  type Atomic,
  type Device,
  DMA_MASK_DEFAULT,
  type Machine,
  type PhysRange,
} from '../../machine/index.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { swiotlbFind, swiotlbFree, swiotlbMap } from './swiotlb.ts';

/** What kind of memory is mapped: RAM, or the registers or memory of a device (`DMA_ATTR_MMIO`). */
export type MappedKind = 'ram' | 'mmio';

/** First address that a device cannot send, by the bits of a mask. */
export function addressLimit(bits: number): number {
  return Math.min(2 ** bits, ADDRESS_LIMIT);
}

/** The same for streaming DMA of a device. */
export function streamingLimit({ dmaMask = DMA_MASK_DEFAULT }: Device): number {
  return addressLimit(dmaMask ?? 0);
}

/** Where a device without an IOMMU finds RAM (`phys_to_dma()`). */
export function physToDma(device: Device, phys: PhysAddr): DmaAddr {
  return dmaAddr(phys + offsetOf(device));
}

/** The other way round (`dma_to_phys()`). */
export function dmaToPhys(device: Device, address: DmaAddr): PhysAddr {
  return (address - offsetOf(device)) as PhysAddr;
}

/**
 * Finds an address for a range, and cleans the range or its copy.
 *
 * @returns Null: the device cannot be given one (`DMA_MAPPING_ERROR`).
 * @context Any.
 * @source `dma_direct_map_phys()`
 */
export function* dmaDirectMap(
  machine: Machine,
  device: Device,
  range: PhysRange,
  kind: MappedKind,
  attrs: DmaAttrs,
): Atomic<DmaAddr | null> {
  if (device.forceBounce === true) {
    // Device memory has no copy.
    return kind === 'mmio' ? null : yield* bounced(machine, device, range);
  }
  // Linux leaves device memory at the CPU's address, also where the bus has another view.
  const address = kind === 'mmio' ? dmaAddr(range.phys) : physToDma(device, range.phys);
  if (isInReach(device, address, range.size)) {
    if (needsClean(device, kind, attrs)) yield* machine.cpu.clean(range.phys, range.size);
    return address;
  }
  if (kind === 'ram' && machine.bouncePool !== null) return yield* bounced(machine, device, range);
  warnOfOverflow(machine, device, address);
  return null;
}

function* bounced(machine: Machine, device: Device, range: PhysRange): Atomic<DmaAddr | null> {
  const copy = yield* swiotlbMap(machine, device, range);
  if (copy === null) return null;
  const address = physToDma(device, copy);
  if (isInReach(device, address, range.size)) return address;
  const slots = yield* swiotlbFind(machine, copy);
  if (slots !== null) yield* swiotlbFree(machine, slots);
  warnOfOverflow(machine, device, address);
  return null;
}

function isInReach(device: Device, address: DmaAddr, size: number): boolean {
  return address + size <= streamingLimit(device);
}

function warnOfOverflow({ scheduler }: Machine, { name }: Device, address: DmaAddr): void {
  scheduler.warn('dma_direct_map_phys', `${name} cannot send 0x${address.toString(16)}`);
}

function offsetOf({ pci }: Device): number {
  return pci?.node.hostBridge.spec.dmaOffset ?? 0;
}

/** True if the mapping needs caches cleaned for it. */
export function needsClean(device: Device, kind: MappedKind, attrs: DmaAttrs): boolean {
  return !device.isCoherent && kind === 'ram' && attrs.skipCpuSync !== true;
}
