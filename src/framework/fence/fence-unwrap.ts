/**
 * What is inside containers: the fences that drivers made, however deep they are wrapped; and one
 * fence for several, as plain as can be.
 *
 * @source drivers/dma-buf/dma-fence-unwrap.c, v7.2; reference/linux-dma-buf.md B.5
 */

import { DmaBufError } from '../../base/index.ts';
import type { Atomic, Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { DmaFence } from './dma-fence.ts';
import { DmaFenceArray } from './dma-fence-array.ts';
import { chainWalk, DmaFenceChain } from './dma-fence-chain.ts';
import { privateStubFence } from './fence-stub.ts';

/**
 * The fences inside a fence, across chains and arrays; a plain fence is its own. Signaled ones are
 * among them, but for nodes of chains that the walk takes out.
 *
 * @returns Each with a reference for the caller.
 * @context Any.
 * @source `dma_fence_unwrap_for_each()`
 */
export function* fenceUnwrap(fence: DmaFence): Atomic<readonly DmaFence[]> {
  const leaves: DmaFence[] = [];
  yield* fence.get();
  for (let at: DmaFence | null = fence; at !== null; at = yield* chainWalk(at)) {
    const inner = at instanceof DmaFenceChain ? at.fence : at;
    const members = inner instanceof DmaFenceArray ? inner.fences : [inner];
    for (const leaf of members) {
      yield* leaf.get();
      leaves.push(leaf);
    }
  }
  return leaves;
}

/**
 * One fence for all pending fences inside of several: of each context only the newest counts.
 *
 * @returns With a reference for the caller: one of them, an array of them on a context of its own,
 *   or a signaled fence if none is pending. Null: no memory.
 * @context May sleep, to allocate.
 * @source `dma_fence_unwrap_merge()`
 */
export function* fenceUnwrapMerge(kernel: Kernel, fences: readonly DmaFence[]): Task<DmaFence> {
  const { pending, timestampNs } = yield* pendingLeaves(fences);
  const [only] = pending;
  if (only === undefined) return privateStubFence(kernel, timestampNs);
  if (pending.length === 1) return only;
  if (!(yield* kernel.slab.alloc())) {
    for (const fence of pending) yield* fence.put();
    throw new DmaBufError('ENOMEM', 'fenceUnwrapMerge', 'no-memory-to-merge-fences');
  }
  const { kept, dropped } = newestOfEach(pending);
  for (const fence of dropped) yield* fence.put();
  const [newest] = kept;
  if (newest !== undefined && kept.length === 1) return newest;
  return new DmaFenceArray(kernel, kept, yield* kernel.fenceContexts.next(), 1);
}

/** All leaves that are pending, with references; and when the last of the others was signaled. */
function* pendingLeaves(
  fences: readonly DmaFence[],
): Atomic<{ readonly pending: readonly DmaFence[]; readonly timestampNs: number }> {
  const pending: DmaFence[] = [];
  let timestampNs = 0;
  for (const fence of fences) {
    for (const leaf of yield* fenceUnwrap(fence)) {
      if (!(yield* leaf.isSignaled())) {
        pending.push(leaf);
        continue;
      }
      timestampNs = Math.max(timestampNs, leaf.value.timestampNs);
      yield* leaf.put();
    }
  }
  return { pending, timestampNs };
}

/** Sorted by context, the newest of each. Of one and the same fence the first counts. */
function newestOfEach(fences: readonly DmaFence[]): {
  readonly kept: readonly DmaFence[];
  readonly dropped: readonly DmaFence[];
} {
  const byContext = new Map<number, DmaFence>();
  const dropped: DmaFence[] = [];
  for (const fence of fences) {
    const { context } = fence.origin;
    const known = byContext.get(context);
    if (known === undefined || (fence !== known && fence.isLater(known))) {
      if (known !== undefined) dropped.push(known);
      byContext.set(context, fence);
    } else dropped.push(fence);
  }
  const contexts = [...byContext.keys()].sort((one, other) => one - other);
  return { kept: contexts.map((context) => byContext.get(context) as DmaFence), dropped };
}
