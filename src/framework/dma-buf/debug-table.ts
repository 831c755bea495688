/**
 * What an importer gets in a kernel with `CONFIG_DMABUF_DEBUG`: a copy of the table with nothing in
 * it but device addresses and lengths. What it changes there is lost; what it looks for and must
 * not have is reported with its name.
 *
 * DIFFERS: in Linux an importer that reads the page of such a table gets a null pointer and crashes
 * somewhere; here the read itself is a kernel warning. A table that no map gave crashes or corrupts
 * memory there; here the run ends.
 *
 * @source `dma_buf_wrap_sg_table()`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md
 *   A.14.1; threads S000, S001
 */

import { DmaBufError } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { Attachment } from './attachment.ts';
import type { SgEntry, SgTable } from '../dma/scatterlist.ts';

/** What importers have looked for in tables: names of Linux's fields and ours. */
const HIDDEN_FIELDS = [
  'page',
  'phys',
  'pfn',
  'cpuAddress',
  'offset',
  'origNents',
  'ranges',
  'undo',
];

/** A copy, which alone knows the table that it stands for. */
class DebugTable implements SgTable {
  readonly entries: readonly SgEntry[];
  readonly #attachment: Attachment;
  /** Null once it is given back. */
  #original: SgTable | null;

  constructor(attachment: Attachment, original: SgTable) {
    this.#attachment = attachment;
    this.#original = original;
    this.entries = original.entries.map(({ address, length }) => {
      return watched(attachment, { address, length });
    });
    watched(attachment, this);
  }

  /** The table it stands for, once, and to the attachment that mapped it. */
  take(attachment: Attachment): SgTable | null {
    const original = this.#attachment === attachment ? this.#original : null;
    if (original !== null) this.#original = null;
    return original;
  }
}

/**
 * Makes the copy.
 *
 * @throws {@link DmaBufError} `ENOMEM`; `EINVAL` the table is empty.
 * @context May sleep. The reservation is held.
 * @source `dma_buf_wrap_sg_table()`
 */
export function* wrapTable(attachment: Attachment, original: SgTable): Task<SgTable> {
  if (!(yield* attachment.buf.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'mapAttachment', 'no-memory-to-copy-the-table');
  }
  if (original.entries.length === 0) {
    throw new DmaBufError('EINVAL', 'mapAttachment', 'no-entries-to-copy');
  }
  return new DebugTable(attachment, original);
}

/**
 * The table that a copy stands for, which is forgotten then. Null, and the run ends, for a table
 * that this attachment's map did not give, or that was given back already.
 */
export function unwrapTable(attachment: Attachment, copy: SgTable): SgTable | null {
  const original = copy instanceof DebugTable ? copy.take(attachment) : null;
  if (original !== null) return original;
  const { device, buf } = attachment;
  const what = `${device.name} gives back a table of dma-buf ${buf.number} that map did not give`;
  buf.kernel.scheduler.oops(`dma_buf_unmap_attachment: ${what}`);
  return null;
}

/** Adds fields that report who reads them; copies and comparisons do not see them. */
function watched<T extends object>(attachment: Attachment, object: T): T {
  const { device, buf } = attachment;
  for (const field of HIDDEN_FIELDS) {
    Object.defineProperty(object, field, {
      enumerable: false,
      get(): undefined {
        const text = `${device.name} looks for ${field} in its mapping of dma-buf ${buf.number}`;
        buf.kernel.scheduler.warn('dma_buf_map_attachment', text);
        return undefined;
      },
    });
  }
  return object;
}
