/**
 * Coherent memory: CPU and device own it at once, so nothing is synced and the CPU does not cache
 * it. It may come from a pool for which the kernel has no pages; an allocation remembers where
 * it is from, and nobody has to guess that from an address.
 *
 * It is a type of its own: what maps pages or syncs tables does not take it.
 *
 * @source kernel/dma/mapping.c, kernel/dma/coherent.c, kernel/dma/contiguous.c, v7.2;
 *   reference/linux-dma-buf.md I.2 to I.4; thread S002
 */

import {
  alignUp,
  assert,
  type DmaAddr,
  DmaBufError,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import {
  type Atomic,
  type Device,
  DMA_MASK_DEFAULT,
  type IommuDomain,
  type Machine,
  type PhysRange,
  Shared,
  SlotPool,
} from '../../machine/index.ts';
import type { Vma } from '../user/vma.ts';
import { addressLimit, physToDma } from './dma-direct.ts';
import { domainOf } from './dma-mapping.ts';
import { type PageList, pageList, pagelessList } from './page-list.ts';

/**
 * Where coherent memory is from: pages like all others; pages of an area kept for contiguous
 * buffers (CMA); the device's own pool, which has no pages.
 */
export type CoherentOrigin = 'general' | 'contiguous-area' | 'device-pool';

/** An allocation. Its cell says whether it is still allocated. */
export class CoherentMemory extends Shared<boolean> {
  readonly machine: Machine;
  /** For which it was allocated, and for which alone {@link address} holds. */
  readonly device: Device;
  /** Bytes, as asked for. */
  readonly size: number;
  readonly address: DmaAddr;
  readonly origin: CoherentOrigin;
  private readonly range: PhysRange;

  constructor(
    machine: Machine,
    device: Device,
    size: number,
    place: {
      readonly address: DmaAddr;
      readonly origin: CoherentOrigin;
      readonly range: PhysRange;
    },
  ) {
    super(machine.scheduler, `coherent memory of ${device.name}`, true);
    this.machine = machine;
    this.device = device;
    this.size = size;
    this.address = place.address;
    this.origin = place.origin;
    this.range = place.range;
  }

  /** True if the kernel has pages for it. */
  get hasPages(): boolean {
    return this.origin !== 'device-pool';
  }

  /** Its whole pages. For the DMA API only. */
  static rangeOf(memory: CoherentMemory): PhysRange {
    return memory.range;
  }

  /**
   * The CPU reads, past the cache where devices do not see that.
   *
   * @context Any.
   */
  *load(offset: number, length: number): Atomic<Uint8Array> {
    assert(offset >= 0 && offset + length <= this.size, 'the CPU stays in the allocation');
    return yield* this.machine.cpu.loadUncached((this.range.phys + offset) as PhysAddr, length);
  }

  /**
   * The CPU writes.
   *
   * @context Any.
   */
  *store(offset: number, bytes: Uint8Array): Atomic {
    assert(offset >= 0 && offset + bytes.length <= this.size, 'the CPU stays in the allocation');
    yield* this.machine.cpu.storeUncached((this.range.phys + offset) as PhysAddr, bytes);
  }
}

/**
 * Takes RAM away from the kernel for good, at boot: it has no pages from then on (`no-map` in a
 * device tree). For {@link declareCoherentMemory}.
 *
 * @param size - Bytes; a multiple of the page size.
 * @throws {@link DmaBufError} `ENOMEM`.
 * @context At boot.
 */
export function* reserveMemory(machine: Machine, size: number): Atomic<PhysRange> {
  const phys = yield* machine.memory.allocate(size / PAGE_SIZE);
  if (phys === null) throw new DmaBufError('ENOMEM', 'reserved_mem', 'no-memory-to-reserve');
  return { phys, size };
}

/**
 * Gives a device memory of its own. All its coherent memory is from there then, or there is none.
 *
 * @param range - Memory without pages, as of {@link reserveMemory}.
 * @param address - Where the device finds it. Behind an IOMMU somebody must have mapped it there.
 * @throws {@link DmaBufError} `EBUSY` the device has such memory; `EINVAL` it is empty.
 * @context At probe.
 * @source `dma_declare_coherent_memory()`
 */
export function declareCoherentMemory(
  machine: Machine,
  device: Device,
  range: PhysRange,
  address: DmaAddr,
): void {
  const call = 'dma_declare_coherent_memory';
  const { phys, size } = range;
  if (size === 0) throw new DmaBufError('EINVAL', call, 'coherent-pool-of-nothing');
  if ((device.coherentPool ?? null) !== null) {
    throw new DmaBufError('EBUSY', call, 'device-has-a-coherent-pool');
  }
  const place = { start: phys, size, slotSize: PAGE_SIZE };
  const slots = new SlotPool(machine.scheduler, `coherent pool of ${device.name}`, place);
  device.coherentPool = { slots, phys, address };
}

/**
 * Keeps an area of RAM for contiguous buffers of one device. It has pages.
 *
 * @param size - Bytes; a multiple of the page size.
 * @throws {@link DmaBufError} `ENOMEM`.
 * @context At boot.
 * @source `dma_contiguous_reserve_area()`
 */
export function* reserveContiguousArea(machine: Machine, device: Device, size: number): Atomic {
  const start = yield* machine.memory.allocate(size / PAGE_SIZE);
  if (start === null) throw new DmaBufError('ENOMEM', 'dma_contiguous_reserve', 'no-area-to-keep');
  const place = { start, size, slotSize: PAGE_SIZE };
  device.contiguousArea = new SlotPool(machine.scheduler, `area of ${device.name}`, place);
}

/**
 * Allocates coherent memory. It is zero.
 *
 * @param size - Bytes, more than 0.
 * @throws {@link DmaBufError} `ENOMEM` no memory, no I/O address, or none that the device can send;
 *   or its own pool is full, whatever else is free.
 * @context Any.
 * @source `dma_alloc_coherent()`
 */
export function* dmaAllocCoherent(
  machine: Machine,
  device: Device,
  size: number,
): Atomic<CoherentMemory> {
  const call = 'dma_alloc_coherent';
  assert(size > 0, 'an allocation has bytes');
  const bits = device.coherentDmaMask ?? DMA_MASK_DEFAULT;
  if (bits === 0) {
    machine.scheduler.warn(call, `${device.name} has no coherent DMA mask`);
    throw new DmaBufError('ENOMEM', call, 'device-without-a-coherent-mask');
  }
  if ((device.coherentPool ?? null) !== null) return yield* fromPool(machine, device, size);
  const { range, origin } = yield* fromPages(machine, device, alignUp(size, PAGE_SIZE));
  const domain = domainOf(device);
  const limit = addressLimit(bits);
  const address =
    domain === null
      ? withinReach(physToDma(device, range.phys), range, limit)
      : yield* domain.mapAnywhere([range], { readable: true, writable: true }, limit);
  if (address === null) {
    yield* giveBack(machine, device, range, origin);
    throw new DmaBufError('ENOMEM', call, 'no-address-for-coherent-memory');
  }
  return new CoherentMemory(machine, device, size, { address, origin, range });
}

/**
 * Frees coherent memory.
 *
 * @context Any. No device uses it any more.
 * @source `dma_free_coherent()`
 */
export function* dmaFreeCoherent(memory: CoherentMemory): Atomic {
  const { machine, device, origin } = memory;
  if (!(yield* memory.read())) {
    machine.scheduler.warn('dma_free_coherent', `${memory.name} is freed twice`);
    return;
  }
  yield* memory.write(false);
  const range = CoherentMemory.rangeOf(memory);
  const domain: IommuDomain | null = origin === 'device-pool' ? null : domainOf(device);
  if (domain !== null) yield* domain.unmap(memory.address, range.size);
  yield* giveBack(machine, device, range, origin);
}

/**
 * The pages of coherent memory, so that it can be mapped for another device like any other.
 *
 * DIFFERS: Linux's direct mapping computes a page from the address and never asks whether there is
 * one; a table of such pages takes the kernel down when somebody maps it, far from who made it.
 * This refuses at once, as thread S002 asked for. {@link dmaGetSgtableUnchecked} does it the old
 * way.
 *
 * @throws {@link DmaBufError} `ENXIO` the memory has no pages: use `dmaMapCoherent`.
 * @source `dma_get_sgtable()`
 */
export function dmaGetSgtable(memory: CoherentMemory): PageList {
  if (memory.hasPages) return pageList([CoherentMemory.rangeOf(memory)]);
  throw new DmaBufError('ENXIO', 'dma_get_sgtable', 'coherent-memory-without-pages', {
    detail: {
      refusedBy: 'core',
      rule: 'MP-015',
      device: memory.device.name,
      origin: memory.origin,
    },
  });
}

/**
 * The same without the check, as in Linux 7.2: for stories that show what becomes of it (rule
 * MP-015).
 *
 * @source `dma_direct_get_sgtable()`
 */
export function dmaGetSgtableUnchecked(memory: CoherentMemory): PageList {
  const range = CoherentMemory.rangeOf(memory);
  if (memory.hasPages) return pageList([range]);
  return pagelessList([range], `dma_get_sgtable on the ${memory.origin} of ${memory.device.name}`);
}

/**
 * Maps coherent memory in a process, not cached where devices do not see the cache. Pages are not
 * needed for that.
 *
 * @throws {@link DmaBufError} `ENXIO` the map does not lie in the memory.
 * @context In mmap: the mmap lock is held.
 * @source `dma_mmap_coherent()`
 */
export function* dmaMmapCoherent(memory: CoherentMemory, vma: Vma): Atomic {
  const { phys, size } = CoherentMemory.rangeOf(memory);
  const count = size / PAGE_SIZE;
  if (vma.pgoff >= count || vma.pages > count - vma.pgoff) {
    throw new DmaBufError('ENXIO', 'dma_mmap_coherent', 'map-leaves-the-coherent-memory');
  }
  const kind = memory.machine.spec.coherentDma ? 'ram' : 'uncached';
  const entries = Array.from({ length: vma.pages }, (_, i) => {
    return { phys: (phys + (vma.pgoff + i) * PAGE_SIZE) as PhysAddr, kind } as const;
  });
  yield* vma.insertPages(0, entries);
}

function withinReach(address: DmaAddr, { size }: PhysRange, limit: number): DmaAddr | null {
  return address + size <= limit ? address : null;
}

/** From the device's own pool, in powers of two; nothing else will do. */
function* fromPool(machine: Machine, device: Device, size: number): Atomic<CoherentMemory> {
  const pool = device.coherentPool ?? null;
  assert(pool !== null, 'the device has a pool');
  const taken = 2 ** Math.ceil(Math.log2(alignUp(size, PAGE_SIZE)));
  const phys = yield* pool.slots.take(taken, taken, null);
  if (phys === null) throw new DmaBufError('ENOMEM', 'dma_alloc_coherent', 'coherent-pool-is-full');
  const range = { phys, size: alignUp(size, PAGE_SIZE) };
  yield* machine.cpu.storeUncached(phys, new Uint8Array(range.size));
  const address = (pool.address + phys - pool.phys) as DmaAddr;
  return new CoherentMemory(machine, device, size, { address, origin: 'device-pool', range });
}

/** Pages: of the area kept for the device if it has room, else of all. */
function* fromPages(
  machine: Machine,
  device: Device,
  size: number,
): Atomic<{ readonly range: PhysRange; readonly origin: CoherentOrigin }> {
  const area = device.contiguousArea ?? null;
  const kept = area === null ? null : yield* area.take(size, PAGE_SIZE, null);
  if (kept !== null) {
    // What an earlier user left in the cache must not come down on the memory later.
    if (!device.isCoherent) yield* machine.cpu.invalidate(kept, size);
    yield* machine.cpu.storeUncached(kept, new Uint8Array(size));
    return { range: { phys: kept, size }, origin: 'contiguous-area' };
  }
  const phys = yield* machine.memory.allocate(size / PAGE_SIZE);
  if (phys === null) throw new DmaBufError('ENOMEM', 'dma_alloc_coherent', 'no-coherent-memory');
  return { range: { phys, size }, origin: 'general' };
}

function* giveBack(
  machine: Machine,
  device: Device,
  { phys, size }: PhysRange,
  origin: CoherentOrigin,
): Atomic {
  if (origin === 'general') return yield* machine.memory.free(phys, size / PAGE_SIZE);
  const slots = origin === 'device-pool' ? device.coherentPool?.slots : device.contiguousArea;
  if (slots != null) yield* slots.give(phys);
}
