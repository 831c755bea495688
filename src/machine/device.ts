/**
 * A device as drivers and the framework see it: the one that will do the DMA (`struct device`).
 * Which device it is decides where a buffer can be reached and at which address.
 */

import type { DmaAddr, PhysAddr } from '../base/index.ts';
import type { PciFunction } from './pci/function.ts';
import type { SlotPool } from './slot-pool.ts';

/**
 * What a device can do on the bus. A driver says so at probe, before anything is mapped, and never
 * changes it after. Absent: as a driver that set 64 bits, and no segment size.
 */
export interface DmaLimits {
  /** Bits of an address that it can send in streaming DMA. Null: nobody said; nothing is mapped. */
  readonly dmaMask?: number | null;
  /** The same for coherent memory. */
  readonly coherentDmaMask?: number;
  /** Bytes in one piece of a scatterlist. Default {@link MAX_SEGMENT_SIZE_DEFAULT}. */
  readonly maxSegmentSize?: number;
  /** True if all its DMA goes through bounce buffers, as in a confidential guest. Default false. */
  readonly forceBounce?: boolean;
  /** True if the device must not see what lies beside a buffer in its pages. Default false. */
  readonly isUntrusted?: boolean;
}

/** Memory that is a device's own to allocate coherent memory from (`struct dma_coherent_mem`). */
export interface CoherentPool {
  readonly slots: SlotPool;
  /** Where the CPU finds its first byte. */
  readonly phys: PhysAddr;
  /** Where the device does. */
  readonly address: DmaAddr;
}

/** `dma_get_mask()` of a device whose driver set the widest. */
export const DMA_MASK_DEFAULT = 64;

/** `dma_get_max_seg_size()` of a device whose driver set none: 64 KiB. */
export const MAX_SEGMENT_SIZE_DEFAULT = 65536;

/** A device that can be attached to a buffer. */
export interface Device extends DmaLimits {
  /** As in `/sys`: `0000:41:00.0`, `gsc.0`. */
  readonly name: string;
  /** The PCI function behind it; null for a platform device. */
  readonly pci: PciFunction | null;
  /** True if the CPU's caches see its DMA. */
  readonly isCoherent: boolean;
  /** Set at probe. Absent or null: it has none. */
  coherentPool?: CoherentPool | null;
  /** RAM kept for contiguous buffers of this device (`dev->cma_area`), set at probe. */
  contiguousArea?: SlotPool | null;
}

/** A device that is not on PCI. */
export class PlatformDevice implements Device {
  readonly name: string;
  readonly isCoherent: boolean;
  dmaMask: number | null = DMA_MASK_DEFAULT;
  coherentDmaMask: number = DMA_MASK_DEFAULT;
  maxSegmentSize: number = MAX_SEGMENT_SIZE_DEFAULT;
  forceBounce = false;
  isUntrusted = false;
  coherentPool: CoherentPool | null = null;
  contiguousArea: SlotPool | null = null;

  constructor(name: string, isCoherent: boolean) {
    this.name = name;
    this.isCoherent = isCoherent;
  }

  get pci(): null {
    return null;
  }
}
