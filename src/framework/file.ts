/**
 * An open file: the counted thing behind descriptors. The last put does not release at once: a user
 * thread does it on its way back to user mode, everybody else leaves it to a worker. So a release
 * never runs under a lock of who dropped the last reference.
 *
 * @source fs/file_table.c; reference/linux-dma-buf.md A.5, A.6
 */

import {
  type Actor,
  type Atomic,
  type PreemptStep,
  RefCount,
  type Task,
} from '../machine/index.ts';
import type { Kernel } from './kernel.ts';

/** What a kind of file does (`struct file_operations`). */
export interface FileOperations {
  /**
   * The last reference is gone.
   *
   * @context May sleep. No lock of the last putter is held.
   */
  release(file: KernelFile): Task;
}

/** `struct file`. */
export class KernelFile {
  readonly kernel: Kernel;
  /** The reference count. Dead once it reached zero. */
  readonly refs: RefCount;
  readonly operations: FileOperations;

  constructor(kernel: Kernel, name: string, operations: FileOperations) {
    this.kernel = kernel;
    this.refs = new RefCount(kernel.scheduler, name);
    this.operations = operations;
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
