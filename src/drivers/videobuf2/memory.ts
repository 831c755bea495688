/**
 * What the queue of a video device knows of the memory of a plane, whichever of the three
 * allocators made it: memory of its own, which processes map and other devices import, or somebody
 * else's that it imports.
 *
 * @source `struct vb2_mem_ops`, include/media/videobuf2-core.h, v7.2;
 *   reference/linux-dma-buf.md E.9
 */

import type { DmaDirection } from '../../base/index.ts';
import type { DmaBuf, IosysMap, Kernel, SgEntry, Vma } from '../../framework/index.ts';
import type { Atomic, Device, Task } from '../../machine/index.ts';
import type { Turn } from './turn.ts';

/** How the hardware of the queue gets at a plane: by DMA, or not at all and the CPU does it. */
export type PlaneAccess =
  | { readonly by: 'device'; readonly entries: readonly SgEntry[] }
  | { readonly by: 'cpu'; readonly map: IosysMap };

/** Memory of one plane (`mem_priv`). */
export interface PlaneMemory {
  /**
   * How the queue's hardware reaches it.
   *
   * @context The memory is mapped: after the allocation, or after {@link ImportedMemory.mapDmabuf}.
   */
  readonly access: PlaneAccess;
  /** Whose turn it is with the memory; null: it is of an exporter that does not say. */
  readonly turn: Turn | null;
  /** Optional. The hardware's turn begins: what the CPU wrote is in memory afterwards. */
  prepare?(): Atomic;
  /** Optional. The hardware's turn is over: the CPU sees what it wrote. */
  finish?(): Atomic;
}

/** Memory that the queue allocated (`V4L2_MEMORY_MMAP`). */
export interface OwnMemory extends PlaneMemory {
  /** The kernel's own view. */
  readonly vaddr: IosysMap;
  /**
   * A new dma-buf for the same memory; it holds a reference on the memory.
   *
   * @param flags - The access mode, as open(2) has it.
   * @throws {@link DmaBufError} if the memory cannot be described to others.
   */
  getDmabuf(flags: number): Task<DmaBuf>;
  /** Puts the memory into a map of a process, which holds a reference then. */
  mmap(vma: Vma): Task;
  /** References: the queue's, one for each map and each dma-buf. */
  numUsers(): number;
  /** Drops the queue's reference; the last one frees. */
  put(): Task;
}

/** Memory of another device (`V4L2_MEMORY_DMABUF`). */
export interface ImportedMemory extends PlaneMemory {
  mapDmabuf(): Task;
  unmapDmabuf(): Task;
  detachDmabuf(): Task;
}

/** Who wants memory. */
export interface PlaneOwner {
  readonly kernel: Kernel;
  /** The device that will do the DMA. */
  readonly device: Device;
  /** A capture queue's device writes, an output queue's reads. */
  readonly direction: DmaDirection;
}

/** An allocator (`struct vb2_mem_ops`). */
export interface Vb2MemOps {
  /** Of the module, as in debugfs: `videobuf2_dma_contig`. */
  readonly name: string;
  /**
   * @param size - Bytes; whole pages.
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep.
   */
  alloc(owner: PlaneOwner, size: number): Task<OwnMemory>;
  /**
   * Takes another device's buffer in; the caller owns a reference on it.
   *
   * @param size - Bytes that the plane needs.
   * @throws {@link DmaBufError} `EFAULT` the buffer is smaller; what the exporter says.
   * @context May sleep. The reservation is not locked.
   */
  attachDmabuf(owner: PlaneOwner, buf: DmaBuf, size: number): Task<ImportedMemory>;
}
