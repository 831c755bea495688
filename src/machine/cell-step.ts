/**
 * Steps on one cell that need no class of their own: what they do is a pure function of its value.
 * For whole cells, read or written; what touches more, waits or may fail is a class.
 */

import type { Cell } from './cell.ts';
import { type Access, PreemptStep, wholeCell } from './task.ts';

/**
 * A step that replaces the value by what `change` makes of it.
 *
 * @param verb - For reports: `add`, `list remove`.
 * @param change - Gives the new value and the step's result.
 */
export function changeCell<V, R>(
  cell: Cell<V>,
  verb: string,
  change: (value: V) => readonly [V, R],
): PreemptStep<R> {
  return new ChangeCell(cell, verb, change);
}

/** A step that tells what `look` sees in the value. */
export function lookAtCell<V, R>(
  cell: Cell<V>,
  verb: string,
  look: (value: V) => R,
): PreemptStep<R> {
  return new LookAtCell(cell, verb, look);
}

class ChangeCell<V, R> extends PreemptStep<R> {
  readonly cell: Cell;
  readonly verb: string;
  private readonly change: (value: V) => readonly [V, R];

  constructor(cell: Cell<V>, verb: string, change: (value: V) => readonly [V, R]) {
    super();
    this.cell = cell as Cell;
    this.verb = verb;
    this.change = change;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): R {
    const [value, result] = this.change(this.cell.value as V);
    this.cell.value = value;
    return result;
  }
}

class LookAtCell<V, R> extends PreemptStep<R> {
  readonly cell: Cell;
  readonly verb: string;
  private readonly look: (value: V) => R;

  constructor(cell: Cell<V>, verb: string, look: (value: V) => R) {
    super();
    this.cell = cell as Cell;
    this.verb = verb;
    this.look = look;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): R {
    return this.look(this.cell.value as V);
  }
}
