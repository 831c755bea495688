/**
 * What the parties of a buffer bring: the exporter its operations, the importer its own, and what
 * is exported. No code of the core: that is `dma-buf.ts` and `attachment.ts`.
 *
 * @source include/linux/dma-buf.h, v7.2; reference/linux-dma-buf.md A.1, A.2
 */

import type { DmaDirection } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { Attachment } from './attachment.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { IosysMap } from './iosys-map.ts';
import type { Offer } from './mapping-kind.ts';
import type { DmaResv } from '../fence/dma-resv.ts';
import type { KernelModule } from '../kernel-module.ts';
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
  /** Optional. Kinds of mapping besides device addresses; see `mapping-kind.ts`. */
  readonly offers?: readonly Offer<P>[];
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
  /** Not null: the core refuses a buffer without. */
  readonly priv: P;
  /** Null: the buffer gets a reservation of its own. */
  readonly resv?: DmaResv | null;
  /** The module that must stay while the buffer lives; null: one that is built in. */
  readonly owner?: KernelModule | null;
  /**
   * As open(2) has them; only the access mode and `O_NONBLOCK` count. Default: read and write.
   *
   * DIFFERS: in Linux the default is 0, read-only, and every exporter sets them.
   */
  readonly flags?: number;
}
