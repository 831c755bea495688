/**
 * One buffer of a video queue: its planes, whose turn it is, and what a program is told of it.
 *
 * @source `struct vb2_buffer`, include/media/videobuf2-core.h, v7.2
 */

import type { DmaBuf } from '../../framework/index.ts';
import { type Scheduler, Shared } from '../../machine/index.ts';
import type { ImportedMemory, OwnMemory, PlaneMemory } from './memory.ts';

/**
 * Whose turn it is. `dequeued`: the program's; `queued`: the queue's, until it streams; `active`:
 * the hardware's; `done` and `error`: the program's, as soon as it dequeues.
 */
export type BufferState = 'dequeued' | 'queued' | 'active' | 'done' | 'error';

/** `struct vb2_plane`. */
export interface PlaneRecord {
  /** Bytes of the memory. */
  readonly length: number;
  /** Bytes that it has at least. */
  readonly minLength: number;
  /** Bytes of it that say something. */
  readonly bytesused: number;
  readonly dataOffset: number;
  /** For mmap(2) on the device. */
  readonly offset: number;
  readonly fd: number;
  readonly own: OwnMemory | null;
  readonly imported: ImportedMemory | null;
  /** A reference is held on it, once for each plane that names it. */
  readonly dbuf: DmaBuf | null;
  /** Its memory is that of an earlier plane, which has the attachment. */
  readonly isDuplicate: boolean;
}

/** What changes of a buffer. */
export interface BufferRecord {
  readonly state: BufferState;
  /** Memory was handed to the hardware ahead of the queueing. */
  readonly prepared: boolean;
  readonly planes: readonly PlaneRecord[];
  /** Of the frame, from 0. */
  readonly sequence: number;
}

/** What a program says of a plane when it queues a buffer. */
export interface PlaneRequest {
  readonly bytesused: number;
  /** With memory of another device; 0: all of it. */
  readonly length: number;
  readonly fd: number;
  readonly dataOffset: number;
}

/** What a program says of a buffer when it queues it. */
export interface BufferRequest {
  readonly index: number;
  readonly type: number;
  readonly memory: number;
  /** Null: a multi-planar buffer came without an array of planes. */
  readonly planes: readonly PlaneRequest[] | null;
}

/** A plane without memory. */
export const PLANE_EMPTY: PlaneRecord = {
  length: 0,
  minLength: 0,
  bytesused: 0,
  dataOffset: 0,
  offset: 0,
  fd: 0,
  own: null,
  imported: null,
  dbuf: null,
  isDuplicate: false,
};

/** `struct vb2_buffer`. Its record is guarded by the queue's lock, or the hardware's turn. */
export class Vb2Buffer extends Shared<BufferRecord> {
  readonly index: number;
  readonly queueType: number;

  constructor(
    scheduler: Scheduler,
    queueType: number,
    index: number,
    planes: readonly PlaneRecord[],
  ) {
    super(scheduler, `vb2 buffer ${queueType}/${index}`, {
      state: 'dequeued',
      prepared: false,
      planes,
      sequence: 0,
    });
    this.index = index;
    this.queueType = queueType;
  }
}

/** The memory of a plane, whose ever it is; null before there is any. */
export function memoryOf({ own, imported }: PlaneRecord): PlaneMemory | null {
  return own ?? imported;
}

/** Flags as `v4l2_buffer` has them. */
export const V4L2_BUF_FLAG: Readonly<
  Record<'MAPPED' | 'QUEUED' | 'DONE' | 'ERROR' | 'PREPARED', number>
> = { MAPPED: 1, QUEUED: 2, DONE: 4, ERROR: 0x40, PREPARED: 0x400 };

/**
 * The flags of a buffer.
 *
 * @source `__fill_v4l2_buffer()`
 */
export function flagsOf({ state, prepared, planes }: BufferRecord): number {
  const isMapped = planes.some(({ own }) => own !== null && own.numUsers() > 1);
  const mapped = isMapped ? V4L2_BUF_FLAG.MAPPED : 0;
  switch (state) {
    case 'queued':
    case 'active':
      return mapped | V4L2_BUF_FLAG.QUEUED;
    case 'done':
      return mapped | V4L2_BUF_FLAG.DONE;
    case 'error':
      return mapped | V4L2_BUF_FLAG.ERROR | V4L2_BUF_FLAG.DONE;
    case 'dequeued':
      return mapped | (prepared ? V4L2_BUF_FLAG.PREPARED : 0);
  }
}
