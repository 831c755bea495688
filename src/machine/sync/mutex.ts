/** A sleeping lock with one owner. @source include/linux/mutex.h */

import type { Actor } from '../actor.ts';
import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/** A mutex. Its value is the actor that holds it. */
export class Mutex extends Cell<Actor | null> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, null);
    this.scheduler = scheduler;
  }

  /** Takes the lock, waiting for it. Taking it twice waits for ever, as in the kernel. */
  lock(): SleepStep<void> {
    return new MutexLock(this);
  }

  /** Gives the lock back. By anybody but its owner: a kernel warning. */
  unlock(): PreemptStep<void> {
    return new MutexUnlock(this);
  }

  /** True while `actor` holds the lock: for the assertions that the kernel makes. */
  isHeldBy(actor: Actor | null): boolean {
    return actor !== null && this.value === actor;
  }
}

class MutexLock extends SleepStep<void> {
  get verb(): string {
    return 'lock';
  }

  readonly cell: Mutex;

  constructor(mutex: Mutex) {
    super();
    this.cell = mutex;
  }

  override guard(look: Look): boolean {
    return look(this.cell) === null;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    cell.value = actor;
    actor.holds(cell);
    cell.scheduler.record?.({
      kind: 'lock.acquire',
      lock: cell.name,
      id: cell.id,
      mode: 'exclusive',
    });
  }

  override waitsFor(): readonly string[] {
    return this.cell.value === null ? [] : [this.cell.value.name];
  }
}

class MutexUnlock extends PreemptStep<void> {
  get verb(): string {
    return 'unlock';
  }

  readonly cell: Mutex;

  constructor(mutex: Mutex) {
    super();
    this.cell = mutex;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    if (cell.value !== actor) {
      cell.scheduler.warn('mutex_unlock', `${cell.name} is not held by ${actor.name}`);
      return;
    }
    cell.value = null;
    actor.drops(cell);
    cell.scheduler.record?.({ kind: 'lock.release', lock: cell.name, id: cell.id });
  }
}
