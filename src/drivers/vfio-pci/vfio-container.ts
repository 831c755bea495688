/**
 * What a user-owned device may reach: the process maps pages of its own at I/O addresses of its
 * choice. Without an IOMMU (the kernel's unsafe no-IOMMU mode) the device reaches everything, and
 * an address is what the process finds in its page map.
 *
 * @source drivers/vfio/vfio_iommu_type1.c, v7.2
 */

import { type DmaAddr, DmaBufError, dmaAddr, isPageAligned } from '../../base/index.ts';
import type { UserPages } from '../../framework/index.ts';
import type { Cell, IommuDomain, PciFunction, Task } from '../../machine/index.ts';

/** The I/O address space of one user-owned device. */
export class VfioContainer {
  private readonly fn: PciFunction;
  /** Null in no-IOMMU mode. */
  private readonly domain: IommuDomain | null;

  /** @context At boot: the function leaves the kernel's domain for the container's. */
  constructor(fn: PciFunction) {
    const { machine } = fn;
    this.fn = fn;
    this.domain = machine.spec.iommu === 'off' ? null : machine.newDomain(`VFIO of ${fn.name}`);
    (fn.domain as Cell<IommuDomain | null>).value = this.domain;
  }

  /** True in no-IOMMU mode: the device sees physical addresses. */
  get isNoIommu(): boolean {
    return this.domain === null;
  }

  /**
   * `VFIO_IOMMU_MAP_DMA`: lets the device reach pages of the process.
   *
   * @param iova - Where the device will find them; page aligned. Ignored in no-IOMMU mode.
   * @returns Where the device finds them.
   * @throws {@link DmaBufError} `EINVAL` not page aligned; `EEXIST` something is mapped there.
   * @context May sleep.
   */
  *mapDma(iova: number, { phys, size }: UserPages): Task<DmaAddr> {
    if (this.domain === null) return dmaAddr(phys + this.fn.node.hostBridge.spec.dmaOffset);
    const call = 'ioctl(VFIO_IOMMU_MAP_DMA)';
    if (!isPageAligned(iova)) throw new DmaBufError('EINVAL', call, 'io-address-is-not-aligned');
    const rights = { readable: true, writable: true };
    const mapped = yield* this.domain.mapAt(dmaAddr(iova), { phys, size }, rights);
    if (!mapped) throw new DmaBufError('EEXIST', call, 'io-address-is-taken');
    return dmaAddr(iova);
  }

  /**
   * `VFIO_IOMMU_UNMAP_DMA`.
   *
   * @context May sleep.
   */
  *unmapDma(iova: DmaAddr, size: number): Task {
    if (this.domain !== null) yield* this.domain.unmap(iova, size);
  }
}
