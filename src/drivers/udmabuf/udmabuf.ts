/**
 * A dma-buf made of pieces of memfds: the pages stay the program's, who has them mapped already.
 *
 * Nothing is synced when a device maps it. The CPU's bracket goes through one table of the driver's
 * own device, made by the first begin, whoever is attached.
 *
 * @source drivers/dma-buf/udmabuf.c, v7.2; reference/linux-dma-buf.md E.2
 */

import { DmaBufError, type DmaDirection, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
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
  type Memfd,
  type PageList,
  pagesOf,
  sgAllocTableFromPages,
  type SgTable,
  type Vma,
  type VmOperations,
} from '../../framework/index.ts';
import { Allocation, type Device, Shared, type Task } from '../../machine/index.ts';

/** Pages of one memfd that stay where they are. */
export interface PinnedPages {
  readonly memfd: Memfd;
  readonly list: PageList;
}

/** The table of the driver's own device. */
interface OwnTable {
  readonly memory: Allocation;
  readonly table: MappedSgTable;
  /** That of the first begin. */
  readonly direction: DmaDirection;
}

/** How tables are mapped and unmapped: whoever uses the CPU brackets its accesses. */
const ATTRS = { skipCpuSync: true };

/** `struct udmabuf`. */
export class Udmabuf {
  readonly kernel: Kernel;
  /** `/dev/udmabuf` itself: it does no DMA, but caches are maintained for it. */
  readonly device: Device;
  /** In order. */
  readonly pages: readonly PhysAddr[];
  private readonly pinned: readonly PinnedPages[];
  private readonly memory: Allocation;
  /** Guarded by nothing, also in Linux. Null until the first begin. */
  private readonly own: Shared<OwnTable | null>;

  constructor(kernel: Kernel, device: Device, pinned: readonly PinnedPages[]) {
    const { scheduler } = kernel;
    this.kernel = kernel;
    this.device = device;
    this.pinned = pinned;
    this.pages = pinned.flatMap(({ list }) => pagesOf(list));
    this.memory = new Allocation(scheduler, 'udmabuf');
    this.own = new Shared<OwnTable | null>(scheduler, 'udmabuf sg', null, this.memory);
  }

  /** Bytes. */
  get size(): number {
    return this.pages.length * PAGE_SIZE;
  }

  /**
   * A fresh table for a device.
   *
   * @throws {@link DmaBufError} `ENOMEM`; what `dmaMapSgtable` says.
   * @context May sleep.
   * @source `get_sg_table()`
   */
  *tableFor(device: Device, direction: DmaDirection): Task<MappedSgTable> {
    const { machine, slab } = this.kernel;
    if (!(yield* slab.alloc())) {
      throw new DmaBufError('ENOMEM', 'get_sg_table', 'no-memory-for-a-udmabuf-table');
    }
    const list = sgAllocTableFromPages(this.pages);
    return yield* dmaMapSgtable(machine, device, list, direction, ATTRS);
  }

  /**
   * Takes a table back.
   *
   * @context May sleep.
   * @source `put_sg_table()`
   */
  *putTable(device: Device, table: SgTable, direction: DmaDirection): Task {
    yield* dmaUnmapSgtable(this.kernel.machine, device, table, direction, ATTRS);
  }

  /**
   * Makes the driver's own table, the first time, and gives it to the CPU.
   *
   * @throws {@link DmaBufError} as {@link tableFor}.
   * @context May sleep; no lock held. Two at a time may both find none; one table is lost then.
   * @source `begin_cpu_udmabuf()`
   */
  *beginCpuAccess(direction: DmaDirection): Task {
    const { device } = this;
    let own = yield* this.own.read();
    if (own === null) {
      const table = yield* this.tableFor(device, direction);
      const memory = new Allocation(this.kernel.scheduler, 'udmabuf sg_table');
      own = { memory, table, direction };
      yield* this.own.write(own);
    }
    yield* dmaSyncSgtableForCpu(this.kernel.machine, device, own.table, direction);
  }

  /**
   * Gives the driver's own table back to the device.
   *
   * @throws {@link DmaBufError} `EINVAL` nobody ever began.
   * @context May sleep; no lock held.
   * @source `end_cpu_udmabuf()`
   */
  *endCpuAccess(direction: DmaDirection): Task {
    const own = yield* this.own.read();
    if (own === null) throw new DmaBufError('EINVAL', 'end_cpu_udmabuf', 'end-without-any-begin');
    yield* dmaSyncSgtableForDevice(this.kernel.machine, this.device, own.table, direction);
  }

  /**
   * Maps the buffer into the kernel.
   *
   * @throws {@link DmaBufError} `EINVAL` there is no room among the kernel's addresses.
   * @context May sleep. The reservation is held.
   * @source `vmap_udmabuf()`
   */
  *vmap(): Task<IosysMap> {
    if (!(yield* this.kernel.slab.alloc())) {
      throw new DmaBufError('EINVAL', 'vmap_udmabuf', 'no-room-for-the-udmabuf');
    }
    return new IosysMap(this.kernel.machine, sgAllocTableFromPages(this.pages).ranges, false);
  }

  /**
   * Lets the pages go.
   *
   * @context May sleep; no lock held.
   * @source `release_udmabuf()`
   */
  *release(): Task {
    const own = yield* this.own.read();
    if (own !== null) {
      yield* this.putTable(this.device, own.table, own.direction);
      yield* own.memory.free();
    }
    yield* unpinAll(this.pinned);
    yield* this.free();
  }

  /**
   * Frees this state alone, which is no buffer yet, or no more.
   *
   * @context Any.
   */
  *free(): Task {
    yield* this.memory.free();
  }
}

/**
 * Takes pins back.
 *
 * @context May sleep; no lock held.
 * @source `unpin_all_folios()`
 */
export function* unpinAll(pinned: readonly PinnedPages[]): Task {
  for (const { memfd, list } of pinned) yield* memfd.unpinRange(list);
}

/** The exporter's table. There is no attach, and no pin: the memory never moves. */
export const udmabufOps: DmaBufOps<Udmabuf> = {
  *mapDmaBuf({ buf, device }: Attachment<Udmabuf>, direction: DmaDirection): Task<SgTable> {
    return yield* buf.priv.tableFor(device, direction);
  },

  *unmapDmaBuf(
    { buf, device }: Attachment<Udmabuf>,
    table: SgTable,
    direction: DmaDirection,
  ): Task {
    yield* buf.priv.putTable(device, table, direction);
  },

  *beginCpuAccess({ priv }: DmaBuf<Udmabuf>, direction: DmaDirection): Task {
    yield* priv.beginCpuAccess(direction);
  },

  *endCpuAccess({ priv }: DmaBuf<Udmabuf>, direction: DmaDirection): Task {
    yield* priv.endCpuAccess(direction);
  },

  *mmap({ priv }: DmaBuf<Udmabuf>, vma: Vma): Task {
    if (!vma.isShared) {
      throw new DmaBufError('EINVAL', 'mmap_udmabuf', 'private-map-of-a-udmabuf');
    }
    vma.operations = UDMABUF_VM_OPERATIONS;
    vma.priv = priv;
  },

  *vmap({ priv }: DmaBuf<Udmabuf>): Task<IosysMap> {
    return yield* priv.vmap();
  },

  *release({ priv }: DmaBuf<Udmabuf>): Task {
    yield* priv.release();
  },
};

const UDMABUF_VM_OPERATIONS: VmOperations = {
  /** The first touch brings all pages of the map. @source `udmabuf_vm_fault()` */
  *fault(vma: Vma, page: number): Task {
    if (!(vma.priv instanceof Udmabuf)) return;
    const { pages } = vma.priv;
    if (vma.pgoff + page >= pages.length) {
      throw new DmaBufError('EFAULT', 'page fault', 'bus-error-beyond-the-udmabuf');
    }
    const mapped = pages.slice(vma.pgoff, vma.pgoff + vma.pages);
    yield* vma.insertPages(
      0,
      mapped.map((phys) => ({ phys, kind: 'ram' })),
    );
  },
};
