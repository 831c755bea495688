/**
 * A variable that several actors use. Reading it and writing it are steps, so code that lacks a
 * lock goes wrong in some schedule instead of being assumed right.
 */

import type { Actor } from '../actor.ts';
import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';
import type { Allocation } from './allocation.ts';

/** A shared variable. Its value is replaced, never changed in place: `T` is immutable. */
export class Shared<T> extends Cell<T> {
  /** The memory it lives in; null for what lives as long as the machine. */
  readonly inside: Allocation | null;

  constructor(scheduler: Scheduler, name: string, value: T, inside: Allocation | null = null) {
    super(scheduler, name, value);
    this.inside = inside;
  }

  /** Reads it. */
  read(): PreemptStep<T> {
    return new Read(this);
  }

  /** Replaces it. */
  write(value: T): PreemptStep<void> {
    return new Write(this, value);
  }

  /** Waits until it satisfies `condition`, a pure function, and returns it. */
  until(condition: (value: T) => boolean): SleepStep<T> {
    return new Until(this, condition);
  }
}

function accessesOf(cell: Shared<never>, accessClass: 'R' | 'W'): readonly Access[] {
  const own = wholeCell(cell, accessClass);
  return cell.inside === null ? [own] : [own, wholeCell(cell.inside, 'R')];
}

class Read<T> extends PreemptStep<T> {
  get verb(): string {
    return 'read';
  }

  readonly cell: Shared<T>;

  constructor(cell: Shared<T>) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return accessesOf(this.cell as Shared<never>, 'R');
  }

  apply(actor: Actor): T {
    this.cell.inside?.check(actor, this.cell.name);
    return this.cell.value;
  }
}

class Write<T> extends PreemptStep<void> {
  get verb(): string {
    return 'write';
  }

  readonly cell: Shared<T>;
  private readonly stored: T;

  constructor(cell: Shared<T>, value: T) {
    super();
    this.cell = cell;
    this.stored = value;
  }

  override accesses(): readonly Access[] {
    return accessesOf(this.cell as Shared<never>, 'W');
  }

  apply(actor: Actor): void {
    this.cell.inside?.check(actor, this.cell.name);
    this.cell.value = this.stored;
  }
}

class Until<T> extends SleepStep<T> {
  get verb(): string {
    return 'wait';
  }

  readonly cell: Shared<T>;
  private readonly condition: (value: T) => boolean;

  constructor(cell: Shared<T>, condition: (value: T) => boolean) {
    super();
    this.cell = cell;
    this.condition = condition;
  }

  override guard(look: Look): boolean {
    return this.condition(look(this.cell));
  }

  override accesses(): readonly Access[] {
    return accessesOf(this.cell as Shared<never>, 'R');
  }

  apply(actor: Actor): T {
    this.cell.inside?.check(actor, this.cell.name);
    return this.cell.value;
  }
}
