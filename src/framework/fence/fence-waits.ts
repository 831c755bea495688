/**
 * What concerns several fences at once: their contexts, which of two comes later, and waiting for
 * the first of many.
 *
 * @source drivers/dma-buf/dma-fence.c, v7.2; reference/linux-dma-buf.md B.1
 */

import { DmaBufError } from '../../base/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { DmaFence } from './dma-fence.ts';
import { WaitForFences } from './fence-steps.ts';

/**
 * Contexts that nobody has, in a row. For none: a kernel warning.
 *
 * @returns The first of them; from 1.
 * @context Any.
 * @source `dma_fence_context_alloc()`
 */
export function* fenceContextAlloc(kernel: Kernel, count: number): Atomic<number> {
  if (count === 0) kernel.scheduler.warn('dma_fence_context_alloc', 'no context at all');
  return yield* kernel.fenceContexts.next(count);
}

/**
 * Of two fences of one context the one that comes later; no reference is taken. Of two contexts: a
 * kernel warning.
 *
 * @returns Null: the later one is signaled, so both are done.
 * @context Any.
 * @source `dma_fence_later()`
 */
export function* laterFence(one: DmaFence, other: DmaFence): Atomic<DmaFence | null> {
  if (one.origin.context !== other.origin.context) {
    one.kernel.scheduler.warn('dma_fence_later', 'fences of two contexts have no order');
    return null;
  }
  const later = one.isLater(other) ? one : other;
  return (yield* later.isSignaled()) ? null : later;
}

/** How a wait for one of several fences ended. */
export interface WaitedForAny {
  /** What is left of the timeout, at least 1; 0: it is over. */
  readonly left: number;
  /** Which fence is signaled, the first of them in the list; -1: none. */
  readonly index: number;
}

/**
 * Waits until one of several fences is signaled.
 *
 * @param fences - At least one.
 * @param timeoutNs - Virtual time; Infinity waits for ever, 0 only looks.
 * @throws {@link DmaBufError} `EINVAL`, with a kernel warning, no fence or a negative timeout;
 *   `ENOMEM`; `ERESTARTSYS` a signal came.
 * @context May sleep. Must not hold a lock that signaling needs.
 * @source `dma_fence_wait_any_timeout()`
 */
export function* waitAnyTimeout(
  kernel: Kernel,
  fences: readonly DmaFence[],
  interruptible: boolean,
  timeoutNs: number,
): Task<WaitedForAny> {
  const [first] = fences;
  if (first === undefined || timeoutNs < 0) {
    kernel.scheduler.warn('dma_fence_wait_any_timeout', 'no fence, or a negative timeout');
    throw new DmaBufError('EINVAL', 'waitAnyTimeout', 'wait-for-any-of-nothing');
  }
  if (timeoutNs === 0) return yield* lookAtAll(fences);
  if (!(yield* kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'waitAnyTimeout', 'no-memory-to-wait-for-any');
  }
  for (const [index, fence] of fences.entries()) {
    if (!(yield* fence.enableSwSignaling())) return { left: timeoutNs, index };
  }
  const until = kernel.scheduler.t + timeoutNs;
  const waited = yield* new WaitForFences(first, fences, interruptible, until);
  if (waited === 'interrupted') {
    throw new DmaBufError('ERESTARTSYS', 'waitAnyTimeout', 'wait-for-any-interrupted');
  }
  if (waited === 'timeout') return { left: 0, index: -1 };
  const index = fences.findIndex((fence) => fence.value.signaled);
  return { left: Math.max(until - kernel.scheduler.t, 1), index };
}

function* lookAtAll(fences: readonly DmaFence[]): Atomic<WaitedForAny> {
  for (const [index, fence] of fences.entries()) {
    if (yield* fence.isSignaled()) return { left: 1, index };
  }
  return { left: 0, index: -1 };
}
