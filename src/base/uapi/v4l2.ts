/**
 * What a program may ask of a video device about its buffers.
 *
 * @source include/uapi/linux/videodev2.h, v7.2; reference/linux-dma-buf.md G
 */

import { type IoctlDirection, ioctlNumber } from './ioctl-number.ts';
import { arrayOf, chars, type Struct, s32, struct, u32, u64, u8, union } from './struct.ts';

function video(direction: IoctlDirection, nr: number, size: number): number {
  return ioctlNumber(direction, 'V', nr, size);
}

/** Numbers of a video device's ioctls. */
export const VIDIOC: Readonly<
  Record<
    | 'QUERYCAP'
    | 'G_FMT'
    | 'S_FMT'
    | 'REQBUFS'
    | 'QUERYBUF'
    | 'QBUF'
    | 'EXPBUF'
    | 'DQBUF'
    | 'STREAMON'
    | 'STREAMOFF'
    | 'CREATE_BUFS'
    | 'PREPARE_BUF',
    number
  >
> = {
  QUERYCAP: video('r', 0, 104),
  G_FMT: video('rw', 4, 208),
  S_FMT: video('rw', 5, 208),
  REQBUFS: video('rw', 8, 20),
  QUERYBUF: video('rw', 9, 88),
  QBUF: video('rw', 15, 88),
  EXPBUF: video('rw', 16, 64),
  DQBUF: video('rw', 17, 88),
  STREAMON: video('w', 18, 4),
  STREAMOFF: video('w', 19, 4),
  CREATE_BUFS: video('rw', 92, 256),
  PREPARE_BUF: video('rw', 93, 88),
};

/** `enum v4l2_buf_type`. */
export const V4L2_BUF_TYPE: Readonly<
  Record<'VIDEO_CAPTURE' | 'VIDEO_OUTPUT' | 'VIDEO_CAPTURE_MPLANE' | 'VIDEO_OUTPUT_MPLANE', number>
> = { VIDEO_CAPTURE: 1, VIDEO_OUTPUT: 2, VIDEO_CAPTURE_MPLANE: 9, VIDEO_OUTPUT_MPLANE: 10 };

/** `enum v4l2_memory`. */
export const V4L2_MEMORY: Readonly<Record<'MMAP' | 'USERPTR' | 'OVERLAY' | 'DMABUF', number>> = {
  MMAP: 1,
  USERPTR: 2,
  OVERLAY: 3,
  DMABUF: 4,
};

/** Bits of {@link V4l2Requestbuffers.capabilities}. */
export const V4L2_BUF_CAP: Readonly<
  Record<
    | 'SUPPORTS_MMAP'
    | 'SUPPORTS_USERPTR'
    | 'SUPPORTS_DMABUF'
    | 'SUPPORTS_REQUESTS'
    | 'SUPPORTS_ORPHANED_BUFS'
    | 'SUPPORTS_M2M_HOLD_CAPTURE_BUF'
    | 'SUPPORTS_MMAP_CACHE_HINTS'
    | 'SUPPORTS_MAX_NUM_BUFFERS'
    | 'SUPPORTS_REMOVE_BUFS',
    number
  >
> = {
  SUPPORTS_MMAP: 1,
  SUPPORTS_USERPTR: 2,
  SUPPORTS_DMABUF: 4,
  SUPPORTS_REQUESTS: 8,
  SUPPORTS_ORPHANED_BUFS: 0x10,
  SUPPORTS_M2M_HOLD_CAPTURE_BUF: 0x20,
  SUPPORTS_MMAP_CACHE_HINTS: 0x40,
  SUPPORTS_MAX_NUM_BUFFERS: 0x80,
  SUPPORTS_REMOVE_BUFS: 0x100,
};

/** `struct v4l2_capability`. */
export interface V4l2Capability {
  readonly driver: string;
  readonly card: string;
  readonly busInfo: string;
  readonly version: number;
  readonly capabilities: number;
  readonly deviceCaps: number;
  readonly reserved: readonly number[];
}

/** Layout of {@link V4l2Capability}. */
export const v4l2Capability: Struct<V4l2Capability> = struct({
  driver: chars(16),
  card: chars(32),
  busInfo: chars(32),
  version: u32,
  capabilities: u32,
  deviceCaps: u32,
  reserved: arrayOf(u32, 3),
});

/** `struct v4l2_requestbuffers`. */
export interface V4l2Requestbuffers {
  readonly count: number;
  readonly type: number;
  readonly memory: number;
  /** Told. */
  readonly capabilities: number;
  readonly flags: number;
  readonly reserved: readonly number[];
}

/** Layout of {@link V4l2Requestbuffers}. */
export const v4l2Requestbuffers: Struct<V4l2Requestbuffers> = struct({
  count: u32,
  type: u32,
  memory: u32,
  capabilities: u32,
  flags: u8,
  reserved: arrayOf(u8, 3),
});

/** `struct v4l2_exportbuffer`. */
export interface V4l2Exportbuffer {
  readonly type: number;
  readonly index: number;
  readonly plane: number;
  readonly flags: number;
  /** Told. */
  readonly fd: number;
  readonly reserved: readonly number[];
}

/** Layout of {@link V4l2Exportbuffer}. */
export const v4l2Exportbuffer: Struct<V4l2Exportbuffer> = struct({
  type: u32,
  index: u32,
  plane: u32,
  flags: u32,
  fd: s32,
  reserved: arrayOf(u32, 11),
});

/** Where the memory of a plane is, by kind of memory. */
export interface V4l2PlaneMemory {
  readonly memOffset: number;
  readonly userptr: bigint;
  readonly fd: number;
}

/** `struct v4l2_plane`. */
export interface V4l2Plane {
  readonly bytesused: number;
  readonly length: number;
  readonly m: Partial<V4l2PlaneMemory>;
  readonly dataOffset: number;
  readonly reserved: readonly number[];
}

/** Layout of {@link V4l2Plane}. */
export const v4l2Plane: Struct<V4l2Plane> = struct({
  bytesused: u32,
  length: u32,
  m: union<V4l2PlaneMemory>({ memOffset: u32, userptr: u64, fd: s32 }),
  dataOffset: u32,
  reserved: arrayOf(u32, 11),
});

/** `struct timeval` with 64 bits. */
export interface Timeval {
  readonly sec: bigint;
  readonly usec: bigint;
}

/** `struct v4l2_timecode`. */
export interface V4l2Timecode {
  readonly type: number;
  readonly flags: number;
  readonly frames: number;
  readonly seconds: number;
  readonly minutes: number;
  readonly hours: number;
  readonly userbits: readonly number[];
}

/** Where the memory of a buffer is, by kind of memory. */
export interface V4l2BufferMemory {
  readonly offset: number;
  readonly userptr: bigint;
  /** Address of an array of `v4l2_plane`. */
  readonly planes: bigint;
  readonly fd: number;
}

/** `struct v4l2_buffer`. */
export interface V4l2Buffer {
  readonly index: number;
  readonly type: number;
  readonly bytesused: number;
  readonly flags: number;
  readonly field: number;
  readonly timestamp: Timeval;
  readonly timecode: V4l2Timecode;
  readonly sequence: number;
  readonly memory: number;
  readonly m: Partial<V4l2BufferMemory>;
  /** Bytes; with planes, how many there are. */
  readonly length: number;
  readonly reserved2: number;
  readonly requestFd: number;
}

/** Layout of {@link V4l2Buffer}. */
export const v4l2Buffer: Struct<V4l2Buffer> = struct({
  index: u32,
  type: u32,
  bytesused: u32,
  flags: u32,
  field: u32,
  timestamp: struct<Timeval>({ sec: u64, usec: u64 }),
  timecode: struct<V4l2Timecode>({
    type: u32,
    flags: u32,
    frames: u8,
    seconds: u8,
    minutes: u8,
    hours: u8,
    userbits: arrayOf(u8, 4),
  }),
  sequence: u32,
  memory: u32,
  m: union<V4l2BufferMemory>({ offset: u32, userptr: u64, planes: u64, fd: s32 }),
  length: u32,
  reserved2: u32,
  requestFd: s32,
});

/** `struct v4l2_pix_format`. */
export interface V4l2PixFormat {
  readonly width: number;
  readonly height: number;
  readonly pixelformat: number;
  readonly field: number;
  readonly bytesperline: number;
  readonly sizeimage: number;
}

/** What a format says, by type of buffer; `raw` is all of it. */
export interface V4l2FormatUnion {
  readonly pix: V4l2PixFormat;
  readonly raw: readonly number[];
}

/** `struct v4l2_format`. */
export interface V4l2Format {
  readonly type: number;
  readonly fmt: Partial<V4l2FormatUnion>;
}

/** Layout of {@link V4l2Format}. Some member of the union has a pointer, so it is 8-aligned. */
export const v4l2Format: Struct<V4l2Format> = struct({
  type: u32,
  fmt: {
    ...union<V4l2FormatUnion>({
      pix: struct<V4l2PixFormat>({
        width: u32,
        height: u32,
        pixelformat: u32,
        field: u32,
        bytesperline: u32,
        sizeimage: u32,
      }),
      raw: arrayOf(u8, 200),
    }),
    align: 8,
  },
});

/** `struct v4l2_create_buffers`. */
export interface V4l2CreateBuffers {
  readonly index: number;
  readonly count: number;
  readonly memory: number;
  readonly format: V4l2Format;
  readonly capabilities: number;
  readonly flags: number;
  readonly maxNumBuffers: number;
  readonly reserved: readonly number[];
}

/** Layout of {@link V4l2CreateBuffers}. */
export const v4l2CreateBuffers: Struct<V4l2CreateBuffers> = struct({
  index: u32,
  count: u32,
  memory: u32,
  format: v4l2Format,
  capabilities: u32,
  flags: u32,
  maxNumBuffers: u32,
  reserved: arrayOf(u32, 5),
});
