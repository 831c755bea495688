/**
 * Whose turn it is with the memory of a plane. Queueing hands it to hardware, dequeueing gives it
 * back; whoever touches it in somebody else's turn is reported.
 *
 * DIFFERS: Linux does not look. There, two devices or a device and a program that use one buffer at
 * once get a torn picture, and nobody is told.
 *
 * @source thread S002: who owns a buffer follows from the queues
 */

import {
  type Access,
  type Atomic,
  Cell,
  PreemptStep,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';

/** Who has the memory now. Its value is the hardware's name; null: the program. */
export class Turn extends Cell<string | null> {
  private readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, null);
    this.scheduler = scheduler;
  }

  /**
   * Hardware begins to use the memory.
   *
   * @context Any.
   */
  *take(who: string): Atomic {
    const before = yield* new ChangeTurn(this, who);
    this.report(before, who);
  }

  /**
   * Hardware is done with it.
   *
   * @context Any.
   */
  *end(who: string): Atomic {
    if (this.value === who) yield* new ChangeTurn(this, null);
  }

  /**
   * The program is about to touch the memory.
   *
   * @context Any.
   */
  *checkProgram(): Atomic {
    this.report(yield* new LookAtTurn(this), 'the CPU');
  }

  private report(before: string | null, who: string): void {
    if (before === null || before === who) return;
    this.scheduler.warn('vb2', `${who} uses ${this.name} in the turn of ${before}`);
  }
}

/** Gives back who had it before. */
class ChangeTurn extends PreemptStep<string | null> {
  readonly cell: Turn;
  private readonly holder: string | null;

  constructor(cell: Turn, who: string | null) {
    super();
    this.cell = cell;
    this.holder = who;
  }

  get verb(): string {
    return this.holder === null ? 'end turn with' : 'take turn with';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): string | null {
    const before = this.cell.value;
    this.cell.value = this.holder;
    return before;
  }
}

class LookAtTurn extends PreemptStep<string | null> {
  readonly cell: Turn;

  constructor(cell: Turn) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'look whose turn it is with';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): string | null {
    return this.cell.value;
  }
}
