/** What a file's poll is handed: where it says on which queues its news will come. */

import type { Atomic } from '../../machine/index.ts';
import type { WaitEntry, WaitQueue } from './wait-queue.ts';

/** Events of poll(2). */
export const POLLIN = 0x1;
/** Writing is possible. */
export const POLLOUT = 0x4;
/** Something is wrong. */
export const POLLERR = 0x8;
/** The other end is gone. */
export const POLLHUP = 0x10;
/** The descriptor is not open. */
export const POLLNVAL = 0x20;

/** `struct poll_table_struct`: what is asked for, and the queues that were named. */
export class PollTable {
  /** Events that the caller wants to know of; those always reported are added by the core. */
  readonly events: number;
  /** Queues to sleep on. */
  readonly entries: WaitEntry[] = [];

  constructor(events: number) {
    this.events = events;
  }

  /**
   * Says that news will come on `queue`. Call it before looking whether something is ready.
   *
   * @context Any.
   * @source `poll_wait()`
   */
  *wait(queue: WaitQueue): Atomic {
    this.entries.push({ queue, seen: yield* queue.seen() });
  }
}
