/**
 * The reservation of a buffer: the lock that all parties take, and the fences of work that is under
 * way.
 *
 * @source drivers/dma-buf/dma-resv.c, v7.2; reference/linux-dma-buf.md B.2
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type AcquireContext,
  type Atomic,
  Cell,
  type PreemptStep,
  type SleepStep,
  type Task,
  WwMutex,
  type WwResult,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { DmaFence } from './dma-fence.ts';
import { DmaFenceArray } from './dma-fence-array.ts';
import { describeFence } from './fence-describe.ts';
import { DmaResvIter } from './resv-iter.ts';
import {
  AddFence,
  askDriver,
  type DmaResvUsage,
  ExchangeTable,
  type FenceList,
  type FenceTable,
  putAll,
  Reallocate,
  ReplaceFences,
  replaces,
  type ResvEntry,
  slotsFor,
} from './resv-list.ts';

export { type DmaResvUsage, dmaResvUsageRw } from './resv-list.ts';

const EMPTY: FenceTable = { table: 0, entries: [] };

/** `struct dma_resv`. */
export class DmaResv {
  /** The lock. */
  readonly lockCell: WwMutex;
  private readonly kernel: Kernel;
  private readonly list: FenceList;
  /** Slots of the table. Guarded by the lock. */
  private slots = 0;
  /** Slots that were asked for and are not filled; lost at unlock. Guarded by the lock. */
  private reserved = 0;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.lockCell = new WwMutex(kernel.scheduler, `${name} resv`, kernel.reservationClass);
    this.list = new Cell<FenceTable>(kernel.scheduler, `${name} fences`, EMPTY);
  }

  /**
   * Takes the lock.
   *
   * @param ctx - Null for a single lock; else see {@link WwMutex.lock}.
   * @context May sleep; the caller does not hold it, or hands its context.
   * @source `dma_resv_lock()`
   */
  lock(ctx: AcquireContext | null = null): SleepStep<WwResult> {
    return this.lockCell.lock(ctx);
  }

  /**
   * As {@link lock}; a signal ends the wait.
   *
   * @throws {@link DmaBufError} `EINTR`.
   * @context As there.
   * @source `dma_resv_lock_interruptible()`
   */
  *lockInterruptible(ctx: AcquireContext | null = null): Task<WwResult> {
    return yield* this.orInterrupted(this.lockCell.lock(ctx));
  }

  /**
   * Takes the lock after `EDEADLK`, holding nothing.
   *
   * @context May sleep.
   * @source `dma_resv_lock_slow()`
   */
  lockSlow(ctx: AcquireContext): SleepStep<WwResult> {
    return this.lockCell.lockSlow(ctx);
  }

  /**
   * As {@link lockSlow}; a signal ends the wait.
   *
   * @throws {@link DmaBufError} `EINTR`.
   * @context As there.
   * @source `dma_resv_lock_slow_interruptible()`
   */
  *lockSlowInterruptible(ctx: AcquireContext): Task<WwResult> {
    return yield* this.orInterrupted(this.lockCell.lockSlow(ctx));
  }

  /**
   * Takes the lock if it is free, without a context. True if it did.
   *
   * @context Any that may hold a sleeping lock.
   * @source `dma_resv_trylock()`
   */
  trylock(): PreemptStep<boolean> {
    return this.lockCell.trylock();
  }

  /** The context that the lock is held under. @source `dma_resv_locking_ctx()` */
  get lockingCtx(): AcquireContext | null {
    return this.lockCell.value.ctx;
  }

  /**
   * Gives the lock back. Slots reserved and not used are gone then.
   *
   * @context Any; the caller holds the lock.
   * @source `dma_resv_unlock()`
   */
  *unlock(): Atomic {
    if (this.lockCell.isHeldBy(this.kernel.scheduler.current)) this.resetMaxFences();
    yield* this.lockCell.unlock();
  }

  /** Warns, as lockdep does, unless the current actor holds the lock. */
  assertHeld(call: string): void {
    if (this.lockCell.isHeldBy(this.kernel.scheduler.current)) return;
    this.kernel.scheduler.warn(call, `called without ${this.lockCell.name}`);
  }

  /** Fences that the table has room for. Only for who holds the lock. */
  get maxFences(): number {
    return this.slots;
  }

  /**
   * Takes all room away that is not filled.
   *
   * @context The caller holds the lock.
   * @source `dma_resv_reset_max_fences()`
   */
  resetMaxFences(): void {
    this.slots = this.list.value.entries.length;
    this.reserved = 0;
  }

  /**
   * Makes room for `count` more fences. Signaled ones make way if the table has to grow.
   *
   * @param count - At least 1.
   * @throws {@link DmaBufError} `EINVAL`, with a kernel warning, for none; `ENOMEM`.
   * @context The caller holds the lock.
   * @source `dma_resv_reserve_fences()`
   */
  *reserveFences(count: number): Atomic {
    const { scheduler, slab } = this.kernel;
    this.assertHeld('dma_resv_reserve_fences');
    if (count < 1) {
      scheduler.warn('dma_resv_reserve_fences', 'room for no fence at all');
      throw new DmaBufError('EINVAL', 'reserveFences', 'room-for-no-fence');
    }
    const { entries } = this.list.value;
    if (this.slots === 0 || entries.length + count > this.slots) {
      if (!(yield* slab.alloc())) {
        throw new DmaBufError('ENOMEM', 'reserveFences', 'no-memory-for-fences');
      }
      this.slots = slotsFor(entries.length, this.slots, count);
      for (const { fence } of entries) yield* askDriver(fence);
      yield* putAll(yield* new Reallocate(this.list));
    }
    this.reserved = Math.max(this.reserved, count);
  }

  /**
   * Adds a fence. It replaces one of the same context that it comes after, if that had the same or
   * a weaker usage, or any that is signaled. A container is a kernel warning: add what is inside.
   *
   * DIFFERS: Linux stops only when the table is full, and a table mostly has more slots than were
   * asked for. A fence that gets one of those is a kernel warning here.
   *
   * @context The caller holds the lock and has reserved room; without, the kernel stops (BUG).
   * @source `dma_resv_add_fence()`
   */
  *addFence(fence: DmaFence, usage: DmaResvUsage): Atomic {
    const { scheduler } = this.kernel;
    this.assertHeld('dma_resv_add_fence');
    if (fence.isContainer) scheduler.warn('dma_resv_add_fence', `${fence.name} is a container`);
    const entry = { fence, usage };
    for (const old of this.list.value.entries) {
      if (replaces(entry, old) || (yield* askDriver(old.fence))) break;
    }
    const { replaced } = yield* new AddFence(this.list, entry, this.slots);
    if (replaced === null) {
      if (this.reserved === 0) {
        scheduler.warn('dma_resv_add_fence', 'more fences than room was made for');
      }
      this.reserved = Math.max(this.reserved - 1, 0);
    }
    scheduler.record?.({
      kind: 'resv.add-fence',
      resv: this.lockCell.id,
      fence: fence.number,
      usage,
    });
    if (replaced !== null) yield* replaced.put();
  }

  /**
   * Puts `fence` in the place of every fence of a context, if there are such.
   *
   * @context The caller holds the lock.
   * @source `dma_resv_replace_fences()`
   */
  *replaceFences(context: number, fence: DmaFence, usage: DmaResvUsage): Atomic {
    this.assertHeld('dma_resv_replace_fences');
    yield* putAll(yield* new ReplaceFences(this.list, context, { fence, usage }));
  }

  /**
   * Takes over the pending fences of another reservation; what was here is gone.
   *
   * @throws {@link DmaBufError} `ENOMEM`; nothing is changed.
   * @context May sleep, to allocate. The caller holds this lock; the other need not be held.
   * @source `dma_resv_copy_fences()`
   */
  *copyFences(from: DmaResv): Task {
    this.assertHeld('dma_resv_copy_fences');
    const entries = yield* from.collect('bookkeep');
    this.slots = entries.length;
    this.reserved = 0;
    yield* putAll(yield* new ExchangeTable(this.list, entries));
  }

  /**
   * A walk through the fences up to `usage`.
   *
   * @source `dma_resv_iter_begin()`
   */
  iterate(usage: DmaResvUsage): DmaResvIter {
    return new DmaResvIter(this.list, usage, (call) => this.assertHeld(call));
  }

  /**
   * The pending fences up to `usage`, as they are at one moment.
   *
   * @returns Each with a reference for the caller.
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep, to allocate. With or without the lock.
   * @source `dma_resv_get_fences()`
   */
  *getFences(usage: DmaResvUsage): Task<readonly DmaFence[]> {
    return (yield* this.collect(usage)).map(({ fence }) => fence);
  }

  /**
   * The pending fences up to `usage` as one: an array if there are several.
   *
   * @returns With a reference for the caller. Null: none is pending.
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep, to allocate. With or without the lock.
   * @source `dma_resv_get_singleton()`
   */
  *getSingleton(usage: DmaResvUsage): Task<DmaFence | null> {
    const fences = yield* this.getFences(usage);
    if (fences.length < 2) return fences[0] ?? null;
    if (!(yield* this.kernel.slab.alloc())) {
      yield* putAll(fences);
      throw new DmaBufError('ENOMEM', 'getSingleton', 'no-memory-for-a-fence-array');
    }
    return new DmaFenceArray(this.kernel, fences, yield* this.kernel.fenceContexts.next(), 1);
  }

  /**
   * Waits for every fence up to `usage`, one after the other; their errors do not matter.
   *
   * @context May sleep. With or without the lock.
   * @source `dma_resv_wait_timeout()`, uninterruptible and without a timeout
   */
  *wait(usage: DmaResvUsage): Task {
    yield* this.waitTimeout(usage, false, Number.POSITIVE_INFINITY);
  }

  /**
   * Waits for every fence up to `usage`, one after the other, all within one timeout; their errors
   * do not matter.
   *
   * @param timeoutNs - Virtual time; Infinity waits for ever, 0 only looks.
   * @returns What is left of the timeout, at least 1; 0: it is over and not all are signaled.
   * @throws {@link DmaBufError} `ERESTARTSYS` a signal came; `EINVAL` for a negative timeout, if a
   *   fence is pending.
   * @context May sleep. With or without the lock.
   * @source `dma_resv_wait_timeout()`
   */
  *waitTimeout(usage: DmaResvUsage, interruptible: boolean, timeoutNs: number): Task<number> {
    const iter = this.iterate(usage);
    let left = timeoutNs;
    try {
      let fence = yield* iter.firstUnlocked();
      while (fence !== null) {
        const got = yield* fence.waitTimeout(interruptible, left);
        if (got === 0) return 0;
        // A look stays a look, whatever came of the first one.
        if (timeoutNs > 0) left = got;
        fence = yield* iter.nextUnlocked();
      }
    } finally {
      yield* iter.end();
    }
    return Math.max(left, 1);
  }

  /**
   * True if no fence up to `usage` is pending.
   *
   * @context Any.
   * @source `dma_resv_test_signaled()`
   */
  *testSignaled(usage: DmaResvUsage): Atomic<boolean> {
    const iter = this.iterate(usage);
    const pending = yield* iter.firstUnlocked();
    yield* iter.end();
    return pending === null;
  }

  /**
   * Hands a deadline on to every pending fence up to `usage`.
   *
   * @param deadlineNs - Virtual time since boot.
   * @context Any.
   * @source `dma_resv_set_deadline()`
   */
  *setDeadline(usage: DmaResvUsage, deadlineNs: number): Atomic {
    const iter = this.iterate(usage);
    let fence = yield* iter.firstUnlocked();
    for (; fence !== null; fence = yield* iter.nextUnlocked()) yield* fence.setDeadline(deadlineNs);
  }

  /**
   * A line for each fence up to `read`, as debugfs shows them, without line ends.
   *
   * @context The caller holds the lock.
   * @source `dma_resv_describe()`
   */
  *describe(): Atomic<readonly string[]> {
    const lines: string[] = [];
    const iter = this.iterate('read');
    for (let fence = yield* iter.first(); fence !== null; fence = yield* iter.next()) {
      lines.push(`\t${iter.fenceUsage} fence:${yield* describeFence(fence)}`);
    }
    return lines;
  }

  /**
   * Lets all fences go. Nobody uses the reservation any more.
   *
   * @context Any.
   * @source `dma_resv_fini()`
   */
  *fini(): Atomic {
    this.slots = 0;
    if (this.list.value.entries.length === 0) return;
    yield* putAll(yield* new ExchangeTable(this.list, []));
  }

  /** Pending fences with their usages and references, as they are at one moment. */
  private *collect(usage: DmaResvUsage): Task<readonly ResvEntry[]> {
    let found: ResvEntry[] = [];
    const iter = this.iterate(usage);
    let fence = yield* iter.firstUnlocked();
    for (; fence !== null; fence = yield* iter.nextUnlocked()) {
      if (iter.isRestarted) {
        yield* putAll(found.map((entry) => entry.fence));
        found = [];
        if (!(yield* this.kernel.slab.alloc())) {
          yield* iter.end();
          throw new DmaBufError('ENOMEM', 'getFences', 'no-memory-for-a-snapshot');
        }
      }
      found.push({ fence: fence.hold(), usage: iter.fenceUsage });
    }
    return found;
  }

  private *orInterrupted(step: SleepStep<WwResult>): Task<WwResult> {
    const got = yield* this.kernel.signals.tryInterruptible(step);
    if (got !== null) return got.result;
    throw new DmaBufError('EINTR', 'lock', 'reservation-lock-interrupted');
  }
}
