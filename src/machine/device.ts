/**
 * A device as drivers and the framework see it: the one that will do the DMA (`struct device`).
 * Which device it is decides where a buffer can be reached and at which address.
 */

import type { PciFunction } from './pci/function.ts';

/** A device that can be attached to a buffer. */
export interface Device {
  /** As in `/sys`: `0000:41:00.0`, `gsc.0`. */
  readonly name: string;
  /** The PCI function behind it; null for a platform device. */
  readonly pci: PciFunction | null;
  /** True if the CPU's caches see its DMA. */
  readonly isCoherent: boolean;
}

/** A device that is not on PCI. */
export class PlatformDevice implements Device {
  readonly name: string;
  readonly isCoherent: boolean;

  constructor(name: string, isCoherent: boolean) {
    this.name = name;
    this.isCoherent = isCoherent;
  }

  get pci(): null {
    return null;
  }
}
