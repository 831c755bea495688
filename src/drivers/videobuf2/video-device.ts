/**
 * A video device: a file for programs, one queue or two of buffers, and hardware that moves their
 * bytes. What the hardware does with them, who makes the device says; the queues do not care.
 *
 * Not modelled: formats, controls, events, user pointers, requests, overlays, cache hints.
 *
 * @source drivers/media/v4l2-core/v4l2-ioctl.c, drivers/media/common/videobuf2/videobuf2-v4l2.c,
 *   v7.2; reference/linux-dma-buf.md E.9
 */

import { DmaBufError, PAGE_SIZE, V4L2_BUF_TYPE } from '../../base/index.ts';
import {
  type DeviceNode,
  type FileOperations,
  type Kernel,
  KernelFile,
  type OpenMode,
  type PollTable,
  POLLERR,
  POLLIN,
  POLLOUT,
  type Process,
  type Vma,
} from '../../framework/index.ts';
import { type Atomic, type Device, Shared, type Task } from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';
import { type EngineWork, VideoEngine } from './engine.ts';
import { readFrames } from './file-io.ts';
import type { Vb2MemOps } from './memory.ts';
import { Vb2Queue } from './queue.ts';
import { vb2Mmap } from './queue-memory.ts';
import { vb2BufferDone, vb2QueueRelease } from './queue-stream.ts';
import { videoIoctl } from './video-ioctl.ts';

/** Bytes between the offsets of two queues in one file (`DST_QUEUE_OFF_BASE`). */
const QUEUE_OFFSET = 2 ** 30;

/** One queue of a device. */
export interface VideoQueueOptions {
  /** One of `V4L2_BUF_TYPE`. */
  readonly type: number;
  readonly memOps: Vb2MemOps;
  /** Bytes of each plane. */
  readonly planeSizes: readonly number[];
  /** Buffers that must be queued before the hardware starts. Default 1. */
  readonly minQueuedBuffers?: number;
  /** False: no `EXPBUF`. Default true. */
  readonly canExport?: boolean;
}

/** A device to be. */
export interface VideoDeviceOptions {
  /** Path of its file: `/dev/video0`. */
  readonly path: string;
  /** Does the DMA. */
  readonly device: Device;
  readonly queues: readonly VideoQueueOptions[];
  /** What the hardware does with a buffer of each queue. */
  readonly work: EngineWork;
  /** Virtual nanoseconds that a job takes. Default 1 ms. */
  readonly jobNs?: number;
}

const JOB_NS_DEFAULT = 1_000_000;

/** A video device with its hardware. */
export class VideoDevice implements DeviceNode {
  readonly kernel: Kernel;
  readonly path: string;
  readonly device: Device;
  readonly queues: readonly Vb2Queue[];
  readonly engine: VideoEngine;

  /** @context At boot: the file is there and the hardware runs afterwards. */
  constructor(kernel: Kernel, options: VideoDeviceOptions) {
    const { path, device, work, jobNs = JOB_NS_DEFAULT } = options;
    const { scheduler } = kernel;
    const types = options.queues.map(({ type }) => type);
    this.kernel = kernel;
    this.path = path;
    this.device = device;
    this.engine = new VideoEngine(scheduler, `engine of ${path}`, types);
    this.queues = options.queues.map((queue, i) => this.makeQueue(queue, i));
    kernel.nodes.add(path, this);
    scheduler.spawn(
      this.engine.run(scheduler, jobNs, work, (buffer, ok, sequence) =>
        vb2BufferDone(this.queueOf(buffer), buffer, ok, sequence),
      ),
      { name: `${path} hardware`, role: 'device', daemon: true },
    );
  }

  /**
   * The queue of a type; null if the device has none.
   *
   * @param type - One of `V4L2_BUF_TYPE`.
   */
  queue(type: number): Vb2Queue | null {
    return this.queues.find(({ info }) => info.type === type) ?? null;
  }

  /** @context May sleep. */
  *open(process: Process, mode: OpenMode): Task<KernelFile> {
    return new VideoFile(this, process, mode);
  }

  private queueOf({ queueType }: Vb2Buffer): Vb2Queue {
    return this.queue(queueType) as Vb2Queue;
  }

  private makeQueue(options: VideoQueueOptions, index: number): Vb2Queue {
    const { kernel, device, engine } = this;
    const { type } = options;
    return new Vb2Queue({
      ...options,
      kernel,
      device,
      offsetBase: index * QUEUE_OFFSET,
      ops: {
        bufQueue: (buffer) => giveToEngine(engine, buffer),
        startStreaming: () => startEngine(engine, type),
        stopStreaming: () => this.stopEngine(type),
      },
    });
  }

  /** What was not begun comes back; what was begun is waited for. */
  private *stopEngine(type: number): Task {
    const { engine } = this;
    const queue = this.queue(type) as Vb2Queue;
    for (const buffer of yield* engine.halt(type)) {
      yield* vb2BufferDone(queue, buffer, false, 0);
    }
    yield* engine.untilIdle(type);
  }
}

function* giveToEngine(engine: VideoEngine, buffer: Vb2Buffer): Atomic {
  yield* engine.give(buffer);
}

function* startEngine(engine: VideoEngine, type: number): Task {
  yield* engine.start(type);
}

/** An open file of a video device. */
export class VideoFile extends KernelFile {
  readonly video: VideoDevice;
  readonly process: Process;
  /** What read(2) has of a frame that it did not hand out yet. */
  readonly leftOver: Shared<Uint8Array>;

  constructor(video: VideoDevice, process: Process, mode: OpenMode) {
    super(video.kernel, video.path, VIDEO_FILE_OPERATIONS, mode);
    this.video = video;
    this.process = process;
    const { scheduler } = video.kernel;
    this.leftOver = new Shared<Uint8Array>(scheduler, `${video.path} frame`, new Uint8Array(0));
  }
}

const VIDEO_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    if (!(file instanceof VideoFile)) return;
    for (const queue of file.video.queues) {
      yield* queue.lock.lock();
      if ((yield* queue.owner.read()) === file) {
        yield* vb2QueueRelease(queue);
        yield* queue.owner.write(null);
      }
      yield* queue.lock.unlock();
    }
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof VideoFile)) return 0;
    return yield* videoIoctl(file, request, arg, process);
  },

  *read(file: KernelFile, length: number): Task<Uint8Array> {
    const capture =
      file instanceof VideoFile ? file.video.queue(V4L2_BUF_TYPE.VIDEO_CAPTURE) : null;
    if (!(file instanceof VideoFile) || capture === null) {
      throw new DmaBufError('EINVAL', 'read', 'device-does-not-capture');
    }
    return yield* readFrames(file, capture, length);
  },

  *mmap(file: KernelFile, vma: Vma): Task {
    if (!(file instanceof VideoFile)) return;
    const { queues } = file.video;
    const at = Math.floor((vma.pgoff * PAGE_SIZE) / QUEUE_OFFSET);
    const queue = queues[at];
    if (queue === undefined) throw new DmaBufError('EINVAL', 'mmap', 'no-queue-at-the-offset');
    yield* vb2Mmap(queue, vma);
  },

  *poll(file: KernelFile, table: PollTable): Task<number> {
    if (!(file instanceof VideoFile)) return POLLERR;
    let events = 0;
    for (const queue of file.video.queues) events |= yield* pollQueue(queue, table);
    return events;
  },
};

/** Ready when a buffer is done; an error while it cannot become so. @source `vb2_core_poll()` */
function* pollQueue(queue: Vb2Queue, table: PollTable): Task<number> {
  const wanted = queue.isOutput ? POLLOUT : POLLIN;
  if ((table.events & wanted) === 0) return 0;
  yield* table.wait(queue.doneWait);
  const { streaming, buffers } = yield* queue.state.read();
  if (!streaming) return POLLERR;
  // A buffer that is not queued can be filled.
  const isFree = buffers.some(({ value }) => value.state === 'dequeued');
  if (queue.isOutput && isFree) return POLLOUT;
  return (yield* queue.done.isEmpty()) ? 0 : wanted;
}
