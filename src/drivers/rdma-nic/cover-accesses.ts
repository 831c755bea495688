/** What an exporter waits for when accesses cannot be stopped at once. */

import { isDmaBufError } from '../../base/index.ts';
import type { DmaFence, DmaResv } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';

/**
 * Lets the exporter wait for the accesses under way; where there is no memory for that, waits here.
 * Drops the caller's reference to the fence.
 *
 * @context May sleep. The reservation is locked.
 * @source reference/linux-dma-buf.md A.17
 */
export function* coverAccesses(fence: DmaFence, resv: DmaResv): Task {
  try {
    yield* resv.reserveFences(1);
    yield* resv.addFence(fence, 'bookkeep');
  } catch (error) {
    if (!isDmaBufError(error) || error.code !== 'ENOMEM') throw error;
    yield* fence.wait();
  } finally {
    yield* fence.put();
  }
}
