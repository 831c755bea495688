/**
 * The structs that programs and video devices hand each other: out of a program's memory, and back
 * into it.
 *
 * @source drivers/media/v4l2-core/v4l2-ioctl.c, v7.2; reference/linux-dma-buf.md G.3
 */

import {
  DmaBufError,
  joinBytes,
  V4L2_MEMORY,
  type V4l2Buffer,
  v4l2Buffer,
  type V4l2Plane,
  v4l2Plane,
} from '../../base/index.ts';
import { copyFromUser, copyToUser, type Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { BufferRequest, PlaneRecord, PlaneRequest } from './buffer.ts';
import type { BufferStatus } from './queue-buffers.ts';

/** LIMIT: planes that a program may name (`VIDEO_MAX_PLANES`). */
const PLANES_MAX = 8;

/** A `v4l2_buffer` as it was handed in. */
export interface BufferArgument {
  readonly raw: V4l2Buffer;
  readonly request: BufferRequest;
}

/**
 * Reads a `v4l2_buffer`, with its planes if its type has any.
 *
 * @throws {@link DmaBufError} `EFAULT`; `EINVAL` more planes than there can be.
 * @context May sleep in a page fault; no lock held.
 */
export function* readBuffer(
  process: Process,
  at: number,
  isMultiplanar: (type: number) => boolean,
): Task<BufferArgument> {
  const raw = yield* copyFromUser(process, at, v4l2Buffer);
  const planes = isMultiplanar(raw.type) ? yield* readPlanes(process, raw) : [planeOf(raw)];
  const { index, type, memory } = raw;
  return { raw, request: { index, type, memory, planes } };
}

/**
 * Tells a program of a buffer.
 *
 * @throws {@link DmaBufError} `EFAULT`; `EINVAL` a multi-planar one without room for its planes.
 * @context May sleep in a page fault; no lock held.
 */
export function* writeBuffer(
  process: Process,
  at: number,
  { raw }: BufferArgument,
  status: BufferStatus,
  isMultiplanar: boolean,
): Task {
  const { index, memory, flags, sequence, planes } = status;
  const said = { ...raw, index, memory, flags, sequence };
  if (!isMultiplanar) {
    const plane = planes[0] as PlaneRecord;
    const { bytesused, length } = plane;
    const m = memory === V4L2_MEMORY.MMAP ? { offset: plane.offset } : { fd: plane.fd };
    yield* copyToUser(process, at, v4l2Buffer.encode({ ...said, bytesused, length, m }));
    return;
  }
  const array = raw.m.planes ?? 0n;
  yield* copyToUser(process, array, joinBytes(...planes.map((plane) => planeBytes(plane, memory))));
  const m = { planes: array };
  yield* copyToUser(process, at, v4l2Buffer.encode({ ...said, length: planes.length, m }));
}

/** Null: there is no array. */
function* readPlanes(process: Process, raw: V4l2Buffer): Task<readonly PlaneRequest[] | null> {
  if (raw.length > PLANES_MAX) {
    throw new DmaBufError('EINVAL', 'ioctl(v4l2_buffer)', 'more-planes-than-there-can-be');
  }
  const array = raw.m.planes ?? 0n;
  if (array === 0n) return null;
  const planes: PlaneRequest[] = [];
  for (let i = 0; i < raw.length; i += 1) {
    const at = array + BigInt(i * v4l2Plane.size);
    const { bytesused, length, dataOffset, m }: V4l2Plane = yield* copyFromUser(
      process,
      at,
      v4l2Plane,
    );
    planes.push({ bytesused, length, dataOffset, fd: m.fd ?? 0 });
  }
  return planes;
}

/** The only plane of a buffer without an array. */
function planeOf({ bytesused, length, m }: V4l2Buffer): PlaneRequest {
  return { bytesused, length, fd: m.fd ?? 0, dataOffset: 0 };
}

function planeBytes(plane: PlaneRecord, memory: number): Uint8Array {
  const { bytesused, length, dataOffset, offset, fd } = plane;
  const m = memory === V4L2_MEMORY.MMAP ? { memOffset: offset } : { fd };
  return v4l2Plane.encode({ bytesused, length, dataOffset, m });
}
