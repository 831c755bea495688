/**
 * What a program may ask of `/dev/dma_heap/NAME`.
 *
 * @source include/uapi/linux/dma-heap.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { type Struct, struct, u32, u64 } from './struct.ts';

/** Number of its ioctl. */
export const DMA_HEAP_IOCTL: Readonly<Record<'ALLOC', number>> = {
  ALLOC: ioctlNumber('rw', 'H', 0, 24),
};

/** `struct dma_heap_allocation_data`. */
export interface DmaHeapAllocationData {
  /** Bytes. */
  readonly len: bigint;
  /** Told; given as 0. */
  readonly fd: number;
  /** `O_CLOEXEC` and an access mode. */
  readonly fdFlags: number;
  readonly heapFlags: bigint;
}

/** Layout of {@link DmaHeapAllocationData}. */
export const dmaHeapAllocationData: Struct<DmaHeapAllocationData> = struct({
  len: u64,
  fd: u32,
  fdFlags: u32,
  heapFlags: u64,
});
