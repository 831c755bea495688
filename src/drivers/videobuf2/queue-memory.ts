/**
 * Memory of a video queue: buffers are made, mapped and given back. What a process maps or what was
 * exported outlives its buffer.
 *
 * @source drivers/media/common/videobuf2/videobuf2-core.c, v7.2; reference/linux-dma-buf.md E.9
 */

import { alignUp, DmaBufError, isDmaBufError, PAGE_SIZE, V4L2_MEMORY } from '../../base/index.ts';
import type { Vma } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import { PLANE_EMPTY, type PlaneRecord, Vb2Buffer } from './buffer.ts';
import { releasePlanes } from './import-planes.ts';
import type { OwnMemory } from './memory.ts';
import { BUFFERS_MAX, type Vb2Queue } from './queue.ts';

/** Buffers are this far apart in the file that programs map; planes one page. */
const BUFFER_STRIDE = 8 * PAGE_SIZE;

/**
 * Gives all buffers back and makes others; none, if `count` is 0. Memory that a process maps or
 * that was exported stays, orphaned, until the last of them lets go.
 *
 * @returns How many there are now.
 * @throws {@link DmaBufError} `EBUSY` the queue streams, or somebody waits in `DQBUF`; `ENOMEM`.
 * @context May sleep; the lock is held.
 * @source `vb2_core_reqbufs()`
 */
export function* vb2Reqbufs(queue: Vb2Queue, memory: number, count: number): Task<number> {
  const call = 'ioctl(VIDIOC_REQBUFS)';
  const { streaming, isWaitedFor, buffers } = yield* queue.state.read();
  if (streaming) throw new DmaBufError('EBUSY', call, 'queue-is-streaming');
  if (isWaitedFor && count > 0) throw new DmaBufError('EBUSY', call, 'somebody-waits-for-buffers');
  if (count === 0 || buffers.length > 0) yield* vb2FreeBuffers(queue);
  if (count === 0) return 0;
  const wanted = Math.max(count, queue.info.minQueuedBuffers ?? 1);
  return yield* allocate(queue, memory, Math.min(wanted, BUFFERS_MAX), queue.info.planeSizes);
}

/**
 * Makes more buffers, of a size that the program names.
 *
 * @param size - Bytes of the only plane; 0: as the format has it.
 * @returns How many were made.
 * @throws {@link DmaBufError} `ENOBUFS` there are as many as there can be; `EBUSY` somebody waits
 *   in `DQBUF`; `EINVAL` the others have another kind of memory, or the size is too small;
 *   `ENOMEM`.
 * @context May sleep; the lock is held.
 * @source `vb2_core_create_bufs()`
 */
export function* vb2CreateBufs(
  queue: Vb2Queue,
  memory: number,
  count: number,
  size: number,
): Task<number> {
  const call = 'ioctl(VIDIOC_CREATE_BUFS)';
  const { buffers, isWaitedFor, memory: has } = yield* queue.state.read();
  const left = BUFFERS_MAX - buffers.length;
  if (left === 0) throw new DmaBufError('ENOBUFS', call, 'queue-has-all-buffers-it-can');
  if (buffers.length === 0) {
    if (isWaitedFor) throw new DmaBufError('EBUSY', call, 'somebody-waits-for-a-first-buffer');
  } else if (has !== memory) {
    throw new DmaBufError('EINVAL', call, 'buffers-have-other-memory');
  }
  const [first = 0, ...others] = queue.info.planeSizes;
  if (size !== 0 && size < first) {
    throw new DmaBufError('EINVAL', call, 'image-does-not-fit-such-buffers');
  }
  return yield* allocate(queue, memory, Math.min(count, left), [size || first, ...others]);
}

/**
 * Maps a plane of the queue's own memory into a process.
 *
 * @throws {@link DmaBufError} `EINVAL` the memory is not the queue's; the map is private, or
 *   lacks the right that the queue's direction needs; no plane there, or a longer map. `EBUSY`
 *   read(2) has the queue.
 * @context May sleep; the process's mmap lock is held for writing, {@link lock} is not.
 * @source `vb2_mmap()`
 */
export function* vb2Mmap(queue: Vb2Queue, vma: Vma): Task {
  const refuse = (reason: string): DmaBufError => new DmaBufError('EINVAL', 'mmap', reason);
  yield* queue.mmapLock.lock();
  try {
    const { memory, buffers } = yield* queue.state.read();
    if (!vma.isShared) throw refuse('video-map-is-private');
    if (queue.isOutput ? !vma.write : !vma.read) throw refuse('video-map-lacks-a-right');
    if (memory !== V4L2_MEMORY.MMAP) throw refuse('nothing-of-the-queue-to-map');
    yield* queue.refuseFileIo('mmap');
    const planes: PlaneRecord[] = [];
    for (const buffer of buffers) planes.push(...(yield* buffer.read()).planes);
    const plane = planes.find(({ offset }) => offset === vma.pgoff * PAGE_SIZE);
    if (plane === undefined || plane.own === null) throw refuse('no-plane-at-the-offset');
    if (vma.size > alignUp(plane.length, PAGE_SIZE)) throw refuse('map-longer-than-the-plane');
    // Found by its offset in the device's file; the memory begins at its own beginning.
    vma.pgoff = 0;
    yield* plane.own.mmap(vma);
  } finally {
    yield* queue.mmapLock.unlock();
  }
}

/** As many as there is memory for; none is an error. */
function* allocate(
  queue: Vb2Queue,
  memory: number,
  count: number,
  sizes: readonly number[],
): Task<number> {
  yield* queue.mmapLock.lock();
  try {
    const { buffers } = yield* queue.state.read();
    const made: Vb2Buffer[] = [];
    for (let i = 0; i < count; i += 1) {
      const buffer = yield* makeBuffer(queue, memory, buffers.length + i, sizes);
      if (buffer === null) break;
      made.push(buffer);
    }
    if (made.length === 0) {
      throw new DmaBufError('ENOMEM', 'vb2_queue_alloc', 'no-memory-for-a-buffer');
    }
    yield* queue.set({ memory, buffers: [...buffers, ...made] });
    return made.length;
  } finally {
    yield* queue.mmapLock.unlock();
  }
}

function* makeBuffer(
  queue: Vb2Queue,
  memory: number,
  index: number,
  sizes: readonly number[],
): Task<Vb2Buffer | null> {
  const { kernel, type, memOps, offsetBase = 0 } = queue.info;
  const planes: PlaneRecord[] = [];
  for (const [i, minLength] of sizes.entries()) {
    const empty = { ...PLANE_EMPTY, minLength };
    if (memory !== V4L2_MEMORY.MMAP) {
      planes.push(empty);
      continue;
    }
    const length = alignUp(minLength, PAGE_SIZE);
    const own = yield* orNull(memOps.alloc(queue.planeOwner, length));
    if (own === null) {
      for (const plane of planes) yield* putPlane(plane);
      return null;
    }
    const offset = offsetBase + index * BUFFER_STRIDE + i * PAGE_SIZE;
    planes.push({ ...empty, length: minLength, offset, own });
  }
  return new Vb2Buffer(kernel.scheduler, type, index, planes);
}

/**
 * Gives all buffers back.
 *
 * @context May sleep; the lock is held.
 * @source `__vb2_queue_free()`
 */
export function* vb2FreeBuffers(queue: Vb2Queue): Task {
  yield* queue.mmapLock.lock();
  const { buffers } = yield* queue.state.read();
  yield* queue.set({ buffers: [], memory: 0 });
  for (const buffer of buffers) {
    yield* releasePlanes(buffer);
    for (const plane of (yield* buffer.read()).planes) yield* putPlane(plane);
  }
  yield* queue.mmapLock.unlock();
}

function* putPlane({ own }: PlaneRecord): Task {
  if (own !== null) yield* own.put();
}

function* orNull(task: Task<OwnMemory>): Task<OwnMemory | null> {
  try {
    return yield* task;
  } catch (error) {
    if (isDmaBufError(error)) return null;
    throw error;
  }
}
