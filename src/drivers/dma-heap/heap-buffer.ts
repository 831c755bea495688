/**
 * A buffer of a heap: its pages, who is attached, and the exporter's table that all heaps share.
 * Where the pages come from, where they go, and how a process maps them, each heap says itself.
 *
 * Every attachment has a table of its own, which holds one mapping at a time. The CPU's bracket
 * syncs the attachments that are mapped at that moment; with none mapped it does nothing.
 *
 * @source drivers/dma-buf/heaps/system_heap.c, cma_heap.c, v7.2; reference/linux-dma-buf.md E.3
 */

import { assert, DmaBufError, type DmaDirection } from '../../base/index.ts';
import {
  type Attachment,
  type DmaBuf,
  type DmaBufOps,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
  IosysMap,
  type Kernel,
  type MappedSgTable,
  type PageList,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import { Allocation, type Device, Mutex, Shared, type Task } from '../../machine/index.ts';

/** `struct dma_heap_attachment`. */
class HeapAttachment {
  readonly memory: Allocation;
  readonly device: Device;
  /** Guarded by nothing: map and unmap write it under the reservation, the bracket reads it. */
  readonly mapped: Shared<boolean>;
  /** What the one table was filled with last. */
  readonly table: Shared<MappedSgTable | null>;

  constructor(kernel: Kernel, device: Device) {
    const { scheduler } = kernel;
    const memory = new Allocation(scheduler, 'dma_heap_attachment');
    this.memory = memory;
    this.device = device;
    this.mapped = new Shared<boolean>(scheduler, 'mapped', false, memory);
    this.table = new Shared<MappedSgTable | null>(scheduler, 'table', null, memory);
  }

  static of({ priv }: Attachment<HeapBuffer>): HeapAttachment {
    assert(priv instanceof HeapAttachment, 'the attachment is one that the heap let in');
    return priv;
  }
}

interface Vmapping {
  readonly count: number;
  readonly map: IosysMap;
}

/** `struct system_heap_buffer`, `struct cma_heap_buffer`. */
export abstract class HeapBuffer {
  readonly kernel: Kernel;
  /** What it is made of, in order. */
  readonly pages: PageList;
  /** The memory of this state itself. */
  readonly memory: Allocation;
  private readonly lock: Mutex;
  /** Newest first. Guarded by {@link lock}. */
  private readonly attachments: Shared<readonly HeapAttachment[]>;
  /** Null while the kernel has no mapping. Guarded by {@link lock}. */
  private readonly vmapping: Shared<Vmapping | null>;

  constructor(kernel: Kernel, name: string, pages: PageList) {
    const { scheduler } = kernel;
    const memory = new Allocation(scheduler, name);
    this.kernel = kernel;
    this.pages = pages;
    this.memory = memory;
    this.lock = new Mutex(scheduler, `${name} lock`);
    this.attachments = new Shared<readonly HeapAttachment[]>(
      scheduler,
      `${name} attachments`,
      [],
      memory,
    );
    this.vmapping = new Shared<Vmapping | null>(scheduler, `${name} vmapping`, null, memory);
  }

  /**
   * A process maps pages of it.
   *
   * @throws {@link DmaBufError} what the heap says.
   * @context May sleep; the process's mmap lock is held for writing.
   */
  abstract mmap(vma: Vma): Task;

  /**
   * Gives the pages and this state back.
   *
   * @context May sleep; no lock held. Nobody uses it any more.
   */
  abstract free(): Task;

  /**
   * What a heap says of a mapping that failed. Unless it says otherwise: the same.
   */
  mapRefusal(error: unknown): unknown {
    return error;
  }

  /**
   * Gives a device a table of its own.
   *
   * @throws {@link DmaBufError} `ENOMEM` there is no memory for the attachment or for the table.
   * @context May sleep; no lock held.
   * @source `system_heap_attach()`, `cma_heap_attach()`
   */
  *attach(attachment: Attachment<HeapBuffer>): Task {
    const { slab } = this.kernel;
    if (!(yield* slab.alloc())) {
      throw new DmaBufError('ENOMEM', 'dma_heap_attach', 'no-memory-for-the-heap-attachment');
    }
    if (!(yield* slab.alloc())) {
      throw new DmaBufError('ENOMEM', 'dma_heap_attach', 'no-memory-for-the-attachments-table');
    }
    const own = new HeapAttachment(this.kernel, attachment.device);
    attachment.priv = own;
    yield* this.lock.lock();
    yield* this.attachments.write([own, ...(yield* this.attachments.read())]);
    yield* this.lock.unlock();
  }

  /**
   * Takes the table away.
   *
   * @context May sleep; no lock held.
   * @source `system_heap_detach()`, `cma_heap_detach()`
   */
  *detach(attachment: Attachment<HeapBuffer>): Task {
    const own = HeapAttachment.of(attachment);
    yield* this.lock.lock();
    const all = yield* this.attachments.read();
    yield* this.attachments.write(all.filter((other) => other !== own));
    yield* this.lock.unlock();
    yield* own.memory.free();
  }

  /**
   * Maps all pages for the attachment's device.
   *
   * DIFFERS: a second mapping while there is one is a kernel warning. Linux says nothing; it fills
   * the one table anew as here, and the first mapping is lost.
   *
   * @throws {@link DmaBufError} as `dmaMapSgtable`, through {@link mapRefusal}.
   * @context May sleep. The reservation is held.
   * @source `system_heap_map_dma_buf()`, `cma_heap_map_dma_buf()`
   */
  *map(attachment: Attachment<HeapBuffer>, direction: DmaDirection): Task<SgTable> {
    const { machine, scheduler } = this.kernel;
    const own = HeapAttachment.of(attachment);
    if (yield* own.mapped.read()) {
      scheduler.warn('dma_heap_map_dma_buf', 'the attachment is mapped: its one table is lost');
    }
    let table: MappedSgTable;
    try {
      table = yield* dmaMapSgtable(machine, attachment.device, this.pages, direction);
    } catch (error) {
      throw this.mapRefusal(error);
    }
    yield* own.table.write(table);
    yield* own.mapped.write(true);
    return table;
  }

  /**
   * Takes back what the attachment's table holds now.
   *
   * @context May sleep. The reservation is held.
   * @source `system_heap_unmap_dma_buf()`, `cma_heap_unmap_dma_buf()`
   */
  *unmap(attachment: Attachment<HeapBuffer>, direction: DmaDirection): Task {
    const own = HeapAttachment.of(attachment);
    yield* own.mapped.write(false);
    const table = yield* own.table.read();
    if (table === null) return;
    yield* dmaUnmapSgtable(this.kernel.machine, attachment.device, table, direction);
  }

  /**
   * Gives every mapped table to the CPU. The kernel's own mapping needs nothing besides: the caches
   * of these machines go by physical address.
   *
   * @context May sleep; no lock held.
   * @source `system_heap_dma_buf_begin_cpu_access()`
   */
  *beginCpuAccess(direction: DmaDirection): Task {
    const { machine } = this.kernel;
    yield* this.lock.lock();
    for (const own of yield* this.attachments.read()) {
      const table = yield* mappedTableOf(own);
      if (table !== null) yield* dmaSyncSgtableForCpu(machine, own.device, table, direction);
    }
    yield* this.lock.unlock();
  }

  /**
   * Gives every mapped table back to its device.
   *
   * @context May sleep; no lock held.
   * @source `system_heap_dma_buf_end_cpu_access()`
   */
  *endCpuAccess(direction: DmaDirection): Task {
    const { machine } = this.kernel;
    yield* this.lock.lock();
    for (const own of yield* this.attachments.read()) {
      const table = yield* mappedTableOf(own);
      if (table !== null) yield* dmaSyncSgtableForDevice(machine, own.device, table, direction);
    }
    yield* this.lock.unlock();
  }

  /**
   * Maps the buffer into the kernel, once; later callers share it.
   *
   * @throws {@link DmaBufError} `ENOMEM` no memory, or no room among the kernel's addresses.
   * @context May sleep. The reservation is held.
   * @source `system_heap_vmap()`, `cma_heap_vmap()`
   */
  *vmap(): Task<IosysMap> {
    yield* this.lock.lock();
    try {
      const known = yield* this.vmapping.read();
      if (known === null && !(yield* this.kernel.slab.alloc())) {
        throw new DmaBufError('ENOMEM', 'dma_heap_vmap', 'no-room-for-the-heap-buffer');
      }
      const map = known?.map ?? new IosysMap(this.kernel.machine, this.pages.ranges, false);
      yield* this.vmapping.write({ count: (known?.count ?? 0) + 1, map });
      return map;
    } finally {
      yield* this.lock.unlock();
    }
  }

  /**
   * Takes one {@link vmap} back.
   *
   * @context May sleep. The reservation is held.
   * @source `system_heap_vunmap()`, `cma_heap_vunmap()`
   */
  *vunmap(): Task {
    yield* this.lock.lock();
    const known = yield* this.vmapping.read();
    const count = (known?.count ?? 0) - 1;
    yield* this.vmapping.write(known === null || count === 0 ? null : { ...known, count });
    yield* this.lock.unlock();
  }

  /**
   * True while the kernel has the buffer mapped.
   *
   * @context Any; nobody uses the buffer any more.
   */
  *isVmapped(): Task<boolean> {
    return (yield* this.vmapping.read()) !== null;
  }
}

/** Null: the attachment is not mapped. */
function* mappedTableOf(own: HeapAttachment): Task<MappedSgTable | null> {
  return (yield* own.mapped.read()) ? yield* own.table.read() : null;
}

/** The exporter's table of every heap. */
export const heapBufferOps: DmaBufOps<HeapBuffer> = {
  *attach(buf: DmaBuf<HeapBuffer>, attachment: Attachment<HeapBuffer>): Task {
    yield* buf.priv.attach(attachment);
  },

  *detach(buf: DmaBuf<HeapBuffer>, attachment: Attachment<HeapBuffer>): Task {
    yield* buf.priv.detach(attachment);
  },

  *mapDmaBuf(attachment: Attachment<HeapBuffer>, direction: DmaDirection): Task<SgTable> {
    return yield* attachment.buf.priv.map(attachment, direction);
  },

  *unmapDmaBuf(attachment: Attachment<HeapBuffer>, _: SgTable, direction: DmaDirection): Task {
    yield* attachment.buf.priv.unmap(attachment, direction);
  },

  *beginCpuAccess(buf: DmaBuf<HeapBuffer>, direction: DmaDirection): Task {
    yield* buf.priv.beginCpuAccess(direction);
  },

  *endCpuAccess(buf: DmaBuf<HeapBuffer>, direction: DmaDirection): Task {
    yield* buf.priv.endCpuAccess(direction);
  },

  *mmap(buf: DmaBuf<HeapBuffer>, vma: Vma): Task {
    yield* buf.priv.mmap(vma);
  },

  *vmap(buf: DmaBuf<HeapBuffer>): Task<IosysMap> {
    return yield* buf.priv.vmap();
  },

  *vunmap(buf: DmaBuf<HeapBuffer>): Task {
    yield* buf.priv.vunmap();
  },

  *release(buf: DmaBuf<HeapBuffer>): Task {
    yield* buf.priv.free();
  },
};
