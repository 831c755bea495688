/**
 * A counted reference: live while the count is above zero, dead for ever once it reached zero.
 *
 * @source `struct kref`, `file_ref_t`; reference/linux-dma-buf.md A.6
 */

import type { Actor } from '../actor.ts';
import { type AccessClass, Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, wholeCell } from '../task.ts';

/** A reference count. Its value is the number of references; 0 is dead. */
export class RefCount extends Cell<number> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 1);
    this.scheduler = scheduler;
  }

  /**
   * Takes a reference. Right only for one who already has one: on a dead count it is a kernel
   * warning, and the count stays dead. Conflicts with every put, so that a search finds who was
   * wrong.
   */
  get(): PreemptStep<void> {
    return new Get(this, 'W');
  }

  /**
   * As {@link get}, where the caller's own reference provably stays: it can then be swapped with
   * puts.
   */
  getHeld(): PreemptStep<void> {
    return new Get(this, 'G');
  }

  /** Takes a reference if there still is one. True if it did. */
  getUnlessZero(): PreemptStep<boolean> {
    return new GetUnlessZero(this);
  }

  /** Drops a reference. True if it was the last; the caller must then release. */
  put(): PreemptStep<boolean> {
    return new Put(this);
  }

  /** `kref_init()` on a count that is in use already: makes it one again. */
  reset(): PreemptStep<void> {
    return new Reset(this);
  }
}

abstract class RefStep<R> extends PreemptStep<R> {
  readonly cell: RefCount;

  constructor(cell: RefCount) {
    super();
    this.cell = cell;
  }

  abstract classAt(count: number): AccessClass;

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, this.classAt(look(this.cell)))];
  }
}

class Get extends RefStep<void> {
  private readonly live: AccessClass;

  constructor(cell: RefCount, live: AccessClass) {
    super(cell);
    this.live = live;
  }

  get verb(): string {
    return 'get';
  }

  override classAt(count: number): AccessClass {
    return count === 0 ? 'R' : this.live;
  }

  apply(): void {
    const { cell } = this;
    if (cell.value === 0) {
      cell.scheduler.warn('refcount', `${cell.name} incremented from zero; use after free`);
      return;
    }
    cell.value += 1;
  }
}

class GetUnlessZero extends RefStep<boolean> {
  get verb(): string {
    return 'get_unless_zero';
  }

  override classAt(count: number): AccessClass {
    return count === 0 ? 'R' : 'U';
  }

  apply(): boolean {
    const { cell } = this;
    if (cell.value === 0) return false;
    cell.value += 1;
    return true;
  }
}

class Put extends RefStep<boolean> {
  get verb(): string {
    return 'put';
  }

  override classAt(count: number): AccessClass {
    if (count === 0) return 'R';
    return count === 1 ? 'W' : 'P';
  }

  apply(_actor: Actor): boolean {
    const { cell } = this;
    if (cell.value === 0) {
      cell.scheduler.warn('refcount', `${cell.name} decremented below zero; imbalanced put`);
      return false;
    }
    cell.value -= 1;
    return cell.value === 0;
  }
}

class Reset extends RefStep<void> {
  get verb(): string {
    return 'init';
  }

  override classAt(): AccessClass {
    return 'W';
  }

  apply(): void {
    this.cell.value = 1;
  }
}
