/**
 * Programs that use DRM nodes: system calls as they are made, with arguments in their own memory.
 */

import { expect } from 'vitest';
import {
  DRM_IOCTL,
  drmGemClose,
  type DrmModeCreateDumb,
  drmModeCreateDumb,
  drmModeMapDumb,
  drmPrimeHandle,
  PAGE_SIZE,
  type Struct,
  type UserAddr,
} from '../../src/base/index.ts';
import { type DrmDevice, DrmFile, vgemDevice } from '../../src/drivers/index.ts';
import { type DmaBuf, type KernelFile, Process, type Vma } from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { KernelRig } from '../framework/kernel-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** How a program maps something. */
export interface MapOptions {
  readonly size?: number;
  readonly isShared?: boolean;
  readonly write?: boolean;
  /** In bytes. */
  readonly offset?: number;
}

/** A program with a page for the arguments of its calls. */
export class Program {
  readonly process: Process;
  private readonly rig: DrmRig;
  private page: UserAddr | null = null;

  constructor(rig: DrmRig, name: string) {
    this.rig = rig;
    this.process = new Process(rig.kernel, name);
  }

  /** Opens a node. Nothing else holds the file than who gets it. */
  *open(path: string): Task<DrmFile> {
    const node = this.rig.kernel.nodes.find(path) ?? expect.fail(`there is no ${path}`);
    const mode = { read: true, write: true, isNonBlocking: false };
    const file = yield* this.process.syscall(node.open(this.process, mode));
    return file instanceof DrmFile ? file : expect.fail(`${path} is no DRM node`);
  }

  /** Closes what {@link open} opened. */
  *close(file: KernelFile): Task {
    yield* this.process.syscall(this.put(file));
  }

  /** A page of its own, in which nothing is. */
  *scratch(): Task<UserAddr> {
    if (this.page !== null) return this.page;
    const { phys } = yield* this.process.allocate(PAGE_SIZE);
    const request = { size: PAGE_SIZE, pgoff: 0, read: true, write: true, isShared: true };
    const vma = yield* this.process.mm.map({ ...request, file: null }, (map) =>
      map.insertPages(0, [{ phys, kind: 'ram' }]),
    );
    this.page = vma.start;
    return vma.start;
  }

  /** An ioctl with a struct; gives back the struct as the kernel left it. */
  *ioctl<V extends object>(
    file: KernelFile,
    request: number,
    layout: Struct<V>,
    args: Partial<V>,
  ): Task<V> {
    const at = yield* this.scratch();
    yield* this.process.mm.store(at, layout.encode(args));
    yield* this.rawIoctl(file, request, at);
    return layout.decode(yield* this.process.mm.load(at, layout.size));
  }

  /** An ioctl with any argument. */
  *rawIoctl(file: KernelFile, request: number, arg: number): Task<number> {
    const { ioctl } = file.operations;
    if (ioctl === undefined) return expect.fail('the file has no ioctls');
    return yield* this.process.syscall(ioctl(file, request, arg, this.process));
  }

  /** Makes a dumb buffer of one page, or of what is asked. */
  *createDumb(file: DrmFile, args: Partial<DrmModeCreateDumb> = {}): Task<DrmModeCreateDumb> {
    return yield* this.ioctl(file, DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, {
      width: 32,
      height: 32,
      bpp: 32,
      ...args,
    });
  }

  /** Where the node's file shows a dumb buffer. */
  *mapDumb(file: DrmFile, handle: number): Task<number> {
    const told = yield* this.ioctl(file, DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb, { handle });
    return Number(told.offset);
  }

  /** Exports; gives back the descriptor. */
  *toFd(file: DrmFile, handle: number, flags = 2): Task<number> {
    const request = DRM_IOCTL.PRIME_HANDLE_TO_FD;
    return (yield* this.ioctl(file, request, drmPrimeHandle, { handle, flags })).fd;
  }

  /** Imports; gives back the handle. */
  *toHandle(file: DrmFile, fd: number): Task<number> {
    const request = DRM_IOCTL.PRIME_FD_TO_HANDLE;
    return (yield* this.ioctl(file, request, drmPrimeHandle, { fd })).handle;
  }

  /** Closes a handle. */
  *gemClose(file: DrmFile, handle: number): Task {
    yield* this.ioctl(file, DRM_IOCTL.GEM_CLOSE, drmGemClose, { handle });
  }

  /** The file behind a descriptor, which must be open. Takes no reference. */
  fileOf(fd: number): KernelFile {
    return this.process.fds.value.get(fd)?.file ?? expect.fail(`${fd} is not open`);
  }

  /** The buffer behind a descriptor. Takes no reference. */
  bufOf(fd: number): DmaBuf {
    return (this.fileOf(fd) as unknown as { readonly buf: DmaBuf }).buf;
  }

  /** Maps a file. */
  *mmap(file: KernelFile, options: MapOptions = {}): Task<Vma> {
    const { size = PAGE_SIZE, isShared = true, write = true, offset = 0 } = options;
    const { mmap } = file.operations;
    if (mmap === undefined) return expect.fail('the file has no mmap');
    const request = { size, pgoff: offset / PAGE_SIZE, read: true, write, isShared, file };
    const map = this.process.mm.map(request, (vma) => mmap(file, vma));
    return yield* this.process.syscall(map);
  }

  /** Takes a map away. */
  *munmap({ start, size }: Vma): Task {
    yield* this.process.syscall(this.process.mm.unmap(start, size));
  }

  /** Writes through a map. */
  *poke(vma: Vma, offset: number, bytes: readonly number[]): Task {
    yield* this.process.mm.store((vma.start + offset) as UserAddr, Uint8Array.from(bytes));
  }

  /** Reads through a map. */
  *peek(vma: Vma, offset: number, length: number): Task<readonly number[]> {
    return [...(yield* this.process.mm.load((vma.start + offset) as UserAddr, length))];
  }

  private *put(file: KernelFile): Task {
    yield* file.put();
  }
}

/** A machine with vgem, and a program. */
export class DrmRig extends KernelRig {
  readonly vgem: DrmDevice;
  readonly app: Program;

  constructor(spec: MachineSpec = wideMachine()) {
    super(spec);
    this.vgem = vgemDevice(this.kernel);
    this.app = new Program(this, 'painter');
  }

  /** Makes the n-th step from now on that can fail for want of something fail. */
  failNth(n: number): void {
    const { scheduler } = this;
    Object.assign(scheduler, { failAt: scheduler.fallible + n });
  }
}
