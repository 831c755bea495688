/**
 * read(2) on a capture device: the kernel queues buffers for the program and copies frames out of
 * them. While it does, the program cannot use the queue itself.
 *
 * @source `__vb2_init_fileio()`, `__vb2_perform_fileio()`, videobuf2-core.c, v7.2
 */

import { DmaBufError, V4L2_MEMORY } from '../../base/index.ts';
import type { KernelFile } from '../../framework/index.ts';
import type { Shared, Task } from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';
import { enqueue, takeDone } from './queue-buffers.ts';
import { vb2Reqbufs } from './queue-memory.ts';
import { vb2StartStreaming } from './queue-stream.ts';
import type { Vb2Queue } from './queue.ts';

/** Buffers that the kernel works with. */
const FILE_IO_BUFFERS = 2;

/** A file that is read. */
export interface ReadFile extends KernelFile {
  /** What of a frame was not handed out yet. */
  readonly leftOver: Shared<Uint8Array>;
}

/**
 * The next bytes: of the frame that was begun, or of a new one.
 *
 * @returns At most `length` bytes, of one frame.
 * @throws {@link DmaBufError} `EBUSY` the queue has buffers, or is another file's; `EAGAIN` no
 *   frame is there and the file does not block; `ENOMEM`; `ERESTARTSYS` a signal.
 * @context May sleep, interruptibly; no lock held.
 * @source `vb2_fop_read()`
 */
export function* readFrames(file: ReadFile, queue: Vb2Queue, length: number): Task<Uint8Array> {
  yield* queue.lock.lock();
  try {
    const owner = yield* queue.owner.read();
    if (owner !== null && owner !== file) {
      throw new DmaBufError('EBUSY', 'read', 'video-is-of-another-file');
    }
    if (!(yield* queue.state.read()).fileIo) {
      yield* begin(queue);
      yield* queue.owner.write(file);
    }
    const left = yield* file.leftOver.read();
    const frame = left.length > 0 ? left : yield* nextFrame(queue, file.mode.isNonBlocking);
    yield* file.leftOver.write(frame.slice(length));
    return frame.slice(0, length);
  } finally {
    yield* queue.lock.unlock();
  }
}

function* begin(queue: Vb2Queue): Task {
  const { buffers, streaming } = yield* queue.state.read();
  if (buffers.length > 0 || streaming) {
    throw new DmaBufError('EBUSY', 'read', 'program-queues-buffers-itself');
  }
  yield* vb2Reqbufs(queue, V4L2_MEMORY.MMAP, FILE_IO_BUFFERS);
  yield* queue.set({ fileIo: true, streaming: true });
  for (const buffer of (yield* queue.state.read()).buffers) yield* give(queue, buffer);
  yield* vb2StartStreaming(queue);
}

function* nextFrame(queue: Vb2Queue, isNonBlocking: boolean): Task<Uint8Array> {
  const buffer = yield* takeDone(queue, isNonBlocking);
  const [plane] = (yield* buffer.read()).planes;
  const bytes = yield* plane?.own?.vaddr.load(0, plane.bytesused) ?? noBytes();
  yield* give(queue, buffer);
  return bytes;
}

function* noBytes(): Generator<never, Uint8Array> {
  return new Uint8Array(0);
}

/** It is the hardware's turn. */
function* give(queue: Vb2Queue, buffer: Vb2Buffer): Task {
  const record = yield* buffer.read();
  for (const { own } of record.planes) if (own?.prepare !== undefined) yield* own.prepare();
  yield* buffer.write({ ...record, prepared: true });
  yield* enqueue(queue, buffer);
}
