/**
 * The exporter's half of the probe: buffers of RAM that a program orders, with the refusals that it
 * wants to see. The program knows a buffer by number without owning a reference, so a call about it
 * tries to get one, under the lock that the buffer's release takes too.
 *
 * @source docs/probe-abi.md; reference/linux-dma-buf.md A.2, A.6
 */

import {
  DmaBufError,
  type DmaDirection,
  type ErrnoCode,
  PAGE_SIZE,
  present,
} from '../../base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
  IosysMap,
  type Kernel,
  type PageList,
  pageList,
  pagesOf,
  type Process,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import {
  Allocation,
  type Device,
  Mutex,
  type PhysRange,
  type Scheduler,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { HandleTable, ProbeHandle } from './handle-table.ts';

/** What a program orders. */
export interface ExportOrder {
  readonly pages: number;
  /** With pin and unpin. */
  readonly isDynamic: boolean;
  /** Every page by itself; else in a row. */
  readonly isScattered: boolean;
  /** What attach, map and pin fail with; null: they do not. */
  readonly attachError: ErrnoCode | null;
  readonly mapError: ErrnoCode | null;
  readonly pinError: ErrnoCode | null;
  /** As open(2) has them. */
  readonly openFlags: number;
}

/** One mapping that was handed out. */
interface Mapped {
  readonly device: Device;
  readonly table: SgTable;
  readonly direction: DmaDirection;
}

/** The state of one buffer. */
export class ProbeBuffer {
  readonly kernel: Kernel;
  readonly order: ExportOrder;
  readonly pages: PageList;
  /** The memory of this state itself: freed at release. */
  readonly memory: Allocation;
  /** Pins not taken back. Guarded by the reservation. */
  readonly pins: Shared<number>;
  /** Mappings not taken back. Guarded by the reservation. */
  readonly mapped: Shared<readonly Mapped[]>;
  /** Who knows it by number; told at release. */
  readonly handle: ExportHandle;

  constructor(kernel: Kernel, order: ExportOrder, pages: PageList, handle: ExportHandle) {
    const { scheduler } = kernel;
    const memory = new Allocation(scheduler, 'probe_buffer');
    this.kernel = kernel;
    this.order = order;
    this.pages = pages;
    this.memory = memory;
    this.pins = new Shared<number>(scheduler, 'probe buffer pins', 0, memory);
    this.mapped = new Shared<readonly Mapped[]>(scheduler, 'probe buffer maps', [], memory);
    this.handle = handle;
  }
}

/** How the file knows a buffer that it exported: weakly. */
export class ExportHandle implements ProbeHandle {
  readonly parent = 0;
  private readonly id: number;
  private readonly handles: HandleTable;
  /** Taken by who looks for the buffer, and by its release. */
  private readonly lock: Mutex;
  /** Null once it is released. Guarded by {@link lock}. */
  private readonly weak: Shared<DmaBuf<ProbeBuffer> | null>;
  /** The first reference, until the descriptor has it. Nobody else knows of us so long. */
  private first: DmaBuf<ProbeBuffer> | null = null;

  constructor(scheduler: Scheduler, handles: HandleTable, id: number) {
    this.handles = handles;
    this.id = id;
    this.lock = new Mutex(scheduler, 'probe export');
    this.weak = new Shared<DmaBuf<ProbeBuffer> | null>(scheduler, 'probe export', null);
  }

  /**
   * Makes a buffer.
   *
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep; no lock held.
   */
  *export(kernel: Kernel, order: ExportOrder): Task<this> {
    const ranges = yield* allocate(kernel, order);
    const priv = new ProbeBuffer(kernel, order, pageList(ranges), this);
    try {
      this.first = yield* DmaBuf.export(kernel, {
        exporterName: 'probe',
        ops: order.isDynamic ? DYNAMIC_OPS : STATIC_OPS,
        size: order.pages * PAGE_SIZE,
        priv,
        flags: order.openFlags,
      });
    } catch (error) {
      yield* free(kernel, ranges);
      yield* priv.memory.free();
      throw error;
    }
    yield* this.set(this.first);
    return this;
  }

  /**
   * Puts the buffer behind a descriptor that was set aside for it.
   *
   * @context Any.
   */
  *install(process: Process, fd: number): Task {
    const buf = present(this.first, 'the first reference of a buffer');
    this.first = null;
    yield* buf.fdInstall(process, fd);
  }

  /**
   * Does something with the buffer.
   *
   * @throws {@link DmaBufError} `ENOENT` the buffer is gone; what `body` says.
   * @context May sleep; no lock held.
   */
  *with<R>(call: string, body: (buf: DmaBuf<ProbeBuffer>) => Task<R>): Task<R> {
    yield* this.lock.lock();
    const buf = yield* this.weak.read();
    const lives = buf !== null && (yield* buf.tryGet());
    yield* this.lock.unlock();
    if (buf === null || !lives) throw new DmaBufError('ENOENT', call, 'probe-buffer-is-gone');
    try {
      return yield* body(buf);
    } finally {
      yield* buf.put();
    }
  }

  /**
   * The buffer's release has begun: its number means nothing any more.
   *
   * @context May sleep; no lock held.
   */
  *forget(): Task {
    yield* this.set(null);
    yield* this.handles.forget(this.id);
  }

  /** A buffer that has a descriptor lives as long as that. @context Any. */
  *destroy(): Task {
    if (this.first !== null) yield* this.first.put();
    this.first = null;
  }

  private *set(buf: DmaBuf<ProbeBuffer> | null): Task {
    yield* this.lock.lock();
    yield* this.weak.write(buf);
    yield* this.lock.unlock();
  }
}

const STATIC_OPS: DmaBufOps<ProbeBuffer> = {
  *attach({ priv }: DmaBuf<ProbeBuffer>): Task {
    refuseIf(priv.order.attachError, 'probe-exporter-refuses-to-attach');
  },

  *mapDmaBuf({ buf, device }: Attachment<ProbeBuffer>, direction: DmaDirection): Task<SgTable> {
    const { priv } = buf;
    refuseIf(priv.order.mapError, 'probe-exporter-refuses-to-map');
    const { machine } = priv.kernel;
    const table = yield* dmaMapSgtable(machine, device, priv.pages, direction);
    const mapped = yield* priv.mapped.read();
    yield* priv.mapped.write([...mapped, { device, table, direction }]);
    return table;
  },

  *unmapDmaBuf(
    { buf, device }: Attachment<ProbeBuffer>,
    table: SgTable,
    direction: DmaDirection,
  ): Task {
    const { priv } = buf;
    yield* dmaUnmapSgtable(priv.kernel.machine, device, table, direction);
    const mapped = yield* priv.mapped.read();
    yield* priv.mapped.write(mapped.filter((one) => one.table !== table));
  },

  *beginCpuAccess(buf: DmaBuf<ProbeBuffer>, direction: DmaDirection): Task {
    yield* buf.resv.lock();
    const { machine } = buf.priv.kernel;
    for (const { device, table } of yield* buf.priv.mapped.read()) {
      yield* dmaSyncSgtableForCpu(machine, device, table, direction);
    }
    yield* buf.resv.unlock();
  },

  *endCpuAccess(buf: DmaBuf<ProbeBuffer>, direction: DmaDirection): Task {
    yield* buf.resv.lock();
    const { machine } = buf.priv.kernel;
    for (const { device, table } of yield* buf.priv.mapped.read()) {
      yield* dmaSyncSgtableForDevice(machine, device, table, direction);
    }
    yield* buf.resv.unlock();
  },

  *mmap({ priv }: DmaBuf<ProbeBuffer>, vma: Vma): Task {
    if (!vma.isShared) {
      throw new DmaBufError('EINVAL', 'mmap', 'probe-buffer-is-mapped-privately');
    }
    const pages = pagesOf(priv.pages).slice(vma.pgoff, vma.pgoff + vma.pages);
    yield* vma.insertPages(
      0,
      pages.map((phys) => ({ phys, kind: 'ram' as const })),
    );
  },

  *vmap({ priv }: DmaBuf<ProbeBuffer>): Task<IosysMap> {
    return new IosysMap(priv.kernel.machine, priv.pages.ranges, false);
  },

  *release({ priv }: DmaBuf<ProbeBuffer>): Task {
    yield* priv.handle.forget();
    yield* free(priv.kernel, priv.pages.ranges);
    yield* priv.memory.free();
  },
};

const DYNAMIC_OPS: DmaBufOps<ProbeBuffer> = {
  ...STATIC_OPS,

  *pin({ buf }: Attachment<ProbeBuffer>): Task {
    refuseIf(buf.priv.order.pinError, 'probe-exporter-refuses-to-pin');
    yield* buf.priv.pins.write((yield* buf.priv.pins.read()) + 1);
  },

  *unpin({ buf }: Attachment<ProbeBuffer>): Task {
    yield* buf.priv.pins.write((yield* buf.priv.pins.read()) - 1);
  },
};

function refuseIf(code: ErrnoCode | null, reason: string): void {
  if (code !== null) throw new DmaBufError(code, 'probe exporter', reason);
}

function* allocate(kernel: Kernel, order: ExportOrder): Task<readonly PhysRange[]> {
  const { pages, isScattered } = order;
  const { memory } = kernel.machine;
  const count = isScattered ? pages : 1;
  const each = isScattered ? 1 : pages;
  const ranges: PhysRange[] = [];
  for (let i = 0; i < count; i += 1) {
    const phys = yield* memory.allocate(each);
    if (phys === null) {
      yield* free(kernel, ranges);
      throw new DmaBufError('ENOMEM', 'ioctl(PROBE_EXPORT)', 'probe-has-no-pages');
    }
    ranges.push({ phys, size: each * PAGE_SIZE });
  }
  return ranges;
}

function* free(kernel: Kernel, ranges: readonly PhysRange[]): Task {
  for (const { phys, size } of ranges) yield* kernel.machine.memory.free(phys, size / PAGE_SIZE);
}
