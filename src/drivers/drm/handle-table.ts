/**
 * Numbers that an open file gives to counted things: GEM objects, sync objects. A number is first
 * reserved, then published, so nobody finds what is half made; and withdrawn before it is freed, so
 * nobody gets the number of what is half gone.
 *
 * @source include/linux/idr.h; `drm_gem_handle_create_tail()`, `drm_gem_handle_delete()`, v7.2
 */

import {
  type Access,
  Cell,
  type Look,
  PreemptStep,
  type RefCount,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';

/** Something that a handle can stand for. */
export interface Counted {
  readonly refs: RefCount;
}

type Table<T> = ReadonlyMap<number, T | null>;

/** The handles of one kind in one file; null stands for one that is reserved or withdrawn. */
export class HandleTable<T extends Counted> extends Cell<Table<T>> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, new Map());
  }

  /**
   * A step that takes the lowest free handle, from 1. Null: no memory.
   *
   * @source `idr_alloc()`
   */
  reserve(): PreemptStep<number | null> {
    return new Reserve(this);
  }

  /** A step that makes a reserved handle stand for `item`. The reference is the table's then. */
  publish(handle: number, item: T): PreemptStep<T | null> {
    return new Put(this, 'publish handle', handle, item);
  }

  /** A step that takes a reference on what the handle stands for. Null: there is no such handle. */
  lookup(handle: number): PreemptStep<T | null> {
    return new Lookup(this, handle);
  }

  /**
   * A step that takes the thing from the handle, which stays reserved.
   *
   * @returns The thing, with the table's reference; null: there is no such handle.
   */
  withdraw(handle: number): PreemptStep<T | null> {
    return new Put(this, 'withdraw handle', handle, null);
  }

  /** A step that gives a reserved handle back. */
  free(handle: number): PreemptStep<void> {
    return new Free(this, handle);
  }
}

abstract class HandleStep<T extends Counted, R> extends PreemptStep<R> {
  readonly cell: HandleTable<T>;

  constructor(cell: HandleTable<T>) {
    super();
    this.cell = cell;
  }

  override accesses(_look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class Reserve<T extends Counted> extends HandleStep<T, number | null> {
  get verb(): string {
    return 'reserve handle';
  }

  override failure(): null {
    return null;
  }

  apply(): number {
    const table = this.cell.value;
    let handle = 1;
    while (table.has(handle)) handle += 1;
    this.cell.value = new Map([...table, [handle, null]]);
    return handle;
  }
}

/** Replaces what a handle that is there stands for. */
class Put<T extends Counted> extends HandleStep<T, T | null> {
  readonly verb: string;
  private readonly handle: number;
  private readonly item: T | null;

  constructor(cell: HandleTable<T>, verb: string, handle: number, item: T | null) {
    super(cell);
    this.verb = verb;
    this.handle = handle;
    this.item = item;
  }

  apply(): T | null {
    const table = this.cell.value;
    const before = table.get(this.handle);
    if (before === undefined) return null;
    this.cell.value = new Map([...table, [this.handle, this.item]]);
    return before;
  }
}

class Lookup<T extends Counted> extends HandleStep<T, T | null> {
  private readonly handle: number;

  constructor(cell: HandleTable<T>, handle: number) {
    super(cell);
    this.handle = handle;
  }

  get verb(): string {
    return 'look up handle';
  }

  override accesses(look: Look): readonly Access[] {
    const table = wholeCell(this.cell, 'R');
    const item = look(this.cell).get(this.handle) ?? null;
    return item === null ? [table] : [table, wholeCell(item.refs, 'G')];
  }

  apply(): T | null {
    const item = this.cell.value.get(this.handle) ?? null;
    // The table owns a reference, so the count is above zero.
    if (item !== null) item.refs.value += 1;
    return item;
  }
}

class Free<T extends Counted> extends HandleStep<T, void> {
  private readonly handle: number;

  constructor(cell: HandleTable<T>, handle: number) {
    super(cell);
    this.handle = handle;
  }

  get verb(): string {
    return 'free handle';
  }

  apply(): void {
    this.cell.value = new Map([...this.cell.value].filter(([handle]) => handle !== this.handle));
  }
}
