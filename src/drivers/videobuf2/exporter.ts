/**
 * Video memory as a dma-buf: what the three allocators have in common as exporters. One mapping is
 * kept for each attachment; unmapping does nothing, and only another direction or the detach takes
 * it back.
 *
 * @source `vb2_dc_dmabuf_ops_*()`, `vb2_dma_sg_dmabuf_ops_*()`, `vb2_vmalloc_dmabuf_ops_*()`, v7.2;
 *   reference/linux-dma-buf.md E.9
 */

import { DmaBufError, type DmaDirection, isDmaBufError } from '../../base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  type IosysMap,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import { RefCount, Shared, type Task } from '../../machine/index.ts';
import type { OwnMemory, PlaneAccess, PlaneOwner } from './memory.ts';
import { Turn } from './turn.ts';

/** The mapping that an attachment keeps. */
interface CachedTable {
  readonly table: SgTable;
  readonly direction: DmaDirection;
}

/** Memory that a queue allocated, with what each allocator does in its own way. */
export abstract class ExportedMemory implements OwnMemory {
  readonly owner: PlaneOwner;
  /** Bytes; whole pages. */
  readonly size: number;
  /** The queue's reference, and one for each map of a process and each dma-buf. */
  readonly refs: RefCount;
  readonly turn: Turn;
  abstract readonly access: PlaneAccess;
  protected abstract readonly ops: DmaBufOps<ExportedMemory>;
  protected abstract readonly exporterName: string;

  constructor(owner: PlaneOwner, size: number, name: string) {
    this.owner = owner;
    this.size = size;
    this.turn = new Turn(owner.kernel.scheduler, name);
    this.refs = new RefCount(owner.kernel.scheduler, `${name} refcount`);
  }

  /**
   * Makes the memory reachable for another device.
   *
   * @context May sleep. The reservation is locked.
   */
  abstract mapFor(attachment: Attachment, direction: DmaDirection): Task<SgTable>;
  /**
   * The opposite.
   *
   * @context May sleep.
   */
  abstract unmapFor(attachment: Attachment, table: SgTable, direction: DmaDirection): Task;
  /**
   * Fills a map of a process, from the first page on.
   *
   * @context May sleep. The process's mmap lock is held for writing.
   */
  protected abstract insertInto(vma: Vma): Task;
  /** The kernel's own view. */
  abstract readonly vaddr: IosysMap;
  /**
   * Gives the memory back.
   *
   * @context May sleep.
   */
  protected abstract free(): Task;

  numUsers(): number {
    return this.refs.value;
  }

  /**
   * Says whether the memory can be described to others at all; throws if not.
   *
   * @context May sleep.
   */
  protected *baseTable(): Task {}

  /** @context May sleep. */
  *getDmabuf(flags: number): Task<DmaBuf> {
    yield* this.baseTable();
    const { kernel } = this.owner;
    const { exporterName, ops, size } = this;
    const buf = yield* DmaBuf.export<ExportedMemory>(kernel, {
      exporterName,
      ops,
      size,
      priv: this,
      flags,
    });
    yield* this.refs.get();
    return buf;
  }

  /** @context May sleep. The process's mmap lock is held for writing. */
  *mmap(vma: Vma): Task {
    yield* this.insertInto(vma);
    yield* this.refs.get();
    vma.operations = {
      open: () => this.openMap(),
      close: () => this.put(),
    };
  }

  /** @context May sleep. */
  *put(): Task {
    if (yield* this.refs.put()) yield* this.free();
  }

  private *openMap(): Task {
    yield* this.refs.get();
  }
}

/** Whose turn it is with a buffer's memory; null: the exporter is no video queue. */
export function turnOf({ priv }: DmaBuf): Turn | null {
  return priv instanceof ExportedMemory ? priv.turn : null;
}

function cacheOf(attachment: Attachment): Shared<CachedTable | null> {
  return attachment.priv as Shared<CachedTable | null>;
}

/** What all three do; each adds what it does about the CPU. */
export const VB2_DMABUF_OPS: DmaBufOps<ExportedMemory> = {
  *attach(buf: DmaBuf<ExportedMemory>, attachment: Attachment<ExportedMemory>): Task {
    const name = `cached table of attachment ${attachment.number}`;
    attachment.priv = new Shared<CachedTable | null>(buf.kernel.scheduler, name, null);
  },

  *detach(buf: DmaBuf<ExportedMemory>, attachment: Attachment<ExportedMemory>): Task {
    const cache = cacheOf(attachment);
    const kept = yield* cache.read();
    if (kept === null) return;
    yield* cache.write(null);
    yield* buf.priv.unmapFor(attachment, kept.table, kept.direction);
  },

  *mapDmaBuf(attachment: Attachment<ExportedMemory>, direction: DmaDirection): Task<SgTable> {
    const cache = cacheOf(attachment);
    const { priv: memory } = attachment.buf;
    const kept = yield* cache.read();
    if (kept?.direction === direction) return kept.table;
    if (kept !== null) {
      yield* cache.write(null);
      yield* memory.unmapFor(attachment, kept.table, kept.direction);
    }
    try {
      const table = yield* memory.mapFor(attachment, direction);
      yield* cache.write({ table, direction });
      return table;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      throw new DmaBufError('EIO', 'vb2_dmabuf_ops_map', 'video-memory-cannot-be-mapped', {
        cause: error,
        detail: { device: attachment.device.name },
      });
    }
  },

  *unmapDmaBuf(): Task {
    // The table is kept until the detach.
  },

  *beginCpuAccess({ priv }: DmaBuf<ExportedMemory>): Task {
    yield* priv.turn.checkProgram();
  },

  *mmap(buf: DmaBuf<ExportedMemory>, vma: Vma): Task {
    yield* buf.priv.mmap(vma);
  },

  *vmap(buf: DmaBuf<ExportedMemory>): Task<IosysMap> {
    return buf.priv.vaddr;
  },

  *release(buf: DmaBuf<ExportedMemory>): Task {
    yield* buf.priv.put();
  },
};
