/**
 * A cell is one thing that several actors may touch: a lock, a counter, a register, a range of
 * memory. Whatever an actor does to the shared world is a step on a cell, so a search over
 * interleavings knows which steps can be swapped.
 *
 * Values are never changed in place: a step replaces them. So a cell's value at an earlier moment
 * is still known, and guards and classes can be asked about any moment.
 *
 * @source reference/explorer.md 6.1, 6.4
 */

/**
 * How a step touches a cell. Two steps on one cell can be swapped unseen only if their classes
 * commute; see {@link commute}.
 *
 * `R` reads, and operations that changed nothing; `W` writes, and everything not listed; `S` the
 * shared side of a read-write lock; `G` a reference taken by one who holds one; `U` get-unless-zero
 * that succeeded; `P` put that did not reach zero; `A` an addition whose order nobody can see.
 */
export type AccessClass = 'R' | 'W' | 'S' | 'G' | 'U' | 'P' | 'A';

/** True if two operations of these classes on one cell have the same outcome in either order. */
export function commute(one: AccessClass, other: AccessClass): boolean {
  switch (one) {
    case 'R':
      return other === 'R';
    case 'S':
      return other === 'S';
    case 'A':
      return other === 'A';
    case 'G':
      return other === 'G' || other === 'U' || other === 'P';
    case 'U':
      return other === 'G' || other === 'U';
    case 'P':
      return other === 'G';
    case 'W':
      return false;
  }
}

/** Who numbers cells: the scheduler of an execution. */
export interface CellNumbers {
  /** A number for a new cell, which does not depend on what other actors did. */
  nextCellId(): number;
}

/** A shared thing with an identity and an immutable value. */
export class Cell<V = unknown> {
  /** The same in every execution in which the creating actor did the same before. */
  readonly id: number;
  /** What it is, for people and for lock classes: `vfio_pci.memory_lock`. */
  readonly name: string;
  /** The value now. Only a step may replace it. */
  value: V;

  constructor(numbers: CellNumbers, name: string, value: V) {
    this.id = numbers.nextCellId();
    this.name = name;
    this.value = value;
  }
}
