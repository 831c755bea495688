/** A sleeping lock with many readers or one writer. @source include/linux/rwsem.h */

import type { Actor } from '../actor.ts';
import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/** Who holds a read-write semaphore. */
interface Holders {
  readonly writer: Actor | null;
  /** In no particular order. */
  readonly readers: readonly Actor[];
}

const FREE: Holders = { writer: null, readers: [] };

/**
 * A read-write semaphore.
 *
 * DIFFERS: waiting writers do not hold newcoming readers off, as Linux's do for fairness; every
 * order that Linux can produce is among those produced here.
 */
export class RwSemaphore extends Cell<Holders> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, FREE);
    this.scheduler = scheduler;
  }

  /** Takes the shared side, waiting while a writer holds it. */
  downRead(): SleepStep<void> {
    return new Down(this, false);
  }

  /** Gives the shared side back. */
  upRead(): PreemptStep<void> {
    return new Up(this, false);
  }

  /** Takes the exclusive side, waiting while anybody holds it. */
  downWrite(): SleepStep<void> {
    return new Down(this, true);
  }

  /** Gives the exclusive side back. */
  upWrite(): PreemptStep<void> {
    return new Up(this, true);
  }

  /** True while `actor` holds the exclusive side. */
  isWrittenBy(actor: Actor | null): boolean {
    return actor !== null && this.value.writer === actor;
  }
}

class Down extends SleepStep<void> {
  readonly verb: string;
  readonly cell: RwSemaphore;
  private readonly write: boolean;

  constructor(cell: RwSemaphore, write: boolean) {
    super();
    this.verb = write ? 'down_write' : 'down_read';
    this.cell = cell;
    this.write = write;
  }

  override guard(look: Look): boolean {
    const { writer, readers } = look(this.cell);
    return writer === null && (!this.write || readers.length === 0);
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, this.write ? 'W' : 'S')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    const write = this.write;
    cell.value = write
      ? { writer: actor, readers: [] }
      : { writer: null, readers: [...cell.value.readers, actor] };
    actor.holds(cell);
    cell.scheduler.record?.({
      kind: 'lock.acquire',
      lock: cell.name,
      id: cell.id,
      mode: write ? 'exclusive' : 'shared',
    });
  }

  override waitsFor(): readonly string[] {
    const { writer, readers } = this.cell.value;
    return (writer === null ? readers : [writer]).map((holder) => holder.name);
  }
}

class Up extends PreemptStep<void> {
  readonly verb: string;
  readonly cell: RwSemaphore;
  private readonly write: boolean;

  constructor(cell: RwSemaphore, write: boolean) {
    super();
    this.verb = write ? 'up_write' : 'up_read';
    this.cell = cell;
    this.write = write;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, this.write ? 'W' : 'S')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    const { writer, readers } = cell.value;
    const at = readers.indexOf(actor);
    if (this.write ? writer !== actor : at < 0) {
      cell.scheduler.warn(this.verb, `${cell.name} is not held by ${actor.name}`);
      return;
    }
    cell.value = this.write ? FREE : { writer: null, readers: readers.toSpliced(at, 1) };
    actor.drops(cell);
    cell.scheduler.record?.({ kind: 'lock.release', lock: cell.name, id: cell.id });
  }
}
