/**
 * A fair die at every step. Guarantee: none for one run; over many runs every schedule can come up.
 */

import { Prng } from '../../base/index.ts';
import type { Actor, Strategy } from '../../machine/index.ts';

/** Chooses uniformly among the actors that may go. The same seed makes the same choices. */
export class RandomStrategy implements Strategy {
  readonly name: string;
  private readonly prng: Prng;

  constructor(seed: number) {
    this.name = `random seed ${seed}`;
    this.prng = new Prng(seed);
  }

  pick(enabled: readonly Actor[]): number {
    return enabled.length === 1 ? 0 : this.prng.below(enabled.length);
  }
}
