/**
 * Fences that are signaled from the start, for who must hand one out and has nothing to wait for.
 */

import type { Kernel } from '../kernel.ts';
import { DmaFence } from './dma-fence.ts';

const STUB = { driver: 'stub', timeline: 'stub', context: 0, seqno: 0 } as const;

/** The stub of a kernel that boots: one for all. */
export function bootStub(kernel: Kernel): DmaFence {
  return new DmaFence(kernel, STUB, { signaledAtNs: 0, isUnnumbered: true });
}

/**
 * The fence that is always signaled, since boot, with a reference for the caller.
 *
 * @context Any.
 * @source `dma_fence_get_stub()`
 */
export function stubFence(kernel: Kernel): DmaFence {
  return kernel.stub.hold();
}

/**
 * A fence of its own that was signaled at `timestampNs`.
 *
 * @context Any.
 * @source `dma_fence_allocate_private_stub()`
 */
export function privateStubFence(kernel: Kernel, timestampNs: number): DmaFence {
  return new DmaFence(kernel, STUB, { signaledAtNs: timestampNs });
}
