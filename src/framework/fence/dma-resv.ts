/**
 * The reservation of a buffer: the lock that all parties take, and the fences of work that is under
 * way.
 *
 * @source drivers/dma-buf/dma-resv.c, v7.2; reference/linux-dma-buf.md B.2
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type Access,
  type AcquireContext,
  type Atomic,
  Cell,
  type Look,
  PreemptStep,
  type SleepStep,
  type Task,
  WwMutex,
  type WwResult,
  wholeCell,
} from '../../machine/index.ts';
import type { DmaFence } from './dma-fence.ts';
import type { Kernel } from '../kernel.ts';

/**
 * What a fence stands for. A query for one usage finds it and all before it: `kernel`, memory being
 * moved or cleared; `write` and `read`, implicit synchronisation; `bookkeep`, everything else that
 * uses the memory.
 */
export type DmaResvUsage = 'kernel' | 'write' | 'read' | 'bookkeep';

const RANK: Readonly<Record<DmaResvUsage, number>> = { kernel: 0, write: 1, read: 2, bookkeep: 3 };

interface Entry {
  readonly fence: DmaFence;
  readonly usage: DmaResvUsage;
}

/** `struct dma_resv`. */
export class DmaResv {
  /** The lock. */
  readonly lockCell: WwMutex;
  private readonly kernel: Kernel;
  private readonly fences: FenceList;
  /** Slots that may be filled without allocating; lost at unlock. Guarded by the lock. */
  private reserved = 0;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.lockCell = new WwMutex(kernel.scheduler, `${name} resv`);
    this.fences = new Cell<readonly Entry[]>(kernel.scheduler, `${name} fences`, []);
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
   * Takes the lock after `EDEADLK`, holding nothing.
   *
   * @context May sleep.
   * @source `dma_resv_lock_slow()`
   */
  lockSlow(ctx: AcquireContext): SleepStep<WwResult> {
    return this.lockCell.lockSlow(ctx);
  }

  /**
   * Gives the lock back. Slots reserved and not used are gone then.
   *
   * @context Any; the caller holds the lock.
   * @source `dma_resv_unlock()`
   */
  *unlock(): Atomic {
    if (this.lockCell.isHeldBy(this.kernel.scheduler.current)) this.reserved = 0;
    yield* this.lockCell.unlock();
  }

  /** Warns, as lockdep does, unless the current actor holds the lock. */
  assertHeld(call: string): void {
    if (this.lockCell.isHeldBy(this.kernel.scheduler.current)) return;
    this.kernel.scheduler.warn(call, `called without ${this.lockCell.name}`);
  }

  /**
   * Makes room for `count` more fences.
   *
   * @param count - At least 1.
   * @throws {@link DmaBufError} `EINVAL`, with a kernel warning, for none.
   * @context The caller holds the lock.
   * @source `dma_resv_reserve_fences()`
   */
  reserveFences(count: number): void {
    const { scheduler } = this.kernel;
    this.assertHeld('dma_resv_reserve_fences');
    if (count < 1) {
      scheduler.warn('dma_resv_reserve_fences', 'room for no fence at all');
      throw new DmaBufError('EINVAL', 'reserveFences', 'room-for-no-fence');
    }
    this.reserved = Math.max(this.reserved, count);
  }

  /**
   * Adds a fence. It replaces one of the same context that it comes after, if that had the same or
   * a weaker usage, or any that is signaled.
   *
   * @context The caller holds the lock and has reserved room; without, the kernel stops (BUG).
   * @source `dma_resv_add_fence()`
   */
  *addFence(fence: DmaFence, usage: DmaResvUsage): Atomic {
    const { scheduler } = this.kernel;
    this.assertHeld('dma_resv_add_fence');
    if (this.reserved === 0) {
      scheduler.oops('dma_resv_add_fence: no slot was reserved for the fence');
    }
    if (yield* new AddFence(this.fences, { fence, usage })) this.reserved -= 1;
    scheduler.record?.({
      kind: 'resv.add-fence',
      resv: this.lockCell.id,
      fence: fence.number,
      usage,
    });
  }

  /**
   * Waits for every fence up to `usage`, one after the other; their errors do not matter.
   *
   * @context May sleep. With or without the lock.
   * @source `dma_resv_wait_timeout()`, uninterruptible and without a timeout
   */
  *wait(usage: DmaResvUsage): Task {
    for (;;) {
      const [pending] = yield* new PendingFences(this.fences, usage);
      if (pending === undefined) return;
      yield* pending.wait();
    }
  }

  /**
   * True if no fence up to `usage` is pending.
   *
   * @context Any.
   * @source `dma_resv_test_signaled()`
   */
  *testSignaled(usage: DmaResvUsage): Atomic<boolean> {
    return (yield* new PendingFences(this.fences, usage)).length === 0;
  }
}

/** The fences in a reservation. */
type FenceList = Cell<readonly Entry[]>;

class PendingFences extends PreemptStep<readonly DmaFence[]> {
  readonly cell: FenceList;
  private readonly usage: DmaResvUsage;

  constructor(cell: FenceList, usage: DmaResvUsage) {
    super();
    this.cell = cell;
    this.usage = usage;
  }

  get verb(): string {
    return 'look for pending fences';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'R'), ...look(this.cell).map((e) => wholeCell(e.fence, 'R'))];
  }

  apply(): readonly DmaFence[] {
    return this.cell.value
      .filter(({ fence, usage }) => RANK[usage] <= RANK[this.usage] && !fence.value.signaled)
      .map(({ fence }) => fence);
  }
}

/** Adds a fence. True if it took a slot; false if it replaced another. */
class AddFence extends PreemptStep<boolean> {
  readonly cell: FenceList;
  private readonly entry: Entry;

  constructor(cell: FenceList, entry: Entry) {
    super();
    this.cell = cell;
    this.entry = entry;
  }

  get verb(): string {
    return 'add fence';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'W'), ...look(this.cell).map((e) => wholeCell(e.fence, 'R'))];
  }

  apply(): boolean {
    const before = this.cell.value;
    const at = before.findIndex((old) => replaces(this.entry, old));
    this.cell.value = at < 0 ? [...before, this.entry] : before.with(at, this.entry);
    return at < 0;
  }
}

function replaces(added: Entry, old: Entry): boolean {
  if (old.fence.value.signaled) return true;
  const one = added.fence.origin;
  const other = old.fence.origin;
  return (
    one.context === other.context &&
    RANK[old.usage] >= RANK[added.usage] &&
    (added.fence === old.fence || one.seqno > other.seqno)
  );
}
