/**
 * All buffers there are, newest first: what debugfs shows and what a walker sees.
 *
 * @source `dmabuf_list`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.3, A.4, A.11
 */

import {
  changeCell,
  Mutex,
  type PreemptStep,
  type Scheduler,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';

/** The list of all dma-bufs. It owns no reference to any. */
export class BufferList {
  /** `dmabuf_list_mutex`: taken before a reservation, never after. */
  readonly lock: Mutex;
  private readonly buffers: Shared<readonly DmaBuf[]>;

  constructor(scheduler: Scheduler) {
    this.lock = new Mutex(scheduler, 'dma-buf list lock');
    this.buffers = new Shared<readonly DmaBuf[]>(scheduler, 'dma-buf list', []);
  }

  /** How many there are now. */
  get value(): number {
    return this.buffers.value.length;
  }

  /** @context May sleep; the reservation is not locked. */
  *add(buf: DmaBuf): Task {
    yield* this.lock.lock();
    yield* changeCell(this.buffers, 'list add', (all) => [[buf, ...all], undefined]);
    yield* this.lock.unlock();
  }

  /** @context May sleep; the reservation is not locked. */
  *remove(buf: DmaBuf): Task {
    yield* this.lock.lock();
    yield* changeCell(this.buffers, 'list remove', (all) => {
      return [all.filter((one) => one !== buf), undefined];
    });
    yield* this.lock.unlock();
  }

  /** A step that reads the list; {@link lock} is held as long as its buffers are used. */
  read(): PreemptStep<readonly DmaBuf[]> {
    return this.buffers.read();
  }

  /**
   * Walks the list: the buffer after `prev`, with a reference, or null at the end. Buffers whose
   * last reference is gone are passed over. The reference to `prev` is dropped.
   *
   * @param prev - Null: begin.
   * @context May sleep; no reservation is locked.
   * @source `dma_buf_iter_begin()`, `dma_buf_iter_next()`
   */
  *iterNext(prev: DmaBuf | null): Task<DmaBuf | null> {
    let next: DmaBuf | null = null;
    yield* this.lock.lock();
    const all = yield* this.buffers.read();
    const from = prev === null ? 0 : all.indexOf(prev) + 1;
    for (const buf of all.slice(from)) {
      if (!(yield* buf.file.getActive())) continue;
      next = buf;
      break;
    }
    yield* this.lock.unlock();
    if (prev !== null) yield* prev.put();
    return next;
  }
}
