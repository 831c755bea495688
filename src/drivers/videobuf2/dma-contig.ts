/**
 * Memory for hardware that takes one address: coherent, in one piece. It may be of a pool that has
 * no pages; then it cannot be described to others the old way, and the export is refused, unless
 * the queue exports it as device addresses only.
 *
 * @source drivers/media/common/videobuf2/videobuf2-dma-contig.c, v7.2; reference/linux-dma-buf.md
 *   E.9, I.4; thread S002
 */

import { DmaBufError, type DmaDirection, isDmaBufError } from '../../base/index.ts';
import type { CoherentMemory } from '../../framework/index.ts';
import {
  type Attachment,
  type DmaBuf,
  type DmaBufOps,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMapCoherent,
  dmaMapSgtable,
  dmaMmapCoherent,
  dmaUnmapCoherent,
  dmaUnmapSgtable,
  IosysMap,
  type PageList,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import { type Atomic, Shared, type Task } from '../../machine/index.ts';
import { ExportedMemory, VB2_DMABUF_OPS } from './exporter.ts';
import { AttachedMemory, checkImportSize } from './import.ts';
import type { ImportedMemory, OwnMemory, PlaneAccess, PlaneOwner, Vb2MemOps } from './memory.ts';

/** Memory is coherent: nothing to do, but to have the operations. */
const DMA_CONTIG_OPS: DmaBufOps<ExportedMemory> = {
  ...VB2_DMABUF_OPS,
  *endCpuAccess(): Task {
    // Nobody's cache holds any of it.
  },
};

/** The kernel's view of coherent memory, past the cache. */
class CoherentMap extends IosysMap {
  private readonly memory: CoherentMemory;

  constructor(memory: CoherentMemory) {
    super(memory.machine, [], false);
    this.memory = memory;
  }

  override get size(): number {
    return this.memory.size;
  }

  override *load(offset: number, length: number): Atomic<Uint8Array> {
    return yield* this.memory.load(offset, length);
  }

  override *store(offset: number, bytes: Uint8Array): Atomic {
    yield* this.memory.store(offset, bytes);
  }
}

/** `struct vb2_dc_buf` of the queue's own. */
abstract class DmaContigMemory extends ExportedMemory {
  readonly access: PlaneAccess;
  readonly vaddr: IosysMap;
  protected readonly ops = DMA_CONTIG_OPS;
  protected readonly exporterName = 'videobuf2_dma_contig';
  protected readonly memory: CoherentMemory;

  constructor(owner: PlaneOwner, size: number, memory: CoherentMemory) {
    super(owner, size, 'vb2_dc_buf');
    this.memory = memory;
    this.access = { by: 'device', entries: [{ address: memory.address, length: size }] };
    this.vaddr = new CoherentMap(memory);
  }

  protected *insertInto(vma: Vma): Task {
    yield* dmaMmapCoherent(this.memory, vma);
  }

  protected *free(): Task {
    yield* dmaFreeCoherent(this.memory);
  }
}

/** Exported by its pages, as Linux does it. */
class DmaContigPages extends DmaContigMemory {
  private readonly base: Shared<PageList | null>;

  constructor(owner: PlaneOwner, size: number, memory: CoherentMemory) {
    super(owner, size, memory);
    const { scheduler } = owner.kernel;
    this.base = new Shared<PageList | null>(scheduler, 'vb2_dc_buf sgt_base', null);
  }

  /** @context May sleep. The reservation is locked. */
  *mapFor({ device }: Attachment, direction: DmaDirection): Task<SgTable> {
    const { machine } = this.owner.kernel;
    const pages = (yield* this.base.read()) ?? dmaGetSgtable(this.memory);
    return yield* dmaMapSgtable(machine, device, pages, direction, { skipCpuSync: true });
  }

  /** @context May sleep. */
  *unmapFor({ device }: Attachment, table: SgTable, direction: DmaDirection): Task {
    const { machine } = this.owner.kernel;
    yield* dmaUnmapSgtable(machine, device, table, direction, { skipCpuSync: true });
  }

  protected override *baseTable(): Task {
    if ((yield* this.base.read()) !== null) return;
    try {
      yield* this.base.write(dmaGetSgtable(this.memory));
    } catch (error) {
      if (isDmaBufError(error)) {
        const { scheduler } = this.owner.kernel;
        scheduler.warn('vb2_dc_get_dmabuf', 'there is no table of pages for the memory');
      }
      throw error;
    }
  }
}

/** Exported by device addresses, made for each importer: it matters not whether there are pages. */
class DmaContigAddresses extends DmaContigMemory {
  /** @context May sleep. The reservation is locked. */
  *mapFor({ device }: Attachment, direction: DmaDirection): Task<SgTable> {
    return yield* dmaMapCoherent(this.owner.kernel.machine, device, this.memory, direction);
  }

  /** @context May sleep. */
  *unmapFor(_attachment: Attachment, table: SgTable): Task {
    yield* dmaUnmapCoherent(this.owner.kernel.machine, table);
  }
}

/** Hardware that takes one address needs all of the plane behind it. */
function leadingRunHolds({ entries }: SgTable, size: number): void {
  let run = 0;
  let expected = entries[0]?.address ?? 0;
  for (const { address, length } of entries) {
    if (address !== expected) break;
    expected = (address + length) as typeof address;
    run += length;
  }
  if (run >= size) return;
  throw new DmaBufError('EFAULT', 'vb2_dc_map_dmabuf', 'contiguous-chunk-is-too-small', {
    detail: { run, size, entries: entries.length },
  });
}

function* attachDmabuf(owner: PlaneOwner, buf: DmaBuf, size: number): Task<ImportedMemory> {
  checkImportSize(buf, size);
  const attachment = yield* buf.attach(owner.device);
  return new AttachedMemory(owner, attachment, size, leadingRunHolds);
}

/** The allocator. */
export const VB2_DMA_CONTIG: Vb2MemOps = {
  name: 'videobuf2_dma_contig',

  *alloc(owner: PlaneOwner, size: number): Task<OwnMemory> {
    const { kernel, device } = owner;
    const memory = yield* dmaAllocCoherent(kernel.machine, device, size);
    return new DmaContigPages(owner, size, memory);
  },

  attachDmabuf,
};

/**
 * The same, but what it exports is described by device addresses alone.
 *
 * DIFFERS: Linux 7.2 has no such allocator; there, memory without pages cannot be exported from a
 * video queue safely. Thread S002 asked for this.
 */
export const VB2_DMA_CONTIG_ADDRESSES: Vb2MemOps = {
  name: 'videobuf2_dma_contig',

  *alloc(owner: PlaneOwner, size: number): Task<OwnMemory> {
    const { kernel, device } = owner;
    const memory = yield* dmaAllocCoherent(kernel.machine, device, size);
    return new DmaContigAddresses(owner, size, memory);
  },

  attachDmabuf,
};
