/**
 * What a program may ask of a video device. Arguments are read before the queue's lock is taken and
 * written back after it is given up, as the core of V4L2 does it.
 *
 * @source drivers/media/v4l2-core/v4l2-ioctl.c, `vb2_ioctl_*()`, v7.2; reference/linux-dma-buf.md
 *   E.9, G.2
 */

import {
  DmaBufError,
  type Struct,
  u32,
  struct,
  v4l2Capability,
  v4l2CreateBuffers,
  v4l2Exportbuffer,
  v4l2Format,
  v4l2Requestbuffers,
  VIDIOC,
} from '../../base/index.ts';
import { copyFromUser, copyToUser, type KernelFile, type Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import { vb2Expbuf } from './expbuf.ts';
import {
  type BufferStatus,
  vb2Dqbuf,
  vb2PrepareBuf,
  vb2Qbuf,
  vb2Querybuf,
} from './queue-buffers.ts';
import { vb2CreateBufs, vb2Reqbufs } from './queue-memory.ts';
import { vb2Streamoff, vb2Streamon } from './queue-stream.ts';
import { BUFFERS_MAX, CAPABILITIES, isMultiplanarType, type Vb2Queue } from './queue.ts';
import { readBuffer, writeBuffer } from './v4l2-args.ts';

/** Bits of {@link V4l2Capability.capabilities}. */
const CAP = {
  VIDEO_CAPTURE: 1,
  VIDEO_OUTPUT: 2,
  VIDEO_M2M: 0x8000,
  READWRITE: 0x100_0000,
  STREAMING: 0x400_0000,
  DEVICE_CAPS: 0x8000_0000,
} as const;

/** One number, as `STREAMON` takes it. */
const typeArgument: Struct<{ readonly type: number }> = struct({ type: u32 });

/** The file, as far as the ioctls care. */
export interface VideoIoctlFile extends KernelFile {
  readonly video: { readonly queues: readonly Vb2Queue[]; readonly path: string };
}

/**
 * Does what the command says.
 *
 * @returns 0.
 * @throws {@link DmaBufError} `ENOTTY` no such command; `EFAULT`; `EBUSY` the queue is another
 *   file's; what the queue says.
 * @context May sleep; no lock held.
 */
export function* videoIoctl(
  file: VideoIoctlFile,
  request: number,
  arg: number,
  process: Process,
): Task<number> {
  switch (request) {
    case VIDIOC.QUERYCAP:
      return yield* querycap(file, arg, process);
    case VIDIOC.G_FMT:
    case VIDIOC.S_FMT:
      return yield* format(file, arg, process);
    case VIDIOC.REQBUFS:
      return yield* reqbufs(file, arg, process);
    case VIDIOC.CREATE_BUFS:
      return yield* createBufs(file, arg, process);
    case VIDIOC.QUERYBUF:
    case VIDIOC.PREPARE_BUF:
    case VIDIOC.QBUF:
    case VIDIOC.DQBUF:
      return yield* bufferCommand(file, request, arg, process);
    case VIDIOC.EXPBUF:
      return yield* expbuf(file, arg, process);
    case VIDIOC.STREAMON:
    case VIDIOC.STREAMOFF:
      return yield* stream(file, request, arg, process);
    default:
      throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-video-command');
  }
}

/** The queue for a type. A device with one queue lets that one say what is wrong with the type. */
function queueFor({ video }: VideoIoctlFile, type: number): Vb2Queue {
  const [only] = video.queues;
  if (video.queues.length === 1 && only !== undefined) return only;
  const found = video.queues.find(({ info }) => info.type === type);
  if (found !== undefined) return found;
  throw new DmaBufError('EINVAL', 'ioctl', 'device-has-no-such-queue', { detail: { type } });
}

/** Runs `body` with the queue locked. */
function* locked<T>(queue: Vb2Queue, body: Task<T>): Task<T> {
  yield* queue.lock.lock();
  try {
    return yield* body;
  } finally {
    yield* queue.lock.unlock();
  }
}

/** A queue with buffers belongs to the file that asked for them. @source `vb2_queue_is_busy()` */
function* refuseBusy(queue: Vb2Queue, file: VideoIoctlFile): Task {
  const owner = yield* queue.owner.read();
  if (owner === null || owner === file) return;
  throw new DmaBufError('EBUSY', 'ioctl', 'queue-is-of-another-file');
}

function* querycap({ video }: VideoIoctlFile, arg: number, process: Process): Task<number> {
  const inputs = video.queues.filter(({ isOutput }) => !isOutput).length;
  const outputs = video.queues.length - inputs;
  const isConverter = inputs > 0 && outputs > 0;
  const direction = inputs > 0 ? CAP.VIDEO_CAPTURE | CAP.READWRITE : CAP.VIDEO_OUTPUT;
  const deviceCaps = CAP.STREAMING | (isConverter ? CAP.VIDEO_M2M : direction);
  const capabilities = (deviceCaps | CAP.DEVICE_CAPS) >>> 0;
  const said = { driver: 'peerbuf', card: video.path, busInfo: 'platform:peerbuf' };
  yield* copyToUser(process, arg, v4l2Capability.encode({ ...said, capabilities, deviceCaps }));
  return 0;
}

/** The format is fixed: asked for or set, it is told. */
function* format(file: VideoIoctlFile, arg: number, process: Process): Task<number> {
  const { type } = yield* copyFromUser(process, arg, v4l2Format);
  const queue = queueFor(file, type);
  if (queue.info.type !== type) throw new DmaBufError('EINVAL', 'ioctl', 'format-of-another-type');
  const [sizeimage = 0] = queue.info.planeSizes;
  const pix = { width: sizeimage, height: 1, pixelformat: 0, field: 1, bytesperline: sizeimage };
  const fmt = { pix: { ...pix, sizeimage } };
  yield* copyToUser(process, arg, v4l2Format.encode({ type, fmt }));
  return 0;
}

function* reqbufs(file: VideoIoctlFile, arg: number, process: Process): Task<number> {
  const given = yield* copyFromUser(process, arg, v4l2Requestbuffers);
  const { type, memory } = given;
  const queue = queueFor(file, type);
  const count = yield* locked(queue, reqbufsLocked(queue, file, given));
  const bytes = v4l2Requestbuffers.encode({ count, type, memory, capabilities: CAPABILITIES });
  yield* copyToUser(process, arg, bytes);
  return 0;
}

function* reqbufsLocked(
  queue: Vb2Queue,
  file: VideoIoctlFile,
  { type, memory, count }: { readonly type: number; memory: number; count: number },
): Task<number> {
  yield* queue.verifyMemoryType('ioctl(VIDIOC_REQBUFS)', memory, type);
  yield* refuseBusy(queue, file);
  const made = yield* vb2Reqbufs(queue, memory, count);
  yield* queue.owner.write(made === 0 ? null : file);
  return made;
}

function* createBufs(file: VideoIoctlFile, arg: number, process: Process): Task<number> {
  const given = yield* copyFromUser(process, arg, v4l2CreateBuffers);
  const { type, fmt } = given.format;
  const queue = queueFor(file, type);
  const size = fmt.pix?.sizeimage ?? 0;
  const asked = { type, memory: given.memory, count: given.count, size };
  const made = yield* locked(queue, createLocked(queue, file, asked));
  const bytes = v4l2CreateBuffers.encode({
    ...given,
    ...made,
    capabilities: CAPABILITIES,
    maxNumBuffers: BUFFERS_MAX,
  });
  yield* copyToUser(process, arg, bytes);
  return 0;
}

function* createLocked(
  queue: Vb2Queue,
  file: VideoIoctlFile,
  asked: { readonly type: number; memory: number; count: number; size: number },
): Task<{ readonly index: number; readonly count: number }> {
  const { type, memory, count, size } = asked;
  const call = 'ioctl(VIDIOC_CREATE_BUFS)';
  const index = (yield* queue.state.read()).buffers.length;
  if (count === 0) {
    // Only asks what is possible, and a queue that is being read does not matter to that.
    queue.checkMemoryType(call, memory, type);
    return { index, count };
  }
  yield* queue.verifyMemoryType(call, memory, type);
  yield* refuseBusy(queue, file);
  const made = yield* vb2CreateBufs(queue, memory, count, size);
  yield* queue.owner.write(file);
  return { index, count: made };
}

function* bufferCommand(
  file: VideoIoctlFile,
  request: number,
  arg: number,
  process: Process,
): Task<number> {
  const given = yield* readBuffer(process, arg, isMultiplanarType);
  const queue = queueFor(file, given.request.type);
  const status = yield* locked(queue, doBuffer(queue, file, request, process, given.request));
  yield* writeBuffer(process, arg, given, status, queue.isMultiplanar);
  return 0;
}

function* doBuffer(
  queue: Vb2Queue,
  file: VideoIoctlFile,
  request: number,
  process: Process,
  wanted: Parameters<typeof vb2Qbuf>[2],
): Task<BufferStatus> {
  // Anybody may look.
  if (request === VIDIOC.QUERYBUF) return yield* vb2Querybuf(queue, wanted.type, wanted.index);
  yield* refuseBusy(queue, file);
  if (request === VIDIOC.DQBUF) {
    return yield* vb2Dqbuf(queue, wanted.type, file.mode.isNonBlocking);
  }
  if (request === VIDIOC.PREPARE_BUF) return yield* vb2PrepareBuf(queue, process, wanted);
  return yield* vb2Qbuf(queue, process, wanted);
}

function* expbuf(file: VideoIoctlFile, arg: number, process: Process): Task<number> {
  const given = yield* copyFromUser(process, arg, v4l2Exportbuffer);
  const queue = queueFor(file, given.type);
  const fd = yield* locked(queue, expbufLocked(queue, file, process, given));
  yield* copyToUser(process, arg, v4l2Exportbuffer.encode({ ...given, fd, reserved: [] }));
  return 0;
}

function* expbufLocked(
  queue: Vb2Queue,
  file: VideoIoctlFile,
  process: Process,
  given: Parameters<typeof vb2Expbuf>[2],
): Task<number> {
  yield* refuseBusy(queue, file);
  return yield* vb2Expbuf(queue, process, given);
}

function* stream(
  file: VideoIoctlFile,
  request: number,
  arg: number,
  process: Process,
): Task<number> {
  const { type } = yield* copyFromUser(process, arg, typeArgument);
  const queue = queueFor(file, type);
  yield* locked(queue, streamLocked(queue, file, request, type));
  return 0;
}

function* streamLocked(queue: Vb2Queue, file: VideoIoctlFile, request: number, type: number): Task {
  yield* refuseBusy(queue, file);
  yield* request === VIDIOC.STREAMON ? vb2Streamon(queue, type) : vb2Streamoff(queue, type);
}
