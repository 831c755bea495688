/**
 * Pages that another guest lent us, as a dma-buf. Devices of our guest map them; when the last
 * reference goes they are given back, and whoever waits for that is woken.
 *
 * @source drivers/xen/gntdev-dmabuf.c, v7.2; reference/linux-dma-buf.md F.4
 */

import {
  DmaBufError,
  type DmaDirection,
  isDmaBufError,
  O,
  PAGE_SIZE,
  type PhysAddr,
} from '../../base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  dmaMapSgtable,
  dmaUnmapSgtable,
  type KernelFile,
  type SgTable,
  sgAllocTableFromPages,
} from '../../framework/index.ts';
import { Shared, type Task } from '../../machine/index.ts';
import type { GrantTables } from './grant-tables.ts';

/** A page of another guest. */
export interface LentPage {
  readonly ref: number;
  readonly phys: PhysAddr;
}

/** The mapping that an attachment keeps until its end. */
interface KeptTable {
  readonly table: SgTable;
  readonly direction: DmaDirection;
}

/** `struct gntdev_dmabuf` of an exported buffer. */
export class GntdevExport {
  readonly tables: GrantTables;
  /** The guest that lent the pages. */
  readonly domid: number;
  readonly pages: readonly LentPage[];
  /** The descriptor's number, by which programs ask for its end. */
  readonly fd: number;
  /** The open file that made it, which lives as long as the buffer. */
  readonly file: KernelFile;
  private readonly onRelease: (gone: GntdevExport) => Task;

  constructor(
    lent: { readonly tables: GrantTables; domid: number; pages: readonly LentPage[] },
    fd: number,
    file: KernelFile,
    onRelease: (gone: GntdevExport) => Task,
  ) {
    this.tables = lent.tables;
    this.domid = lent.domid;
    this.pages = lent.pages;
    this.fd = fd;
    this.file = file;
    this.onRelease = onRelease;
  }

  /**
   * Makes the buffer; the caller owns its first reference.
   *
   * @throws {@link DmaBufError} as the export.
   * @context May sleep; no lock held.
   * @source `dmabuf_exp_from_pages()`
   */
  *export(): Task<DmaBuf> {
    const buf = yield* DmaBuf.export<GntdevExport>(this.file.kernel, {
      exporterName: 'xen_gntdev',
      ops: GNTDEV_DMABUF_OPS,
      size: this.pages.length * PAGE_SIZE,
      priv: this,
      flags: O.RDWR,
    });
    yield* this.file.get();
    return buf as DmaBuf;
  }

  /**
   * Gives the pages back to their guest and says so.
   *
   * @context May sleep; no lock held.
   */
  *giveBack(): Task {
    yield* this.unmapGrants();
    yield* this.onRelease(this);
  }

  /**
   * Gives the pages back to their guest.
   *
   * @context Any.
   */
  *unmapGrants(): Task {
    for (const { ref } of this.pages) yield* this.tables.unmap(this.domid, ref);
  }
}

function keptBy(attachment: Attachment): Shared<KeptTable | null> {
  return attachment.priv as Shared<KeptTable | null>;
}

const ATTRS = { skipCpuSync: true };

const GNTDEV_DMABUF_OPS: DmaBufOps<GntdevExport> = {
  *attach({ kernel }: DmaBuf<GntdevExport>, attachment: Attachment<GntdevExport>): Task {
    const name = `table of attachment ${attachment.number}`;
    attachment.priv = new Shared<KeptTable | null>(kernel.scheduler, name, null);
  },

  *detach({ kernel }: DmaBuf<GntdevExport>, attachment: Attachment<GntdevExport>): Task {
    const cell = keptBy(attachment as Attachment);
    const kept = yield* cell.read();
    if (kept === null) return;
    yield* cell.write(null);
    const { device } = attachment;
    yield* dmaUnmapSgtable(kernel.machine, device, kept.table, kept.direction, ATTRS);
  },

  *mapDmaBuf(attachment: Attachment<GntdevExport>, direction: DmaDirection): Task<SgTable> {
    const { device, buf } = attachment;
    const cell = keptBy(attachment as Attachment);
    const kept = yield* cell.read();
    if (kept?.direction === direction) return kept.table;
    if (kept !== null) {
      throw new DmaBufError('EBUSY', 'gntdev_dmabuf_map', 'mapped-in-another-direction');
    }
    const pages = sgAllocTableFromPages(buf.priv.pages.map(({ phys }) => phys));
    try {
      const table = yield* dmaMapSgtable(buf.kernel.machine, device, pages, direction, ATTRS);
      yield* cell.write({ table, direction });
      return table;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      throw new DmaBufError('ENOMEM', 'gntdev_dmabuf_map', 'lent-pages-cannot-be-mapped', {
        cause: error,
      });
    }
  },

  *unmapDmaBuf(): Task {
    // The table is kept until the detach.
  },

  *release({ priv }: DmaBuf<GntdevExport>): Task {
    yield* priv.giveBack();
    yield* priv.file.put();
  },
};
