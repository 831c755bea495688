/**
 * Everybody in turn, one step each. Guarantee: none; one fair schedule, the same every time.
 */

import type { Actor, Strategy } from '../../machine/index.ts';

/** Chooses the next actor after the last one, in order of spawning. */
export class RoundRobinStrategy implements Strategy {
  readonly name = 'round-robin';

  pick(enabled: readonly Actor[], last: Actor | null): number {
    if (last === null) return 0;
    const next = enabled.findIndex((actor) => actor.index > last.index);
    return Math.max(next, 0);
  }
}
