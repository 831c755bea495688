/**
 * The lock inside a reservation: a mutex that tells its waiters when waiting could close a circle.
 * Contexts are ordered by age; a younger one that holds locks does not wait for an older one but is
 * told to back off (wait-die).
 *
 * DIFFERS: waiters have no queue of their own, so a context is told to back off because of the
 * holder's age only, not because an older waiter is ahead; and whoever is chosen first when the
 * lock is free gets it. Every schedule of Linux's queue that ends well is among those produced
 * here.
 *
 * @source include/linux/ww_mutex.h; reference/linux-dma-buf.md B.4; reference/explorer.md 6.4
 */

import type { Actor } from '../actor.ts';
import { Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/**
 * `struct ww_acquire_ctx`: the age of one attempt to take several locks, and what it has so far.
 */
export interface AcquireContext {
  /** Smaller is older. */
  readonly stamp: number;
  /** Locks held under this context. */
  acquired: number;
}

/** `struct ww_class`: hands out contexts. Its value is the last stamp. */
export class WwClass extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }

  /** `ww_acquire_init()`: a new context, younger than all before. */
  acquireInit(): PreemptStep<AcquireContext> {
    return new AcquireInit(this);
  }
}

/** What came of an attempt to take a lock. */
export type WwResult = 'locked' | 'EDEADLK' | 'EALREADY';

/** Who holds a ww-mutex, and under which context. */
interface WwHolder {
  readonly owner: Actor | null;
  readonly ctx: AcquireContext | null;
}

const FREE: WwHolder = { owner: null, ctx: null };

/** A ww-mutex. */
export class WwMutex extends Cell<WwHolder> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, FREE);
    this.scheduler = scheduler;
  }

  /**
   * Takes the lock.
   *
   * @param ctx - The context, or null for a plain lock, which never backs off.
   * @returns `EALREADY` if this context has the lock; `EDEADLK` if an older context has it and this
   *   one holds others: unlock them all, then {@link lockSlow} this one.
   */
  lock(ctx: AcquireContext | null): SleepStep<WwResult> {
    return new WwLock(this, ctx, false);
  }

  /** Takes the lock after `EDEADLK`, when nothing is held any more; only waits. */
  lockSlow(ctx: AcquireContext | null): SleepStep<WwResult> {
    return new WwLock(this, ctx, true);
  }

  /** Gives the lock back. */
  unlock(): PreemptStep<void> {
    return new WwUnlock(this);
  }

  /** True while `actor` holds the lock. */
  isHeldBy(actor: Actor | null): boolean {
    return actor !== null && this.value.owner === actor;
  }
}

class AcquireInit extends PreemptStep<AcquireContext> {
  get verb(): string {
    return 'ww_acquire_init';
  }

  readonly cell: WwClass;

  constructor(cell: WwClass) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): AcquireContext {
    this.cell.value += 1;
    return { stamp: this.cell.value, acquired: 0 };
  }
}

class WwLock extends SleepStep<WwResult> {
  get verb(): string {
    return 'lock';
  }

  readonly cell: WwMutex;
  private readonly ctx: AcquireContext | null;
  private readonly slow: boolean;

  constructor(cell: WwMutex, ctx: AcquireContext | null, slow: boolean) {
    super();
    this.cell = cell;
    this.ctx = ctx;
    this.slow = slow;
  }

  override guard(look: Look): boolean {
    return this.resultAt(look(this.cell)) !== null;
  }

  override accesses(look: Look): readonly Access[] {
    const result = this.resultAt(look(this.cell));
    return [wholeCell(this.cell, result === 'EDEADLK' || result === 'EALREADY' ? 'R' : 'W')];
  }

  apply(actor: Actor): WwResult {
    const { cell } = this;
    const ctx = this.ctx;
    const result = this.resultAt(cell.value) ?? 'locked';
    const event = { lock: cell.name, id: cell.id };
    if (result !== 'locked') {
      const stamp = ctx?.stamp ?? 0;
      cell.scheduler.record?.({ kind: 'lock.backoff', ...event, code: result, ctx: stamp });
      return result;
    }
    cell.value = { owner: actor, ctx };
    actor.holds(cell);
    if (ctx !== null) ctx.acquired += 1;
    cell.scheduler.record?.({
      kind: 'lock.acquire',
      ...event,
      mode: 'exclusive',
      ...(ctx === null ? {} : { ctx: ctx.stamp }),
    });
    return result;
  }

  override waitsFor(): readonly string[] {
    const { owner } = this.cell.value;
    return owner === null ? [] : [owner.name];
  }

  /** What the lock would answer; null: nothing yet, wait. */
  private resultAt({ owner, ctx: holder }: WwHolder): WwResult | null {
    if (owner === null) return 'locked';
    const ctx = this.ctx;
    if (ctx === null || holder === null || this.slow) return null;
    if (holder === ctx) return 'EALREADY';
    return ctx.acquired > 0 && holder.stamp < ctx.stamp ? 'EDEADLK' : null;
  }
}

class WwUnlock extends PreemptStep<void> {
  get verb(): string {
    return 'unlock';
  }

  readonly cell: WwMutex;

  constructor(cell: WwMutex) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(actor: Actor): void {
    const { cell } = this;
    const { owner, ctx } = cell.value;
    if (owner !== actor) {
      cell.scheduler.warn('ww_mutex_unlock', `${cell.name} is not held by ${actor.name}`);
      return;
    }
    if (ctx !== null) ctx.acquired -= 1;
    cell.value = FREE;
    actor.drops(cell);
    cell.scheduler.record?.({ kind: 'lock.release', lock: cell.name, id: cell.id });
  }
}
