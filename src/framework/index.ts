/** `peerbuf/framework`: Linux's dma-buf and what it rests on in the kernel. */

export { Attachment } from './dma-buf/attachment.ts';
export { DmaBuf } from './dma-buf/dma-buf.ts';
export type { AttachOps, DmaBufExportInfo, DmaBufOps } from './dma-buf/dma-buf-ops.ts';
export {
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  ENTRY_SIZE_MAX,
  type PhysVec,
} from './dma-buf/dma-buf-mapping.ts';
export {
  DmaFence,
  type DmaFenceOps,
  type FenceOptions,
  type FenceOrigin,
} from './fence/dma-fence.ts';
export { DmaFenceArray } from './fence/dma-fence-array.ts';
export { chainFindSeqno, chainWalk, DmaFenceChain } from './fence/dma-fence-chain.ts';
export type { FenceCallback } from './fence/fence-steps.ts';
export { privateStubFence, stubFence } from './fence/fence-stub.ts';
export { fenceUnwrap, fenceUnwrapMerge } from './fence/fence-unwrap.ts';
export { SyncFile, syncFileCreate, syncFileFence, withDescriptor } from './fence/sync-file.ts';
export { Signals } from './user/signals.ts';
export { copyFromUser, copyToUser } from './user/user-copy.ts';
export type { MappedKind } from './dma/dma-direct.ts';
export {
  type DmaIova,
  dmaIovaDestroy,
  dmaIovaFree,
  dmaIovaLink,
  dmaIovaMap,
  dmaIovaSync,
  dmaIovaTryAlloc,
  dmaIovaUnlink,
  dmaUseIova,
} from './dma/dma-iova.ts';
export {
  dmaMapPhys,
  dmaMapResource,
  dmaSyncForCpu,
  dmaSyncForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPhys,
  dmaUnmapResource,
} from './dma/dma-mapping.ts';
export {
  SWIOTLB_MAPPING_MAX,
  SWIOTLB_SIZE_DEFAULT,
  SWIOTLB_SLOT_SIZE,
  swiotlbInit,
} from './dma/swiotlb.ts';
export { DmaResv, dmaResvUsageRw, type DmaResvUsage } from './fence/dma-resv.ts';
export { DmaResvIter } from './fence/resv-iter.ts';
export {
  fenceContextAlloc,
  laterFence,
  waitAnyTimeout,
  type WaitedForAny,
} from './fence/fence-waits.ts';
export { SW_SYNC_PATH, swSyncInit } from './fence/sw-sync.ts';
export { type Descriptor, type DescriptorOptions, FD_MAX, FdTable } from './vfs/fd-table.ts';
export { type FileOperations, type FileStat, KernelFile, type OpenMode } from './vfs/file.ts';
export { Kernel, type KernelOptions } from './kernel.ts';
export {
  ACS_REDIRECT_MASK,
  type P2pFacts,
  type P2pMapType,
  type P2pReason,
  type P2pRoute,
  p2pDistance,
  p2pFactsAtBoot,
  p2pRoute,
} from './p2pdma/p2pdma.ts';
export { explainRoute, type P2pAdvice, type P2pExplanation } from './p2pdma/p2pdma-advice.ts';
export {
  type BridgeVerdict,
  cpuSupportsP2pdma,
  hostBridgeDevice,
  hostBridgesAllow,
} from './p2pdma/p2pdma-host-bridges.ts';
export { P2pdma, type P2pProvider, pciP2pdmaBusAddrMap } from './p2pdma/p2pdma-provider.ts';
export { Process, type ProcessOptions, type UserPages } from './user/process.ts';
export type { SgEntry, SgTable } from './dma/scatterlist.ts';
export { type Work, WorkQueue } from './work-queue.ts';
export {
  isPageList,
  type PageList,
  pageList,
  type PageRange,
  pagesOf,
  type PeerMemory,
  sgAllocTableFromPages,
  sizeOfPages,
} from './dma/page-list.ts';
export { IosysMap } from './dma-buf/iosys-map.ts';
export { AddressSpace } from './user/address-space.ts';
export { type PageEntry, Vma, type VmaRequest, type VmOperations } from './user/vma.ts';
export { type DeviceNode, DeviceNodes } from './vfs/device-nodes.ts';
export { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, PollTable } from './vfs/poll-table.ts';
export { waitForAny, type WaitEntry, WaitQueue } from './vfs/wait-queue.ts';
export type { DmaAttrs } from './dma/dma-attrs.ts';
export {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from './dma/dma-sgtable.ts';
export { MappedSgTable } from './dma/mapped-sgtable.ts';
export { BUFINFO_PATH, bufinfo, BufinfoNode } from './dma-buf/bufinfo.ts';
export { BufferList } from './dma-buf/buffer-list.ts';
export { KernelModule } from './kernel-module.ts';
export {
  CoherentMemory,
  type CoherentOrigin,
  declareCoherentMemory,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaGetSgtableUnchecked,
  dmaMmapCoherent,
  reserveContiguousArea,
  reserveMemory,
} from './dma/dma-coherent.ts';
export { dmaMapCoherent, dmaUnmapCoherent } from './dma/dma-map-coherent.ts';
export {
  type MmapRequest,
  MSG,
  type PollRequest,
  type ReceivedMessage,
  type Sys,
} from './user/sys.ts';
export { ModelSys } from './user/model-sys.ts';
export { userPointer } from './user/user-copy.ts';
export { Memfd } from './vfs/memfd.ts';
export { MemfdFile, memfdCreate, memfdOf } from './vfs/memfd-file.ts';
export { UnixSocket } from './vfs/unix-socket.ts';
export {
  DEVICE_ADDRESSES,
  type DeviceBacking,
  mapAs,
  mapByDescription,
  type MappingKind,
  offer,
  type Offer,
  unmapAs,
} from './dma-buf/mapping-kind.ts';
export {
  PHYSICAL_WINDOW,
  PhysicalWindow,
  type RevocableBacking,
} from './dma-buf/physical-window.ts';
