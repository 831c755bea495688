/**
 * The heap `default_cma_region`: pages in one piece, from memory that was set aside at boot. For
 * devices that cannot take a scattered buffer.
 *
 * @source drivers/dma-buf/heaps/cma_heap.c, kernel/dma/contiguous.c, mm/cma.c, v7.2;
 *   reference/linux-dma-buf.md E.3
 */

import {
  alignUp,
  assert,
  DmaBufError,
  isDmaBufError,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import {
  DmaBuf,
  type Kernel,
  type PageEntry,
  pageList,
  pagesOf,
  type Vma,
  type VmOperations,
} from '../../framework/index.ts';
import {
  type Access,
  type Machine,
  type MemoryBank,
  type PhysRange,
  PreemptStep,
  SlotPool,
  type Task,
} from '../../machine/index.ts';
import type { DmaHeap, DmaHeapOps, DmaHeaps } from './dma-heap.ts';
import { HeapBuffer, heapBufferOps } from './heap-buffer.ts';

/** The name that the heap of the default area has since 6.18. */
export const DEFAULT_CMA_REGION = 'default_cma_region';

/** An area begins, and is long, a multiple of this: 4 MiB (`CMA_MIN_ALIGNMENT_BYTES`). */
const AREA_ALIGNMENT: number = 4 * 2 ** 20;

/** LIMIT: buffers are aligned to their size, but to no more than this (`CONFIG_CMA_ALIGNMENT`). */
const ALIGNMENT_ORDER_MAX = 8;

/**
 * Sets an area aside. At boot. The area may also be given to devices as their `contiguousArea`.
 *
 * @param size - Bytes; rounded up to 4 MiB.
 * @throws {@link DmaBufError} `ENOMEM` no bank has so much room.
 * @source `dma_contiguous_reserve_area()`
 */
export function reserveCmaArea(machine: Machine, name: string, size: number): SlotPool {
  const length = alignUp(size, AREA_ALIGNMENT);
  const start = machine.memory.reserve(length / PAGE_SIZE, AREA_ALIGNMENT);
  if (start === null) {
    throw new DmaBufError('ENOMEM', 'dma_contiguous_reserve_area', 'no-room-for-the-cma-area');
  }
  return new SlotPool(machine.scheduler, name, { start, size: length, slotSize: PAGE_SIZE });
}

/**
 * Adds a heap for an area. At boot.
 *
 * @param name - One other than the default for further areas.
 * @throws {@link DmaBufError} as {@link DmaHeaps.add}.
 * @source `add_cma_heaps()`
 */
export function addCmaHeap(
  heaps: DmaHeaps,
  area: SlotPool,
  name: string = DEFAULT_CMA_REGION,
): DmaHeap {
  return heaps.add({ name, ops: new CmaHeap(area) });
}

/** `struct cma_heap`. */
class CmaHeap implements DmaHeapOps {
  private readonly area: SlotPool;

  constructor(area: SlotPool) {
    this.area = area;
  }

  /** @source `cma_heap_allocate()` */
  *allocate(heap: DmaHeap, pages: number, fdFlags: number): Task<DmaBuf> {
    const { kernel, name } = heap;
    const { machine, slab } = kernel;
    if (!(yield* slab.alloc())) throw noMemory('no-memory-for-the-cma-buffer');
    const size = pages * PAGE_SIZE;
    const align = alignmentFor(pages) * PAGE_SIZE;
    const phys = yield* this.area.take(size, align, null);
    if (phys === null) throw noMemory('no-room-in-the-cma-area');
    yield* new ClearPages(machine, { phys, size });
    if (!(yield* slab.alloc())) {
      yield* this.area.give(phys);
      throw noMemory('no-memory-for-the-cma-buffers-pages');
    }
    const buffer = new CmaHeapBuffer(kernel, this.area, { phys, size });
    try {
      return yield* DmaBuf.export<HeapBuffer>(kernel, {
        exporterName: name,
        ops: heapBufferOps,
        size,
        priv: buffer,
        flags: fdFlags,
      });
    } catch (error) {
      yield* buffer.free();
      throw error;
    }
  }
}

/** `struct cma_heap_buffer`. */
class CmaHeapBuffer extends HeapBuffer {
  private readonly area: SlotPool;
  private readonly start: PhysAddr;

  constructor(kernel: Kernel, area: SlotPool, range: PhysRange) {
    super(kernel, 'cma_heap_buffer', pageList([range]));
    this.area = area;
    this.start = range.phys;
  }

  /** Whatever the reason is. */
  override mapRefusal(error: unknown): unknown {
    if (!isDmaBufError(error)) return error;
    return new DmaBufError('ENOMEM', 'cma_heap_map_dma_buf', 'cma-buffer-not-mapped', {
      cause: error,
    });
  }

  /**
   * Pages come when they are touched.
   *
   * @throws {@link DmaBufError} `EINVAL` a private map.
   * @context May sleep; the process's mmap lock is held for writing.
   * @source `cma_heap_mmap()`
   */
  *mmap(vma: Vma): Task {
    if (!vma.isShared) {
      throw new DmaBufError('EINVAL', 'cma_heap_mmap', 'private-map-of-a-cma-buffer');
    }
    vma.operations = CMA_VM_OPERATIONS;
    vma.priv = this;
  }

  /**
   * @context May sleep; no lock held.
   * @source `cma_heap_dma_buf_release()`
   */
  *free(): Task {
    if (yield* this.isVmapped()) {
      this.kernel.scheduler.warn('cma_heap_dma_buf_release', 'the kernel still maps the buffer');
    }
    yield* this.area.give(this.start);
    yield* this.memory.free();
  }
}

const CMA_VM_OPERATIONS: VmOperations = {
  /** @source `cma_heap_vm_fault()` */
  *fault(vma: Vma, page: number): Task {
    if (!(vma.priv instanceof CmaHeapBuffer)) return;
    const phys = pagesOf(vma.priv.pages)[vma.pgoff + page];
    if (phys === undefined) {
      throw new DmaBufError('EFAULT', 'page fault', 'bus-error-beyond-the-cma-buffer');
    }
    const entry: PageEntry = { phys, kind: 'ram' };
    yield* vma.insertPages(page, [entry]);
  },
};

/** In pages: the power of two at or above the size, but no more than the limit. */
function alignmentFor(pages: number): number {
  return Math.min(2 ** Math.ceil(Math.log2(pages)), 2 ** ALIGNMENT_ORDER_MAX);
}

/** Zeroes pages, for the CPU and for devices: what is given back to an area keeps its bytes. */
class ClearPages extends PreemptStep<void> {
  readonly cell: MemoryBank;
  private readonly machine: Machine;
  private readonly range: PhysRange;

  constructor(machine: Machine, range: PhysRange) {
    super();
    const bank = machine.memory.bankAt(range.phys);
    assert(bank !== null, 'an area is RAM');
    this.cell = bank;
    this.machine = machine;
    this.range = range;
  }

  get verb(): string {
    return 'clear pages';
  }

  override accesses(): readonly Access[] {
    const bytes = this.cell.access(this.range.phys, this.range.size, 'W');
    const cache = this.machine.cpu.cellOf(this.cell);
    return cache === null ? [bytes] : [bytes, { ...bytes, cell: cache }];
  }

  apply(): void {
    const { phys, size } = this.range;
    this.cell.bytes.zero(phys - this.cell.spec.start, size);
    this.machine.cpu.discard(this.cell, phys, size);
  }
}

function noMemory(reason: string): DmaBufError {
  return new DmaBufError('ENOMEM', 'cma_heap_allocate', reason);
}
