/** `peerbuf/framework`: Linux's dma-buf and what it rests on in the kernel. */

export { Attachment } from './attachment.ts';
export { type AttachOps, DmaBuf, type DmaBufExportInfo, type DmaBufOps } from './dma-buf.ts';
export {
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  ENTRY_SIZE_MAX,
  type PhysVec,
} from './dma-buf-mapping.ts';
export { DmaFence, type FenceCallback, type FenceOrigin } from './dma-fence.ts';
export {
  type DmaIova,
  dmaIovaDestroy,
  dmaIovaMap,
  dmaMapPhys,
  dmaSyncForCpu,
  dmaSyncForDevice,
  dmaUnmapPhys,
  type MappedKind,
} from './dma-mapping.ts';
export { DmaResv, type DmaResvUsage } from './dma-resv.ts';
export { FD_MAX, FdTable } from './fd-table.ts';
export { type FileOperations, KernelFile } from './file.ts';
export { Kernel } from './kernel.ts';
export {
  ACS_REDIRECT_MASK,
  type P2pFacts,
  type P2pMapType,
  type P2pReason,
  type P2pRoute,
  p2pDistance,
  p2pFactsAtBoot,
  p2pRoute,
} from './p2pdma.ts';
export { explainRoute, type P2pAdvice, type P2pExplanation } from './p2pdma-advice.ts';
export {
  type BridgeVerdict,
  cpuSupportsP2pdma,
  hostBridgeDevice,
  hostBridgesAllow,
} from './p2pdma-host-bridges.ts';
export { P2pdma, type P2pProvider, pciP2pdmaBusAddrMap } from './p2pdma-provider.ts';
export { Process, type UserPages } from './process.ts';
export type { SgEntry, SgTable } from './scatterlist.ts';
export { type Work, WorkQueue } from './work-queue.ts';
