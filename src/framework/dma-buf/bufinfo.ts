/**
 * What the kernel tells of buffers as text: lines of `/proc/PID/fdinfo/N`, and debugfs's list of
 * all.
 *
 * @source drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.11
 */

import { DmaBufError } from '../../base/index.ts';
import { lookAtCell, type PreemptStep, type Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { Kernel } from '../kernel.ts';
import type { DeviceNode } from '../vfs/device-nodes.ts';
import { type FileOperations, KernelFile } from '../vfs/file.ts';

/** Where debugfs shows the list. */
export const BUFINFO_PATH = '/sys/kernel/debug/dma_buf/bufinfo';

/**
 * The lines after those that every file has.
 *
 * @context May sleep. The reader holds a reference to the file, which does not count.
 * @source `dma_buf_show_fdinfo()`
 */
export function* fdinfoOf(buf: DmaBuf): Task<readonly string[]> {
  const count = yield* fileCount(buf);
  const name = yield* buf.name.read();
  const lines = [`size:\t${buf.size}`, `count:\t${count - 1}`, `exp_name:\t${buf.exporterName}`];
  return name === null ? lines : [...lines, `name:\t${name}`];
}

/**
 * The text of debugfs's `dma_buf/bufinfo`: all buffers, newest first, also those whose last
 * reference is gone and that are not released yet.
 *
 * @throws {@link DmaBufError} `EINTR` a signal came while it waited for a lock.
 * @context May sleep: takes the list's lock, and under it each buffer's reservation.
 * @source `dma_buf_debug_show()`
 */
export function* bufinfo(kernel: Kernel): Task<string> {
  const { bufferList } = kernel;
  const columns = ['size', 'flags', 'mode', 'count'].map((title) => title.padEnd(8)).join('\t');
  let text = `\nDma-buf Objects:\n${columns}\texp_name\t${'ino'.padEnd(8)}\tname\n`;
  let objects = 0;
  let bytes = 0;
  if ((yield* kernel.signals.tryInterruptible(bufferList.lock.lock())) === null) {
    throw new DmaBufError('EINTR', 'bufinfo', 'bufinfo-interrupted');
  }
  try {
    for (const buf of yield* bufferList.read()) {
      yield* buf.resv.lockInterruptible();
      text += yield* describeBuffer(buf);
      yield* buf.resv.unlock();
      objects += 1;
      bytes += buf.size;
    }
  } finally {
    yield* bufferList.lock.unlock();
  }
  return `${text}\nTotal ${objects} objects, ${bytes} bytes\n`;
}

/** What opens debugfs's file. */
export class BufinfoNode implements DeviceNode {
  readonly kernel: Kernel;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }

  /**
   * @context May sleep; no lock held.
   * @source `dma_buf_debug_open()`
   */
  *open(): Task<KernelFile> {
    return new BufinfoFile(this.kernel, BUFINFO_PATH, BUFINFO_OPERATIONS);
  }
}

/** The list as it was at the first read. */
class BufinfoFile extends KernelFile {
  text: string | null = null;
  position = 0;
}

const BUFINFO_OPERATIONS: FileOperations = {
  *release(): Task {},

  *read(file: KernelFile, length: number): Task<Uint8Array> {
    const open = file as BufinfoFile;
    open.text ??= yield* bufinfo(file.kernel);
    const piece = open.text.slice(open.position, open.position + length);
    open.position += piece.length;
    return Uint8Array.from(piece, (character) => character.charCodeAt(0));
  },
};

function* describeBuffer(buf: DmaBuf): Task<string> {
  const count = yield* fileCount(buf);
  const name = (yield* buf.name.read()) ?? '<none>';
  const { flags, modeBits } = buf.file;
  const numbers = [pad(buf.size), pad(flags, 16), pad(modeBits, 16), pad(count)].join('\t');
  const head = `${numbers}\t${buf.exporterName}\t${pad(buf.number)}\t${name}\n`;
  const devices = (yield* buf.attachments.read()).map(({ device }) => `\t${device.name}\n`);
  const list = `\tAttached Devices:\n${devices.join('')}`;
  const fences = (yield* buf.resv.describe()).map((line) => `${line}\n`);
  return `${head}${fences.join('')}${list}Total ${devices.length} devices attached\n\n`;
}

function pad(value: number, radix = 10): string {
  return value.toString(radix).padStart(8, '0');
}

/** `file_count()`. */
function fileCount({ file }: DmaBuf): PreemptStep<number> {
  return lookAtCell(file.refs, 'count references', (references) => references);
}
