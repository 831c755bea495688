/**
 * State behind a spinlock: changed in one go, so the lock itself need not be a step.
 *
 * @source `spin_lock()`; include/linux/idr.h
 */

import { changeCell, type PreemptStep, Shared } from '../../machine/index.ts';

/** A value that is looked at and replaced under a spinlock. */
export class SpinLocked<T> extends Shared<T> {
  /**
   * A step that replaces the value by what `change` makes of it, a pure function.
   *
   * @param change - Gives the new value and the step's result.
   */
  change<R>(verb: string, change: (value: T) => readonly [T, R]): PreemptStep<R> {
    return changeCell(this, verb, change);
  }
}
