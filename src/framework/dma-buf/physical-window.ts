/**
 * A kind of mapping for importers that fill I/O page tables themselves and do no DMA: iommufd. They
 * get a window onto the exporter's memory, which they can put into a table and take out again; the
 * physical address stays inside.
 *
 * DIFFERS: in Linux 7.2 this is a private call from iommufd into vfio-pci that hands the physical
 * address over. Who may call, what is refused and what must be given back is the same.
 *
 * @source `vfio_pci_dma_buf_iommufd_map()`, drivers/vfio/pci/vfio_pci_dmabuf.c, v7.2;
 *   reference/linux-dma-buf.md E.1, F.2
 */

import { assert, type DmaAddr, DmaBufError } from '../../base/index.ts';
import type { Atomic, IommuDomain, IovaRights, PhysRange, Task } from '../../machine/index.ts';
import type { Attachment } from './attachment.ts';
import type { PhysVec } from './dma-buf-mapping.ts';
import type { MappingKind } from './mapping-kind.ts';

/** What an exporter says of its memory. */
export interface RevocableBacking {
  /** In the order of the buffer. */
  readonly ranges: readonly PhysVec[];
  /** True while access is taken back. */
  readonly isRevoked: boolean;
}

/** A window onto one range of an exporter's memory. */
export class PhysicalWindow {
  /** Bytes. */
  readonly size: number;
  readonly #start: number;

  constructor({ paddr, length }: PhysVec) {
    this.size = length;
    this.#start = paddr;
  }

  /**
   * Puts a part of it into a table, at an address of the caller's choice.
   *
   * @param offset - Bytes into the window; a multiple of the page size, as is `size`.
   * @returns False if something is there.
   * @context Any. The caller unmaps when it is told that its mappings are stale.
   */
  *mapInto(
    domain: IommuDomain,
    iova: DmaAddr,
    offset: number,
    size: number,
    rights: IovaRights,
  ): Atomic<boolean> {
    assert(offset >= 0 && offset + size <= this.size, 'what is mapped lies in the window');
    const range: PhysRange = { phys: (this.#start + offset) as PhysRange['phys'], size };
    return yield* domain.mapAt(iova, range, rights);
  }
}

/** The kind. */
export const PHYSICAL_WINDOW: MappingKind<RevocableBacking, null, PhysicalWindow> = {
  name: 'physical window',

  *map({ buf }: Attachment, { ranges, isRevoked }: RevocableBacking): Task<PhysicalWindow> {
    const call = 'dma_buf_physical_window';
    const [range] = ranges;
    if (range === undefined || ranges.length !== 1) {
      throw new DmaBufError('EOPNOTSUPP', call, 'window-onto-one-range-only', {
        detail: { buffer: buf.number, ranges: ranges.length },
      });
    }
    if (isRevoked) throw new DmaBufError('ENODEV', call, 'window-onto-revoked-memory');
    return new PhysicalWindow(range);
  },

  *unmap(): Task {
    // The tables that it was put into are the importer's.
  },
};
