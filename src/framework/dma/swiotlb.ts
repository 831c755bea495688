/**
 * Bounce buffers: RAM that every device can send to. DMA to memory that a device cannot reach, or
 * must not see the surroundings of, goes to a copy there; the copy meets the buffer at map, sync
 * and unmap, and never in between. So a buffer that two devices share does not stay shared.
 *
 * @source kernel/dma/swiotlb.c, v7.2; reference/linux-dma-buf.md I.6
 */

import {
  alignUp,
  assert,
  DmaBufError,
  type DmaDirection,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import {
  type Atomic,
  type Device,
  type Machine,
  type PhysRange,
  type SlotAllocation,
  SlotPool,
} from '../../machine/index.ts';

/** Bytes in a slot (`IO_TLB_SIZE`). */
export const SWIOTLB_SLOT_SIZE = 2048;
/** LIMIT: bytes of one mapping: 128 slots in a row (`IO_TLB_SEGSIZE`). */
export const SWIOTLB_MAPPING_MAX: number = 128 * SWIOTLB_SLOT_SIZE;
/** Bytes of the pool, if nobody says otherwise. */
export const SWIOTLB_SIZE_DEFAULT: number = 64 * 2 ** 20;

/** The pool must lie below: devices that need it send 32 bits. */
const LOW_LIMIT = 2 ** 32;

/**
 * Sets the pool aside, once for a machine. Without one, a mapping that would need it fails.
 *
 * @param size - Bytes; a multiple of the page size.
 * @throws {@link DmaBufError} `ENOMEM` there is not so much RAM below 4 GiB.
 * @context At boot.
 * @source `swiotlb_init()`
 */
export function* swiotlbInit(machine: Machine, size: number = SWIOTLB_SIZE_DEFAULT): Atomic {
  assert(machine.bouncePool === null, 'bounce buffers are set aside once');
  const start = yield* machine.memory.allocate(size / PAGE_SIZE);
  if (start === null || start + size > LOW_LIMIT) {
    if (start !== null) yield* machine.memory.free(start, size / PAGE_SIZE);
    throw new DmaBufError('ENOMEM', 'swiotlb_init', 'no-low-memory-for-bounce-buffers');
  }
  const range = { start, size, slotSize: SWIOTLB_SLOT_SIZE };
  machine.bouncePool = new SlotPool(machine.scheduler, 'swiotlb', range);
}

/**
 * Takes slots for a range, and copies it there whatever the direction: what the device does not
 * write must not change.
 *
 * @returns Where the copy begins. Null: too long, no room, or no pool.
 * @context Any.
 * @source `swiotlb_tbl_map_single()`
 */
export function* swiotlbMap(
  machine: Machine,
  device: Device,
  { phys, size }: PhysRange,
): Atomic<PhysAddr | null> {
  const pool = machine.bouncePool;
  if (pool === null) return null;
  // Behind an IOMMU the copy has pages of its own, and begins as far into them as the buffer.
  const hasPages = (device.pci?.domain.value ?? null) !== null;
  const inPage = hasPages ? phys % PAGE_SIZE : 0;
  const length = hasPages ? alignUp(size + inPage, PAGE_SIZE) : size;
  if (length > SWIOTLB_MAPPING_MAX) return null;
  const align = length >= PAGE_SIZE ? PAGE_SIZE : SWIOTLB_SLOT_SIZE;
  const start = yield* pool.take(length, align, (phys - inPage) as PhysAddr);
  if (start === null) return null;
  // The device sees the whole pages, so nothing of an earlier user is left in them.
  if (hasPages) yield* machine.cpu.store(start, new Uint8Array(length));
  const copy = (start + inPage) as PhysAddr;
  yield* copyBytes(machine, phys, copy, size);
  if (!device.isCoherent) yield* machine.cpu.clean(start, length);
  return copy;
}

/** Where in its slots a bounced range is. */
export function copyOf(slots: SlotAllocation, { phys, size }: PhysRange): PhysRange {
  return { phys: (slots.start + phys - (slots.origin ?? 0)) as PhysAddr, size };
}

/**
 * The slots that hold an address; null if it is not in the pool.
 *
 * @context Any.
 * @source `swiotlb_find_pool()`
 */
export function* swiotlbFind(
  machine: Machine,
  phys: PhysAddr | null,
): Atomic<SlotAllocation | null> {
  const pool = machine.bouncePool;
  if (pool === null || phys === null || !pool.holds(phys)) return null;
  return yield* pool.find(phys);
}

/**
 * Copies a part of the slots to the buffer, for the CPU to see.
 *
 * @context Any.
 * @source `swiotlb_sync_single_for_cpu()`
 */
export function* swiotlbSyncForCpu(
  machine: Machine,
  device: Device,
  slots: SlotAllocation,
  { phys, size }: PhysRange,
  direction: DmaDirection,
): Atomic {
  if (direction === 'to-device') return;
  if (!device.isCoherent) yield* machine.cpu.invalidate(phys, size);
  yield* copyBytes(machine, phys, originOf(slots, phys), size);
}

/**
 * Copies a part of the buffer to the slots, for the device to see.
 *
 * @context Any.
 * @source `swiotlb_sync_single_for_device()`
 */
export function* swiotlbSyncForDevice(
  machine: Machine,
  device: Device,
  slots: SlotAllocation,
  { phys, size }: PhysRange,
  direction: DmaDirection,
): Atomic {
  if (direction === 'from-device') return;
  yield* copyBytes(machine, originOf(slots, phys), phys, size);
  if (!device.isCoherent) yield* machine.cpu.clean(phys, size);
}

/**
 * Gives slots back. What the device wrote is lost unless it was synced before.
 *
 * @context Any.
 * @source `swiotlb_tbl_unmap_single()`
 */
export function* swiotlbFree(machine: Machine, slots: SlotAllocation): Atomic {
  yield* (machine.bouncePool as SlotPool).give(slots.start as PhysAddr);
}

function originOf(slots: SlotAllocation, phys: number): PhysAddr {
  assert(slots.origin !== null, 'a bounce buffer stands for other memory');
  return (slots.origin + phys - slots.start) as PhysAddr;
}

/** The CPU copies: through its cache, as `memcpy()` does. */
function* copyBytes(machine: Machine, from: PhysAddr, to: PhysAddr, size: number): Atomic {
  yield* machine.cpu.store(to, yield* machine.cpu.load(from, size));
}
