/**
 * Tasks: code that the scheduler interleaves. A task is a generator; every `yield*` in it is a
 * place where the world may change, and what stands between two of them happens at once.
 *
 * A task yields *steps*. A step is one operation on shared state: it names the cells it touches and
 * how, says when it may run (its guard), and takes effect at the moment the scheduler chooses it.
 *
 * @source reference/explorer.md 4 to 6
 */

import type { Actor } from './actor.ts';
import type { AccessClass, Cell } from './cell.ts';

/** How to find a cell's value: now, or at another moment of the execution. */
export type Look = <V>(cell: Cell<V>) => V;

/** The values as they are now. */
export const NOW: Look = (cell) => cell.value;

/** One cell that a step touches. A range narrows it to bytes `from` up to `to`. */
export interface Access {
  readonly cell: Cell;
  readonly class: AccessClass;
  /** First byte; 0 for a cell that is one thing. */
  readonly from: number;
  /** First byte after; Infinity for a cell that is one thing. */
  readonly to: number;
}

/** The access of a step that touches the whole cell. */
export function wholeCell(cell: Cell, accessClass: AccessClass): Access {
  return { cell, class: accessClass, from: 0, to: Number.POSITIVE_INFINITY };
}

/**
 * One operation on shared state. `yield*` a step to do it; its result is the value of the
 * expression.
 *
 * A step object is made for one use. It is its own iterator and its own iterator result, which
 * makes a `yield*` of it cost no allocation.
 */
export abstract class Step<R = unknown> {
  /** What it does, for reports: `lock`, `dma write`. */
  abstract get verb(): string;
  /** The cell it is about: what a blocked actor waits for. */
  abstract readonly cell: Cell;
  /** True if it may put its actor to sleep, as `might_sleep()` says. */
  abstract readonly sleeps: boolean;

  // Its three fields as an iterator result, plain for speed: an execution makes one step object
  // after another, and private names cost a tenth of the time of a whole step.
  value: unknown = null;
  done = false;
  started = false;

  /** May it run? A pure function of the cells' values. */
  guard(_look: Look, _actor: Actor): boolean {
    return true;
  }

  /** All cells it touches and how, at these values. Pure. */
  abstract accesses(look: Look, actor: Actor): readonly Access[];

  /** Does it, now. Never throws for anything that the modelled world can do. */
  abstract apply(actor: Actor): R;

  /** The moment from which the guard holds, for steps that wait for the clock; else undefined. */
  deadline(): number | undefined {
    return undefined;
  }

  /**
   * For a step that may be refused for want of something (memory, a descriptor, an address): what
   * it gives then, having changed nothing. Absent: it cannot fail. See `SchedulerOptions.failAt`.
   */
  failure?(): R;

  /** Names of the actors that could end the wait, as far as known: the owners of a lock. */
  waitsFor(): readonly string[] {
    return [];
  }

  next(sent: unknown): this {
    if (this.started) {
      this.done = true;
      this.value = sent;
    } else {
      this.started = true;
      this.value = this;
    }
    return this;
  }
}

/** A step that never sleeps: allowed anywhere, also in fence callbacks and interrupt handlers. */
export abstract class PreemptStep<R = unknown> extends Step<R> {
  get sleeps(): false {
    return false;
  }

  [Symbol.iterator](): Iterator<Preempt, R, unknown> {
    return this as unknown as Iterator<Preempt, R, unknown>;
  }
}

/** A step that may sleep: its actor waits until the guard holds. */
export abstract class SleepStep<R = unknown> extends Step<R> {
  get sleeps(): true {
    return true;
  }

  [Symbol.iterator](): Iterator<Sleep, R, unknown> {
    return this as unknown as Iterator<Sleep, R, unknown>;
  }
}

/** What atomic code may yield. */
export type Preempt = Step & { readonly sleeps: false };

/** What sleeping code may yield besides. */
export type Sleep = Step & { readonly sleeps: true };

/** Code that may be interleaved but must not sleep: fence callbacks, interrupt handlers. */
export type Atomic<T = void> = Generator<Preempt, T, unknown>;

/** Code that may sleep: system calls, workers, a device's engine. */
export type Task<T = void> = Generator<Preempt | Sleep, T, unknown>;
