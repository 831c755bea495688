/**
 * Physical region pages: how a command says where its data is. The first entry may start inside a
 * page; a second page stands in the command as well; more stand in a list, which goes on in another
 * page where it fills one.
 *
 * @source NVM Express Base Specification 1.4, section 4.3
 */

import { isPageAligned, PAGE_SIZE } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { NvmeCommand } from './commands.ts';
import { isAddressable, type MemoryPort, type Segment } from './memory-port.ts';
import type { StatusName } from './status.ts';
import { readUint64 } from './uint64.ts';

/** Where a command's data is. */
export interface DataPointer {
  /** The data, in order; none crosses a page. */
  readonly data: readonly Segment[];
  /** The lists that say so. */
  readonly lists: readonly Segment[];
}

const ENTRY_SIZE = 8;

/**
 * Finds the `length` bytes of a command's data.
 *
 * @returns A status if the entries are wrong or a list could not be read.
 * @context The engine: one step for each page of a list.
 * @source NVMe 1.4, 4.3
 */
export function* readDataPointer(
  port: MemoryPort,
  { prp1, prp2 }: NvmeCommand,
  length: number,
): Task<DataPointer | StatusName> {
  if (prp1 % 4 !== 0) return 'prp-offset-invalid';
  const first = Math.min(length, PAGE_SIZE - (prp1 % PAGE_SIZE));
  const data: Segment[] = [{ address: prp1, length: first }];
  const lists: Segment[] = [];
  const rest = length - first;
  if (rest > PAGE_SIZE) {
    const problem = yield* readList(port, prp2, rest, { data, lists });
    if (problem !== null) return problem;
  } else if (rest > 0) {
    if (!isPageAligned(prp2)) return 'prp-offset-invalid';
    data.push({ address: prp2, length: rest });
  }
  return data.every(isAddressable) ? { data, lists } : 'invalid-field';
}

/** Reads the list at `address`, page by page, and notes what it names. Null if all went well. */
function* readList(
  port: MemoryPort,
  address: number,
  length: number,
  found: { readonly data: Segment[]; readonly lists: Segment[] },
): Task<StatusName | null> {
  let at = address;
  let left = length;
  if (at % ENTRY_SIZE !== 0) return 'prp-offset-invalid';
  while (left > 0) {
    const room = (PAGE_SIZE - (at % PAGE_SIZE)) / ENTRY_SIZE;
    const needed = Math.ceil(left / PAGE_SIZE);
    const list = { address: at, length: Math.min(needed, room) * ENTRY_SIZE };
    if (!isAddressable(list)) return 'invalid-field';
    const bytes = yield* port.read(list);
    if (bytes === null) return 'data-transfer-error';
    found.lists.push(list);
    const entries = entriesOf(bytes);
    if (!entries.every(isPageAligned)) return 'prp-offset-invalid';
    // Where a list does not fit its page, the last entry there is where it goes on.
    if (needed > room) at = entries.pop() ?? at;
    for (const entry of entries) {
      found.data.push({ address: entry, length: Math.min(left, PAGE_SIZE) });
      left -= PAGE_SIZE;
    }
  }
  return null;
}

function entriesOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: number[] = [];
  for (let at = 0; at < bytes.length; at += ENTRY_SIZE) entries.push(readUint64(view, at));
  return entries;
}
