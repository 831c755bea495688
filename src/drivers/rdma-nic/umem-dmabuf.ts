/**
 * User memory that is a dma-buf: a window of a buffer, attached for an RDMA device. Drivers map it
 * when they need it, or once and for all; the exporter can take it back from those who promised to
 * give it.
 *
 * @source drivers/infiniband/core/umem_dmabuf.c, v7.2; reference/linux-dma-buf.md F.1
 */

import {
  addressPlus,
  alignDown,
  alignUp,
  DmaBufError,
  PAGE_SIZE,
  present,
} from '../../base/index.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  type DmaResv,
  type Process,
  type SgEntry,
  type SgTable,
} from '../../framework/index.ts';
import { Allocation, type Atomic, type Device, Shared, type Task } from '../../machine/index.ts';

/** Which part of which buffer. */
export interface UmemWindow {
  /** Whose descriptor it is. */
  readonly process: Process;
  readonly fd: number;
  /** First byte in the buffer. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/**
 * What a driver does when its memory is revoked: the hardware begins no access any more.
 *
 * DIFFERS: Linux's callback stops the hardware before it returns. This one may return false while
 * accesses are still under way; it has covered them by a fence, and {@link UmemDmabuf.letGo}
 * follows.
 *
 * @returns True if nothing is under way: unmap at once.
 * @context May sleep. The reservation is locked.
 */
export type RevokeCallback = () => Task<boolean>;

/**
 * LOCKING: the reservation guards it, so between a step that reads it and one that writes it nobody
 * else does.
 */
interface UmemState {
  /** As the exporter gave it; null while nothing is mapped. */
  readonly table: SgTable | null;
  /** The window's part of it. */
  readonly entries: readonly SgEntry[];
  readonly isPinned: boolean;
  /** For good. */
  readonly isRevoked: boolean;
  readonly onRevoke: RevokeCallback | null;
}

const UNMAPPED: UmemState = {
  table: null,
  entries: [],
  isPinned: false,
  isRevoked: false,
  onRevoke: null,
};

/**
 * `struct ib_umem_dmabuf`. `P` is the driver's own state, known before the exporter knows of us.
 */
export class UmemDmabuf<P = unknown> {
  readonly dmabuf: DmaBuf;
  /** First byte in the buffer. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  readonly priv: P;
  private readonly memory: Allocation;
  private readonly state: Shared<UmemState>;
  /** Set once, when the attach is over. Who invalidates before that finds nothing mapped. */
  private attached: Attachment | null = null;

  private constructor(dmabuf: DmaBuf, { offset, size }: UmemWindow, priv: P) {
    const { scheduler } = dmabuf.kernel;
    this.dmabuf = dmabuf;
    this.offset = offset;
    this.size = size;
    this.priv = priv;
    this.memory = new Allocation(scheduler, 'ib_umem_dmabuf');
    this.state = new Shared<UmemState>(scheduler, 'umem state', UNMAPPED, this.memory);
  }

  /**
   * Attaches the device to the window. Nothing is mapped yet.
   *
   * @param device - The one that will do the DMA; null for a software device, which the core
   *   refuses.
   * @param ops - How the driver follows moves.
   * @returns The memory; {@link release} ends it.
   * @throws {@link DmaBufError} in this order: `EINVAL` the window's end overflows; `EBADF` and
   *   `EINVAL` of `dma_buf_get()`; `EINVAL` it ends beyond the buffer; `EINVAL` it is empty;
   *   `EINVAL`, with a kernel warning, no DMA device; what the exporter says.
   * @context May sleep; no lock held.
   * @source `ib_umem_dmabuf_get()`
   */
  static *get<P>(
    device: Device | null,
    window: UmemWindow,
    ops: AttachOps,
    priv: P,
  ): Task<UmemDmabuf<P>> {
    const { process, fd, offset, size } = window;
    // A negative number is a huge one to the kernel.
    if (offset < 0 || size < 0 || !Number.isSafeInteger(offset + size)) {
      throw refusal('umem-window-overflows', window);
    }
    const dmabuf = yield* DmaBuf.get(process, fd);
    try {
      return yield* UmemDmabuf.attach(device, dmabuf, window, ops, priv);
    } catch (error) {
      yield* dmabuf.put();
      throw error;
    }
  }

  /**
   * Attaches, pins and maps for good. The exporter cannot take the memory back: one that may have
   * to refuses at attach.
   *
   * @throws {@link DmaBufError} as {@link get}, and what pin and map say.
   * @context May sleep; no lock held.
   * @source `ib_umem_dmabuf_get_pinned()`
   */
  static *getPinned<P>(device: Device | null, window: UmemWindow, priv: P): Task<UmemDmabuf<P>> {
    const umem = yield* UmemDmabuf.getPinnedAndLock(device, window, PINNED_OPS, priv);
    yield* umem.resv.unlock();
    return umem;
  }

  /**
   * Attaches, pins and maps until the exporter revokes. Returns with the reservation locked: say
   * what to do then ({@link setRevokeLocked}), set the hardware up and unlock.
   *
   * @throws {@link DmaBufError} as {@link getPinned}; the reservation is not locked then.
   * @context May sleep; no lock held.
   * @source `ib_umem_dmabuf_get_pinned_revocable_and_lock()`
   */
  static *getPinnedRevocableAndLock<P>(
    device: Device | null,
    window: UmemWindow,
    priv: P,
  ): Task<UmemDmabuf<P>> {
    return yield* UmemDmabuf.getPinnedAndLock(device, window, PINNED_REVOCABLE_OPS, priv);
  }

  /** The reservation of the buffer, which guards the mapping. */
  get resv(): DmaResv {
    return this.dmabuf.resv;
  }

  /**
   * Says what to do when the memory is revoked.
   *
   * @context The caller holds the reservation.
   * @source `ib_umem_dmabuf_set_revoke_locked()`
   */
  *setRevokeLocked(onRevoke: RevokeCallback): Atomic {
    this.resv.assertHeld('ib_umem_dmabuf_set_revoke_locked');
    yield* this.state.write({ ...(yield* this.state.read()), onRevoke });
  }

  /**
   * Maps the buffer, if it is not mapped, and waits for moves under way.
   *
   * DIFFERS: Linux edits the first and the last entry of the exporter's table to fit the window,
   * and mends them before the unmap. A table that others share does not survive that (rule MP-010),
   * so the window is a trimmed copy here.
   *
   * @returns The window's pages as the device sees them, in the order of the buffer. Whole pages:
   *   the window may begin within the first and end within the last.
   * @throws {@link DmaBufError} `EINVAL` it was revoked for good; what the exporter says, such as
   *   `ENODEV` while it has withdrawn its memory.
   * @context May sleep. The caller holds the reservation.
   * @source `ib_umem_dmabuf_map_pages()`
   */
  *mapPages(): Task<readonly SgEntry[]> {
    this.resv.assertHeld('ib_umem_dmabuf_map_pages');
    const state = yield* this.state.read();
    if (state.isRevoked) throw refusal('umem-is-revoked', this);
    const mapped = state.table === null ? yield* this.map(state) : state;
    // The addresses are right, but the bytes may still be on their way there.
    yield* this.resv.wait('kernel');
    return mapped.entries;
  }

  /**
   * The window's pages as {@link mapPages} found them; empty while nothing is mapped.
   *
   * @context The caller holds the reservation, or the memory is pinned and not revocable.
   * @source `struct ib_umem.sgt_append`
   */
  *mappedEntries(): Atomic<readonly SgEntry[]> {
    return (yield* this.state.read()).entries;
  }

  /**
   * Takes the mapping back. Nothing to do if there is none.
   *
   * @context May sleep. The caller holds the reservation; the hardware does not use the memory.
   * @source `ib_umem_dmabuf_unmap_pages()`
   */
  *unmapPages(): Task {
    this.resv.assertHeld('ib_umem_dmabuf_unmap_pages');
    const state = yield* this.state.read();
    if (state.table === null) return;
    yield* this.attachment.unmapAttachment(state.table, 'bidirectional');
    yield* this.state.write({ ...state, table: null, entries: [] });
  }

  /**
   * Gives the memory up for good: tells the driver, unmaps and unpins. Once; later calls do
   * nothing.
   *
   * @context May sleep. The caller holds the reservation.
   * @source `ib_umem_dmabuf_revoke_locked()`
   */
  *revoke(): Task {
    this.resv.assertHeld('ib_umem_dmabuf_revoke_locked');
    const state = yield* this.state.read();
    if (state.isRevoked) return;
    yield* this.state.write({ ...state, isRevoked: true });
    const isIdle = state.onRevoke === null || (yield* state.onRevoke());
    if (isIdle) yield* this.letGo();
  }

  /**
   * Unmaps and unpins what there is: the second half of a {@link revoke} that found the hardware
   * busy.
   *
   * @context May sleep. The caller holds the reservation; the hardware does not use the memory.
   * @source `ib_umem_dmabuf_revoke_locked()`
   */
  *letGo(): Task {
    yield* this.unmapPages();
    const state = yield* this.state.read();
    if (!state.isPinned) return;
    yield* this.attachment.unpin();
    yield* this.state.write({ ...state, isPinned: false });
  }

  /**
   * The end: revokes, detaches and drops the buffer.
   *
   * @context May sleep; no lock held. The hardware does not use the memory.
   * @source `ib_umem_dmabuf_release()`
   */
  *release(): Task {
    yield* this.resv.lock();
    yield* this.revoke();
    // A revocation of before may have left this to us.
    yield* this.letGo();
    yield* this.resv.unlock();
    yield* this.dmabuf.detach(this.attachment);
    yield* this.dmabuf.put();
    yield* this.memory.free();
  }

  private static *attach<P>(
    device: Device | null,
    dmabuf: DmaBuf,
    window: UmemWindow,
    ops: AttachOps,
    priv: P,
  ): Task<UmemDmabuf<P>> {
    const { offset, size } = window;
    if (dmabuf.size < offset + size) throw refusal('umem-window-ends-beyond-the-buffer', window);
    if (size === 0) throw refusal('umem-window-is-empty', window);
    const umem = new UmemDmabuf<P>(dmabuf, window, priv);
    try {
      umem.attached = yield* dmabuf.dynamicAttach(device, ops, umem);
    } catch (error) {
      yield* umem.memory.free();
      throw error;
    }
    return umem;
  }

  private static *getPinnedAndLock<P>(
    device: Device | null,
    window: UmemWindow,
    ops: AttachOps,
    priv: P,
  ): Task<UmemDmabuf<P>> {
    const umem = yield* UmemDmabuf.get(device, window, ops, priv);
    yield* umem.resv.lock();
    try {
      yield* umem.attachment.pin();
      yield* umem.state.write({ ...(yield* umem.state.read()), isPinned: true });
      yield* umem.mapPages();
    } catch (error) {
      yield* umem.resv.unlock();
      yield* umem.release();
      throw error;
    }
    return umem;
  }

  private get attachment(): Attachment {
    return present(this.attached, 'the attachment of a umem');
  }

  private *map(state: UmemState): Task<UmemState> {
    // Both directions, also for a region that may only be read, as Linux does it.
    const table = yield* this.attachment.mapAttachment('bidirectional');
    const start = alignDown(this.offset, PAGE_SIZE);
    const end = alignUp(this.offset + this.size, PAGE_SIZE);
    const mapped = { ...state, table, entries: trim(table, start, end) };
    yield* this.state.write(mapped);
    return mapped;
  }
}

/** `ib_umem_dmabuf_attach_pinned_ops`: without a way to hear of moves, so not revocable. */
const PINNED_OPS: AttachOps = { allowPeer2Peer: true };

/** `ib_umem_dmabuf_attach_pinned_revocable_ops`. */
const PINNED_REVOCABLE_OPS: AttachOps = {
  allowPeer2Peer: true,

  *invalidateMappings({ importerPriv }: Attachment): Task {
    yield* (importerPriv as UmemDmabuf).revoke();
  },
};

/** The pieces of a table that hold the bytes `start` up to `end` of the buffer. */
function trim({ entries }: SgTable, start: number, end: number): readonly SgEntry[] {
  const trimmed: SgEntry[] = [];
  let at = 0;
  for (const { address, length } of entries) {
    const from = Math.max(start, at);
    const to = Math.min(end, at + length);
    if (from < to) trimmed.push({ address: addressPlus(address, from - at), length: to - from });
    at += length;
  }
  return trimmed;
}

function refusal(
  reason: string,
  { offset, size }: { readonly offset: number; readonly size: number },
): DmaBufError {
  return new DmaBufError('EINVAL', 'ib_umem_dmabuf', reason, { detail: { offset, size } });
}
