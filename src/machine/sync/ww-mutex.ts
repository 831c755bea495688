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
 * Only its own task touches it. What it is used for wrongly is a kernel warning, as with
 * `CONFIG_DEBUG_MUTEXES`.
 */
export class AcquireContext {
  readonly cls: WwClass;
  /** Smaller is older. */
  readonly stamp: number;
  /** Locks held under this context. */
  acquired = 0;
  /** The lock that said `EDEADLK`: the next to take, with nothing else held. */
  contending: WwMutex | null = null;
  private isDone = false;
  private isFinished = false;

  constructor(cls: WwClass, stamp: number) {
    this.cls = cls;
    this.stamp = stamp;
  }

  /**
   * Says that no further lock will be taken.
   *
   * @source `ww_acquire_done()`
   */
  done(): void {
    if (this.isDone) this.warn('ww_acquire_done', 'said twice');
    this.isDone = true;
  }

  /**
   * Ends the attempt. All its locks are given back.
   *
   * @source `ww_acquire_fini()`
   */
  fini(): void {
    if (this.acquired > 0) this.warn('ww_acquire_fini', `${this.acquired} locks are still held`);
    this.isFinished = true;
  }

  /** For {@link WwMutex}: looks at the rules when a lock has been taken, or is about to be. */
  check(lock: WwMutex, slow: boolean): void {
    const call = slow ? 'ww_mutex_lock_slow' : 'ww_mutex_lock';
    if (this.isFinished) this.warn(call, `${lock.name}: the context has ended`);
    else if (this.isDone) this.warn(call, `${lock.name} is taken after ww_acquire_done`);
    if (lock.cls !== null && lock.cls !== this.cls) {
      this.warn(call, `${lock.name} is of another class than its context`);
    }
    if (slow && this.contending === null) this.warn(call, `${lock.name} did not say EDEADLK`);
    if (this.contending === null) return;
    if (this.contending !== lock) {
      this.warn(call, `${this.contending.name} said EDEADLK, and ${lock.name} is taken`);
    }
    if (this.acquired > 0) {
      this.warn(call, `${this.acquired} locks are still held after EDEADLK`);
    }
    this.contending = null;
  }

  private warn(call: string, text: string): void {
    this.cls.scheduler.warn(call, text);
  }
}

/** `struct ww_class`: hands out contexts. Its value is the last stamp. */
export class WwClass extends Cell<number> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
    this.scheduler = scheduler;
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
  /** Contexts for it are of this class; null: of any. */
  readonly cls: WwClass | null;

  constructor(scheduler: Scheduler, name: string, cls: WwClass | null = null) {
    super(scheduler, name, FREE);
    this.scheduler = scheduler;
    this.cls = cls;
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

  /** Takes the lock, without a context, if it is free. True if it did. */
  trylock(): PreemptStep<boolean> {
    return new WwTrylock(this);
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
    return new AcquireContext(this.cell, this.cell.value);
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
      if (ctx !== null && result === 'EDEADLK') ctx.contending = cell;
      cell.scheduler.record?.({ kind: 'lock.backoff', ...event, code: result, ctx: stamp });
      return result;
    }
    ctx?.check(cell, this.slow);
    take(cell, actor, ctx);
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

/** Makes `actor` the holder. */
function take(cell: WwMutex, actor: Actor, ctx: AcquireContext | null): void {
  cell.value = { owner: actor, ctx };
  actor.holds(cell);
  if (ctx !== null) ctx.acquired += 1;
  cell.scheduler.record?.({
    kind: 'lock.acquire',
    lock: cell.name,
    id: cell.id,
    mode: 'exclusive',
    ...(ctx === null ? {} : { ctx: ctx.stamp }),
  });
}

class WwTrylock extends PreemptStep<boolean> {
  get verb(): string {
    return 'trylock';
  }

  readonly cell: WwMutex;

  constructor(cell: WwMutex) {
    super();
    this.cell = cell;
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look(this.cell).owner === null ? 'W' : 'R')];
  }

  apply(actor: Actor): boolean {
    const { cell } = this;
    if (cell.value.owner !== null) return false;
    take(cell, actor, null);
    return true;
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
