/**
 * Queueing and dequeueing: whose turn a buffer is changes here. Memory of other devices is taken in
 * at the first queueing and kept over the following ones.
 *
 * @source drivers/media/common/videobuf2/videobuf2-core.c, videobuf2-v4l2.c, v7.2;
 *   reference/linux-dma-buf.md E.9
 */

import { DmaBufError, V4L2_MEMORY } from '../../base/index.ts';
import { type Process, waitForAny } from '../../framework/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import {
  type BufferRequest,
  flagsOf,
  memoryOf,
  type PlaneRecord,
  type PlaneRequest,
  V4L2_BUF_FLAG,
  type Vb2Buffer,
} from './buffer.ts';
import { importPlanes } from './import-planes.ts';
import { vb2HandOver, vb2StartStreaming } from './queue-stream.ts';
import type { Vb2Queue } from './queue.ts';

/** What a program is told of a buffer. */
export interface BufferStatus {
  readonly index: number;
  readonly memory: number;
  readonly flags: number;
  readonly sequence: number;
  readonly planes: readonly PlaneRecord[];
}

/**
 * What there is to know of a buffer.
 *
 * @throws {@link DmaBufError} `EINVAL` another type, no such buffer.
 * @context The lock is held.
 * @source `vb2_querybuf()`
 */
export function* vb2Querybuf(queue: Vb2Queue, type: number, index: number): Atomic<BufferStatus> {
  const call = 'ioctl(VIDIOC_QUERYBUF)';
  if (type !== queue.info.type) throw new DmaBufError('EINVAL', call, 'query-of-another-type');
  return yield* statusOf(queue, yield* queue.buffer(call, index));
}

/**
 * Hands a buffer over ahead of its queueing: memory is taken in, caches are cleaned.
 *
 * @throws {@link DmaBufError} as {@link vb2Qbuf}; `EINVAL` it was prepared before.
 * @context May sleep; the lock is held.
 * @source `vb2_prepare_buf()`
 */
export function* vb2PrepareBuf(
  queue: Vb2Queue,
  process: Process,
  request: BufferRequest,
): Task<BufferStatus> {
  const call = 'ioctl(VIDIOC_PREPARE_BUF)';
  yield* queue.refuseFileIo(call);
  const buffer = yield* check(queue, call, request);
  if ((yield* buffer.read()).prepared) {
    throw new DmaBufError('EINVAL', call, 'buffer-is-prepared-already');
  }
  yield* prepare(queue, process, buffer, request.planes ?? []);
  return yield* statusOf(queue, buffer);
}

/**
 * Queues a buffer: it is the hardware's turn.
 *
 * @throws {@link DmaBufError} `EBUSY` read(2) has the queue; `EINVAL` another type, no such buffer,
 *   another kind of memory, not the program's turn, no array of planes or too short a one, more
 *   bytes used than there are; what taking the memory in says.
 * @context May sleep; the lock is held.
 * @source `vb2_qbuf()`
 */
export function* vb2Qbuf(
  queue: Vb2Queue,
  process: Process,
  request: BufferRequest,
): Task<BufferStatus> {
  const call = 'ioctl(VIDIOC_QBUF)';
  yield* queue.refuseFileIo(call);
  const buffer = yield* check(queue, call, request);
  if (!(yield* buffer.read()).prepared) {
    yield* prepare(queue, process, buffer, request.planes ?? []);
  }
  yield* enqueue(queue, buffer);
  return yield* statusOf(queue, buffer);
}

/**
 * Queues a buffer that is prepared.
 *
 * @context May sleep; the lock is held.
 * @source `vb2_core_qbuf()`
 */
export function* enqueue(queue: Vb2Queue, buffer: Vb2Buffer): Task {
  yield* buffer.write({ ...(yield* buffer.read()), state: 'queued' });
  if ((yield* queue.state.read()).started) yield* vb2HandOver(queue, buffer);
  else yield* vb2StartStreaming(queue);
}

/**
 * Takes the oldest buffer that the hardware is done with, and waits for one: without the lock
 * meanwhile.
 *
 * @returns What it was like when it was done; from now on it is the program's turn.
 * @throws {@link DmaBufError} `EBUSY` read(2) has the queue, or somebody else waits; `EINVAL`
 *   another type, or the queue does not stream (any more); `EAGAIN` there is none and the file does
 *   not block; `ERESTARTSYS` a signal.
 * @context May sleep, interruptibly; the lock is held.
 * @source `vb2_dqbuf()`
 */
export function* vb2Dqbuf(
  queue: Vb2Queue,
  type: number,
  isNonBlocking: boolean,
): Task<BufferStatus> {
  const call = 'ioctl(VIDIOC_DQBUF)';
  yield* queue.refuseFileIo(call);
  if (type !== queue.info.type) throw new DmaBufError('EINVAL', call, 'dequeue-of-another-type');
  const buffer = yield* takeDone(queue, isNonBlocking);
  const status = yield* statusOf(queue, buffer);
  yield* buffer.write({ ...(yield* buffer.read()), state: 'dequeued', prepared: false });
  return { ...status, flags: status.flags & ~V4L2_BUF_FLAG.DONE };
}

/**
 * Waits for a buffer that is done.
 *
 * @context May sleep, interruptibly; the lock is held, but not while it sleeps.
 * @source `__vb2_get_done_vb()`
 */
export function* takeDone(queue: Vb2Queue, isNonBlocking: boolean): Task<Vb2Buffer> {
  const call = 'ioctl(VIDIOC_DQBUF)';
  for (;;) {
    const { isWaitedFor, streaming } = yield* queue.state.read();
    if (isWaitedFor) throw new DmaBufError('EBUSY', call, 'somebody-else-waits-for-a-buffer');
    if (!streaming) throw new DmaBufError('EINVAL', call, 'queue-does-not-stream');
    // The queue is asked before the list, so no news in between is lost.
    const seen = yield* queue.doneWait.seen();
    const done = yield* queue.done.take();
    if (done !== null) return done;
    if (isNonBlocking) throw new DmaBufError('EAGAIN', call, 'no-buffer-is-done');
    yield* sleepUnlocked(queue, seen);
  }
}

function* sleepUnlocked(queue: Vb2Queue, seen: number): Task {
  const { scheduler, signals } = queue.info.kernel;
  yield* queue.set({ isWaitedFor: true });
  yield* queue.lock.unlock();
  try {
    const news = [{ queue: queue.doneWait, seen }];
    const sleep = waitForAny(scheduler.clock, news, Number.POSITIVE_INFINITY);
    yield* signals.interruptible(sleep, 'ioctl(VIDIOC_DQBUF)');
  } finally {
    yield* queue.lock.lock();
    yield* queue.set({ isWaitedFor: false });
  }
}

/** The checks of both ways to hand a buffer over, in the kernel's order. */
function* check(queue: Vb2Queue, call: string, request: BufferRequest): Atomic<Vb2Buffer> {
  const { type, index, memory, planes } = request;
  if (type !== queue.info.type) throw new DmaBufError('EINVAL', call, 'buffer-of-another-type');
  const buffer = yield* queue.buffer(call, index);
  if (memory !== (yield* queue.state.read()).memory) {
    throw new DmaBufError('EINVAL', call, 'buffer-with-other-memory');
  }
  const record = yield* buffer.read();
  if (record.state !== 'dequeued') {
    throw new DmaBufError('EINVAL', call, 'buffer-is-queued-already', { detail: { index } });
  }
  if (record.prepared) return buffer;
  if (planes === null || planes.length < record.planes.length) {
    throw new DmaBufError('EINVAL', call, 'planes-are-missing');
  }
  if (queue.isOutput) checkUsed(call, record.planes, planes, memory);
  return buffer;
}

/** What is to be output must be there. @source `__verify_length()` */
function checkUsed(
  call: string,
  planes: readonly PlaneRecord[],
  wanted: readonly PlaneRequest[],
  memory: number,
): void {
  for (const [i, plane] of planes.entries()) {
    const { bytesused, length, dataOffset } = wanted[i] as PlaneRequest;
    const room = memory === V4L2_MEMORY.MMAP ? plane.length : length;
    // A buffer taken whole has its length from the dma-buf, which nobody has looked at yet.
    const isTaken = memory !== V4L2_MEMORY.MMAP && length === 0;
    if (bytesused > room && !isTaken) {
      throw new DmaBufError('EINVAL', call, 'more-bytes-used-than-there-are');
    }
    if (dataOffset > 0 && dataOffset >= bytesused) {
      throw new DmaBufError('EINVAL', call, 'data-begin-behind-their-end');
    }
  }
}

/** @source `__buf_prepare()` */
function* prepare(
  queue: Vb2Queue,
  process: Process,
  buffer: Vb2Buffer,
  wanted: readonly PlaneRequest[],
): Task {
  const { memory } = yield* queue.state.read();
  if (memory === V4L2_MEMORY.DMABUF) {
    const { memOps } = queue.info;
    yield* importPlanes({ owner: queue.planeOwner, memOps }, process, buffer, wanted);
  }
  const record = yield* buffer.read();
  const planes = record.planes.map((plane, i) => usedOf(queue, plane, wanted[i]));
  for (const plane of planes) {
    const own = memoryOf(plane);
    if (own?.prepare !== undefined) yield* own.prepare();
  }
  yield* buffer.write({ ...record, planes, prepared: true });
}

/** Nothing said of an output means all of it. */
function usedOf(
  queue: Vb2Queue,
  plane: PlaneRecord,
  wanted: PlaneRequest | undefined,
): PlaneRecord {
  const bytesused = queue.isOutput ? wanted?.bytesused || plane.length : 0;
  return { ...plane, bytesused, dataOffset: wanted?.dataOffset ?? 0 };
}

function* statusOf(queue: Vb2Queue, buffer: Vb2Buffer): Atomic<BufferStatus> {
  const { memory } = yield* queue.state.read();
  const record = yield* buffer.read();
  const { sequence, planes } = record;
  return { index: buffer.index, memory, flags: flagsOf(record), sequence, planes };
}
