/**
 * `VIDIOC_EXPBUF`: a plane of the queue's own memory becomes a dma-buf.
 *
 * @source `vb2_core_expbuf()`, v7.2; reference/linux-dma-buf.md E.9
 */

import { DmaBufError, isDmaBufError, O, V4L2_MEMORY } from '../../base/index.ts';
import type { DmaBuf, Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { OwnMemory } from './memory.ts';
import type { Vb2Queue } from './queue.ts';

/** Which plane, and how its descriptor is to be. */
export interface ExportRequest {
  readonly type: number;
  readonly index: number;
  readonly plane: number;
  /** As open(2) has them; only the access mode and close-on-exec. */
  readonly flags: number;
}

/**
 * A new dma-buf for one plane, each time, and a descriptor for it.
 *
 * @throws {@link DmaBufError} `EINVAL` in this order: there is no such buffer; the memory is not
 *   the queue's own; no exporting allocator; other flags; another type; no such plane. `EBUSY`
 *   read(2) has the queue. `EINVAL` the memory cannot be described to others. `EMFILE`.
 * @context May sleep; the lock is held.
 * @source `vb2_core_expbuf()`
 */
export function* vb2Expbuf(
  queue: Vb2Queue,
  process: Process,
  request: ExportRequest,
): Task<number> {
  const call = 'ioctl(VIDIOC_EXPBUF)';
  const { type, index, plane, flags } = request;
  const refuse = (reason: string): DmaBufError =>
    new DmaBufError('EINVAL', call, reason, { detail: { index, plane } });
  const { planes } = yield* (yield* queue.buffer(call, index)).read();
  if ((yield* queue.state.read()).memory !== V4L2_MEMORY.MMAP) throw refuse('memory-is-not-ours');
  if (queue.info.canExport === false) throw refuse('allocator-does-not-export');
  if ((flags & ~(O.CLOEXEC | O.ACCMODE)) !== 0) throw refuse('export-flags-unknown');
  if (type !== queue.info.type) throw refuse('export-of-another-type');
  const memory = planes[plane]?.own;
  if (memory === undefined || memory === null) throw refuse('no-such-plane');
  yield* queue.refuseFileIo(call);
  const dbuf = yield* getDmabuf(memory, flags & O.ACCMODE);
  try {
    return yield* dbuf.fd(process, flags & ~O.ACCMODE);
  } catch (error) {
    yield* dbuf.put();
    throw error;
  }
}

function* getDmabuf(memory: OwnMemory, flags: number): Task<DmaBuf> {
  try {
    return yield* memory.getDmabuf(flags);
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    throw new DmaBufError('EINVAL', 'ioctl(VIDIOC_EXPBUF)', 'memory-cannot-be-exported', {
      cause: error,
      detail: { code: error.code, reason: error.reason },
    });
  }
}
