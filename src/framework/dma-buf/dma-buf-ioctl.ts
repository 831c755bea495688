/**
 * What a program may ask of a buffer's descriptor. There is no check of how it was opened: a
 * read-only descriptor takes every command.
 *
 * @source `dma_buf_ioctl()`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.10, A.16
 */

import {
  DMA_BUF_IOCTL,
  DMA_BUF_SYNC,
  DmaBufError,
  type DmaDirection,
  dmaBufSync,
} from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import { setName } from './dma-buf-name.ts';
import { exportSyncFile, importSyncFile } from './dma-buf-sync-file.ts';
import type { Process } from '../user/process.ts';
import { copyFromUser } from '../user/user-copy.ts';

/**
 * Does what the command says.
 *
 * @param request - Unsigned, 32 bits.
 * @param arg - An address in the process.
 * @returns 0.
 * @throws {@link DmaBufError} `ENOTTY` no such command; `EFAULT` the argument is not to be read;
 *   what the command says.
 * @context May sleep; no lock held.
 */
export function* bufferIoctl(
  buf: DmaBuf,
  request: number,
  arg: number,
  process: Process,
): Task<number> {
  switch (request) {
    case DMA_BUF_IOCTL.SYNC:
      yield* sync(buf, arg, process);
      return 0;
    case DMA_BUF_IOCTL.SET_NAME_A:
    case DMA_BUF_IOCTL.SET_NAME_B:
      yield* setName(buf, arg, process);
      return 0;
    case DMA_BUF_IOCTL.EXPORT_SYNC_FILE:
      yield* exportSyncFile(buf, arg, process);
      return 0;
    case DMA_BUF_IOCTL.IMPORT_SYNC_FILE:
      yield* importSyncFile(buf, arg, process);
      return 0;
    default:
      throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-dma-buf-command');
  }
}

/** Begins and ends are not counted: the exporter hears of each. */
function* sync(buf: DmaBuf, arg: number, process: Process): Task {
  const { flags } = yield* copyFromUser(process, arg, dmaBufSync);
  const direction = directionOf(flags);
  if ((flags & BigInt(DMA_BUF_SYNC.END)) === 0n) yield* buf.beginCpuAccess(direction);
  else yield* buf.endCpuAccess(direction);
}

function directionOf(flags: bigint): DmaDirection {
  if ((flags & ~BigInt(DMA_BUF_SYNC.VALID_FLAGS_MASK)) !== 0n) {
    throw new DmaBufError('EINVAL', 'sync', 'unknown-sync-flags');
  }
  switch (Number(flags) & DMA_BUF_SYNC.RW) {
    case DMA_BUF_SYNC.READ:
      return 'from-device';
    case DMA_BUF_SYNC.WRITE:
      return 'to-device';
    case DMA_BUF_SYNC.RW:
      return 'bidirectional';
    default:
      throw new DmaBufError('EINVAL', 'sync', 'sync-neither-reads-nor-writes');
  }
}
