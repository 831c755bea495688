/**
 * A piece of kernel memory with a lifetime. Its contents live in `Shared` cells that name it; using
 * one after the free is found, whoever does it.
 */

import type { Actor } from '../actor.ts';
import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, PreemptStep, wholeCell } from '../task.ts';

/** Memory from `kmalloc()`. Its value is who freed it; null while it is live. */
export class Allocation extends Cell<string | null> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, null);
    this.scheduler = scheduler;
    scheduler.allocations.push(this);
  }

  /** `kfree()`. A second time: the run ends with an oops. */
  free(): PreemptStep<void> {
    return new Free(this);
  }

  /** Called by whatever lives in this memory before it is touched. False, and an oops, if freed. */
  check(actor: Actor, what: string): boolean {
    if (this.value === null) return true;
    this.scheduler.oops(
      `use after free: ${actor.name} touches ${what} of ${this.name}, which ${this.value} freed`,
    );
    return false;
  }
}

class Free extends PreemptStep<void> {
  get verb(): string {
    return 'kfree';
  }

  readonly cell: Allocation;

  constructor(cell: Allocation) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    if (cell.value !== null) {
      cell.scheduler.oops(`double free: ${actor.name} frees ${cell.name}, as ${cell.value} did`);
      return;
    }
    cell.value = actor.name;
  }
}
