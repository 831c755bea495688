/**
 * Walking through the fences of a reservation: under its lock, or without it. Without, somebody may
 * change the list meanwhile; then the walk begins anew, and says so.
 *
 * @source `struct dma_resv_iter`, drivers/dma-buf/dma-resv.c, v7.2; reference B.2
 */

import {
  type Access,
  type Atomic,
  type Look,
  PreemptStep,
  wholeCell,
} from '../../machine/index.ts';
import type { DmaFence } from './dma-fence.ts';
import {
  type DmaResvUsage,
  type FenceList,
  type FenceTable,
  isFoundBy,
  type ResvEntry,
} from './resv-list.ts';

/** Where a walk stands. */
export class DmaResvIter {
  readonly list: FenceList;
  readonly usage: DmaResvUsage;
  /**
   * True at the first fence, and at the first after each new beginning. Who collects fences forgets
   * what there was then.
   */
  isRestarted = false;
  /** What the fence found last stands for. */
  fenceUsage: DmaResvUsage = 'kernel';
  /** Fences in the table when the walk began in it. */
  numFences = 0;
  /** For the steps of a walk. */
  index = 0;
  /** For the steps of a walk: the table; -1 before the first. */
  table = -1;
  private readonly assertHeld: (call: string) => void;
  private fence: DmaFence | null = null;

  constructor(list: FenceList, usage: DmaResvUsage, assertHeld: (call: string) => void) {
    this.list = list;
    this.usage = usage;
    this.assertHeld = assertHeld;
  }

  /**
   * The first pending fence, without the lock. The walk holds a reference until it goes on.
   *
   * @returns Null: there is none.
   * @context Any.
   * @source `dma_resv_iter_first_unlocked()`
   */
  *firstUnlocked(): Atomic<DmaFence | null> {
    this.table = -1;
    return yield* this.walk();
  }

  /**
   * The next pending fence, without the lock.
   *
   * @returns Null: there is none any more.
   * @context Any.
   * @source `dma_resv_iter_next_unlocked()`
   */
  *nextUnlocked(): Atomic<DmaFence | null> {
    this.isRestarted = false;
    return yield* this.walk();
  }

  /**
   * Ends a walk without the lock that did not come to its end: drops the reference.
   *
   * @context Any.
   * @source `dma_resv_iter_end()`
   */
  *end(): Atomic {
    const { fence } = this;
    this.fence = null;
    if (fence !== null) yield* fence.put();
  }

  /**
   * The first fence, under the lock, signaled or not. No reference is taken.
   *
   * @context The caller holds the reservation.
   * @source `dma_resv_iter_first()`
   */
  *first(): Atomic<DmaFence | null> {
    this.index = 0;
    const fence = yield* this.nextLocked('dma_resv_iter_first');
    this.isRestarted = true;
    return fence;
  }

  /**
   * The next fence, under the lock, signaled or not.
   *
   * @context The caller holds the reservation.
   * @source `dma_resv_iter_next()`
   */
  *next(): Atomic<DmaFence | null> {
    this.isRestarted = false;
    return yield* this.nextLocked('dma_resv_iter_next');
  }

  private *nextLocked(call: string): Atomic<DmaFence | null> {
    this.assertHeld(call);
    return yield* new NextLocked(this);
  }

  private *walk(): Atomic<DmaFence | null> {
    for (;;) {
      yield* this.end();
      const found = yield* new WalkUnlocked(this);
      if (found === 'end') return null;
      if (found === 'skip') continue;
      this.fence = found;
      // The driver may know that it is done before it says so.
      if (found.ops.signaled === undefined || !(yield* found.isSignaled())) return found;
    }
  }
}

/** Looks at one entry without the lock; begins anew first if the table is another. */
class WalkUnlocked extends PreemptStep<DmaFence | 'skip' | 'end'> {
  readonly cell: FenceList;
  private readonly iter: DmaResvIter;

  constructor(iter: DmaResvIter) {
    super();
    this.cell = iter.list;
    this.iter = iter;
  }

  get verb(): string {
    return 'look for pending fences';
  }

  override accesses(look: Look): readonly Access[] {
    const list = wholeCell(this.cell, 'R');
    const fence = this.entryAt(look(this.cell))?.fence;
    if (fence === undefined) return [list];
    const isPending = !look(fence).signaled;
    const flag = wholeCell(fence, 'R');
    return isPending ? [list, flag, wholeCell(fence.refs, 'U')] : [list, flag];
  }

  apply(): DmaFence | 'skip' | 'end' {
    const { iter } = this;
    const state = this.cell.value;
    const entry = this.entryAt(state);
    if (iter.table !== state.table) {
      iter.table = state.table;
      iter.index = 0;
      iter.numFences = state.entries.length;
      iter.isRestarted = true;
    }
    if (entry === undefined) return 'end';
    iter.index += 1;
    iter.fenceUsage = entry.usage;
    if (!isFoundBy(iter.usage, entry.usage) || entry.fence.value.signaled) return 'skip';
    return entry.fence.hold();
  }

  private entryAt({ table, entries }: FenceTable): ResvEntry | undefined {
    const { iter } = this;
    if (iter.table !== table) return entries[0];
    return iter.index < iter.numFences ? entries[iter.index] : undefined;
  }
}

/** The next entry of the usage asked for, under the lock. */
class NextLocked extends PreemptStep<DmaFence | null> {
  readonly cell: FenceList;
  private readonly iter: DmaResvIter;

  constructor(iter: DmaResvIter) {
    super();
    this.cell = iter.list;
    this.iter = iter;
  }

  get verb(): string {
    return 'look at fences';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): DmaFence | null {
    const { iter } = this;
    const { entries } = this.cell.value;
    while (iter.index < entries.length) {
      const entry = entries[iter.index] as ResvEntry;
      iter.index += 1;
      if (!isFoundBy(iter.usage, entry.usage)) continue;
      iter.fenceUsage = entry.usage;
      return entry.fence;
    }
    return null;
  }
}
