/**
 * State behind a spinlock: changed in one go, so the lock itself need not be a step.
 *
 * @source `spin_lock()`; include/linux/idr.h
 */

import { type Access, PreemptStep, Shared, wholeCell } from '../../machine/index.ts';

/** A value that is looked at and replaced under a spinlock. */
export class SpinLocked<T> extends Shared<T> {
  /**
   * A step that replaces the value by what `change` makes of it, a pure function.
   *
   * @param change - Gives the new value and the step's result.
   */
  change<R>(verb: string, change: (value: T) => readonly [T, R]): PreemptStep<R> {
    return new Change(this, verb, change);
  }
}

class Change<T, R> extends PreemptStep<R> {
  readonly cell: SpinLocked<T>;
  readonly verb: string;
  private readonly change: (value: T) => readonly [T, R];

  constructor(cell: SpinLocked<T>, verb: string, change: (value: T) => readonly [T, R]) {
    super();
    this.cell = cell;
    this.verb = verb;
    this.change = change;
  }

  override accesses(): readonly Access[] {
    const { cell } = this;
    const own = wholeCell(cell, 'W');
    return cell.inside === null ? [own] : [own, wholeCell(cell.inside, 'R')];
  }

  apply(): R {
    const [value, result] = this.change(this.cell.value);
    this.cell.value = value;
    return result;
  }
}
