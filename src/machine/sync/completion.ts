/** Waiting until another actor says that something is done. @source include/linux/completion.h */

import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/** A completion. Its value counts the completions that nobody has waited for yet. */
export class Completion extends Cell<number> {
  /** Names of those who have still to do their part, for the report of a wait that never ends. */
  readonly owedBy: () => readonly string[];

  constructor(scheduler: Scheduler, name: string, owedBy: () => readonly string[] = nobodyKnown) {
    super(scheduler, name, 0);
    this.owedBy = owedBy;
  }

  /** Lets one waiter go on, now or when it comes. */
  complete(): PreemptStep<void> {
    return new Complete(this);
  }

  /** Waits for a {@link complete} and uses it up. */
  wait(): SleepStep<void> {
    return new Wait(this);
  }

  /** `reinit_completion()`: forgets completions nobody waited for. */
  reinit(): PreemptStep<void> {
    return new Reinit(this);
  }
}

function nobodyKnown(): readonly string[] {
  return [];
}

class Complete extends PreemptStep<void> {
  get verb(): string {
    return 'complete';
  }

  readonly cell: Completion;

  constructor(cell: Completion) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'A')];
  }

  apply(): void {
    this.cell.value += 1;
  }
}

class Wait extends SleepStep<void> {
  get verb(): string {
    return 'wait_for_completion';
  }

  readonly cell: Completion;

  constructor(cell: Completion) {
    super();
    this.cell = cell;
  }

  override guard(look: Look): boolean {
    return look(this.cell) > 0;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value -= 1;
  }

  override waitsFor(): readonly string[] {
    return this.cell.owedBy();
  }
}

class Reinit extends PreemptStep<void> {
  get verb(): string {
    return 'reinit_completion';
  }

  readonly cell: Completion;

  constructor(cell: Completion) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = 0;
  }
}
