/** `peerbuf/drivers`: devices that export and import. No driver knows another. */

export {
  BLOCK_SIZE,
  COMMAND_SIZE,
  COMPLETION_SIZE,
  type CommandCompletion,
  createIoCompletionQueue,
  createIoSubmissionQueue,
  decodeCommand,
  decodeCompletion,
  deleteIoCompletionQueue,
  deleteIoSubmissionQueue,
  encodeCommand,
  encodeCompletion,
  flush,
  identifyController,
  ioRead,
  ioWrite,
  type NvmeCommand,
} from './nvme/commands.ts';
export { NvmeController, type NvmeOptions } from './nvme/controller.ts';
export type { ControllerAccess, QueueMemory } from './nvme/controller-access.ts';
export type { CmbOptions } from './nvme/controller-memory.ts';
export { QueuePair, type QueuePairLayout } from './nvme/queue-pair.ts';
export {
  type CmbPlace,
  headDoorbell,
  REGISTER,
  REGISTER_PAGE_SIZE,
  tailDoorbell,
} from './nvme/registers.ts';
export { type DriverLayout, NvmeDriver } from './nvme/spdk.ts';
export { STATUS, type StatusName } from './nvme/status.ts';
export {
  ACCESS_LOCAL_WRITE,
  ACCESS_REMOTE_READ,
  ACCESS_REMOTE_WRITE,
  MemoryRegion,
  type MrMode,
  type RegDmabufMr,
} from './rdma-nic/memory-region.ts';
export { PATH_MTU_MAX, RdmaNic, type RdmaNicOptions } from './rdma-nic/nic.ts';
export type { NakStatus, RdmaPacket } from './rdma-nic/packets.ts';
export { type RdmaResult, RemotePeer } from './rdma-nic/remote-peer.ts';
export { UmemDmabuf, type UmemWindow } from './rdma-nic/umem-dmabuf.ts';
export { VfioBarMapping } from './vfio-pci/vfio-bar-mapping.ts';
export { VfioContainer } from './vfio-pci/vfio-container.ts';
export { VfioDmaBuf } from './vfio-pci/vfio-dma-buf.ts';
export {
  VfioPciDevice,
  type VfioPciOptions,
  type VfioPowerState,
} from './vfio-pci/vfio-pci-device.ts';
export { VFIO_FEATURE, VfioDeviceNode } from './vfio-pci/vfio-device-file.ts';
export { vfioPciHotReset } from './vfio-pci/vfio-hot-reset.ts';
export { VFIO_PAGES_PER_REGION } from './vfio-pci/vfio-region-map.ts';
export type { VfioDmaBufRequest, VfioRegionDmaRange } from './vfio-pci/vfio-export-request.ts';
export {
  DMA_HEAP_MINORS,
  DmaHeap,
  type DmaHeapExportInfo,
  type DmaHeapOps,
  DmaHeaps,
} from './dma-heap/dma-heap.ts';
export { addSystemHeap } from './dma-heap/system-heap.ts';
export { addCmaHeap, DEFAULT_CMA_REGION, reserveCmaArea } from './dma-heap/cma-heap.ts';
export { PROBE_PATH, ProbeDevice } from './probe/probe-device.ts';
export { PROBE_EVENTS_MAX } from './probe/event-log.ts';
export { PROBE_HANDLES_MAX } from './probe/handle-table.ts';
export { PROBE_COPY_MAX } from './probe/probe-ioctl.ts';
export { PROBE_PAGES_MAX } from './probe/probe-ioctl-export.ts';
export { DrmDevice } from './drm/drm-device.ts';
export { DrmFile } from './drm/drm-file.ts';
export { vgemDevice } from './drm/vgem.ts';
export { Display } from './drm/display.ts';
export { VB2_DMA_CONTIG, VB2_DMA_CONTIG_ADDRESSES } from './videobuf2/dma-contig.ts';
export { VB2_DMA_SG } from './videobuf2/dma-sg.ts';
export { VB2_VMALLOC } from './videobuf2/vmalloc.ts';
export {
  captureWork,
  scalerWork,
  sinkWork,
  testPattern,
  type VideoSink,
} from './videobuf2/video-work.ts';
export {
  VideoDevice,
  type VideoDeviceOptions,
  type VideoQueueOptions,
} from './videobuf2/video-device.ts';
export { UDMABUF_PATH, UdmabufDevice } from './udmabuf/udmabuf-device.ts';
export {
  Iommufd,
  IOMMUFD_IOCTL,
  IOMMUFD_PATH,
  IommufdFile,
  type IommuDestroy,
  iommuDestroy,
  type IommuIoasAlloc,
  iommuIoasAlloc,
  type IommuIoasUnmap,
  iommuIoasUnmap,
} from './iommufd/iommufd.ts';
export { Ioas, type IoptMemory } from './iommufd/ioas.ts';
export { Gntdev, GNTDEV_PAGES_MAX, GNTDEV_PATH, type GntdevOptions } from './xen-gntdev/gntdev.ts';
export { GrantTables, GRANTS_MAX } from './xen-gntdev/grant-tables.ts';
