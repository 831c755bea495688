/**
 * The heap `system`: ordinary pages, wherever they are free, in chunks of 1 MiB, 64 KiB and 4 KiB.
 * So a buffer is scattered, and only an importer that can take several pieces can use it.
 *
 * @source drivers/dma-buf/heaps/system_heap.c, v7.2; reference/linux-dma-buf.md E.3
 */

import { DmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import {
  DmaBuf,
  type Kernel,
  type PageEntry,
  pageList,
  pagesOf,
  type Vma,
} from '../../framework/index.ts';
import {
  type Access,
  type Actor,
  type Look,
  type Machine,
  type PhysRange,
  PreemptStep,
  type Task,
} from '../../machine/index.ts';
import type { DmaHeap, DmaHeapOps, DmaHeaps } from './dma-heap.ts';
import { HeapBuffer, heapBufferOps } from './heap-buffer.ts';

/** Sizes of chunks, as powers of two of pages: what IOMMUs like best. */
const ORDERS: readonly number[] = [8, 4, 0];

/**
 * Adds the heap. At boot.
 *
 * @throws {@link DmaBufError} as {@link DmaHeaps.add}.
 * @source `system_heap_create()`
 */
export function addSystemHeap(heaps: DmaHeaps): DmaHeap {
  return heaps.add({ name: 'system', ops: SYSTEM_HEAP_OPS });
}

const SYSTEM_HEAP_OPS: DmaHeapOps = {
  /** @source `system_heap_allocate()` */
  *allocate(heap: DmaHeap, pages: number, fdFlags: number): Task<DmaBuf> {
    const { kernel, name } = heap;
    if (!(yield* kernel.slab.alloc())) throw noMemory('no-memory-for-the-heap-buffer');
    const chunks = yield* allocateChunks(kernel, pages);
    if (!(yield* kernel.slab.alloc())) {
      yield* freeAll(kernel.machine, chunks);
      throw noMemory('no-memory-for-the-heap-buffers-table');
    }
    const buffer = new SystemHeapBuffer(kernel, 'system_heap_buffer', pageList(chunks));
    try {
      return yield* DmaBuf.export<HeapBuffer>(kernel, {
        exporterName: name,
        ops: heapBufferOps,
        size: pages * PAGE_SIZE,
        priv: buffer,
        flags: fdFlags,
      });
    } catch (error) {
      yield* buffer.free();
      throw error;
    }
  },
};

/** `struct system_heap_buffer`. */
class SystemHeapBuffer extends HeapBuffer {
  /**
   * All pages are there at once. A private map is one that the program may write to a copy of;
   * Linux can do that for pages without a file only if they lie in one piece.
   *
   * @throws {@link DmaBufError} `EINVAL` a private map of several chunks.
   * @context May sleep; the process's mmap lock is held for writing.
   * @source `system_heap_mmap()`, `remap_pfn_range()`
   */
  *mmap(vma: Vma): Task {
    if (!vma.isShared && !this.isOneChunk(vma)) {
      throw new DmaBufError('EINVAL', 'remap_pfn_range', 'private-map-of-several-chunks');
    }
    const entries = pagesOf(this.pages)
      .slice(vma.pgoff, vma.pgoff + vma.pages)
      .map((phys): PageEntry => ({ phys, kind: 'ram' }));
    yield* vma.insertPages(0, entries);
  }

  /**
   * @context May sleep; no lock held.
   * @source `system_heap_dma_buf_release()`
   */
  *free(): Task {
    yield* freeAll(this.kernel.machine, this.pages.ranges);
    yield* this.memory.free();
  }

  private isOneChunk({ pgoff, size }: Vma): boolean {
    const from = pgoff * PAGE_SIZE;
    let start = 0;
    for (const chunk of this.pages.ranges) {
      const end = start + chunk.size;
      if (from < end) return from + size <= end;
      start = end;
    }
    return false;
  }
}

/**
 * Chunks of the largest order that fits and is to be had, never larger than the one before.
 *
 * The page behind each larger chunk is kept busy meanwhile. Linux's free lists seldom hand out
 * neighbours; ours hand out the lowest pages, and chunks would lie side by side.
 */
function* allocateChunks(kernel: Kernel, pages: number): Task<readonly PhysRange[]> {
  const { machine } = kernel;
  const chunks: PhysRange[] = [];
  const between: PhysRange[] = [];
  let orders = ORDERS;
  try {
    for (let left = pages; left > 0;) {
      if (yield* new FatalSignalPending(kernel.signals)) {
        throw new DmaBufError('EINTR', 'system_heap_allocate', 'killed-while-allocating');
      }
      const chunk = yield* largestAvailable(machine, left, orders);
      if (chunk === null) {
        if (between.length === 0) throw noMemory('no-pages-for-the-heap-buffer');
        // Memory is short: these count, too.
        yield* freeAll(machine, between.splice(0));
        continue;
      }
      const { phys, order } = chunk;
      const size = PAGE_SIZE * 2 ** order;
      chunks.push({ phys, size });
      if (order > 0) between.push({ phys: (phys + size) as PhysAddr, size: PAGE_SIZE });
      orders = ORDERS.filter((other) => other <= order);
      left -= 2 ** order;
    }
    return chunks;
  } catch (error) {
    yield* freeAll(machine, chunks);
    throw error;
  } finally {
    yield* freeAll(machine, between);
  }
}

/** Null: there is not even one page, or never was so much memory. */
function* largestAvailable(
  machine: Machine,
  left: number,
  orders: readonly number[],
): Task<{ readonly phys: PhysAddr; readonly order: number } | null> {
  // Linux would take all there is before it gives up; nothing is gained by doing that here.
  if (left * PAGE_SIZE > sizeOfRam(machine)) return null;
  for (const order of orders) {
    const pages = 2 ** order;
    if (pages > left) continue;
    const phys = yield* machine.memory.allocate(order === 0 ? 1 : pages + 1);
    if (phys !== null) return { phys, order };
  }
  return null;
}

/**
 * True if the thread is being killed.
 *
 * DIFFERS: signals have no numbers here, so every one that is pending counts as fatal.
 */
class FatalSignalPending extends PreemptStep<boolean> {
  readonly cell: Kernel['signals'];

  constructor(signals: Kernel['signals']) {
    super();
    this.cell = signals;
  }

  get verb(): string {
    return 'fatal signal pending';
  }

  override accesses(_look: Look, actor: Actor): readonly Access[] {
    return [this.cell.access(actor, 'R')];
  }

  apply(actor: Actor): boolean {
    return this.cell.isPending(actor);
  }
}

function sizeOfRam({ memory }: Machine): number {
  return memory.banks.reduce((sum, { spec }) => sum + spec.size, 0);
}

function* freeAll(machine: Machine, ranges: readonly PhysRange[]): Task {
  for (const { phys, size } of ranges) yield* machine.memory.free(phys, size / PAGE_SIZE);
}

function noMemory(reason: string): DmaBufError {
  return new DmaBufError('ENOMEM', 'system_heap_allocate', reason);
}
