/** Waiting for news of a file: who polls sleeps here until somebody wakes the queue. */

import {
  type Access,
  Cell,
  changeCell,
  lookAtCell,
  type Look,
  type PreemptStep,
  type Scheduler,
  SleepStep,
  wholeCell,
} from '../../machine/index.ts';

/** `wait_queue_head_t`. Its value counts the times it was woken. */
export class WaitQueue extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }

  /**
   * Wakes everybody who sleeps on it.
   *
   * @context Any, also fence callbacks and interrupt handlers.
   * @source `wake_up_all()`
   */
  wake(): PreemptStep<void> {
    return changeCell(this, 'wake', (woken) => [woken + 1, undefined]);
  }

  /** A step that says how often it was woken so far. Ask before looking at what it announces. */
  seen(): PreemptStep<number> {
    return lookAtCell(this, 'poll', (woken) => woken);
  }
}

/** A queue, and how often it had been woken when somebody looked. */
export interface WaitEntry {
  readonly queue: WaitQueue;
  readonly seen: number;
}

/**
 * A step that sleeps until one of the queues is woken again, or the clock reaches `until`.
 *
 * @param clock - The scheduler's clock.
 * @param until - Virtual time; Infinity waits for ever.
 */
export function waitForAny(
  clock: Cell<number>,
  entries: readonly WaitEntry[],
  until: number,
): SleepStep<void> {
  return new WaitForAny(clock, entries, until);
}

class WaitForAny extends SleepStep<void> {
  readonly cell: Cell;
  private readonly clock: Cell<number>;
  private readonly entries: readonly WaitEntry[];
  private readonly until: number;

  constructor(clock: Cell<number>, entries: readonly WaitEntry[], until: number) {
    super();
    this.cell = entries[0]?.queue ?? clock;
    this.clock = clock;
    this.entries = entries;
    this.until = until;
  }

  get verb(): string {
    return 'wait for news of';
  }

  override guard(look: Look): boolean {
    if (look(this.clock) >= this.until) return true;
    return this.entries.some(({ queue, seen }) => look(queue) !== seen);
  }

  override accesses(): readonly Access[] {
    const queues = this.entries.map(({ queue }) => wholeCell(queue, 'R'));
    return this.until === Number.POSITIVE_INFINITY
      ? queues
      : [...queues, wholeCell(this.clock, 'R')];
  }

  override deadline(): number | undefined {
    return this.until === Number.POSITIVE_INFINITY ? undefined : this.until;
  }

  apply(): void {}
}
