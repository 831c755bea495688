/**
 * A fence as a file: user space holds it, hands it on, polls it and merges it with others. What it
 * stands for never changes.
 *
 * @source drivers/dma-buf/sync_file.c, v7.2; reference/linux-dma-buf.md B.6
 */

import { DmaBufError, SYNC_IOC, syncMergeData, syncSetDeadline } from '../../base/index.ts';
import {
  type Access,
  type Atomic,
  Cell,
  type Look,
  PreemptStep,
  type Task,
  wholeCell,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../user/process.ts';
import { copyFromUser, copyToUser } from '../user/user-copy.ts';
import { type FileOperations, KernelFile } from '../vfs/file.ts';
import { POLLIN, type PollTable } from '../vfs/poll-table.ts';
import { WaitQueue } from '../vfs/wait-queue.ts';
import type { DmaFence } from './dma-fence.ts';
import type { FenceCallback } from './fence-steps.ts';
import { fenceUnwrapMerge } from './fence-unwrap.ts';
import { SYNC_NAME_MAX, tellFileInfo } from './sync-file-info.ts';

/** `struct sync_file`. */
export class SyncFile extends KernelFile {
  /** The file owns a reference. */
  readonly fence: DmaFence;
  /** What user space called it; `''`: nothing. */
  readonly userName: string;
  readonly queue: WaitQueue;
  /** True from the first poll on: a callback is, or was, at the fence. */
  readonly pollEnabled: PollLatch;
  /** Tells who polls. */
  readonly pollCallback: FenceCallback;

  constructor(kernel: Kernel, fence: DmaFence, userName: string) {
    super(kernel, 'anon_inode:sync_file', SYNC_FILE_OPERATIONS);
    this.fence = fence.hold();
    this.userName = userName;
    this.queue = new WaitQueue(kernel.scheduler, 'sync_file wait queue');
    this.pollEnabled = new PollLatch(kernel.scheduler, 'sync_file poll enabled', false);
    this.pollCallback = () => wakePollers(this.queue);
  }

  /**
   * Its name: user space's, or one made of the fence.
   *
   * @context Any.
   * @source `sync_file_get_name()`
   */
  *title(): Atomic<string> {
    if (this.userName !== '') return this.userName;
    const { context, seqno } = this.fence.origin;
    const { driver, timeline } = yield* this.fence.names();
    return `${driver}-${timeline}${context}-${seqno}`;
  }
}

/**
 * A file for a fence. The file takes a reference to the fence; the caller keeps its own.
 *
 * @param userName - At most 31 characters; `''`: none.
 * @returns The file; its first reference is the caller's.
 * @context Any; the caller has a reference to the fence. Who models memory that cannot be had takes
 *   `kernel.slab`'s step before.
 * @source `sync_file_create()`
 */
export function syncFileCreate(kernel: Kernel, fence: DmaFence, userName = ''): KernelFile {
  return new SyncFile(kernel, fence, userName);
}

/**
 * The fence behind a file, borrowed from it.
 *
 * @returns Null: the file is no sync file.
 * @source `sync_file_get_fence()`
 */
export function syncFileFence(file: KernelFile): DmaFence | null {
  return file instanceof SyncFile ? file.fence : null;
}

/** `fence_check_cb_func()`. */
function* wakePollers(queue: WaitQueue): Atomic {
  yield* queue.wake();
}

const SYNC_FILE_OPERATIONS: FileOperations = {
  *release(file): Task {
    if (!(file instanceof SyncFile)) return;
    const { fence, pollEnabled, pollCallback } = file;
    if (yield* pollEnabled.test()) yield* fence.removeCallback(pollCallback);
    yield* fence.put();
  },

  *poll(file, table: PollTable): Task<number> {
    if (!(file instanceof SyncFile)) return 0;
    const { fence, queue, pollEnabled, pollCallback } = file;
    yield* table.wait(queue);
    const isFirst = !(yield* pollEnabled.testAndSet());
    if (isFirst && !(yield* fence.addCallback(pollCallback))) yield* queue.wake();
    return (yield* fence.isSignaled()) ? POLLIN : 0;
  },

  *ioctl(file, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof SyncFile)) return 0;
    switch (request) {
      case SYNC_IOC.MERGE:
        yield* withDescriptor(process, (fd) => merge(file, fd, arg, process));
        return 0;
      case SYNC_IOC.FILE_INFO:
        yield* tellFileInfo(file, arg, process);
        return 0;
      case SYNC_IOC.SET_DEADLINE:
        yield* setDeadline(file, arg, process);
        return 0;
      default:
        throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-sync-file-command');
    }
  },
};

/**
 * Sets a descriptor aside that exec closes, has a file made that fits it, and puts the file there;
 * on an error the descriptor is free again.
 *
 * @param make - Makes the file; its first reference is the descriptor's then.
 * @throws {@link DmaBufError} `EMFILE`; what `make` does.
 * @context May sleep; no lock held.
 * @source `get_unused_fd_flags()`, `fd_install()`
 */
export function* withDescriptor(
  process: Process,
  make: (fd: number) => Task<KernelFile>,
): Task<number> {
  const fd = yield* process.fds.reserve({ closeOnExec: true });
  if (fd === null) throw new DmaBufError('EMFILE', 'ioctl', 'no-descriptor-for-a-new-file');
  let file: KernelFile;
  try {
    file = yield* make(fd);
  } catch (error) {
    yield* process.fds.unreserve(fd);
    throw error;
  }
  yield* process.fds.fill(fd, file);
  return fd;
}

/** `sync_file_ioctl_merge()`. */
function* merge(file: SyncFile, fd: number, arg: number, process: Process): Task<KernelFile> {
  const asked = yield* copyFromUser(process, arg, syncMergeData);
  if (asked.flags !== 0 || asked.pad !== 0) {
    throw new DmaBufError('EINVAL', 'merge', 'reserved-merge-fields-set');
  }
  const other = yield* process.fds.fget(asked.fd2);
  try {
    const fence = other === null ? null : syncFileFence(other);
    if (fence === null) throw new DmaBufError('ENOENT', 'merge', 'second-file-is-no-sync-file');
    const merged = yield* mergeFences(file, fence, asked.name.slice(0, SYNC_NAME_MAX));
    try {
      yield* copyToUser(process, arg, syncMergeData.encode({ ...asked, fence: fd }));
    } catch (error) {
      yield* merged.put();
      throw error;
    }
    return merged;
  } finally {
    if (other !== null) yield* other.put();
  }
}

/** `sync_file_merge()`. */
function* mergeFences(file: SyncFile, other: DmaFence, name: string): Task<KernelFile> {
  const { kernel } = file;
  if (!(yield* kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'merge', 'no-memory-for-a-sync-file');
  }
  const fence = yield* fenceUnwrapMerge(kernel, [file.fence, other]);
  const merged = syncFileCreate(kernel, fence, name);
  yield* fence.put();
  return merged;
}

/** `sync_file_ioctl_set_deadline()`. */
function* setDeadline(file: SyncFile, arg: number, process: Process): Task {
  const { deadlineNs, pad } = yield* copyFromUser(process, arg, syncSetDeadline);
  if (pad !== 0n) throw new DmaBufError('EINVAL', 'setDeadline', 'reserved-deadline-field-set');
  yield* file.fence.setDeadline(Number(deadlineNs));
}

/** Set by the first poll (`POLL_ENABLED`). */
class PollLatch extends Cell<boolean> {
  /** A step that sets it. True: it was set. */
  testAndSet(): PreemptStep<boolean> {
    return new TestLatch(this, true);
  }

  /** A step that looks at it. */
  test(): PreemptStep<boolean> {
    return new TestLatch(this, false);
  }
}

class TestLatch extends PreemptStep<boolean> {
  readonly cell: PollLatch;
  private readonly sets: boolean;

  constructor(cell: PollLatch, sets: boolean) {
    super();
    this.cell = cell;
    this.sets = sets;
  }

  get verb(): string {
    return this.sets ? 'test and set' : 'test';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, this.sets && !look(this.cell) ? 'W' : 'R')];
  }

  apply(): boolean {
    const was = this.cell.value;
    if (this.sets) this.cell.value = true;
    return was;
  }
}
