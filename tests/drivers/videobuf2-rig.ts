/** Video devices, and a program that uses them through their ioctls. */

import { expect } from 'vitest';
import {
  O,
  type Struct,
  type UserAddr,
  u32,
  struct,
  V4L2_BUF_TYPE,
  V4L2_MEMORY,
  type V4l2Buffer,
  v4l2Buffer,
  type V4l2CreateBuffers,
  v4l2CreateBuffers,
  v4l2Exportbuffer,
  type V4l2Requestbuffers,
  v4l2Requestbuffers,
  VIDIOC,
} from '../../src/base/index.ts';
import {
  captureWork,
  sinkWork,
  VB2_DMA_CONTIG,
  VideoDevice,
  type VideoDeviceOptions,
  type VideoSink,
} from '../../src/drivers/index.ts';
import { DmaBuf, type KernelFile, type OpenMode, type Vma } from '../../src/framework/index.ts';
import { anonymousMemory } from '../../src/framework/user/anonymous-memory.ts';
import type { MachineSpec, PciFunction, Task } from '../../src/machine/index.ts';
import { KernelRig } from '../framework/kernel-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

export const PAGE = 4096;
/** Bytes of a picture: not whole pages. */
export const IMAGE = 2 * PAGE - 100;
/** Bytes for arguments. */
const SCRATCH = 4 * PAGE;
const SCRATCH_PLANES = PAGE;

export const { VIDEO_CAPTURE: CAPTURE, VIDEO_OUTPUT: OUTPUT } = V4L2_BUF_TYPE;
export const { MMAP, DMABUF } = V4L2_MEMORY;

const READ_WRITE: OpenMode = { read: true, write: true, isNonBlocking: false };

const typeArgument: Struct<{ readonly type: number }> = struct({ type: u32 });

/** What a test says of a buffer; the rest is zero. */
export type BufferWish = Partial<V4l2Buffer> & { readonly index: number };

/** A machine with video devices. */
export class VideoRig extends KernelRig {
  /** Pages in use before anything was done. */
  readonly pagesBefore: number;
  readonly sink: VideoSink = { pictures: [] };
  private scratch: UserAddr | null = null;

  constructor(spec: MachineSpec = wideMachine()) {
    super(spec);
    this.pagesBefore = this.machine.memory.pagesInUse;
  }

  /** A device that paints test pictures. */
  camera(
    options: Partial<VideoDeviceOptions> & { readonly fn?: PciFunction } = {},
    queue: Partial<VideoDeviceOptions['queues'][number]> = {},
  ): VideoDevice {
    const device = options.fn ?? this.at('03:00.0');
    return new VideoDevice(this.kernel, {
      path: '/dev/video0',
      device,
      work: captureWork(this.machine, device),
      queues: [{ type: CAPTURE, memOps: VB2_DMA_CONTIG, planeSizes: [IMAGE], ...queue }],
      ...options,
    });
  }

  /** A device that looks at pictures. */
  display(
    options: Partial<VideoDeviceOptions> & { readonly fn?: PciFunction } = {},
    queue: Partial<VideoDeviceOptions['queues'][number]> = {},
  ): VideoDevice {
    const device = options.fn ?? this.at('04:00.0');
    return new VideoDevice(this.kernel, {
      path: '/dev/video1',
      device,
      work: sinkWork(this.machine, device, this.sink),
      queues: [{ type: OUTPUT, memOps: VB2_DMA_CONTIG, planeSizes: [IMAGE], ...queue }],
      ...options,
    });
  }

  /** Opens a device's file. */
  *open(path: string, mode: Partial<OpenMode> = {}): Task<KernelFile> {
    const node = this.kernel.nodes.find(path) ?? expect.fail(`no ${path}`);
    return yield* node.open(this.process, { ...READ_WRITE, ...mode });
  }

  /** Memory for arguments, and beside it for planes. */
  *arguments(): Task<UserAddr> {
    if (this.scratch !== null) return this.scratch;
    const vma = yield* this.process.mm.map(
      { size: SCRATCH, pgoff: 0, read: true, write: true, isShared: false, file: null },
      anonymous,
    );
    this.scratch = vma.start;
    return vma.start;
  }

  /** An ioctl with a struct; gives back the struct. */
  *call<V extends object>(
    file: KernelFile,
    request: number,
    layout: Struct<V>,
    values: Partial<V>,
  ): Task<V> {
    const at = yield* this.arguments();
    yield* this.process.mm.store(at, layout.encode(values));
    yield* this.ioctl(file, request, at);
    return layout.decode(yield* this.process.mm.load(at, layout.size));
  }

  /** An ioctl with a number. */
  *ioctl(file: KernelFile, request: number, arg: number): Task<number> {
    const { ioctl } = file.operations;
    if (ioctl === undefined) return expect.fail('the file has no ioctls');
    return yield* this.process.syscall(ioctl(file, request, arg, this.process));
  }

  *reqbufs(
    file: KernelFile,
    type: number,
    memory: number,
    count: number,
  ): Task<V4l2Requestbuffers> {
    return yield* this.call(file, VIDIOC.REQBUFS, v4l2Requestbuffers, { type, memory, count });
  }

  *createBufs(
    file: KernelFile,
    given: { readonly type: number; memory: number; count: number; size?: number },
  ): Task<V4l2CreateBuffers> {
    const { type, memory, count, size = IMAGE } = given;
    const pix = { width: 0, height: 0, pixelformat: 0, field: 0, bytesperline: 0, sizeimage: size };
    const format = { type, fmt: { pix } };
    return yield* this.call(file, VIDIOC.CREATE_BUFS, v4l2CreateBuffers, { memory, count, format });
  }

  *querybuf(file: KernelFile, type: number, index: number): Task<V4l2Buffer> {
    return yield* this.call(file, VIDIOC.QUERYBUF, v4l2Buffer, { type, index });
  }

  *qbuf(file: KernelFile, type: number, wish: BufferWish): Task<V4l2Buffer> {
    const memory = wish.memory ?? MMAP;
    return yield* this.call(file, VIDIOC.QBUF, v4l2Buffer, { ...wish, type, memory });
  }

  *prepare(file: KernelFile, type: number, wish: BufferWish): Task<V4l2Buffer> {
    const memory = wish.memory ?? MMAP;
    return yield* this.call(file, VIDIOC.PREPARE_BUF, v4l2Buffer, { ...wish, type, memory });
  }

  *dqbuf(file: KernelFile, type: number, memory: number = MMAP): Task<V4l2Buffer> {
    return yield* this.call(file, VIDIOC.DQBUF, v4l2Buffer, { type, memory });
  }

  *streamon(file: KernelFile, type: number): Task {
    yield* this.call(file, VIDIOC.STREAMON, typeArgument, { type });
  }

  *streamoff(file: KernelFile, type: number): Task {
    yield* this.call(file, VIDIOC.STREAMOFF, typeArgument, { type });
  }

  /** Exports a plane; gives back the descriptor. */
  *expbuf(
    file: KernelFile,
    type: number,
    index: number,
    { plane = 0, flags = O.RDWR | O.CLOEXEC } = {},
  ): Task<number> {
    const given = { type, index, plane, flags };
    return (yield* this.call(file, VIDIOC.EXPBUF, v4l2Exportbuffer, given)).fd;
  }

  /** The buffer behind a descriptor, which alone holds it. */
  *bufferOf(fd: number): Task<DmaBuf> {
    const buf = yield* DmaBuf.get(this.process, fd);
    yield* buf.put();
    return buf;
  }

  /** Gives a buffer a descriptor, which takes its reference over. */
  *give(buf: DmaBuf): Task<number> {
    return yield* buf.fd(this.process);
  }

  /** Where planes are handed in. */
  *planesAt(): Task<UserAddr> {
    return ((yield* this.arguments()) + SCRATCH_PLANES) as UserAddr;
  }

  /** Maps a part of a file. */
  *mmap(
    file: KernelFile,
    offset: number,
    wish: Partial<{ size: number; write: boolean; read: boolean; isShared: boolean }> = {},
  ): Task<Vma> {
    const { size = 2 * PAGE, read = true, write = true, isShared = true } = wish;
    const { mmap } = file.operations;
    if (mmap === undefined) return expect.fail('the file has no mmap');
    return yield* this.process.mm.map(
      { size, pgoff: offset / PAGE, read, write, isShared, file },
      (vma) => mmap(file, vma),
    );
  }

  /** Ends the program: everything is closed and unmapped. */
  *end(...files: readonly KernelFile[]): Task {
    for (const file of files) yield* file.put();
    yield* this.process.exit();
  }

  /** True if nothing is left of what was done: no page, no buffer. */
  expectNothingLeft(): void {
    expect(this.machine.memory.pagesInUse).toBe(this.pagesBefore);
    expect(this.kernel.bufferList.value).toBe(0);
    expect(this.warnings).toEqual([]);
  }
}

function* anonymous(vma: Vma): Task {
  vma.operations = anonymousMemory;
}
