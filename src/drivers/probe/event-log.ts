/** What exporters told a probe file, until the program reads it. */

import { type Access, Cell, PreemptStep, type Scheduler, wholeCell } from '../../machine/index.ts';

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
    return new Append(this, event);
  }

  /** A step that shows the oldest, `count` at most, and how many there are. */
  peek(count: number): PreemptStep<readonly ProbeEvent[]> {
    return new Peek(this, count);
  }

  /** A step that says how many there are after a number. */
  countAfter(sequence: number): PreemptStep<number> {
    return new CountAfter(this, sequence);
  }

  /** A step that forgets those up to a number. */
  forget(sequence: number): PreemptStep<void> {
    return new Forget(this, sequence);
  }
}

class Append extends PreemptStep<void> {
  readonly cell: EventLog;
  private readonly event: Omit<ProbeEvent, 'sequence'>;

  constructor(cell: EventLog, event: Omit<ProbeEvent, 'sequence'>) {
    super();
    this.cell = cell;
    this.event = event;
  }

  get verb(): string {
    return 'append';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    const { last, events } = this.cell.value;
    const sequence = last + 1;
    const kept = events.slice(-(PROBE_EVENTS_MAX - 1));
    this.cell.value = { last: sequence, events: [...kept, { sequence, ...this.event }] };
  }
}

class Peek extends PreemptStep<readonly ProbeEvent[]> {
  readonly cell: EventLog;
  private readonly count: number;

  constructor(cell: EventLog, count: number) {
    super();
    this.cell = cell;
    this.count = count;
  }

  get verb(): string {
    return 'peek';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): readonly ProbeEvent[] {
    return this.cell.value.events.slice(0, this.count);
  }
}

class CountAfter extends PreemptStep<number> {
  readonly cell: EventLog;
  private readonly sequence: number;

  constructor(cell: EventLog, sequence: number) {
    super();
    this.cell = cell;
    this.sequence = sequence;
  }

  get verb(): string {
    return 'count';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): number {
    return this.cell.value.events.filter(({ sequence }) => sequence > this.sequence).length;
  }
}

class Forget extends PreemptStep<void> {
  readonly cell: EventLog;
  private readonly sequence: number;

  constructor(cell: EventLog, sequence: number) {
    super();
    this.cell = cell;
    this.sequence = sequence;
  }

  get verb(): string {
    return 'forget';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    const { last, events } = this.cell.value;
    const left = events.filter(({ sequence }) => sequence > this.sequence);
    this.cell.value = { last, events: left };
  }
}
