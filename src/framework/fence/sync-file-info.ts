/**
 * What a sync file tells of its fences.
 *
 * @source `sync_file_ioctl_fence_info()`, drivers/dma-buf/sync_file.c, v7.2; reference B.6
 */

import {
  DmaBufError,
  joinBytes,
  type SyncFenceInfo,
  syncFenceInfo,
  syncFileInfo,
} from '../../base/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import type { Process } from '../user/process.ts';
import { copyFromUser, copyToUser } from '../user/user-copy.ts';
import type { DmaFence } from './dma-fence.ts';
import { fenceUnwrap } from './fence-unwrap.ts';

/** LIMIT: characters of a name, without the NUL behind it. */
export const SYNC_NAME_MAX = 31;

/** What is told about: a sync file. */
export interface InfoSource {
  readonly fence: DmaFence;
  title(): Atomic<string>;
}

/**
 * `SYNC_IOC_FILE_INFO`: the name, the status of all together, and of each fence inside.
 *
 * @throws {@link DmaBufError} `EFAULT` an address is not to be read or written; `EINVAL` reserved
 *   fields are not zero, or there is room for some fences and not for all; `ENOMEM`.
 * @context May sleep; no lock held.
 */
export function* tellFileInfo(file: InfoSource, arg: number, process: Process): Task {
  const asked = yield* copyFromUser(process, arg, syncFileInfo);
  if (asked.flags !== 0 || asked.pad !== 0) {
    throw new DmaBufError('EINVAL', 'fileInfo', 'reserved-info-fields-set');
  }
  const leaves = yield* fenceUnwrap(file.fence);
  let status: number;
  try {
    status =
      asked.numFences === 0
        ? yield* file.fence.getStatus()
        : yield* tellFences(leaves, asked.numFences, asked.syncFenceInfo, process);
  } finally {
    for (const leaf of leaves) yield* leaf.put();
  }
  const name = (yield* file.title()).slice(0, SYNC_NAME_MAX);
  const told = syncFileInfo.encode({ ...asked, name, status, numFences: leaves.length });
  yield* copyToUser(process, arg, told);
}

/** The status of all: that of the last, once one was not done of the first such. */
function* tellFences(
  leaves: readonly DmaFence[],
  room: number,
  pointer: bigint,
  process: Process,
): Task<number> {
  if (room < leaves.length) throw new DmaBufError('EINVAL', 'fileInfo', 'no-room-for-all-fences');
  if (!(yield* process.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'fileInfo', 'no-memory-for-fence-infos');
  }
  let status = 1;
  const parts: Uint8Array[] = [];
  for (const leaf of leaves) {
    const info = yield* infoOf(leaf);
    parts.push(syncFenceInfo.encode(info));
    if (status > 0) status = info.status;
  }
  yield* copyToUser(process, pointer, joinBytes(...parts));
  return status;
}

/** `sync_fill_fence_info()`: the names first, so that a fence signaled meanwhile shows its own. */
function* infoOf(fence: DmaFence): Atomic<SyncFenceInfo> {
  const { driver, timeline } = yield* fence.names();
  const status = yield* fence.getStatus();
  return {
    objName: timeline.slice(0, SYNC_NAME_MAX),
    driverName: driver.slice(0, SYNC_NAME_MAX),
    status,
    flags: 0,
    timestampNs: BigInt((yield* fence.isSignaled()) ? fence.value.timestampNs : 0),
  };
}
