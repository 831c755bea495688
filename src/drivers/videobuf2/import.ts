/**
 * Another device's buffer as the memory of a plane: attached and mapped when it is queued for the
 * first time, and kept mapped until another one takes its place.
 *
 * @source `vb2_dc_attach_dmabuf()`, `vb2_dc_map_dmabuf()`, `vb2_dma_sg_map_dmabuf()`, v7.2;
 *   reference/linux-dma-buf.md E.9
 */

import { DmaBufError, isDmaBufError, present } from '../../base/index.ts';
import type { Attachment, DmaBuf, SgTable } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import { turnOf } from './exporter.ts';
import type { ImportedMemory, PlaneAccess, PlaneOwner } from './memory.ts';
import type { Turn } from './turn.ts';

/** What a mapping must be like for the hardware of the queue; throws if it is not. */
export type TableCheck = (table: SgTable, size: number) => void;

/**
 * Refuses a buffer that is too small, as all three allocators do.
 *
 * @throws {@link DmaBufError} `EFAULT`.
 */
export function checkImportSize(buf: DmaBuf, size: number): void {
  if (buf.size >= size) return;
  throw new DmaBufError('EFAULT', 'vb2_attach_dmabuf', 'buffer-is-smaller-than-the-plane', {
    detail: { buffer: buf.number, size: buf.size, wanted: size },
  });
}

/** A buffer that the queue's device reaches by DMA. */
export class AttachedMemory implements ImportedMemory {
  private readonly owner: PlaneOwner;
  private readonly attachment: Attachment;
  private readonly size: number;
  private readonly check: TableCheck;
  /** Guarded by the queue's lock. */
  private table: SgTable | null = null;

  constructor(owner: PlaneOwner, attachment: Attachment, size: number, check: TableCheck) {
    this.owner = owner;
    this.attachment = attachment;
    this.size = size;
    this.check = check;
  }

  get turn(): Turn | null {
    return turnOf(this.attachment.buf);
  }

  get access(): PlaneAccess {
    const { entries } = present(this.table, 'a plane is mapped before its hardware is told');
    return { by: 'device', entries };
  }

  /**
   * Maps for the queue's direction.
   *
   * @throws {@link DmaBufError} `EINVAL` whatever the exporter said; `EFAULT` the table is not what
   *   the hardware needs.
   * @context May sleep. The reservation is not locked.
   */
  *mapDmabuf(): Task {
    const table = yield* this.map();
    try {
      this.check(table, this.size);
    } catch (error) {
      yield* this.unmap(table);
      throw error;
    }
    this.table = table;
  }

  /** @context May sleep. The reservation is not locked. */
  *unmapDmabuf(): Task {
    const { table } = this;
    if (table === null) {
      this.owner.kernel.scheduler.warn('vb2_unmap_dmabuf', 'the plane is not mapped');
      return;
    }
    this.table = null;
    yield* this.unmap(table);
  }

  /** @context May sleep. The reservation is not locked. */
  *detachDmabuf(): Task {
    if (this.table !== null) {
      this.owner.kernel.scheduler.warn('vb2_detach_dmabuf', 'the plane is still mapped');
      yield* this.unmapDmabuf();
    }
    yield* this.attachment.buf.detach(this.attachment);
  }

  private *map(): Task<SgTable> {
    const { attachment } = this;
    const { resv } = attachment.buf;
    yield* resv.lock();
    try {
      return yield* attachment.mapAttachment(this.owner.direction);
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      throw new DmaBufError('EINVAL', 'vb2_map_dmabuf', 'exporter-does-not-map-for-the-queue', {
        cause: error,
        detail: { buffer: attachment.buf.number, code: error.code, reason: error.reason },
      });
    } finally {
      yield* resv.unlock();
    }
  }

  private *unmap(table: SgTable): Task {
    const { resv } = this.attachment.buf;
    yield* resv.lock();
    yield* this.attachment.unmapAttachment(table, this.owner.direction);
    yield* resv.unlock();
  }
}
