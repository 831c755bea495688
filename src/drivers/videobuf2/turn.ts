/**
 * Whose turn it is with the memory of a plane. Queueing hands it to hardware, dequeueing gives it
 * back; whoever touches it in somebody else's turn is reported.
 *
 * DIFFERS: Linux does not look. There, two devices or a device and a program that use one buffer at
 * once get a torn picture, and nobody is told.
 *
 * @source thread S002: who owns a buffer follows from the queues
 */

import { type Atomic, Cell, changeCell, lookAtCell, type Scheduler } from '../../machine/index.ts';

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
    const before = yield* changeCell(this, 'take turn with', (holder) => [who, holder]);
    this.report(before, who);
  }

  /**
   * Hardware is done with it.
   *
   * @context Any.
   */
  *end(who: string): Atomic {
    if (this.value === who) yield* changeCell(this, 'end turn with', () => [null, undefined]);
  }

  /**
   * The program is about to touch the memory.
   *
   * @context Any.
   */
  *checkProgram(): Atomic {
    this.report(
      yield* lookAtCell(this, 'look whose turn it is with', (holder) => holder),
      'the CPU',
    );
  }

  private report(before: string | null, who: string): void {
    if (before === null || before === who) return;
    this.scheduler.warn('vb2', `${who} uses ${this.name} in the turn of ${before}`);
  }
}
