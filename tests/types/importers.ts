/** Goal: an importer sees device addresses and lengths, and no way to pages or CPU addresses. */

import type { DmaAddr } from '../../src/base/index.ts';
import type {
  Attachment,
  AttachOps,
  DmaBuf,
  DmaBufOps,
  PhysVec,
  SgEntry,
  SgTable,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';

declare const table: SgTable;
declare const entry: SgEntry;
declare const vec: PhysVec;
declare const attachment: Attachment;
declare const buf: DmaBuf;

/** Right as it is: S000-7, all that there is. */
export const keys: readonly (keyof SgEntry)[] = ['address', 'length'];
/** Right as it is. */
export const tableKeys: readonly (keyof SgTable)[] = ['entries'];
/** Right as it is. */
export const address: DmaAddr = entry.address;

// @ts-expect-error There is no page (S000-6, S000-7).
export const page = entry.page;
// @ts-expect-error There is no CPU physical address.
export const phys = entry.phys;
// @ts-expect-error There is no CPU virtual address.
export const cpuAddress = entry.cpuAddress;
// @ts-expect-error There is no offset into a page.
export const offset = entry.offset;
// @ts-expect-error The table has no CPU side: no second count of entries (MP-002).
export const origNents = table.origNents;
// @ts-expect-error The table has no way back to what it was made from.
export const ranges = table.ranges;
// @ts-expect-error What an exporter describes is nothing that importers get.
export const leaked: SgEntry = vec;
// @ts-expect-error An importer does not change what it got (MP-010).
entry.address = address;
// @ts-expect-error An importer does not change what it got.
table.entries.push(entry);
// @ts-expect-error A buffer does not tell an importer what is the exporter's.
export const secret: { readonly physVec: readonly PhysVec[] } = buf.priv;
// @ts-expect-error Nor does an attachment.
export const otherSecret: { readonly provider: object } = attachment.priv;

// @ts-expect-error An importer must say whether it takes peer memory.
export const silent: AttachOps = { *invalidateMappings(): Task {} };
// @ts-expect-error A callback of 7.2, not the one before it.
export const old: AttachOps = { allowPeer2Peer: true, *moveNotify(): Task {} };

const mandatory = {
  *mapDmaBuf(): Task<SgTable> {
    return table;
  },
  *unmapDmaBuf(): Task {},
  *release(): Task {},
};
/** Right as it is. */
export const enough: DmaBufOps<null> = mandatory;
const { mapDmaBuf, unmapDmaBuf, release } = mandatory;
// @ts-expect-error An exporter must map (DB-001).
export const noMap: DmaBufOps<null> = { unmapDmaBuf, release };
// @ts-expect-error An exporter must unmap (DB-001).
export const noUnmap: DmaBufOps<null> = { mapDmaBuf, release };
// @ts-expect-error An exporter must release (DB-001).
export const noRelease: DmaBufOps<null> = { mapDmaBuf, unmapDmaBuf };

function* mapNothing(): Task<null> {
  return null;
}
// @ts-expect-error An exporter gives a table or fails; nothing is neither (MP-007).
export const mapsNull: DmaBufOps<null> = { ...mandatory, mapDmaBuf: mapNothing };
