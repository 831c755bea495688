/**
 * Fences that a program signals itself, for testing: each open of the node is a timeline that goes
 * where the program says. Such fences may never signal, so the kernel counts them as indefinite,
 * and the node is in debugfs.
 *
 * @source drivers/dma-buf/sw_sync.c, v7.2; reference/linux-dma-buf.md B.6
 */

import {
  DmaBufError,
  ERRNO,
  SW_SYNC_IOC,
  swSyncCreateFenceData,
  swSyncGetDeadline,
  swSyncInc,
} from '../../base/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../user/process.ts';
import { copyFromUser, copyToUser } from '../user/user-copy.ts';
import { type FileOperations, KernelFile } from '../vfs/file.ts';
import type { DmaFence } from './dma-fence.ts';
import { SyncPoint, SyncTimeline } from './sw-sync-timeline.ts';
import { syncFileCreate, syncFileFence, withDescriptor } from './sync-file.ts';

/** Where the node is. */
export const SW_SYNC_PATH = '/sys/kernel/debug/sync/sw_sync';

/** LIMIT: the timeline goes no further at once; more is done in several goes. */
const INT_MAX = 0x7fff_ffff;

/** LIMIT: characters of a sync file's name. */
const NAME_MAX = 31;

/**
 * Puts the node there.
 *
 * @context At boot.
 * @source `sync_debugfs_init()`
 */
export function swSyncInit(kernel: Kernel): void {
  kernel.nodes.add(SW_SYNC_PATH, { mode: 0o600, open: openTimeline });
}

/** An open node: a timeline. */
class SwSyncFile extends KernelFile {
  readonly timeline: SyncTimeline;

  constructor(kernel: Kernel, timeline: SyncTimeline) {
    super(kernel, SW_SYNC_PATH, SW_SYNC_OPERATIONS);
    this.timeline = timeline;
  }
}

/** `sw_sync_debugfs_open()`. */
function* openTimeline(process: Process): Task<KernelFile> {
  const { kernel, name } = process;
  if (!(yield* kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'open', 'no-memory-for-a-timeline');
  }
  return new SwSyncFile(kernel, new SyncTimeline(kernel, name, yield* kernel.fenceContexts.next()));
}

const SW_SYNC_OPERATIONS: FileOperations = {
  *release(file): Task {
    if (file instanceof SwSyncFile) yield* file.timeline.abandon(-ERRNO.ENOENT);
  },

  *ioctl(file, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof SwSyncFile)) return 0;
    switch (request) {
      case SW_SYNC_IOC.CREATE_FENCE:
        yield* withDescriptor(process, (fd) => createFence(file, fd, arg, process));
        return 0;
      case SW_SYNC_IOC.INC:
        yield* increase(file, arg, process);
        return 0;
      case SW_SYNC_IOC.GET_DEADLINE:
        yield* tellDeadline(arg, process);
        return 0;
      default:
        throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-sw-sync-command');
    }
  },
};

/** `sw_sync_ioctl_create_fence()`. */
function* createFence(
  { kernel, timeline }: SwSyncFile,
  fd: number,
  arg: number,
  process: Process,
): Task<KernelFile> {
  const asked = yield* copyFromUser(process, arg, swSyncCreateFenceData);
  if (!(yield* kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'createFence', 'no-memory-for-a-sync-point');
  }
  const point = yield* timeline.createPoint(asked.value);
  const file = yield* fileOf(kernel, point, asked.name.slice(0, NAME_MAX));
  try {
    yield* copyToUser(process, arg, swSyncCreateFenceData.encode({ ...asked, fence: fd }));
  } catch (error) {
    yield* file.put();
    throw error;
  }
  return file;
}

/** A file for a fence, whose reference is the file's alone then. */
function* fileOf(kernel: Kernel, fence: DmaFence, name: string): Atomic<KernelFile> {
  const file = (yield* kernel.slab.alloc()) ? syncFileCreate(kernel, fence, name) : null;
  yield* fence.put();
  if (file !== null) return file;
  throw new DmaBufError('ENOMEM', 'createFence', 'no-memory-for-a-sync-points-file');
}

/** `sw_sync_ioctl_inc()`. */
function* increase({ timeline }: SwSyncFile, arg: number, process: Process): Task {
  let { value } = yield* copyFromUser(process, arg, swSyncInc);
  for (; value > INT_MAX; value -= INT_MAX) yield* timeline.advance(INT_MAX);
  yield* timeline.advance(value);
}

/** `sw_sync_ioctl_get_deadline()`. */
function* tellDeadline(arg: number, process: Process): Task {
  const asked = yield* copyFromUser(process, arg, swSyncGetDeadline);
  if (asked.deadlineNs !== 0n || asked.pad !== 0) {
    throw new DmaBufError('EINVAL', 'getDeadline', 'reserved-get-deadline-fields-set');
  }
  const file = yield* process.fds.fget(asked.fenceFd);
  try {
    const point = file === null ? null : syncFileFence(file);
    if (!(point instanceof SyncPoint)) {
      throw new DmaBufError('EINVAL', 'getDeadline', 'fence-is-not-of-sw-sync');
    }
    const deadline = yield* point.deadline.read();
    if (deadline === null) throw new DmaBufError('ENOENT', 'getDeadline', 'no-deadline-was-set');
    const told = { ...asked, deadlineNs: BigInt(deadline) };
    yield* copyToUser(process, arg, swSyncGetDeadline.encode(told));
  } finally {
    if (file !== null) yield* file.put();
  }
}
