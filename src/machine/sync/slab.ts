/**
 * Kernel memory that may not be had. Code that can be refused memory takes this step first, so that
 * a run in which it is refused can be tried (`SchedulerOptions.failAt`).
 */

import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, PreemptStep, wholeCell } from '../task.ts';

/** The kernel's small memory: there is always some, unless a run is told that there is not. */
export class Slab extends Cell<null> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'slab', null);
  }

  /** A step that is false when there is no memory. `kmalloc()` */
  alloc(): PreemptStep<boolean> {
    return new Alloc(this);
  }
}

class Alloc extends PreemptStep<boolean> {
  readonly cell: Slab;

  constructor(cell: Slab) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'kmalloc';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  override failure(): boolean {
    return false;
  }

  apply(): boolean {
    return true;
  }
}
