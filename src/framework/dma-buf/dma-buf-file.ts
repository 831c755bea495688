/**
 * The file behind a buffer's descriptors: what system calls find there, and what happens when the
 * last reference is gone.
 *
 * @source `dma_buf_fops`, `dma_buf_release()`, drivers/dma-buf/dma-buf.c, v7.2;
 *   reference/linux-dma-buf.md A.5, A.8
 */

import { DMA_BUF_MAGIC, DmaBufError, O, SEEK } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import { fdinfoOf } from './bufinfo.ts';
import { mmapInternal } from './cpu-access.ts';
import type { DmaBuf } from './dma-buf.ts';
import { bufferIoctl } from './dma-buf-ioctl.ts';
import { pollBuffer } from './dma-buf-poll.ts';
import type { Kernel } from '../kernel.ts';
import { type FileOperations, type FileStat, KernelFile, type OpenMode } from '../vfs/file.ts';
import type { Process } from '../user/process.ts';
import type { Vma } from '../user/vma.ts';
import type { PollTable } from '../vfs/poll-table.ts';

/** Permissions of a buffer's inode. It has no type: it is no regular file, no device, nothing. */
const INODE_MODE = 0o600;

/** `FMODE_LSEEK`. */
const FMODE_LSEEK = 0x4;
/** `FMODE_OPENED`. */
const FMODE_OPENED = 0x8_0000;

/** The file of a buffer. */
export class BufferFile extends KernelFile {
  readonly buf: DmaBuf;
  /** `f_flags`: access mode and `O_NONBLOCK`; the rest of what was asked for is dropped. */
  override readonly flags: number;

  constructor(kernel: Kernel, name: string, buf: DmaBuf, flags: number) {
    const kept = flags & (O.ACCMODE | O.NONBLOCK);
    super(kernel, name, BUFFER_FILE_OPERATIONS, modeOf(kept));
    this.buf = buf;
    this.flags = kept;
  }

  override get path(): string {
    return `/dmabuf:${this.buf.name.value ?? ''}`;
  }

  /** `f_mode`, as debugfs shows it. */
  get modeBits(): number {
    const { read, write } = this.mode;
    return (read ? 1 : 0) | (write ? 2 : 0) | FMODE_LSEEK | FMODE_OPENED;
  }
}

function modeOf(flags: number): OpenMode {
  const access = flags & O.ACCMODE;
  return {
    read: access === O.RDONLY || access === O.RDWR,
    write: access === O.WRONLY || access === O.RDWR,
    isNonBlocking: (flags & O.NONBLOCK) !== 0,
  };
}

const BUFFER_FILE_OPERATIONS: FileOperations = {
  release: (file: KernelFile): Task => releaseBuffer(bufOf(file)),

  /** Tells the size; the position never changes. */
  *llseek(file: KernelFile, offset: number, whence: number): Task<number> {
    const { size } = bufOf(file);
    if (offset === 0 && whence === SEEK.END) return size;
    if (offset === 0 && whence === SEEK.SET) return 0;
    throw new DmaBufError('EINVAL', 'llseek', 'seek-to-begin-or-end-only');
  },

  poll: (file: KernelFile, table: PollTable): Task<number> => pollBuffer(bufOf(file), table),

  ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    return bufferIoctl(bufOf(file), request, arg, process);
  },

  mmap: (file: KernelFile, vma: Vma): Task => mmapInternal(bufOf(file), vma),

  fdinfo: (file: KernelFile): Task<readonly string[]> => fdinfoOf(bufOf(file)),

  stat(file: KernelFile): FileStat {
    const { number: ino, size } = bufOf(file);
    return { ino, size, mode: INODE_MODE, magic: DMA_BUF_MAGIC };
  },
};

function bufOf(file: KernelFile): DmaBuf {
  return (file as BufferFile).buf;
}

/** The kernel's order: off the list, the exporter's release, and only then what is left. */
function* releaseBuffer(buf: DmaBuf): Task {
  const { kernel, number } = buf;
  const { scheduler } = kernel;
  scheduler.record?.({ kind: 'buffer.release', buffer: number, phase: 'begin' });
  yield* kernel.bufferList.remove(buf);
  const vmapping = yield* buf.vmapping.read();
  if (vmapping !== null) {
    scheduler.oops(`dma_buf_release: the kernel still maps dma-buf ${number}`);
    return;
  }
  if ((yield* buf.pollSlots.read()) !== 0) {
    scheduler.oops(`dma_buf_release: a poll callback of dma-buf ${number} is pending`);
    return;
  }
  yield* buf.ops.release(buf);
  if (buf.ownsResv) yield* buf.resv.fini();
  const left = yield* buf.attachments.read();
  if (left.length > 0) {
    scheduler.warn('dma_buf_release', `${left.length} attachments are still on the list`);
  }
  buf.isFreed = true;
  if (buf.owner !== null) yield* buf.owner.put();
  scheduler.record?.({ kind: 'buffer.release', buffer: number, phase: 'end' });
}
