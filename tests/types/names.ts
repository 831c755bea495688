/** Goal: misspelt names of errors, events, directions and usages do not compile. */

import {
  DmaBufError,
  type DmaDirection,
  ERRNO,
  type ErrnoCode,
  type TraceBody,
  type TraceKind,
} from '../../src/base/index.ts';
import type { Attachment, DmaResv, P2pMapType } from '../../src/framework/index.ts';
import type { Scheduler } from '../../src/machine/index.ts';

declare const scheduler: Scheduler;
declare const resv: DmaResv;
declare const attachment: Attachment;

/** Right as it is. */
export const right = [
  new DmaBufError('EREMOTEIO', 'map', 'of-a-type-test'),
  ERRNO.EREMOTEIO satisfies 121,
  resv.wait('bookkeep'),
  attachment.mapAttachment('bidirectional'),
];
/** Right as it is. */
export const event: TraceBody = { kind: 'buffer.put', buffer: 1, last: true };

// @ts-expect-error There is no such error number.
export const misspelt = new DmaBufError('EINVALID', 'map', 'of-a-type-test');
// @ts-expect-error Numbers have names.
export const numbered = new DmaBufError(-22, 'map', 'of-a-type-test');
// @ts-expect-error ENOTSUPP is the kernel's own and never reaches anybody.
export const internal: ErrnoCode = 'ENOTSUPP';
// @ts-expect-error An error number does not change.
ERRNO.EPERM = 2;

// @ts-expect-error There is no such event.
export const unknownKind: TraceBody = { kind: 'buffer.lost', buffer: 1 };
// @ts-expect-error A field is missing.
export const missing: TraceBody = { kind: 'buffer.put', buffer: 1 };
// @ts-expect-error A field is of another event.
export const foreign: TraceBody = { kind: 'buffer.get', buffer: 1, last: true };
// @ts-expect-error Objects are named by number.
export const byName: TraceBody = { kind: 'buffer.get', buffer: 'dma-buf 1' };
// @ts-expect-error A result is one of two words.
export const result: TraceBody = { kind: 'mmio.read', target: '', length: 1, result: 'ok' };
// @ts-expect-error The stamp is the scheduler's.
scheduler.record?.({ kind: 'buffer.get', buffer: 1, seq: 1 });
// @ts-expect-error Event kinds are nouns and verbs that exist.
export const kind: TraceKind = 'dma.copy';

// @ts-expect-error A direction as the kernel has it, not as people say it.
export const direction: DmaDirection = 'read';
// @ts-expect-error A usage that was never there.
export const exclusive = resv.wait('exclusive');
// @ts-expect-error A map type of the kernel has another name here.
export const mapType: P2pMapType = 'bus-addr';
