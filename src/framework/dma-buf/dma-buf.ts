/**
 * The buffer that devices share: an exporter's memory behind a counted file. The core knows who is
 * attached and holds the rules; the memory itself stays the exporter's.
 *
 * @source drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A
 */

import { DmaBufError, type DmaDirection, O } from '../../base/index.ts';
import { type Atomic, type Device, Shared, type Task } from '../../machine/index.ts';
import { Attachment, refuseVirtualDevice } from './attachment.ts';
import {
  beginCpuAccess,
  endCpuAccess,
  mmapForwarded,
  vmap,
  type Vmapping,
  vunmap,
} from './cpu-access.ts';
import { BufferFile } from './dma-buf-file.ts';
import type { AttachOps, DmaBufExportInfo, DmaBufOps } from './dma-buf-ops.ts';
import { PollSlots } from './dma-buf-poll.ts';
import type { IosysMap } from './iosys-map.ts';
import { assertNotHeld, callback, withReservation } from './lock-context.ts';
import { DmaResv } from '../fence/dma-resv.ts';
import type { Kernel } from '../kernel.ts';
import type { KernelModule } from '../kernel-module.ts';
import type { Process } from '../user/process.ts';
import type { Vma } from '../user/vma.ts';
import { WaitQueue } from '../vfs/wait-queue.ts';

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
  readonly file: BufferFile;
  /** Who is attached, newest first. Guarded by the reservation. */
  readonly attachments: Shared<readonly Attachment[]>;
  /** Given by user space; null until it is. */
  readonly name: Shared<string | null>;
  /** The kernel's own map; null while there is none. Guarded by the reservation. */
  readonly vmapping: Shared<Vmapping | null>;
  /** Who polls sleeps here. */
  readonly poll: WaitQueue;
  /** For each direction one callback at a fence. */
  readonly pollSlots: PollSlots;
  /** The module that stays while the buffer lives. */
  readonly owner: KernelModule | null;
  /** True if the reservation is the buffer's own and goes with it. */
  readonly ownsResv: boolean;
  /** True once it is released. For the core. */
  isFreed = false;

  private constructor(kernel: Kernel, number: number, info: DmaBufExportInfo<P>) {
    const { scheduler } = kernel;
    const name = `dma-buf ${number}`;
    this.kernel = kernel;
    this.number = number;
    this.size = info.size;
    this.exporterName = info.exporterName;
    this.ops = info.ops;
    this.priv = info.priv;
    this.owner = info.owner ?? null;
    this.ownsResv = (info.resv ?? null) === null;
    this.resv = info.resv ?? new DmaResv(kernel, name);
    this.file = new BufferFile(kernel, `${name} file`, this as DmaBuf, info.flags ?? O.RDWR);
    this.attachments = new Shared<readonly Attachment[]>(scheduler, `${name} attachments`, []);
    this.name = new Shared<string | null>(scheduler, `${name} name`, null);
    this.vmapping = new Shared<Vmapping | null>(scheduler, `${name} vmapping`, null);
    this.poll = new WaitQueue(scheduler, `${name} poll`);
    this.pollSlots = new PollSlots(scheduler, `${name} poll slots`);
  }

  /**
   * Makes a buffer of an exporter's memory. The caller owns its first reference; there is no
   * descriptor yet. A size of 0 is fine.
   *
   * @throws {@link DmaBufError} `EINVAL`, and a kernel warning, if what is mandatory is missing or
   *   exactly one of pin and unpin is there; `ENOENT` the module is being unloaded; `ENOMEM`.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_export()`
   */
  static *export<P>(kernel: Kernel, info: DmaBufExportInfo<P>): Task<DmaBuf<P>> {
    const { exporterName: exporter, size, owner, resv } = info;
    checkExport(kernel, info as DmaBufExportInfo<unknown>);
    if (resv) assertNotHeld(resv, 'dma_buf_export');
    if (owner && !(yield* owner.tryGet())) {
      throw new DmaBufError('ENOENT', 'export', 'module-is-being-unloaded');
    }
    const number = yield* kernel.inodes.next();
    if (!(yield* kernel.slab.alloc())) {
      if (owner) yield* owner.put();
      throw new DmaBufError('ENOMEM', 'export', 'no-memory-for-a-dma-buf');
    }
    const buf = new DmaBuf<P>(kernel, number, info);
    yield* kernel.bufferList.add(buf as DmaBuf);
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
    assertNotHeld(buf.resv, 'dma_buf_get');
    buf.kernel.scheduler.record?.({ kind: 'buffer.get', buffer: buf.number });
    return buf;
  }

  /**
   * Gives the buffer a descriptor, which takes over the caller's reference.
   *
   * @param flags - Only `O_CLOEXEC` counts.
   * @throws {@link DmaBufError} `EMFILE`; the caller keeps its reference then.
   * @context May sleep.
   * @source `dma_buf_fd()`
   */
  *fd(process: Process, flags = 0): Task<number> {
    assertNotHeld(this.resv, 'dma_buf_fd');
    const fd = yield* process.fds.reserve({ closeOnExec: (flags & O.CLOEXEC) !== 0 });
    if (fd === null) throw new DmaBufError('EMFILE', 'fd', 'descriptor-table-is-full');
    yield* this.fdInstall(process, fd);
    return fd;
  }

  /**
   * The same for a number that was reserved before. Cannot fail.
   *
   * @context Any.
   * @source `dma_buf_fd_install()`
   */
  *fdInstall(process: Process, fd: number): Atomic {
    const event = { buffer: this.number, process: process.name, fd };
    this.kernel.scheduler.record?.({ kind: 'buffer.fd', ...event });
    yield* process.fds.fill(fd, this.file);
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
   * @throws {@link DmaBufError} `EINVAL`, with a kernel warning, without a device; `ENOMEM`; what
   *   the exporter says.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_dynamic_attach()`
   */
  *dynamicAttach(
    device: Device | null,
    importerOps: AttachOps | null,
    importerPriv: unknown = null,
  ): Task<Attachment> {
    const { scheduler } = this.kernel;
    this.assertLives('dma_buf_dynamic_attach');
    if (device === null) throw refuseVirtualDevice(this as DmaBuf);
    if (!(yield* this.kernel.slab.alloc())) {
      throw new DmaBufError('ENOMEM', 'dynamicAttach', 'no-memory-for-an-attachment');
    }
    const attachment = new Attachment<P>(this, device, importerOps, importerPriv);
    try {
      if (this.ops.attach !== undefined) {
        yield* callback(this.resv, 'attach', this.ops.attach(this, attachment));
      }
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
    this.assertLives('dma_buf_detach');
    yield* this.resv.lock();
    const all = yield* this.attachments.read();
    yield* this.attachments.write(all.filter((other) => other !== attachment));
    yield* this.resv.unlock();
    if (this.ops.detach !== undefined) {
      const detach = this.ops.detach(this, attachment as Attachment<P>);
      yield* callback(this.resv, 'detach', detach);
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

  /**
   * Begins an access by the CPU: the exporter's caches first, then a wait for the devices. A CPU
   * that reads says `from-device`, one that writes `to-device`.
   *
   * @throws {@link DmaBufError} `ERESTARTSYS` a signal ended the wait; what the exporter says.
   * @context May sleep, interruptibly. The reservation is not locked.
   * @source `dma_buf_begin_cpu_access()`
   */
  beginCpuAccess(direction: DmaDirection): Task {
    return beginCpuAccess(this as DmaBuf, direction);
  }

  /**
   * Ends an access by the CPU: the exporter's caches, no wait.
   *
   * @throws {@link DmaBufError} what the exporter says.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_end_cpu_access()`
   */
  endCpuAccess(direction: DmaDirection): Task {
    return endCpuAccess(this as DmaBuf, direction);
  }

  /**
   * Forwards a driver's own mmap to the buffer; see {@link mmapForwarded}.
   *
   * @param pgoff - Pages into the buffer.
   * @throws {@link DmaBufError} `EINVAL` no mmap, or beyond the buffer; `EOVERFLOW` it wraps.
   * @context May sleep. The process's mmap lock is held for writing.
   * @source `dma_buf_mmap()`
   */
  mmapBuffer(vma: Vma, pgoff: number): Task {
    return mmapForwarded(this as DmaBuf, vma, pgoff);
  }

  /**
   * The kernel's own map of the buffer, one for all; access through it needs the bracket, too.
   *
   * @throws {@link DmaBufError} `EINVAL` the exporter has none; what the exporter says.
   * @context May sleep. The caller holds the reservation.
   * @source `dma_buf_vmap()`
   */
  vmap(): Task<IosysMap> {
    return vmap(this as DmaBuf);
  }

  /**
   * Takes the kernel's map back.
   *
   * @context May sleep. The caller holds the reservation.
   * @source `dma_buf_vunmap()`
   */
  vunmap(map: IosysMap): Task {
    return vunmap(this as DmaBuf, map);
  }

  /**
   * As {@link vmap}, taking the reservation for it.
   *
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_vmap_unlocked()`
   */
  vmapUnlocked(): Task<IosysMap> {
    return withReservation(this.resv, this.vmap());
  }

  /**
   * As {@link vunmap}, taking the reservation for it.
   *
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_vunmap_unlocked()`
   */
  vunmapUnlocked(map: IosysMap): Task {
    return withReservation(this.resv, this.vunmap(map));
  }

  /** Ends the run if the buffer is freed: who uses it had no reference. */
  assertLives(call: string): void {
    if (!this.isFreed) return;
    this.kernel.scheduler.oops(`${call}: use after free: dma-buf ${this.number} is released`);
  }
}

/** What an exporter must bring. Types say so, too; a driver of another origin may not know them. */
function checkExport({ scheduler }: Kernel, { priv, ops }: DmaBufExportInfo<unknown>): void {
  const mandatory = [priv, ops, ops?.mapDmaBuf, ops?.unmapDmaBuf, ops?.release];
  if (mandatory.some((part) => part === null || part === undefined)) {
    scheduler.warn('dma_buf_export', 'priv, map_dma_buf, unmap_dma_buf and release are mandatory');
    throw new DmaBufError('EINVAL', 'export', 'exporter-lacks-what-is-mandatory');
  }
  if ((ops.pin === undefined) !== (ops.unpin === undefined)) {
    scheduler.warn('dma_buf_export', 'pin and unpin come together');
    throw new DmaBufError('EINVAL', 'export', 'pin-without-unpin');
  }
}
