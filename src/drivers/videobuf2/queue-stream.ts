/**
 * Streaming: buffers go to the hardware and come back, until somebody stops it.
 *
 * @source drivers/media/common/videobuf2/videobuf2-core.c, v7.2; reference/linux-dma-buf.md E.9
 */

import { DmaBufError } from '../../base/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import { memoryOf, type PlaneRecord, type Vb2Buffer } from './buffer.ts';
import { vb2FreeBuffers } from './queue-memory.ts';
import type { Vb2Queue } from './queue.ts';

/**
 * Begins to stream. A second time: nothing.
 *
 * @throws {@link DmaBufError} `EINVAL` another type, no buffers or too few; `EBUSY` read(2) has
 *   the queue.
 * @context May sleep; the lock is held.
 * @source `vb2_core_streamon()`
 */
export function* vb2Streamon(queue: Vb2Queue, type: number): Task {
  const call = 'ioctl(VIDIOC_STREAMON)';
  yield* queue.refuseFileIo(call);
  if (type !== queue.info.type) {
    throw new DmaBufError('EINVAL', call, 'stream-of-another-type');
  }
  const { streaming, buffers } = yield* queue.state.read();
  if (streaming) return;
  if (buffers.length < Math.max(1, queue.info.minQueuedBuffers ?? 1)) {
    throw new DmaBufError('EINVAL', call, 'too-few-buffers-to-stream');
  }
  yield* queue.set({ streaming: true });
  yield* vb2StartStreaming(queue);
}

/**
 * Stops, and gives every buffer back to the program as it is.
 *
 * @throws {@link DmaBufError} `EINVAL` another type; `EBUSY` read(2) has the queue.
 * @context May sleep; the lock is held.
 * @source `vb2_core_streamoff()`
 */
export function* vb2Streamoff(queue: Vb2Queue, type: number): Task {
  const call = 'ioctl(VIDIOC_STREAMOFF)';
  yield* queue.refuseFileIo(call);
  if (type !== queue.info.type) {
    throw new DmaBufError('EINVAL', call, 'end-of-another-stream');
  }
  yield* vb2Cancel(queue);
}

/**
 * Starts the hardware once it streams and has enough buffers.
 *
 * @context May sleep; the lock is held.
 * @source `vb2_start_streaming()`
 */
export function* vb2StartStreaming(queue: Vb2Queue): Task {
  const { streaming, started, buffers } = yield* queue.state.read();
  if (!streaming || started) return;
  const queued: Vb2Buffer[] = [];
  for (const buffer of buffers) {
    if ((yield* buffer.read()).state === 'queued') queued.push(buffer);
  }
  if (queued.length < (queue.info.minQueuedBuffers ?? 1)) return;
  for (const buffer of queued) yield* vb2HandOver(queue, buffer);
  yield* queue.set({ started: true });
  yield* queue.info.ops.startStreaming();
}

/**
 * Hands a queued buffer to the hardware.
 *
 * @context The lock is held.
 * @source `__enqueue_in_driver()`
 */
export function* vb2HandOver(queue: Vb2Queue, buffer: Vb2Buffer): Atomic {
  const record = yield* buffer.read();
  for (const plane of record.planes) {
    yield* memoryOf(plane)?.turn?.take(queue.info.device.name) ?? nothing();
  }
  yield* buffer.write({ ...record, state: 'active' });
  yield* queue.info.ops.bufQueue(buffer);
}

/**
 * The hardware is done with a buffer: its turn is over, the program may take it.
 *
 * @context Any, also interrupt handlers; not under the lock.
 * @source `vb2_buffer_done()`
 */
export function* vb2BufferDone(
  queue: Vb2Queue,
  buffer: Vb2Buffer,
  ok: boolean,
  sequence: number,
): Atomic {
  const record = yield* buffer.read();
  if (record.state !== 'active') {
    const { scheduler } = queue.info.kernel;
    scheduler.warn('vb2_buffer_done', `buffer ${buffer.index} is not with the hardware`);
    return;
  }
  for (const plane of record.planes) {
    yield* finishPlane(plane);
    yield* memoryOf(plane)?.turn?.end(queue.info.device.name) ?? nothing();
  }
  const state = ok ? 'done' : 'error';
  const planes = record.planes.map((plane) => {
    return queue.isOutput ? plane : { ...plane, bytesused: ok ? plane.minLength : 0 };
  });
  yield* buffer.write({ ...record, planes, state, sequence, prepared: false });
  yield* queue.done.add(buffer);
  yield* queue.doneWait.wake();
}

/**
 * The end of the queue for whoever owned it.
 *
 * @context May sleep; the lock is held.
 * @source `vb2_core_queue_release()`
 */
export function* vb2QueueRelease(queue: Vb2Queue): Task {
  yield* vb2Cancel(queue);
  yield* vb2FreeBuffers(queue);
  yield* queue.set({ fileIo: false });
}

/**
 * Takes everything back from the hardware.
 *
 * @context May sleep; the lock is held.
 * @source `__vb2_queue_cancel()`
 */
function* vb2Cancel(queue: Vb2Queue): Task {
  const { started, buffers } = yield* queue.state.read();
  if (started) yield* queue.info.ops.stopStreaming();
  yield* queue.set({ streaming: false, started: false });
  yield* queue.done.clear();
  yield* queue.doneWait.wake();
  for (const buffer of buffers) {
    const record = yield* buffer.read();
    if (record.state === 'active') {
      const { scheduler } = queue.info.kernel;
      scheduler.warn('vb2_queue_cancel', `the driver kept buffer ${buffer.index}`);
    }
    if (record.prepared) for (const plane of record.planes) yield* finishPlane(plane);
    yield* buffer.write({ ...record, state: 'dequeued', prepared: false });
  }
}

function* finishPlane(plane: PlaneRecord): Atomic {
  const memory = memoryOf(plane);
  if (memory?.finish !== undefined) yield* memory.finish();
}

function* nothing(): Atomic {
  // There is no turn to take.
}
