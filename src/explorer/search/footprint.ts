/**
 * What a step touches, as plain data: cells by number, so that it can be kept from one execution to
 * the next, where the same cell is another object with the same number.
 */

import {
  type AccessClass,
  type Actor,
  type Cell,
  commute,
  type Look,
  type Step,
} from '../../machine/index.ts';

/** One cell that is touched, or some bytes of it. */
interface Touch {
  /** The cell's number. */
  readonly cell: number;
  readonly class: AccessClass;
  readonly from: number;
  readonly to: number;
}

/** What a step touches. */
export interface Footprint {
  readonly touches: readonly Touch[];
  /** A step that ended the run: nothing can be swapped with it unseen. */
  readonly everything: boolean;
}

/** A step's footprint, and the cells it may change with the values they have now. */
export interface Probe {
  readonly footprint: Footprint;
  readonly changes: readonly { readonly cell: Cell; readonly value: unknown }[];
}

/**
 * Asks a step, before it is taken, what it touches. A cell that its guard or its accesses look at
 * counts as read, whether or not the step says so.
 */
export function probe(step: Step, actor: Actor): Probe {
  const looked: Cell[] = [];
  const look: Look = (cell) => {
    looked.push(cell as Cell);
    return cell.value;
  };
  step.guard(look, actor);
  const accesses = step.accesses(look, actor);
  const touches: Touch[] = [];
  const changes: { cell: Cell; value: unknown }[] = [];
  for (const { cell, class: kind, from, to } of accesses) {
    touches.push({ cell: cell.id, class: kind, from, to });
    if (kind !== 'R') changes.push({ cell, value: cell.value });
  }
  for (const { id } of looked) {
    if (touches.some((touch) => touch.cell === id)) continue;
    touches.push({ cell: id, class: 'R', from: 0, to: Number.POSITIVE_INFINITY });
  }
  return { footprint: { touches, everything: false }, changes };
}

/** The footprint of the step that ended the run. */
export const EVERYTHING: Footprint = { touches: [], everything: true };

/** True if it can make a difference which of two steps goes first. */
export function conflict(one: Footprint, other: Footprint): boolean {
  if (one.everything || other.everything) return true;
  for (const a of one.touches) {
    for (const b of other.touches) {
      if (a.cell !== b.cell || a.from >= b.to || b.from >= a.to) continue;
      if (!commute(a.class, b.class)) return true;
    }
  }
  return false;
}

/** True if both say the same. */
export function sameFootprint(one: Footprint, other: Footprint): boolean {
  if (one.everything !== other.everything || one.touches.length !== other.touches.length) {
    return false;
  }
  return one.touches.every((a, i) => {
    const b = other.touches[i];
    const same = b !== undefined && a.cell === b.cell && a.class === b.class;
    return same && a.from === b.from && a.to === b.to;
  });
}
