/**
 * An open file: the counted thing behind descriptors. The last put does not release at once: a user
 * thread does it on its way back to user mode, everybody else leaves it to a worker. So a release
 * never runs under a lock of who dropped the last reference.
 *
 * @source fs/file_table.c; reference/linux-dma-buf.md A.5, A.6
 */

import { O } from '../../base/index.ts';
import {
  type Actor,
  type Atomic,
  type PreemptStep,
  RefCount,
  type Task,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../user/process.ts';
import type { Vma } from '../user/vma.ts';
import type { PollTable } from './poll-table.ts';

/** What fstat(2) and fstatfs(2) say of a file. */
export interface FileStat {
  readonly ino: number;
  readonly size: number;
  /** With the bits for the file's type, which a dma-buf has none of. */
  readonly mode: number;
  /** `f_type` of the file system. */
  readonly magic: number;
}

/** What a kind of file does (`struct file_operations`). What is absent has the core's default. */
export interface FileOperations {
  /**
   * The last reference is gone.
   *
   * @context May sleep. No lock of the last putter is held.
   */
  release(file: KernelFile): Task;
  /**
   * Absent: `ESPIPE`.
   *
   * @param whence - As user space gave it: 0 set, 1 current, 2 end.
   * @returns The new position.
   */
  llseek?(file: KernelFile, offset: number, whence: number): Task<number>;
  /** Absent: `EINVAL`. */
  read?(file: KernelFile, length: number): Task<Uint8Array>;
  /** Absent: `EINVAL`. */
  write?(file: KernelFile, bytes: Uint8Array): Task<number>;
  /**
   * Absent: always ready to read and write. Names its queues in `table` first, then looks.
   *
   * @returns Events that are there, of those asked for and of `POLLERR` and `POLLHUP`.
   */
  poll?(file: KernelFile, table: PollTable): Task<number>;
  /**
   * Absent: `ENOTTY`.
   *
   * @param request - Unsigned, 32 bits.
   * @param arg - As user space gave it: an address in `process.mm`, or a number.
   */
  ioctl?(file: KernelFile, request: number, arg: number, process: Process): Task<number>;
  /**
   * Absent: `ENODEV`. Installs pages or operations in `vma`, or refuses.
   *
   * @context May sleep. The process's mmap lock is held for writing.
   */
  mmap?(file: KernelFile, vma: Vma): Task;
  /** Lines of `/proc/PID/fdinfo/N` after the common ones, without line ends. */
  fdinfo?(file: KernelFile): Task<readonly string[]>;
  /** Absent: an anonymous inode. */
  stat?(file: KernelFile): FileStat;
}

/** How a file was opened. */
export interface OpenMode {
  readonly read: boolean;
  readonly write: boolean;
  /** `O_NONBLOCK`. */
  readonly isNonBlocking: boolean;
  /** Opened by a path, not made by a call of its own; then `O_LARGEFILE` shows in its flags. */
  readonly isByPath?: boolean;
}

const READ_WRITE: OpenMode = { read: true, write: true, isNonBlocking: false };

/** `struct file`. */
export class KernelFile {
  readonly kernel: Kernel;
  /** As `/proc/PID/fd` shows it: `/dmabuf:name`, `anon_inode:sync_file`. */
  readonly name: string;
  /** The reference count. Dead once it reached zero. */
  readonly refs: RefCount;
  readonly operations: FileOperations;
  readonly mode: OpenMode;
  /** `f_flags`, as `F_GETFL` shows them. */
  readonly flags: number;

  constructor(
    kernel: Kernel,
    name: string,
    operations: FileOperations,
    mode: OpenMode = READ_WRITE,
  ) {
    this.kernel = kernel;
    this.name = name;
    this.refs = new RefCount(kernel.scheduler, name);
    this.operations = operations;
    this.mode = mode;
    this.flags = flagsOf(mode);
  }

  /** `f_pos`, where files have one. */
  get filePosition(): number {
    return 0;
  }

  /** What a link in `/proc/PID/fd` points to. */
  get path(): string {
    return this.name;
  }

  /**
   * Takes a reference; the caller has one already.
   *
   * @context Any.
   * @source `get_file()`
   */
  get(): PreemptStep<void> {
    return this.refs.get();
  }

  /**
   * Takes a reference if the file still lives: for who found the file without owning a reference.
   *
   * @context Any.
   * @source `get_file_active()`
   */
  getActive(): PreemptStep<boolean> {
    return this.refs.getUnlessZero();
  }

  /**
   * Drops a reference. True if it was the last; the release then runs later, elsewhere.
   *
   * @context Any.
   * @source `fput()`
   */
  *put(): Atomic<boolean> {
    const last = yield* this.refs.put();
    if (last) yield* this.kernel.deferRelease(this);
    return last;
  }
}

/** How open(2) opens with these flags. An access mode of 3 gives neither reading nor writing. */
export function openMode(flags: number): OpenMode {
  const access = flags & O.ACCMODE;
  return {
    read: access === O.RDONLY || access === O.RDWR,
    write: access === O.WRONLY || access === O.RDWR,
    isNonBlocking: (flags & O.NONBLOCK) !== 0,
    isByPath: true,
  };
}

function flagsOf({ read, write, isNonBlocking, isByPath }: OpenMode): number {
  // Neither was asked for as 3, which opens for control only.
  const access = write ? (read ? O.RDWR : O.WRONLY) : read ? O.RDONLY : O.ACCMODE;
  return access | (isNonBlocking ? O.NONBLOCK : 0) | (isByPath === true ? O.LARGEFILE : 0);
}

/** Releases that user threads still have to do, by thread. */
export class TaskWork {
  private readonly pending = new Map<Actor, KernelFile[]>();

  /** `task_work_add()`. The thread itself is the only one to touch its list. */
  add(actor: Actor, file: KernelFile): void {
    const list = this.pending.get(actor);
    if (list === undefined) this.pending.set(actor, [file]);
    else list.push(file);
  }

  /**
   * What a thread does on its way back to user mode, and at its end.
   *
   * @context May sleep; the thread holds no lock.
   * @source `task_work_run()`
   */
  *run(actor: Actor): Task {
    for (;;) {
      const file = this.pending.get(actor)?.shift();
      if (file === undefined) return;
      yield* file.operations.release(file);
    }
  }
}
