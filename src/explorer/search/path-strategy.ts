/** A way that is gone up to a certain step and no further. Guarantee: that way, or an error. */

import { assert } from '../../base/index.ts';
import type { Actor, Strategy } from '../../machine/index.ts';
import type { Schedule } from '../schedule.ts';

/** Thrown out of a run at the end of the way. */
export class EndOfPath extends Error {}

/** Follows actors by their numbers, which agree between executions that spawn in another order. */
export class PathStrategy implements Strategy {
  readonly name = 'shortest';
  private readonly ids: readonly number[];
  private readonly taken: number[] = [];

  constructor(ids: readonly number[]) {
    this.ids = ids;
  }

  /** Who took each step so far. */
  get schedule(): Schedule {
    return this.taken;
  }

  /** @throws {@link EndOfPath} the way is over. */
  pick(enabled: readonly Actor[]): number {
    const wanted = this.ids[this.taken.length];
    if (wanted === undefined) throw new EndOfPath();
    const choice = enabled.findIndex((actor) => actor.id === wanted);
    assert(choice >= 0, 'steps that depend on nothing else can be left out');
    this.taken.push((enabled[choice] as Actor).index);
    return choice;
  }
}
