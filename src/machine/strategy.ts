/**
 * A strategy decides which actor goes next. The scheduler knows only this; searching exhaustively,
 * replaying and rolling dice are strategies.
 */

import type { Actor } from './actor.ts';
import type { Outcome } from './outcome.ts';
import type { Step } from './task.ts';

/** Decides the order of steps. */
export interface Strategy {
  /** How it calls itself in reports: `random seed 7`. */
  readonly name: string;

  /**
   * Chooses among the actors whose step may run now; there is at least one.
   *
   * @param enabled - In order of spawning; valid during the call only.
   * @param last - Who went last; null at the beginning.
   * @returns An index into `enabled`.
   */
  pick(enabled: readonly Actor[], last: Actor | null): number;

  /** Called right before a step takes effect, with the cells still as the step will find them. */
  before?(actor: Actor, step: Step): void;

  /**
   * Called when the execution is over. `actors` holds all of them; a blocked one keeps its step.
   */
  finish?(outcome: Outcome, actors: readonly Actor[]): void;
}
