/**
 * Memory for video devices without DMA: the CPU moves the bytes. An imported buffer is not even
 * attached to; the kernel maps it for itself.
 *
 * @source drivers/media/common/videobuf2/videobuf2-vmalloc.c, v7.2; reference/linux-dma-buf.md E.9
 */

import { DmaBufError, type DmaDirection, isDmaBufError, present } from '../../base/index.ts';
import {
  type Attachment,
  type DmaBuf,
  dmaMapSgtable,
  dmaUnmapSgtable,
  IosysMap,
  pageList,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import type { PhysRange, Task } from '../../machine/index.ts';
import { ExportedMemory, turnOf, VB2_DMABUF_OPS } from './exporter.ts';
import { checkImportSize } from './import.ts';
import type { ImportedMemory, OwnMemory, PlaneAccess, PlaneOwner, Vb2MemOps } from './memory.ts';
import { allocatePages, freePages, pageEntries } from './page-block.ts';
import type { Turn } from './turn.ts';

/** `struct vb2_vmalloc_buf` of the queue's own. */
class VmallocMemory extends ExportedMemory {
  readonly access: PlaneAccess;
  readonly vaddr: IosysMap;
  protected readonly ops = VB2_DMABUF_OPS;
  protected readonly exporterName = 'videobuf2_vmalloc';
  private readonly single: readonly PhysRange[];

  constructor(owner: PlaneOwner, size: number, pages: readonly PhysRange[]) {
    super(owner, size, 'vb2_vmalloc_buf');
    this.single = pages;
    this.vaddr = new IosysMap(owner.kernel.machine, pages, false);
    this.access = { by: 'cpu', map: this.vaddr };
  }

  /** @context May sleep. The reservation is locked. */
  *mapFor({ device }: Attachment, direction: DmaDirection): Task<SgTable> {
    const { machine } = this.owner.kernel;
    return yield* dmaMapSgtable(machine, device, pageList(this.single), direction);
  }

  /** @context May sleep. */
  *unmapFor({ device }: Attachment, table: SgTable, direction: DmaDirection): Task {
    yield* dmaUnmapSgtable(this.owner.kernel.machine, device, table, direction);
  }

  protected *insertInto(vma: Vma): Task {
    yield* vma.insertPages(0, pageEntries(this.single, vma));
  }

  protected *free(): Task {
    yield* freePages(this.owner.kernel, this.single);
  }
}

/** `struct vb2_vmalloc_buf` of an imported buffer. */
class MappedByCpu implements ImportedMemory {
  private readonly buf: DmaBuf;
  /** Guarded by the queue's lock. */
  private map: IosysMap | null = null;

  constructor(buf: DmaBuf) {
    this.buf = buf;
  }

  get turn(): Turn | null {
    return turnOf(this.buf);
  }

  get access(): PlaneAccess {
    return { by: 'cpu', map: present(this.map, 'a plane is mapped before its hardware is told') };
  }

  /**
   * @throws {@link DmaBufError} `EFAULT` whatever the exporter said.
   * @context May sleep. The reservation is not locked.
   */
  *mapDmabuf(): Task {
    const { buf } = this;
    yield* buf.resv.lock();
    try {
      this.map = yield* buf.vmap();
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      throw new DmaBufError('EFAULT', 'vb2_vmalloc_map_dmabuf', 'no-kernel-map-of-the-buffer', {
        cause: error,
      });
    } finally {
      yield* buf.resv.unlock();
    }
  }

  /**
   * Gives the map back as plain memory, which is all that it remembers of it: for a device's memory
   * that is another map than the core handed out, and the kernel stops.
   *
   * @context May sleep. The reservation is not locked.
   */
  *unmapDmabuf(): Task {
    const { buf, map } = this;
    this.map = null;
    if (map === null) return;
    const plain = map.isIomem ? new IosysMap(map.machine, map.ranges, false) : map;
    yield* buf.resv.lock();
    yield* buf.vunmap(plain);
    yield* buf.resv.unlock();
  }

  /** @context May sleep. The reservation is not locked. */
  *detachDmabuf(): Task {
    if (this.map !== null) yield* this.unmapDmabuf();
  }
}

/** The allocator. */
export const VB2_VMALLOC: Vb2MemOps = {
  name: 'videobuf2_vmalloc',

  *alloc(owner: PlaneOwner, size: number): Task<OwnMemory> {
    return new VmallocMemory(owner, size, yield* allocatePages(owner.kernel, size));
  },

  *attachDmabuf(_owner: PlaneOwner, buf: DmaBuf, size: number): Task<ImportedMemory> {
    checkImportSize(buf, size);
    return new MappedByCpu(buf);
  },
};
