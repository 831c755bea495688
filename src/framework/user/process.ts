/**
 * A user process: descriptors and pages of its own. Its threads enter the kernel through
 * {@link Process.syscall}, which does on the way out what the kernel does there.
 */

import { assert, DmaBufError, isDmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import { FdTable } from '../vfs/fd-table.ts';
import type { Kernel } from '../kernel.ts';
import { AddressSpace } from './address-space.ts';

/** Pages of a process, pinned and contiguous, as user-space drivers allocate them. */
export interface UserPages {
  /** What the process would learn from its page map, and hand to a device without an IOMMU. */
  readonly phys: PhysAddr;
  readonly size: number;
}

/** A process. */
export class Process {
  readonly kernel: Kernel;
  readonly name: string;
  readonly fds: FdTable;
  readonly mm: AddressSpace;
  private readonly pages: UserPages[] = [];

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
    this.fds = new FdTable(kernel.scheduler, name);
    this.mm = new AddressSpace(kernel.machine, name);
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
   * The end of the process: descriptors are closed in order, pages go back.
   *
   * @context May sleep; no lock held.
   * @source `exit_files()`, `exit_mm()`
   */
  *exit(): Task {
    for (const fd of [...this.fds.value.keys()].sort((one, other) => one - other)) {
      yield* this.close(fd);
    }
    for (const { phys, size } of this.pages.splice(0)) {
      yield* this.kernel.machine.memory.free(phys, size / PAGE_SIZE);
    }
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
