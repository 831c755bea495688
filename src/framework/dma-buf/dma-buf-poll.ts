/**
 * Polling a buffer: readable when nobody writes it any more, writable when nobody uses it. There is
 * one callback slot for each direction, whoever polls; a callback in its slot keeps the buffer
 * alive.
 *
 * It tells of the end of DMA only; caches still need the bracket of `cpu-access.ts`.
 *
 * @source `dma_buf_poll()`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.9
 */

import {
  type Atomic,
  Cell,
  changeCell,
  lookAtCell,
  type PreemptStep,
  type Scheduler,
  type Task,
} from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaFence } from '../fence/dma-fence.ts';
import { dmaResvUsageRw } from '../fence/dma-resv.ts';
import { POLLIN, POLLOUT, type PollTable } from '../vfs/poll-table.ts';

/** The two slots (`cb_in`, `cb_out`). Its value is the events whose slot is taken. */
export class PollSlots extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }

  /** A step that says which slots are taken. */
  read(): PreemptStep<number> {
    return lookAtCell(this, 'look at poll slots', (taken) => taken);
  }

  /** A step that takes the slot of `event`. False: it is taken. */
  take(event: number): PreemptStep<boolean> {
    return changeCell(this, 'take poll slot', (taken) => [taken | event, (taken & event) === 0]);
  }

  /** A step that gives the slot of `event` back. False: it was free. */
  clear(event: number): PreemptStep<boolean> {
    return changeCell(this, 'clear poll slot', (taken) => {
      return [taken & ~event, (taken & event) !== 0];
    });
  }
}

/**
 * Which of the events asked for are there. Leaves a callback at the first fence that is in the way.
 *
 * @context May sleep: takes the reservation, uninterruptibly.
 */
export function* pollBuffer(buf: DmaBuf, table: PollTable): Task<number> {
  yield* table.wait(buf.poll);
  let events = table.events & (POLLIN | POLLOUT);
  if (events === 0) return 0;
  yield* buf.resv.lock();
  // The kernel's order: writing first.
  for (const event of [POLLOUT, POLLIN]) {
    if ((events & event) !== 0 && !(yield* pollOne(buf, event))) events &= ~event;
  }
  yield* buf.resv.unlock();
  return events;
}

/** True if the event is there. */
function* pollOne(buf: DmaBuf, event: number): Task<boolean> {
  if (!(yield* buf.pollSlots.take(event))) return false;
  // The callback's own reference: the buffer stays until the fence signals.
  yield* buf.file.get();
  const iter = buf.resv.iterate(dmaResvUsageRw(event === POLLOUT));
  for (let at = yield* iter.first(); at !== null; at = yield* iter.next()) {
    const fence = at;
    yield* fence.get();
    if (yield* fence.addCallback(() => pollCallback(buf, event, fence))) return false;
    yield* fence.put();
  }
  yield* pollCallback(buf, event, null);
  return true;
}

/** Wakes who waits, gives slot and references back. Nothing is armed anew: who woke polls again. */
function* pollCallback(buf: DmaBuf, event: number, fence: DmaFence | null): Atomic {
  yield* buf.poll.wake();
  yield* buf.pollSlots.clear(event);
  if (fence !== null) yield* fence.put();
  yield* buf.file.put();
}
