/**
 * A dma-buf of our guest, lent to another one page by page. The pages are found from the device
 * addresses of a mapping for gntdev's own device: under Xen those are what the guest calls physical
 * addresses, which is why it may do what importers must not.
 *
 * @source `dmabuf_imp_to_refs()`, drivers/xen/gntdev-dmabuf.c, v7.2; reference/linux-dma-buf.md F.4
 */

import { DmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import { type Attachment, DmaBuf, type Process, type SgTable } from '../../framework/index.ts';
import type { Device, Task } from '../../machine/index.ts';
import type { GrantTables } from './grant-tables.ts';

/** Who lends to whom. */
export interface Lending {
  readonly tables: GrantTables;
  /** Our guest. */
  readonly from: number;
  /** The other one. */
  readonly to: number;
}

/** `struct gntdev_dmabuf` of an imported buffer. */
export class GntdevImport {
  /** The descriptor's number, by which programs ask for the end. */
  readonly fd: number;
  /** Entries of our grant table, in the order of the buffer. */
  readonly refs: readonly number[];
  private readonly lending: Lending;
  private readonly attachment: Attachment;
  private readonly table: SgTable;

  private constructor(
    fd: number,
    lending: Lending,
    attachment: Attachment,
    table: SgTable,
    refs: readonly number[],
  ) {
    this.fd = fd;
    this.lending = lending;
    this.attachment = attachment;
    this.table = table;
    this.refs = refs;
  }

  /**
   * Attaches, maps and lends.
   *
   * @param count - Pages that the program has room for.
   * @throws {@link DmaBufError} `EBADF`, `EINVAL` no dma-buf; what attach and map say; `EINVAL` it
   *   is not of so many pages; `ENOSPC` our grant table is full. Nothing is left then.
   * @context May sleep; no lock held.
   * @source `dmabuf_imp_to_refs()`
   */
  static *create(
    process: Process,
    device: Device,
    fd: number,
    count: number,
    lending: Lending,
  ): Task<GntdevImport> {
    const buf = yield* DmaBuf.get(process, fd);
    try {
      const attachment = yield* buf.attach(device);
      try {
        return yield* GntdevImport.map(attachment, fd, count, lending);
      } catch (error) {
        yield* buf.detach(attachment);
        throw error;
      }
    } catch (error) {
      yield* buf.put();
      throw error;
    }
  }

  private static *map(
    attachment: Attachment,
    fd: number,
    count: number,
    lending: Lending,
  ): Task<GntdevImport> {
    const table = yield* attachment.mapAttachmentUnlocked('bidirectional');
    try {
      if (attachment.buf.size !== count * PAGE_SIZE) {
        throw new DmaBufError('EINVAL', 'ioctl(IMP_TO_REFS)', 'buffer-of-another-size', {
          detail: { size: attachment.buf.size, count },
        });
      }
      const refs = yield* lend(lending, framesOf(table));
      return new GntdevImport(fd, lending, attachment, table, refs);
    } catch (error) {
      yield* attachment.unmapAttachmentUnlocked(table, 'bidirectional');
      throw error;
    }
  }

  /**
   * Takes the pages back and lets the buffer go. What the other guest still maps stays lent, as in
   * Linux, which keeps such entries for later.
   *
   * @context May sleep; no lock held.
   * @source `dmabuf_imp_release()`
   */
  *release(): Task {
    const { attachment, lending, refs, table } = this;
    yield* takeBack(lending, refs);
    yield* attachment.unmapAttachmentUnlocked(table, 'bidirectional');
    yield* attachment.buf.detach(attachment);
    yield* attachment.buf.put();
  }
}

/** Guest frames from device addresses: the exception that Xen makes. */
function framesOf({ entries }: SgTable): readonly PhysAddr[] {
  return entries.flatMap(({ address, length }) =>
    Array.from({ length: length / PAGE_SIZE }, (_, i) => {
      return (Number(address) + i * PAGE_SIZE) as PhysAddr;
    }),
  );
}

/** All pages, or none. */
function* lend(
  { tables, from, to }: Lending,
  frames: readonly PhysAddr[],
): Task<readonly number[]> {
  const refs: number[] = [];
  for (const frame of frames) {
    const ref = yield* tables.grant(from, to, frame);
    if (ref === null) {
      yield* takeBack({ tables, from, to }, refs);
      throw new DmaBufError('ENOSPC', 'ioctl(IMP_TO_REFS)', 'grant-table-is-full');
    }
    refs.push(ref);
  }
  return refs;
}

function* takeBack({ tables, from }: Lending, refs: readonly number[]): Task {
  for (const ref of refs) yield* tables.end(from, ref);
}
