/** A queue between actors that never gets full: work for a worker, messages for a program. */

import { Cell } from '../cell.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/** A queue. Its value is what nobody has taken yet, oldest first. */
export class Fifo<T> extends Cell<readonly T[]> {
  /**
   * A step that adds an item.
   *
   * @context Any, also interrupt handlers.
   */
  push(item: T): PreemptStep<void> {
    return new Push(this, item);
  }

  /**
   * A step that waits for an item and takes it.
   *
   * @context May sleep.
   */
  take(): SleepStep<T> {
    return new Take(this);
  }
}

class Push<T> extends PreemptStep<void> {
  readonly cell: Fifo<T>;
  private readonly item: T;

  constructor(cell: Fifo<T>, item: T) {
    super();
    this.cell = cell;
    this.item = item;
  }

  get verb(): string {
    return 'queue';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = [...this.cell.value, this.item];
  }
}

class Take<T> extends SleepStep<T> {
  readonly cell: Fifo<T>;

  constructor(cell: Fifo<T>) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'take from';
  }

  override guard(look: Look): boolean {
    return look(this.cell).length > 0;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): T {
    const [item, ...rest] = this.cell.value;
    this.cell.value = rest;
    return item as T;
  }
}
