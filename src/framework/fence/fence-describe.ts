/**
 * A fence in a line of debugfs.
 *
 * @source `dma_fence_describe()`, drivers/dma-buf/dma-fence.c, v7.2
 */

import type { Atomic } from '../../machine/index.ts';
import type { DmaFence } from './dma-fence.ts';

/**
 * Context, number, timeline, driver, and whether it is signaled; the names of a signaled fence are
 * empty.
 *
 * @context Any.
 */
export function* describeFence(fence: DmaFence): Atomic<string> {
  const { context, seqno, timeline, driver } = fence.origin;
  if (yield* fence.isSignaled()) return `${context}:${seqno}   signalled`;
  return `${context}:${seqno} ${timeline} ${driver} unsignalled`;
}
