/** `peerbuf/drivers`: devices that export and import. No driver knows another. */

export { VfioBarMapping } from './vfio-pci/vfio-bar-mapping.ts';
export { VfioContainer } from './vfio-pci/vfio-container.ts';
export { VfioDmaBuf } from './vfio-pci/vfio-dma-buf.ts';
export {
  type VfioDmaBufRequest,
  VfioPciDevice,
  type VfioRegionDmaRange,
} from './vfio-pci/vfio-pci-device.ts';
