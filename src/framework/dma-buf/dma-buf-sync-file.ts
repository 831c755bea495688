/**
 * The bridge between implicit and explicit synchronisation: the fences of a buffer as a sync file,
 * and a sync file's fences into a buffer. A snapshot each way; the race between the two is the
 * program's.
 *
 * @source `dma_buf_export_sync_file()`, `dma_buf_import_sync_file()`, drivers/dma-buf/dma-buf.c,
 *   v7.2; reference/linux-dma-buf.md A.16
 */

import {
  DMA_BUF_SYNC,
  DmaBufError,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
} from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import { withReservation } from './lock-context.ts';
import type { DmaFence } from '../fence/dma-fence.ts';
import { dmaResvUsageRw } from '../fence/dma-resv.ts';
import type { DmaResvUsage } from '../fence/resv-list.ts';
import { stubFence } from '../fence/fence-stub.ts';
import { fenceUnwrap } from '../fence/fence-unwrap.ts';
import { syncFileCreate, syncFileFence } from '../fence/sync-file.ts';
import type { Process } from '../user/process.ts';
import { copyFromUser, copyToUser } from '../user/user-copy.ts';
import type { KernelFile } from '../vfs/file.ts';

/**
 * Gives the process a sync file of what is pending: for reading the writers, for writing all.
 *
 * @param arg - Address of a `struct dma_buf_export_sync_file`.
 * @throws {@link DmaBufError} `EFAULT`; `EINVAL` flags; `EMFILE`; `ENOMEM`.
 * @context May sleep; no lock held, and none taken.
 */
export function* exportSyncFile(buf: DmaBuf, arg: number, process: Process): Task {
  const asked = yield* copyFromUser(process, arg, dmaBufExportSyncFile);
  if (!isReadOrWrite(asked.flags)) {
    throw new DmaBufError('EINVAL', 'exportSyncFile', 'export-for-neither-read-nor-write');
  }
  const fd = yield* process.fds.reserve({ closeOnExec: true });
  if (fd === null) throw new DmaBufError('EMFILE', 'exportSyncFile', 'no-descriptor-to-export-to');
  let file: KernelFile | null = null;
  try {
    file = yield* snapshot(buf, dmaResvUsageRw(isWrite(asked.flags)));
    yield* copyToUser(process, arg, dmaBufExportSyncFile.encode({ ...asked, fd }));
  } catch (error) {
    if (file !== null) yield* file.put();
    yield* process.fds.unreserve(fd);
    throw error;
  }
  yield* process.fds.fill(fd, file);
}

/**
 * Adds the fences of a sync file to the buffer, each by itself, whoever made them. A file without
 * any changes nothing.
 *
 * @param arg - Address of a `struct dma_buf_import_sync_file`.
 * @throws {@link DmaBufError} `EFAULT`; `EINVAL` flags, or no sync file; `ENOMEM`.
 * @context May sleep: takes the reservation, uninterruptibly.
 */
export function* importSyncFile(buf: DmaBuf, arg: number, process: Process): Task {
  const { flags, fd } = yield* copyFromUser(process, arg, dmaBufImportSyncFile);
  if (!isReadOrWrite(flags)) {
    throw new DmaBufError('EINVAL', 'importSyncFile', 'import-for-neither-read-nor-write');
  }
  const file = yield* process.fds.fget(fd);
  try {
    const fence = file === null ? null : syncFileFence(file);
    if (fence === null) throw new DmaBufError('EINVAL', 'importSyncFile', 'import-of-no-sync-file');
    yield* addLeaves(buf, fence, isWrite(flags) ? 'write' : 'read');
  } finally {
    if (file !== null) yield* file.put();
  }
}

/** A sync file of the fences that are pending now. */
function* snapshot(buf: DmaBuf, usage: DmaResvUsage): Task<KernelFile> {
  const { kernel } = buf;
  const fence = (yield* buf.resv.getSingleton(usage)) ?? stubFence(kernel);
  const isRoom = yield* kernel.slab.alloc();
  const file = isRoom ? syncFileCreate(kernel, fence) : null;
  yield* fence.put();
  if (file === null) {
    throw new DmaBufError('ENOMEM', 'exportSyncFile', 'no-memory-to-export-a-sync-file');
  }
  return file;
}

function* addLeaves(buf: DmaBuf, fence: DmaFence, usage: DmaResvUsage): Task {
  const leaves = yield* fenceUnwrap(fence);
  try {
    if (leaves.length > 0) yield* withReservation(buf.resv, addEach(buf, leaves, usage));
  } finally {
    for (const leaf of leaves) yield* leaf.put();
  }
}

function* addEach(buf: DmaBuf, leaves: readonly DmaFence[], usage: DmaResvUsage): Task {
  yield* buf.resv.reserveFences(leaves.length);
  for (const leaf of leaves) yield* buf.resv.addFence(leaf, usage);
}

function isReadOrWrite(flags: number): boolean {
  return (flags & ~DMA_BUF_SYNC.RW) === 0 && flags !== 0;
}

function isWrite(flags: number): boolean {
  return (flags & DMA_BUF_SYNC.WRITE) !== 0;
}
