/**
 * One fence for several: signaled when all of them are.
 *
 * @source drivers/dma-buf/dma-fence-array.c, v7.2; reference/linux-dma-buf.md B.5
 */

import {
  type Atomic,
  Cell,
  changeCell,
  lookAtCell,
  type PreemptStep,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import { DmaFence, type DmaFenceOps } from './dma-fence.ts';

/** `struct dma_fence_array`. */
export class DmaFenceArray extends DmaFence {
  /** The members. The array owns a reference to each. */
  readonly fences: readonly DmaFence[];
  /** Members that are still to come. */
  readonly pending: PendingCount;

  /**
   * `dma_fence_array_create()`. Takes the caller's references to the members over. For no member,
   * and for one that is a container itself: a kernel warning.
   */
  constructor(kernel: Kernel, fences: readonly DmaFence[], context: number, seqno: number) {
    const origin = { driver: 'dma_fence_array', timeline: 'unbound', context, seqno };
    super(kernel, origin, { ops: ARRAY_OPS });
    const { scheduler } = kernel;
    if (fences.length === 0) scheduler.warn('dma_fence_array_create', 'an array of no fence');
    for (const { isContainer, name } of fences) {
      if (isContainer) scheduler.warn('dma_fence_array_create', `${name} is a container itself`);
    }
    this.fences = fences;
    this.pending = new PendingCount(scheduler, `${this.name} pending`, fences.length);
  }

  override get isContainer(): boolean {
    return true;
  }

  /**
   * Counts a member in that is signaled; its error is the array's if it is the first.
   *
   * @returns True if it was the last.
   * @context Any.
   * @source `dma_fence_array_cb_func()`
   */
  *memberDone(member: DmaFence): Atomic<boolean> {
    const { error } = member.value;
    if (error !== 0 && this.value.error === 0) yield* this.setError(error);
    return yield* this.pending.decrementAndTest();
  }
}

const ARRAY_OPS: DmaFenceOps = {
  *enableSignaling(fence): Atomic<boolean> {
    const array = fence as DmaFenceArray;
    const { irqWork, scheduler } = array.kernel;
    function* done(): Atomic {
      yield* array.signal();
      yield* array.put();
    }
    function* callback(member: DmaFence): Atomic {
      if (yield* array.memberDone(member)) yield* irqWork.queue(scheduler.current, done);
      else yield* array.put();
    }
    for (const member of array.fences) {
      yield* array.get();
      if (yield* member.addCallback(callback)) continue;
      const isLast = yield* array.memberDone(member);
      yield* array.put();
      if (isLast) return false;
    }
    return true;
  },

  *signaled(fence): Atomic<boolean> {
    const array = fence as DmaFenceArray;
    let left = yield* array.pending.read();
    if (array.value.isEnabled) return left <= 0;
    // Nobody counts before signaling is enabled, so look at each.
    for (const member of array.fences) {
      if (!(yield* member.isSignaled())) continue;
      left -= 1;
      if (left === 0) return true;
    }
    return false;
  },

  *setDeadline(fence, deadlineNs): Atomic {
    for (const member of (fence as DmaFenceArray).fences) yield* member.setDeadline(deadlineNs);
  },

  *release(fence): Atomic {
    for (const member of (fence as DmaFenceArray).fences) yield* member.put();
  },
};

/** How many members are still to come. */
export class PendingCount extends Cell<number> {
  /** A step that counts one less. True: none is left. */
  decrementAndTest(): PreemptStep<boolean> {
    return changeCell(this, 'count down', (left) => [left - 1, left === 1]);
  }

  /** A step that tells how many are left. */
  read(): PreemptStep<number> {
    return lookAtCell(this, 'read', (left) => left);
  }
}
