/**
 * The label that user space gives a buffer.
 *
 * @source `dma_buf_set_name()`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.7
 */

import { DMA_BUF_NAME_LEN, DmaBufError, PAGE_SIZE, type UserAddr } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { Process } from '../user/process.ts';

/**
 * `DMA_BUF_SET_NAME`: replaces the name, also while devices are attached. An empty one is a name.
 *
 * @param arg - Address of a string of at most 31 characters and its NUL.
 * @throws {@link DmaBufError} `EINVAL` longer; `EFAULT` not to be read; `ENOMEM`.
 * @context May sleep; no lock held.
 */
export function* setName(buf: DmaBuf, arg: number, process: Process): Task {
  const name = yield* userString(process, arg);
  if (name === null) throw new DmaBufError('EINVAL', 'setName', 'name-is-too-long');
  if (!(yield* buf.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'setName', 'no-memory-for-a-name');
  }
  yield* buf.name.write(name);
  buf.kernel.scheduler.record?.({ kind: 'buffer.name', buffer: buf.number, name });
}

/** A string of user space, a character for each byte; null if no NUL comes in time. */
function* userString(process: Process, arg: number): Task<string | null> {
  let text = '';
  // Whatever the address, the load says whether it is one. A page that the string does not reach
  // is not touched.
  while (text.length < DMA_BUF_NAME_LEN) {
    const at = arg + text.length;
    const length = Math.min(DMA_BUF_NAME_LEN - text.length, PAGE_SIZE - (at % PAGE_SIZE));
    for (const byte of yield* process.mm.load(at as UserAddr, length)) {
      if (byte === 0) return text;
      text += String.fromCharCode(byte);
    }
  }
  return null;
}
