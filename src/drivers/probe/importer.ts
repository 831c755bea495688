/**
 * The importer's half of the probe: what a program does to a buffer through the kernel API, and
 * what must be undone when it stops.
 *
 * LOCKING: the reservation of a buffer guards the pins and the live mappings of its attachments, so
 * the invalidate callback, which runs with it held, sees all of them.
 *
 * @source docs/probe-abi.md; reference/linux-dma-buf.md A.12 to A.17
 */

import { DmaBufError, type DmaDirection, ERRNO } from '../../base/index.ts';
import {
  type Attachment,
  type AttachOps,
  type DmaBuf,
  DmaFence,
  type IosysMap,
  type Kernel,
  type SgTable,
  type WaitQueue,
} from '../../framework/index.ts';
import { type Atomic, type Device, Shared, type Task } from '../../machine/index.ts';
import type { EventLog } from './event-log.ts';
import type { ProbeHandle } from './handle-table.ts';

/** Where an importer's news go. */
export interface ProbeNews {
  readonly events: EventLog;
  readonly queue: WaitQueue;
}

/** A reference to a buffer. */
export class ImportHandle implements ProbeHandle {
  readonly parent = 0;
  readonly buf: DmaBuf;

  constructor(buf: DmaBuf) {
    this.buf = buf;
  }

  /** @context May sleep; no lock held. */
  *destroy(): Task {
    yield* this.buf.put();
  }
}

/** What an importer promises. */
export interface AttachMode {
  /** False: no operations at all. */
  readonly isDynamic: boolean;
  readonly allowPeer2Peer: boolean;
  /** With `invalidateMappings`. */
  readonly canInvalidate: boolean;
  /** The callback itself unmaps; else the program must, when it hears of it. */
  readonly unmapsAtOnce: boolean;
}

/** An attachment of one device. */
export class AttachmentHandle implements ProbeHandle {
  readonly parent: number;
  readonly id: number;
  readonly buf: DmaBuf;
  readonly mode: AttachMode;
  /** Pins not taken back. Guarded by the reservation. */
  readonly pins: Shared<number>;
  /** Mappings not taken back. Guarded by the reservation. */
  readonly live: Shared<readonly MappingHandle[]>;
  private readonly news: ProbeNews;
  private attached: Attachment | null = null;

  constructor(id: number, parent: number, buf: DmaBuf, mode: AttachMode, news: ProbeNews) {
    const { scheduler } = buf.kernel;
    this.id = id;
    this.parent = parent;
    this.buf = buf;
    this.mode = mode;
    this.news = news;
    this.pins = new Shared<number>(scheduler, 'probe pins', 0);
    this.live = new Shared<readonly MappingHandle[]>(scheduler, 'probe mappings', []);
  }

  /** The attachment, once there is one. */
  get attachment(): Attachment | null {
    return this.attached;
  }

  /**
   * Attaches.
   *
   * @param device - Null: none, which the core refuses.
   * @throws {@link DmaBufError} what the core and the exporter say.
   * @context May sleep; no lock held.
   */
  *attach(device: Device | null): Task {
    const { mode, buf } = this;
    const ops = mode.isDynamic ? opsFor(mode) : null;
    this.attached = yield* buf.dynamicAttach(device, ops, this);
  }

  /**
   * Maps.
   *
   * @throws {@link DmaBufError} what the core and the exporter say.
   * @context May sleep; no lock held.
   */
  *map(direction: DmaDirection): Task<MappingHandle> {
    const { resv } = this.buf;
    yield* resv.lock();
    try {
      const table = yield* (this.attached as Attachment).mapAttachment(direction);
      const mapping = new MappingHandle(this, table, direction);
      yield* this.live.write([...(yield* this.live.read()), mapping]);
      return mapping;
    } finally {
      yield* resv.unlock();
    }
  }

  /**
   * Pins.
   *
   * @throws {@link DmaBufError} what the exporter says.
   * @context May sleep; no lock held.
   */
  *pin(): Task {
    const { resv } = this.buf;
    yield* resv.lock();
    try {
      yield* (this.attached as Attachment).pin();
      yield* this.pins.write((yield* this.pins.read()) + 1);
    } finally {
      yield* resv.unlock();
    }
  }

  /**
   * Takes one pin back.
   *
   * @throws {@link DmaBufError} `EINVAL` there is none.
   * @context May sleep; no lock held.
   */
  *unpin(): Task {
    const { resv } = this.buf;
    yield* resv.lock();
    try {
      const pins = yield* this.pins.read();
      if (pins === 0) throw new DmaBufError('EINVAL', 'ioctl(PROBE_UNPIN)', 'probe-has-no-pin');
      yield* (this.attached as Attachment).unpin();
      yield* this.pins.write(pins - 1);
    } finally {
      yield* resv.unlock();
    }
  }

  /**
   * Unmaps one mapping, unless the invalidate callback was faster.
   *
   * @context May sleep; no lock held.
   */
  *unmap(mapping: MappingHandle): Task {
    const { resv } = this.buf;
    yield* resv.lock();
    yield* this.unmapLocked(mapping);
    yield* resv.unlock();
  }

  /**
   * The exporter says that the mappings are stale.
   *
   * @context May sleep. The reservation is held.
   */
  *hear(): Task {
    const { events, queue } = this.news;
    const stale = this.mode.unmapsAtOnce ? yield* this.live.read() : [];
    for (const mapping of stale) yield* this.unmapLocked(mapping);
    yield* events.append({ attachment: this.id, unmapped: stale.length });
    yield* queue.wake();
  }

  /** @context May sleep; no lock held. Nothing is mapped any more. */
  *destroy(): Task {
    const { attached, buf } = this;
    if (attached === null) return;
    yield* buf.resv.lock();
    for (let pins = yield* this.pins.read(); pins > 0; pins -= 1) yield* attached.unpin();
    yield* this.pins.write(0);
    yield* buf.resv.unlock();
    yield* buf.detach(attached);
  }

  private *unmapLocked(mapping: MappingHandle): Task {
    const live = yield* this.live.read();
    if (!live.includes(mapping)) return;
    yield* (this.attached as Attachment).unmapAttachment(mapping.table, mapping.direction);
    yield* this.live.write(live.filter((other) => other !== mapping));
  }
}

/** A mapping. It may be stale, or taken back already; its number stays until UNMAP. */
export class MappingHandle implements ProbeHandle {
  readonly attachment: AttachmentHandle;
  readonly table: SgTable;
  readonly direction: DmaDirection;

  constructor(attachment: AttachmentHandle, table: SgTable, direction: DmaDirection) {
    this.attachment = attachment;
    this.table = table;
    this.direction = direction;
  }

  get parent(): number {
    return this.attachment.id;
  }

  /** @context May sleep; no lock held. */
  *destroy(): Task {
    yield* this.attachment.unmap(this);
  }
}

/** A mapping in the kernel. */
export class VmapHandle implements ProbeHandle {
  readonly parent: number;
  readonly buf: DmaBuf;
  readonly map: IosysMap;

  constructor(parent: number, buf: DmaBuf, map: IosysMap) {
    this.parent = parent;
    this.buf = buf;
    this.map = map;
  }

  /**
   * Maps.
   *
   * @throws {@link DmaBufError} what the core and the exporter say.
   * @context May sleep; no lock held.
   */
  static *make(parent: number, buf: DmaBuf): Task<VmapHandle> {
    yield* buf.resv.lock();
    try {
      return new VmapHandle(parent, buf, yield* buf.vmap());
    } finally {
      yield* buf.resv.unlock();
    }
  }

  /** @context May sleep; no lock held. */
  *destroy(): Task {
    yield* this.buf.resv.lock();
    yield* this.buf.vunmap(this.map);
    yield* this.buf.resv.unlock();
  }
}

/** A fence that the program signals. It needs neither buffer nor import. */
export class FenceHandle implements ProbeHandle {
  readonly parent = 0;
  readonly fence: DmaFence;

  constructor(fence: DmaFence) {
    this.fence = fence;
  }

  /**
   * A fence of a context of its own.
   *
   * @context Any.
   */
  static *make(kernel: Kernel): Atomic<FenceHandle> {
    const context = yield* kernel.fenceContexts.next();
    const origin = { driver: 'probe', timeline: 'probe', context, seqno: 1 };
    return new FenceHandle(new DmaFence(kernel, origin));
  }

  /**
   * Signals, and is done with it.
   *
   * @context Any.
   */
  *signal(error: number): Atomic {
    yield* this.fence.signal(error);
    yield* this.fence.put();
  }

  /** Nobody will signal it any more. @context Any. */
  *destroy(): Task {
    yield* this.signal(-ERRNO.ECANCELED);
  }
}

function opsFor({ allowPeer2Peer, canInvalidate }: AttachMode): AttachOps {
  return canInvalidate ? { allowPeer2Peer, invalidateMappings: tellProgram } : { allowPeer2Peer };
}

function* tellProgram({ importerPriv }: Attachment): Task {
  yield* (importerPriv as AttachmentHandle).hear();
}
