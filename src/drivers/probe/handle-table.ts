/**
 * The numbers under which a program knows what a probe file holds: imports, attachments, mappings.
 * A number is never used twice in one file, so a stale one is found. What is in use by another
 * thing, or by a call that is under way, cannot be removed.
 */

import {
  type Access,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  type Task,
  wholeCell,
} from '../../machine/index.ts';

/** LIMIT: things in one file at most, so that a program cannot use up the kernel's memory. */
export const PROBE_HANDLES_MAX = 1024;

/** Something that has a number. */
export interface ProbeHandle {
  /** What it rests on, which has one user more as long as this is there; 0 for nothing. */
  readonly parent: number;
  /**
   * Gives it back to the kernel API. Called once, when nothing in the file uses it any more.
   *
   * @context May sleep; no lock held.
   */
  destroy(): Task;
}

/** The class of one kind of thing. */
export type HandleClass<H extends ProbeHandle> = abstract new (...args: never[]) => H;

interface Slot {
  readonly handle: ProbeHandle;
  readonly users: number;
}

interface HandleState {
  /** Last number that was given out. */
  readonly last: number;
  /** Numbers given out whose thing is still being made. */
  readonly reserved: number;
  readonly slots: ReadonlyMap<number, Slot>;
}

/** What an attempt to remove came to. */
export type Removal<H> = H | 'missing' | 'in-use';

/** All numbers of one file. */
export class HandleTable extends Cell<HandleState> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'probe handles', { last: 0, reserved: 0, slots: new Map() });
  }

  /** A step that gives out a number for something that is about to be made; null: too many. */
  reserve(): PreemptStep<number | null> {
    return new Reserve(this);
  }

  /** A step that gives a reserved number up. It is not used again. */
  cancel(): PreemptStep<void> {
    return new Change(this, 'cancel', (state) => ({ ...state, reserved: state.reserved - 1 }));
  }

  /** A step that makes a reserved number mean something. */
  publish(id: number, handle: ProbeHandle): PreemptStep<void> {
    return new Change(this, 'publish', ({ last, reserved, slots }) => ({
      last,
      reserved: reserved - 1,
      slots: new Map([...slots, [id, { handle, users: 0 }]]),
    }));
  }

  /** A step that finds a thing and counts one user more; null: there is none of this kind. */
  claim<H extends ProbeHandle>(kind: HandleClass<H>, id: number): PreemptStep<H | null> {
    return new Claim(this, kind, id);
  }

  /** A step that counts one user less. */
  drop(id: number): PreemptStep<void> {
    return new Change(this, 'drop', (state) => ({ ...state, slots: addUsers(state, id, -1) }));
  }

  /** A step that takes a number out of the table whose thing has ended by itself. */
  forget(id: number): PreemptStep<void> {
    return new Change(this, 'forget', (state) => ({
      ...state,
      slots: new Map([...state.slots].filter(([other]) => other !== id)),
    }));
  }

  /** A step that takes a thing out of the table, unless it is in use. */
  remove<H extends ProbeHandle>(kind: HandleClass<H>, id: number): PreemptStep<Removal<H>> {
    return new Remove(this, kind, id);
  }

  /** A step that empties the table; newest first, so that what rests on another comes before it. */
  takeAll(): PreemptStep<readonly ProbeHandle[]> {
    return new TakeAll(this);
  }
}

function addUsers({ slots }: HandleState, id: number, by: number): ReadonlyMap<number, Slot> {
  const slot = slots.get(id);
  if (slot === undefined) return slots;
  return new Map([...slots, [id, { handle: slot.handle, users: slot.users + by }]]);
}

abstract class TableStep<R> extends PreemptStep<R> {
  readonly cell: HandleTable;

  constructor(cell: HandleTable) {
    super();
    this.cell = cell;
  }

  override accesses(_look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class Change extends TableStep<void> {
  readonly verb: string;
  private readonly change: (state: HandleState) => HandleState;

  constructor(cell: HandleTable, verb: string, change: (state: HandleState) => HandleState) {
    super(cell);
    this.verb = verb;
    this.change = change;
  }

  apply(): void {
    this.cell.value = this.change(this.cell.value);
  }
}

class Reserve extends TableStep<number | null> {
  get verb(): string {
    return 'reserve';
  }

  override failure(): null {
    return null;
  }

  apply(): number | null {
    const { last, reserved, slots } = this.cell.value;
    if (slots.size + reserved >= PROBE_HANDLES_MAX) return null;
    this.cell.value = { last: last + 1, reserved: reserved + 1, slots };
    return last + 1;
  }
}

class Claim<H extends ProbeHandle> extends TableStep<H | null> {
  private readonly kind: HandleClass<H>;
  private readonly id: number;

  constructor(cell: HandleTable, kind: HandleClass<H>, id: number) {
    super(cell);
    this.kind = kind;
    this.id = id;
  }

  get verb(): string {
    return 'claim';
  }

  apply(): H | null {
    const { cell, id, kind } = this;
    const handle = cell.value.slots.get(id)?.handle;
    if (!(handle instanceof kind)) return null;
    cell.value = { ...cell.value, slots: addUsers(cell.value, id, 1) };
    return handle;
  }
}

class Remove<H extends ProbeHandle> extends TableStep<Removal<H>> {
  private readonly kind: HandleClass<H>;
  private readonly id: number;

  constructor(cell: HandleTable, kind: HandleClass<H>, id: number) {
    super(cell);
    this.kind = kind;
    this.id = id;
  }

  get verb(): string {
    return 'remove';
  }

  apply(): Removal<H> {
    const { cell, id, kind } = this;
    const slot = cell.value.slots.get(id);
    if (slot === undefined || !(slot.handle instanceof kind)) return 'missing';
    if (slot.users > 0) return 'in-use';
    const slots = new Map(cell.value.slots);
    slots.delete(id);
    cell.value = { ...cell.value, slots };
    return slot.handle;
  }
}

class TakeAll extends TableStep<readonly ProbeHandle[]> {
  get verb(): string {
    return 'take all';
  }

  apply(): readonly ProbeHandle[] {
    const { slots } = this.cell.value;
    this.cell.value = { ...this.cell.value, slots: new Map() };
    return [...slots].sort(([one], [other]) => other - one).map(([, { handle }]) => handle);
  }
}
