/**
 * The buffer that devices share: an exporter's memory behind a counted file. The core knows who is
 * attached and holds the rules; the memory itself stays the exporter's.
 *
 * @source drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A
 */

import { DmaBufError, type DmaDirection } from '../../base/index.ts';
import { type Atomic, type Device, Shared, type Task } from '../../machine/index.ts';
import { Attachment } from './attachment.ts';
import type { IosysMap } from './iosys-map.ts';
import { DmaResv } from '../fence/dma-resv.ts';
import { type FileOperations, KernelFile } from '../vfs/file.ts';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../user/process.ts';
import type { SgTable } from '../dma/scatterlist.ts';
import type { Vma } from '../user/vma.ts';

/**
 * What an exporter does (`struct dma_buf_ops`). `P` is the exporter's own state of a buffer. A
 * callback that fails throws {@link DmaBufError}; the core passes it on.
 */
export interface DmaBufOps<P> {
  /**
   * Optional. A device wants in; the exporter may refuse, or take {@link Attachment.peer2peer}
   * away. The attachment is not on the list yet.
   *
   * @context May sleep. The reservation is not locked.
   */
  attach?(buf: DmaBuf<P>, attachment: Attachment<P>): Task;
  /**
   * Optional. The device has left the list.
   *
   * @context May sleep. The reservation is not locked.
   */
  detach?(buf: DmaBuf<P>, attachment: Attachment<P>): Task;
  /**
   * Optional, with {@link unpin}: its presence makes the exporter dynamic. Memory stays where it is
   * until unpinned.
   *
   * @context May sleep. The reservation is locked.
   */
  pin?(attachment: Attachment<P>): Task;
  /**
   * Optional, with {@link pin}.
   *
   * @context May sleep. The reservation is locked.
   */
  unpin?(attachment: Attachment<P>): Task;
  /**
   * Mandatory. Makes the memory reachable for the attachment's device.
   *
   * @returns Page-aligned pieces that add up to the buffer's size.
   * @context May sleep. The reservation is locked.
   */
  mapDmaBuf(attachment: Attachment<P>, direction: DmaDirection): Task<SgTable>;
  /**
   * Mandatory. The opposite, with the same table and direction.
   *
   * @context May sleep. The reservation is locked.
   */
  unmapDmaBuf(attachment: Attachment<P>, table: SgTable, direction: DmaDirection): Task;
  /**
   * Optional. The CPU is about to touch the memory: cached copies that a device made stale go.
   *
   * @param direction - `from-device`: the CPU reads; `to-device`: it writes.
   * @context May sleep. The reservation is not locked.
   */
  beginCpuAccess?(buf: DmaBuf<P>, direction: DmaDirection): Task;
  /**
   * Optional. The CPU is done: what it wrote becomes visible to devices.
   *
   * @context May sleep. The reservation is not locked.
   */
  endCpuAccess?(buf: DmaBuf<P>, direction: DmaDirection): Task;
  /**
   * Optional. A process maps the buffer.
   *
   * @context May sleep. The process's mmap lock is held for writing; the reservation is not locked.
   */
  mmap?(buf: DmaBuf<P>, vma: Vma): Task;
  /**
   * Optional. The kernel wants to touch the memory itself.
   *
   * @context May sleep. The reservation is locked.
   */
  vmap?(buf: DmaBuf<P>): Task<IosysMap>;
  /**
   * Optional. The opposite, with the same map.
   *
   * @context May sleep. The reservation is locked.
   */
  vunmap?(buf: DmaBuf<P>, map: IosysMap): Task;
  /**
   * Mandatory. The last reference is gone. Whoever kept the buffer on a list takes it off here,
   * under the list's lock.
   *
   * @context May sleep. No lock is held; runs later than the last put, perhaps on another thread.
   */
  release(buf: DmaBuf<P>): Task;
}

/** What an importer does (`struct dma_buf_attach_ops`). Having one at all makes it dynamic. */
export interface AttachOps {
  /** True if the device can use memory of another device. The exporter may still say no. */
  readonly allowPeer2Peer: boolean;
  /**
   * Optional. Everything mapped so far is stale: map anew before the next access, and unmap what
   * there was in bounded time. Access that cannot be stopped at once is covered by a fence.
   *
   * @context May sleep. The reservation is locked; must not lock it, attach or detach.
   */
  invalidateMappings?(attachment: Attachment): Task;
}

/** What to export (`struct dma_buf_export_info`). */
export interface DmaBufExportInfo<P> {
  /** As debugfs shows it: `vfio_pci_core`. */
  readonly exporterName: string;
  readonly ops: DmaBufOps<P>;
  /** Bytes. */
  readonly size: number;
  readonly priv: P;
  /** Null: the buffer gets a reservation of its own. */
  readonly resv?: DmaResv | null;
}

/** `struct dma_buf`. */
export class DmaBuf<P = unknown> {
  readonly kernel: Kernel;
  /** Its inode number, by which it is known in the trace. */
  readonly number: number;
  /** Bytes; constant. */
  readonly size: number;
  readonly exporterName: string;
  readonly ops: DmaBufOps<P>;
  /** The exporter's. */
  readonly priv: P;
  readonly resv: DmaResv;
  /** Its reference count is the buffer's. */
  readonly file: KernelFile;
  /** Who is attached, newest first. Guarded by the reservation. */
  readonly attachments: Shared<readonly Attachment[]>;

  private constructor(kernel: Kernel, number: number, info: DmaBufExportInfo<P>) {
    const name = `dma-buf ${number}`;
    this.kernel = kernel;
    this.number = number;
    this.size = info.size;
    this.exporterName = info.exporterName;
    this.ops = info.ops;
    this.priv = info.priv;
    this.resv = info.resv ?? new DmaResv(kernel, name);
    this.file = new BufferFile(kernel, `${name} file`, this);
    this.attachments = new Shared<readonly Attachment[]>(
      kernel.scheduler,
      `${name} attachments`,
      [],
    );
  }

  /**
   * Makes a buffer of an exporter's memory. The caller owns its first reference; there is no
   * descriptor yet.
   *
   * @throws {@link DmaBufError} `EINVAL`, and a kernel warning, if exactly one of pin and unpin is
   *   there.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_export()`
   */
  static *export<P>(kernel: Kernel, info: DmaBufExportInfo<P>): Task<DmaBuf<P>> {
    if ((info.ops.pin === undefined) !== (info.ops.unpin === undefined)) {
      kernel.scheduler.warn('dma_buf_export', 'pin and unpin come together');
      throw new DmaBufError('EINVAL', 'export', 'pin-without-unpin');
    }
    const number = yield* kernel.inodes.next();
    const buf = new DmaBuf<P>(kernel, number, info);
    yield* kernel.bufferList.change(1);
    const { exporterName: exporter, size } = info;
    kernel.scheduler.record?.({ kind: 'buffer.export', buffer: number, exporter, size });
    return buf;
  }

  /**
   * The buffer behind a descriptor, with a reference for the caller.
   *
   * @throws {@link DmaBufError} `EBADF` not open; `EINVAL` another kind of file.
   * @context May sleep.
   * @source `dma_buf_get()`
   */
  static *get(process: Process, fd: number): Task<DmaBuf> {
    const file = yield* process.fds.fget(fd);
    if (file === null) throw new DmaBufError('EBADF', 'get', 'descriptor-is-not-open');
    if (!(file instanceof BufferFile)) {
      yield* file.put();
      throw new DmaBufError('EINVAL', 'get', 'descriptor-is-no-dma-buf');
    }
    const { buf } = file;
    buf.kernel.scheduler.record?.({ kind: 'buffer.get', buffer: buf.number });
    return buf;
  }

  /**
   * Gives the buffer a descriptor, which takes over the caller's reference.
   *
   * @throws {@link DmaBufError} `EMFILE`; the caller keeps its reference then.
   * @context May sleep.
   * @source `dma_buf_fd()`
   */
  *fd(process: Process): Task<number> {
    const fd = yield* process.fds.install(this.file);
    if (fd === null) throw new DmaBufError('EMFILE', 'fd', 'descriptor-table-is-full');
    const { number: buffer } = this;
    this.kernel.scheduler.record?.({ kind: 'buffer.fd', buffer, process: process.name, fd });
    return fd;
  }

  /**
   * Takes a reference; the caller has one already. On a buffer whose count is zero: a kernel
   * warning.
   *
   * @context Any.
   * @source `get_dma_buf()`
   */
  *getDmaBuf(): Atomic {
    yield* this.file.get();
    this.kernel.scheduler.record?.({ kind: 'buffer.get', buffer: this.number });
  }

  /**
   * Takes a reference if the buffer still lives: for an exporter that keeps a list of its buffers
   * without owning them. Only under the lock that guards the list.
   *
   * @context Any; the caller holds its list's lock.
   * @source `get_file_active()`; thread S003
   */
  *tryGet(): Atomic<boolean> {
    const ok = yield* this.file.getActive();
    this.kernel.scheduler.record?.({ kind: 'buffer.try-get', buffer: this.number, ok });
    return ok;
  }

  /**
   * Drops a reference. After the last one the release runs later, without the caller's locks.
   *
   * @context Any; the reservation is not locked.
   * @source `dma_buf_put()`
   */
  *put(): Atomic {
    const last = yield* this.file.put();
    this.kernel.scheduler.record?.({ kind: 'buffer.put', buffer: this.number, last });
  }

  /**
   * Adds a device that can follow moves. The caller owns a reference to the buffer as long as the
   * attachment lives.
   *
   * @param device - The one that will do the DMA; null for one that cannot, which is refused.
   * @param importerPriv - The importer's own; handed back in {@link Attachment.importerPriv}.
   * @throws {@link DmaBufError} `EINVAL`, with a kernel warning, without a device; what the
   *   exporter says.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_dynamic_attach()`
   */
  *dynamicAttach(
    device: Device | null,
    importerOps: AttachOps | null,
    importerPriv: unknown = null,
  ): Task<Attachment> {
    const { scheduler } = this.kernel;
    if (device === null) throw this.refuseVirtualDevice();
    const attachment = new Attachment<P>(this, device, importerOps, importerPriv);
    try {
      if (this.ops.attach !== undefined) yield* this.ops.attach(this, attachment);
    } catch (error) {
      attachment.recordRefusal('dynamicAttach', error);
      throw error;
    }
    yield* this.resv.lock();
    const others = yield* this.attachments.read();
    yield* this.attachments.write([attachment, ...others]);
    yield* this.resv.unlock();
    scheduler.record?.({
      kind: 'attachment.attach',
      attachment: attachment.number,
      buffer: this.number,
      device: device.name,
      dynamic: attachment.isDynamic,
      peer2peer: attachment.peer2peer,
    });
    return attachment;
  }

  /**
   * Adds a device that cannot follow moves: the memory is pinned while it is mapped.
   *
   * @throws {@link DmaBufError} as {@link dynamicAttach}.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_attach()`
   */
  *attach(device: Device | null): Task<Attachment> {
    return yield* this.dynamicAttach(device, null);
  }

  /**
   * Removes an attachment. That everything is unmapped and unpinned is the importer's duty; the
   * core does not look.
   *
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_detach()`
   */
  *detach(attachment: Attachment): Task {
    if (attachment.buf !== this) {
      this.kernel.scheduler.warn('dma_buf_detach', 'the attachment belongs to another buffer');
      return;
    }
    yield* this.resv.lock();
    const all = yield* this.attachments.read();
    yield* this.attachments.write(all.filter((other) => other !== attachment));
    yield* this.resv.unlock();
    if (this.ops.detach !== undefined) {
      yield* this.ops.detach(this, attachment as Attachment<P>);
    }
    this.kernel.scheduler.record?.({
      kind: 'attachment.detach',
      attachment: attachment.number,
      buffer: this.number,
    });
  }

  /**
   * Tells every importer that wants to know that its mappings are stale, newest attachment first.
   * When this returns they may still be in use: wait for the fences up to `bookkeep`, and for the
   * unmaps.
   *
   * @context May sleep. The caller, the exporter, holds the reservation.
   * @source `dma_buf_invalidate_mappings()`, until 7.0 `dma_buf_move_notify()`
   */
  *invalidateMappings(): Task {
    const { scheduler } = this.kernel;
    this.resv.assertHeld('dma_buf_invalidate_mappings');
    scheduler.record?.({ kind: 'buffer.invalidate', buffer: this.number, phase: 'begin' });
    for (const attachment of yield* this.attachments.read()) yield* attachment.invalidate();
    scheduler.record?.({ kind: 'buffer.invalidate', buffer: this.number, phase: 'end' });
  }

  /** A device without a DMA address space: software that plays a card. The importer's mistake. */
  private refuseVirtualDevice(): DmaBufError {
    const { scheduler } = this.kernel;
    scheduler.warn('dma_buf_dynamic_attach', 'no device');
    const error = new DmaBufError('EINVAL', 'dynamicAttach', 'no-dma-device', {
      detail: {
        refusedBy: 'core',
        class: 'importer-bug',
        why: 'the importer has no device that does DMA: what it calls one hands out CPU pointers',
        advice: [{ change: 'importer', value: '', text: 'map the buffer for the CPU instead' }],
      },
    });
    const { code, call, reason, detail } = error;
    const refusal = { buffer: this.number, device: '', call, code, reason, detail };
    scheduler.record?.({ kind: 'attachment.refuse', ...refusal });
    return error;
  }
}

/** The file of a buffer. */
class BufferFile extends KernelFile {
  readonly buf: DmaBuf;

  constructor(kernel: Kernel, name: string, buf: DmaBuf) {
    super(kernel, name, BUFFER_FILE_OPERATIONS);
    this.buf = buf;
  }
}

const BUFFER_FILE_OPERATIONS: FileOperations = {
  /**
   * The kernel's order: off the list, the exporter's release, and only then a look at what is left.
   */
  *release(file: KernelFile): Task {
    if (!(file instanceof BufferFile)) return;
    const { buf } = file;
    const { kernel, number } = buf;
    const { scheduler } = kernel;
    scheduler.record?.({ kind: 'buffer.release', buffer: number, phase: 'begin' });
    yield* kernel.bufferList.change(-1);
    yield* buf.ops.release(buf);
    const left = yield* buf.attachments.read();
    if (left.length > 0) {
      scheduler.warn('dma_buf_release', `${left.length} attachments are still on the list`);
    }
    scheduler.record?.({ kind: 'buffer.release', buffer: number, phase: 'end' });
  },
};
