/** What exporters told a probe file, until the program reads it. */

import {
  Cell,
  changeCell,
  lookAtCell,
  type PreemptStep,
  type Scheduler,
} from '../../machine/index.ts';

/** LIMIT: news kept for a program that does not read them; the oldest are lost then. */
export const PROBE_EVENTS_MAX = 1024;

/** An importer was told that its mappings are stale. */
export interface ProbeEvent {
  /** From 1, without gaps: a gap in what a program reads is what was lost. */
  readonly sequence: number;
  /** Number of the attachment. */
  readonly attachment: number;
  /** Mappings that were taken back inside the callback. */
  readonly unmapped: number;
}

interface LogState {
  readonly last: number;
  readonly events: readonly ProbeEvent[];
}

/** The news of one file, oldest first. */
export class EventLog extends Cell<LogState> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'probe events', { last: 0, events: [] });
  }

  /** A step that adds one. */
  append(event: Omit<ProbeEvent, 'sequence'>): PreemptStep<void> {
    return changeCell(this, 'append', ({ last, events }) => {
      const sequence = last + 1;
      const kept = events.slice(-(PROBE_EVENTS_MAX - 1));
      return [{ last: sequence, events: [...kept, { sequence, ...event }] }, undefined];
    });
  }

  /** A step that shows the oldest, `count` at most, and how many there are. */
  peek(count: number): PreemptStep<readonly ProbeEvent[]> {
    return lookAtCell(this, 'peek', ({ events }) => events.slice(0, count));
  }

  /** A step that says how many there are after a number. */
  countAfter(sequence: number): PreemptStep<number> {
    return lookAtCell(this, 'count', ({ events }) => {
      return events.filter((event) => event.sequence > sequence).length;
    });
  }

  /** A step that forgets those up to a number. */
  forget(sequence: number): PreemptStep<void> {
    return changeCell(this, 'forget', ({ last, events }) => {
      return [{ last, events: events.filter((event) => event.sequence > sequence) }, undefined];
    });
  }
}
