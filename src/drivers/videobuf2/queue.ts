/**
 * A queue of video buffers: programs allocate or bring memory, queue it, and get it back filled or
 * emptied. Who may touch a buffer follows from its state alone, so no fence is needed, and none is
 * added or waited for. What programs do with it is in the
 * files beside: memory, queueing, streaming, export.
 *
 * LOCKING: every method needs {@link Vb2Queue.lock}, unless it says otherwise.
 *
 * @source drivers/media/common/videobuf2/videobuf2-core.c, v7.2; reference/linux-dma-buf.md E.9
 */

import {
  DmaBufError,
  type DmaDirection,
  V4L2_BUF_CAP,
  V4L2_BUF_TYPE,
  V4L2_MEMORY,
} from '../../base/index.ts';
import { type Kernel, type KernelFile, WaitQueue } from '../../framework/index.ts';
import { type Atomic, type Device, Mutex, Shared, type Task } from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';
import { DoneList } from './done-list.ts';
import type { PlaneOwner, Vb2MemOps } from './memory.ts';

/** LIMIT: buffers of a queue (`VB2_MAX_FRAME`). */
export const BUFFERS_MAX = 32;

/** What `REQBUFS` says that the queue can do. */
export const CAPABILITIES: number =
  V4L2_BUF_CAP.SUPPORTS_MMAP |
  V4L2_BUF_CAP.SUPPORTS_DMABUF |
  V4L2_BUF_CAP.SUPPORTS_ORPHANED_BUFS |
  V4L2_BUF_CAP.SUPPORTS_MAX_NUM_BUFFERS;

/** What the driver of the device does (`struct vb2_ops`). */
export interface Vb2Ops {
  /** A buffer for the hardware. */
  bufQueue(buffer: Vb2Buffer): Atomic;
  startStreaming(): Task;
  /** Hands every buffer that it has back. */
  stopStreaming(): Task;
}

/** What a queue is made of. */
export interface Vb2QueueInfo {
  readonly kernel: Kernel;
  /** Does the DMA. */
  readonly device: Device;
  /** One of `V4L2_BUF_TYPE`. */
  readonly type: number;
  readonly memOps: Vb2MemOps;
  readonly ops: Vb2Ops;
  /** Bytes of each plane. */
  readonly planeSizes: readonly number[];
  /** Buffers that must be queued before the hardware starts. Default 1. */
  readonly minQueuedBuffers?: number;
  /** First offset of its buffers in the device's file, when several queues share one. */
  readonly offsetBase?: number;
  /** False: it has no `EXPBUF`. Default true. */
  readonly canExport?: boolean;
}

/** What changes of a queue. */
export interface QueueState {
  /** Kind of memory; 0 while there are no buffers. */
  readonly memory: number;
  readonly buffers: readonly Vb2Buffer[];
  readonly streaming: boolean;
  /** The hardware was started. */
  readonly started: boolean;
  /** Somebody sleeps in `DQBUF`. */
  readonly isWaitedFor: boolean;
  /** read(2) has it. */
  readonly fileIo: boolean;
}

const EMPTY: QueueState = {
  memory: 0,
  buffers: [],
  streaming: false,
  started: false,
  isWaitedFor: false,
  fileIo: false,
};

/** `struct vb2_queue`. */
export class Vb2Queue {
  readonly info: Vb2QueueInfo;
  /** Serialises the ioctls of the queue. */
  readonly lock: Mutex;
  /** Guarded by {@link lock}, but for `streaming`, which a sleeper looks at. */
  readonly state: Shared<QueueState>;
  /** Who may use the queue; null: everybody. Guarded by {@link lock}. */
  readonly owner: Shared<KernelFile | null>;
  readonly done: DoneList;
  readonly doneWait: WaitQueue;
  /** `mmap_lock`: buffers neither come nor go while a map is made. */
  readonly mmapLock: Mutex;

  constructor(info: Vb2QueueInfo) {
    const { scheduler } = info.kernel;
    const name = `vb2 queue ${info.type} of ${info.device.name}`;
    this.info = info;
    this.lock = new Mutex(scheduler, 'vb2_queue.lock');
    this.state = new Shared<QueueState>(scheduler, name, EMPTY);
    this.owner = new Shared<KernelFile | null>(scheduler, `${name} owner`, null);
    this.done = new DoneList(scheduler, `${name} done list`, []);
    this.doneWait = new WaitQueue(scheduler, `${name} done_wq`);
    this.mmapLock = new Mutex(scheduler, 'vb2_queue.mmap_lock');
  }

  /** True if the hardware reads. */
  get isOutput(): boolean {
    const { type } = this.info;
    return type === V4L2_BUF_TYPE.VIDEO_OUTPUT || type === V4L2_BUF_TYPE.VIDEO_OUTPUT_MPLANE;
  }

  /** True if buffers come with an array of planes. */
  get isMultiplanar(): boolean {
    return isMultiplanarType(this.info.type);
  }

  /** For whom memory is made. */
  get planeOwner(): PlaneOwner {
    const { kernel, device } = this.info;
    const direction: DmaDirection = this.isOutput ? 'to-device' : 'from-device';
    return { kernel, device, direction };
  }

  /**
   * Changes some of the state.
   *
   * @context The lock is held.
   */
  *set(change: Partial<QueueState>): Atomic {
    yield* this.state.write({ ...(yield* this.state.read()), ...change });
  }

  /**
   * Refuses a kind of memory that there is not, and another type of buffer.
   *
   * @throws {@link DmaBufError} `EINVAL`.
   */
  checkMemoryType(call: string, memory: number, type: number): void {
    if (memory !== V4L2_MEMORY.MMAP && memory !== V4L2_MEMORY.DMABUF) {
      throw new DmaBufError('EINVAL', call, 'queue-does-not-take-such-memory');
    }
    if (type !== this.info.type) throw new DmaBufError('EINVAL', call, 'buffers-of-another-type');
  }

  /**
   * As {@link checkMemoryType}, and refuses a queue that read(2) has.
   *
   * @throws {@link DmaBufError} `EINVAL`, `EBUSY`.
   * @context The lock is held.
   * @source `vb2_verify_memory_type()`
   */
  *verifyMemoryType(call: string, memory: number, type: number): Atomic {
    this.checkMemoryType(call, memory, type);
    yield* this.refuseFileIo(call);
  }

  /**
   * Refuses a queue that read(2) has.
   *
   * @throws {@link DmaBufError} `EBUSY`.
   * @context The lock is held.
   */
  *refuseFileIo(call: string): Atomic {
    if (!(yield* this.state.read()).fileIo) return;
    throw new DmaBufError('EBUSY', call, 'queue-is-being-read');
  }

  /**
   * A buffer by its number.
   *
   * @throws {@link DmaBufError} `EINVAL` there is none.
   * @context The lock is held.
   */
  *buffer(call: string, index: number): Atomic<Vb2Buffer> {
    const found = (yield* this.state.read()).buffers[index];
    if (found !== undefined) return found;
    throw new DmaBufError('EINVAL', call, 'no-such-buffer', { detail: { index } });
  }
}

/** True for a type whose buffers come with an array of planes. */
export function isMultiplanarType(type: number): boolean {
  return type === V4L2_BUF_TYPE.VIDEO_CAPTURE_MPLANE || type === V4L2_BUF_TYPE.VIDEO_OUTPUT_MPLANE;
}
