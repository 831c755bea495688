/** Another strategy, with its choices written down. */

import type { Actor, Outcome, Step, Strategy } from '../../machine/index.ts';
import type { Schedule } from '../schedule.ts';

/** Does what `inner` does and keeps the schedule. */
export class RecordingStrategy implements Strategy {
  readonly name: string;
  private readonly inner: Strategy;
  private readonly choices: number[] = [];

  constructor(inner: Strategy) {
    this.name = inner.name;
    this.inner = inner;
  }

  /** Who took each step so far. */
  get schedule(): Schedule {
    return this.choices;
  }

  pick(enabled: readonly Actor[], last: Actor | null): number {
    const choice = this.inner.pick(enabled, last);
    this.choices.push((enabled[choice] as Actor).index);
    return choice;
  }

  before(actor: Actor, step: Step): void {
    this.inner.before?.(actor, step);
  }

  finish(outcome: Outcome, actors: readonly Actor[]): void {
    this.inner.finish?.(outcome, actors);
  }
}
