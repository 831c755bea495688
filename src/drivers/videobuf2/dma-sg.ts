/**
 * Memory for hardware that follows lists: single pages, mapped once for the queue's device and
 * synced at each turn.
 *
 * @source drivers/media/common/videobuf2/videobuf2-dma-sg.c, v7.2; reference/linux-dma-buf.md E.9
 */

import type { DmaDirection } from '../../base/index.ts';
import {
  type Attachment,
  type DmaBuf,
  type DmaBufOps,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
  IosysMap,
  type MappedSgTable,
  type PageList,
  sgAllocTableFromPages,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import type { Atomic, PhysRange, Task } from '../../machine/index.ts';
import { ExportedMemory, VB2_DMABUF_OPS } from './exporter.ts';
import { AttachedMemory, checkImportSize } from './import.ts';
import type { ImportedMemory, OwnMemory, PlaneAccess, PlaneOwner, Vb2MemOps } from './memory.ts';
import { allocatePages, freePages, pageEntries } from './page-block.ts';

/** `struct vb2_dma_sg_buf`. */
class DmaSgMemory extends ExportedMemory {
  readonly access: PlaneAccess;
  readonly vaddr: IosysMap;
  protected readonly ops = DMA_SG_OPS;
  protected readonly exporterName = 'videobuf2_dma_sg';
  private readonly single: readonly PhysRange[];
  private readonly pages: PageList;
  private readonly table: MappedSgTable;

  constructor(
    owner: PlaneOwner,
    size: number,
    single: readonly PhysRange[],
    pages: PageList,
    table: MappedSgTable,
  ) {
    super(owner, size, 'vb2_dma_sg_buf');
    this.single = single;
    this.pages = pages;
    this.table = table;
    this.access = { by: 'device', entries: table.entries };
    this.vaddr = new IosysMap(owner.kernel.machine, pages.ranges, false);
  }

  /** @context Any. */
  *prepare(): Atomic {
    const { kernel, device, direction } = this.owner;
    yield* dmaSyncSgtableForDevice(kernel.machine, device, this.table, direction);
  }

  /** @context Any. */
  *finish(): Atomic {
    const { kernel, device, direction } = this.owner;
    yield* dmaSyncSgtableForCpu(kernel.machine, device, this.table, direction);
  }

  /** @context May sleep. The reservation is locked. */
  *mapFor({ device }: Attachment, direction: DmaDirection): Task<SgTable> {
    return yield* dmaMapSgtable(this.owner.kernel.machine, device, this.pages, direction);
  }

  /** @context May sleep. */
  *unmapFor({ device }: Attachment, table: SgTable, direction: DmaDirection): Task {
    yield* dmaUnmapSgtable(this.owner.kernel.machine, device, table, direction);
  }

  protected *insertInto(vma: Vma): Task {
    yield* vma.insertPages(0, pageEntries(this.single, vma));
  }

  protected *free(): Task {
    const { kernel, device, direction } = this.owner;
    const attrs = { skipCpuSync: true };
    yield* dmaUnmapSgtable(kernel.machine, device, this.table, direction, attrs);
    yield* freePages(kernel, this.single);
  }
}

const DMA_SG_OPS: DmaBufOps<ExportedMemory> = {
  ...VB2_DMABUF_OPS,

  // The direction is the queue's, whatever the caller says: so it is in Linux.
  *beginCpuAccess({ priv }: DmaBuf<ExportedMemory>): Task {
    yield* priv.turn.checkProgram();
    if (priv instanceof DmaSgMemory) yield* priv.finish();
  },

  *endCpuAccess({ priv }: DmaBuf<ExportedMemory>): Task {
    if (priv instanceof DmaSgMemory) yield* priv.prepare();
  },
};

/** Any table will do. */
function anyTable(): void {}

/** The allocator. */
export const VB2_DMA_SG: Vb2MemOps = {
  name: 'videobuf2_dma_sg',

  *alloc(owner: PlaneOwner, size: number): Task<OwnMemory> {
    const { kernel, device, direction } = owner;
    const single = yield* allocatePages(kernel, size);
    const pages = sgAllocTableFromPages(single.map(({ phys }) => phys));
    try {
      const attrs = { skipCpuSync: true };
      const table = yield* dmaMapSgtable(kernel.machine, device, pages, direction, attrs);
      return new DmaSgMemory(owner, size, single, pages, table);
    } catch (error) {
      yield* freePages(kernel, single);
      throw error;
    }
  },

  *attachDmabuf(owner: PlaneOwner, buf: DmaBuf, size: number): Task<ImportedMemory> {
    checkImportSize(buf, size);
    const attachment = yield* buf.attach(owner.device);
    return new AttachedMemory(owner, attachment, size, anyTable);
  },
};
