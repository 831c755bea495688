/**
 * A user process: descriptors and memory of its own. Its threads enter the kernel through
 * {@link Process.syscall}, which does on the way out what the kernel does there.
 */

import { assert, DmaBufError, isDmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import { Shared, type Task } from '../../machine/index.ts';
import { FD_MAX, FdTable } from '../vfs/fd-table.ts';
import type { KernelFile } from '../vfs/file.ts';
import type { Kernel } from '../kernel.ts';
import { AddressSpace } from './address-space.ts';

/** Pages of a process, pinned and contiguous, as user-space drivers allocate them. */
export interface UserPages {
  /** What the process would learn from its page map, and hand to a device without an IOMMU. */
  readonly phys: PhysAddr;
  readonly size: number;
}

/** What a process may do. */
export interface ProcessOptions {
  /** `RLIMIT_NOFILE`: descriptors are below. Default 1024. */
  readonly fileLimit?: number;
  /** False: files that only root may open are refused. Default true. */
  readonly isRoot?: boolean;
}

/** A process. */
export class Process {
  readonly kernel: Kernel;
  readonly name: string;
  readonly pid: number;
  /** As {@link ProcessOptions.isRoot}. */
  readonly isRoot: boolean;
  readonly fds: FdTable;
  readonly mm: AddressSpace;
  /** Those that were forked and not waited for. */
  private readonly children: Shared<readonly Process[]>;
  /** What {@link exit} was given; null while it lives. */
  private readonly status: Shared<number | null>;
  private readonly pages: UserPages[] = [];

  /** @param pid - Drawn by a fork; without it the process is there from the beginning. */
  constructor(kernel: Kernel, name: string, options: ProcessOptions = {}, pid?: number) {
    const { scheduler } = kernel;
    this.kernel = kernel;
    this.name = name;
    this.isRoot = options.isRoot ?? true;
    this.fds = new FdTable(scheduler, name, options.fileLimit ?? FD_MAX);
    this.mm = new AddressSpace(kernel.machine, name);
    this.children = new Shared<readonly Process[]>(scheduler, `children of ${name}`, []);
    this.status = new Shared<number | null>(scheduler, `status of ${name}`, null);
    // Who is made at boot is made before anybody runs, so no step is needed.
    if (pid === undefined) kernel.pids.value += 1;
    this.pid = pid ?? kernel.pids.value;
  }

  /**
   * Runs `body` as a system call of the current thread: releases that the call put off run before
   * it returns, also when it fails. A signal that is pending is delivered then.
   *
   * @throws {@link DmaBufError} what `body` does; `EINTR` where that is `ERESTARTSYS`.
   * @context The thread holds no lock.
   */
  *syscall<T>(body: Task<T>): Task<T> {
    try {
      return yield* body;
    } catch (error) {
      throw isDmaBufError(error) && error.code === 'ERESTARTSYS' ? interrupted(error) : error;
    } finally {
      yield* this.kernel.returnToUser();
    }
  }

  /**
   * `close(2)`.
   *
   * @throws {@link DmaBufError} `EBADF` the descriptor is not open.
   * @context May sleep; no lock held.
   * @source `filp_close()`
   */
  *close(fd: number): Task {
    yield* this.syscall(this.closeFile(fd));
  }

  /**
   * `dup(2)`: another descriptor for the same file.
   *
   * @throws {@link DmaBufError} `EBADF` the descriptor is not open; `EMFILE` the table is full.
   * @context May sleep; no lock held.
   */
  *dup(fd: number): Task<number> {
    return yield* this.syscall(this.dupFile(fd));
  }

  /**
   * Allocates pinned, contiguous pages.
   *
   * @param size - Bytes; a multiple of the page size.
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep.
   */
  *allocate(size: number, node = 0): Task<UserPages> {
    assert(size > 0 && size % PAGE_SIZE === 0, 'a process allocates whole pages');
    const phys = yield* this.kernel.machine.memory.allocate(size / PAGE_SIZE, node);
    if (phys === null) throw new DmaBufError('ENOMEM', 'mmap', 'no-pages-left');
    const made = { phys, size };
    this.pages.push(made);
    return made;
  }

  /**
   * `fork(2)`: another process with the same files open, the same shared memory, and copies of all
   * other memory. Its one thread runs `main`, and when that ends the process does.
   *
   * @returns The child.
   * @throws {@link DmaBufError} `ENOMEM`; nothing is left then.
   * @context May sleep; no lock held.
   * @source `copy_process()`
   */
  *fork(main: (child: Process) => Task<unknown>): Task<Process> {
    return yield* this.syscall(this.copyProcess(main));
  }

  /**
   * `waitpid(2)`: waits for the end of a child.
   *
   * @returns Its status.
   * @throws {@link DmaBufError} `ECHILD` no child of that number, or it was waited for already;
   *   `EINTR`.
   * @context May sleep; no lock held.
   */
  *waitpid(pid: number): Task<number> {
    return yield* this.syscall(this.reap(pid));
  }

  /**
   * The end of the process: its map goes, descriptors are closed in order, pages go back. The
   * second time nothing happens.
   *
   * @context May sleep; no lock held.
   * @source `exit_mm()`, `exit_files()`
   */
  *exit(status = 0): Task {
    if ((yield* this.status.read()) !== null) return;
    yield* this.syscall(this.mm.unmapAll());
    for (const fd of [...this.fds.value.keys()].sort((one, other) => one - other)) {
      yield* this.close(fd);
    }
    for (const { phys, size } of this.pages.splice(0)) {
      yield* this.kernel.machine.memory.free(phys, size / PAGE_SIZE);
    }
    yield* this.status.write(status);
  }

  /**
   * The file behind a descriptor, with a reference for the caller.
   *
   * @param call - Named in the error.
   * @throws {@link DmaBufError} `EBADF` not open.
   * @context Any.
   * @source `fdget()`
   */
  *file(fd: number, call: string): Task<KernelFile> {
    const file = yield* this.fds.fget(fd);
    if (file !== null) return file;
    throw new DmaBufError('EBADF', call, 'no-such-descriptor', { detail: { fd } });
  }

  private *copyProcess(main: (child: Process) => Task<unknown>): Task<Process> {
    const { kernel, isRoot } = this;
    const pid = yield* kernel.pids.next();
    const options = { isRoot, fileLimit: this.fds.limit };
    const child = new Process(kernel, `${this.name}/${pid}`, options, pid);
    yield* child.fds.copyFrom(this.fds);
    try {
      yield* child.mm.copyFrom(this.mm);
    } catch (error) {
      yield* child.exit();
      throw error;
    }
    yield* this.children.write([...(yield* this.children.read()), child]);
    kernel.scheduler.spawn(child.run(main), { name: child.name, role: 'user' });
    return child;
  }

  private *run(main: (child: Process) => Task<unknown>): Task {
    try {
      yield* main(this);
    } finally {
      yield* this.exit();
    }
  }

  private *reap(pid: number): Task<number> {
    const child = (yield* this.children.read()).find((one) => one.pid === pid);
    if (child === undefined) throw new DmaBufError('ECHILD', 'waitpid', 'no-such-child');
    const ended = child.status.until((status) => status !== null);
    const status = yield* this.kernel.signals.interruptible(ended, 'waitpid');
    const rest = (yield* this.children.read()).filter((one) => one !== child);
    yield* this.children.write(rest);
    return status ?? 0;
  }

  private *dupFile(fd: number): Task<number> {
    const file = yield* this.fds.fget(fd);
    if (file === null) throw new DmaBufError('EBADF', 'dup', 'dup-of-a-closed-descriptor');
    const copy = yield* this.fds.install(file);
    if (copy === null) {
      yield* file.put();
      throw new DmaBufError('EMFILE', 'dup', 'no-descriptor-left-to-dup');
    }
    return copy;
  }

  private *closeFile(fd: number): Task {
    const file = yield* this.fds.remove(fd);
    if (file === null) throw new DmaBufError('EBADF', 'close', 'closed-already');
    this.kernel.scheduler.record?.({ kind: 'fd.close', process: this.name, fd });
    yield* file.put();
  }
}

/** What user space sees of a call that a signal ended. */
function interrupted(cause: DmaBufError): DmaBufError {
  const { call, detail } = cause;
  return new DmaBufError('EINTR', call, 'system-call-interrupted', { detail, cause });
}
