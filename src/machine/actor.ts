/**
 * An actor runs one task: a user's thread, a kernel worker, a device's engine, a peer beyond the
 * wire.
 */

import type { ActorRole } from '../base/index.ts';
import type { Cell } from './cell.ts';
import type { Preempt, Sleep, Step, Task } from './task.ts';

/** Who runs a task, and where it stands. */
export class Actor {
  /** Order of spawning in this execution, from 0: what a schedule is written in. */
  readonly index: number;
  /** The same number for the same actor in every execution; see `ActorIds`. */
  readonly id: number;
  /** Unique in the execution: `spdk`, `kworker/fput`. */
  readonly name: string;
  readonly role: ActorRole;
  /** Daemons (engines, workers) need not end: the run is over when only they are left, waiting. */
  readonly daemon: boolean;
  /** Locks held, in the order of taking, for reports. */
  readonly held: Cell[] = [];
  /** The step it will do when chosen; null once ended. */
  step: Step | null = null;
  /** Cells made by this actor so far. */
  cellsMade = 0;
  /** Actors spawned by this actor so far. */
  spawned = 0;
  /** What its task returned. */
  result: unknown = undefined;
  /** What is left to do when the task has returned; null if nothing is. */
  atExit: (() => Task) | null = null;
  private task: Generator<Preempt | Sleep, unknown, unknown>;

  constructor(
    index: number,
    id: number,
    name: string,
    role: ActorRole,
    daemon: boolean,
    task: Task<unknown>,
  ) {
    this.index = index;
    this.id = id;
    this.name = name;
    this.role = role;
    this.daemon = daemon;
    this.task = task;
  }

  /** Runs the task up to its next step, handing it the result of the last. */
  resume(sent: unknown): void {
    const next = this.task.next(sent);
    if (next.done !== true) {
      this.step = next.value;
      return;
    }
    this.step = null;
    const { atExit } = this;
    if (atExit === null) {
      this.result ??= next.value;
      return;
    }
    this.result = next.value;
    this.atExit = null;
    this.task = atExit();
    this.resume(undefined);
  }

  /** Notes that `lock` is held. */
  holds(lock: Cell): void {
    this.held.push(lock);
  }

  /** Notes that `lock` is held no more. */
  drops(lock: Cell): void {
    const at = this.held.lastIndexOf(lock);
    if (at >= 0) this.held.splice(at, 1);
  }
}

/**
 * Numbers for actors that agree between executions: an actor is known by who spawned it and as
 * which child. A search over many executions shares one of these; a single run makes its own.
 */
export class ActorIds {
  readonly #ids = new Map<string, number>();

  /** The number of the `nth` child of actor `parent`; 0 is the machine at boot. */
  of(parent: number, nth: number): number {
    const path = `${parent}/${nth}`;
    const known = this.#ids.get(path);
    if (known !== undefined) return known;
    const id = this.#ids.size + 1;
    this.#ids.set(path, id);
    return id;
  }
}
