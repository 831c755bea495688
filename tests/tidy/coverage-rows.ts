/**
 * The rows of the reference that the model must answer for: behaviour vectors, sections with their
 * error rows, demands of the threads, acceptance criteria. Where a row is left out, it says why.
 */

/** One row of the reference. */
export interface CoverageRow {
  /** What the names of its tests carry: `N14`, `B.6`, `S002-3`. */
  readonly id: string;
  readonly what: string;
  /** Why there is no test; absent: there must be one. */
  readonly leftOut?: string;
}

const VECTORS: readonly string[] = [
  'lseek of a dma-buf',
  'read and write of a dma-buf',
  'a name of 31 and of 32 characters',
  'an empty name in fdinfo',
  'flags of SYNC',
  'SYNC END without START',
  'an unknown ioctl',
  'flags of EXPORT_SYNC_FILE',
  'EXPORT_SYNC_FILE of an idle buffer',
  'IMPORT_SYNC_FILE of no sync_file',
  'poll with a pending READ fence',
  'poll with a pending WRITE fence',
  'closing while a poll callback is pending',
  'arguments of SYNC_IOC_MERGE',
  'num_fences of SYNC_IOC_FILE_INFO',
  'files and seals for UDMABUF_CREATE',
  'size limit of udmabuf',
  'counts for UDMABUF_CREATE_LIST',
  'mmap of a udmabuf',
  'arguments of DMA_HEAP_IOCTL_ALLOC',
  'a read-only heap buffer mapped for writing',
  'PRIME export twice',
  'PRIME import twice',
  'PRIME self-import',
  'flags of PRIME_HANDLE_TO_FD',
  'MAP_DUMB of an imported object, CREATE_DUMB on a render node',
  'vgem fences',
  'EXPBUF twice',
  'QBUF of a scattered buffer on a contiguous queue',
  'static importers at VFIO and uverbs',
  'an importer that cannot give memory back at VFIO',
  'VFIO map with memory decoding off and on',
  'VFIO map without a route',
  'habanalabs without peer-to-peer',
  'attach without a device',
  'two maps of a static importer at a dynamic exporter',
  'map of a dynamic importer with a KERNEL fence pending',
  'an interrupted map of a static importer',
  'a pair below one switch',
  'two root ports',
  '8086:2f00 host bridges',
];

const SECTIONS: readonly (readonly [string, string])[] = [
  ['A.3', 'export: checks in order'],
  ['A.4', 'descriptors and references'],
  ['A.5', 'release, step by step'],
  ['A.6', 'try-get'],
  ['A.7', 'names'],
  ['A.8', 'file operations'],
  ['A.9', 'poll'],
  ['A.10', 'ioctl dispatch'],
  ['A.11', 'fdinfo and bufinfo'],
  ['A.12', 'attach and detach'],
  ['A.13', 'pin and unpin'],
  ['A.14', 'map and unmap'],
  ['A.15', 'CPU access, mmap, vmap'],
  ['A.16', 'sync_file import and export'],
  ['A.17', 'invalidation'],
  ['A.18', 'locking'],
  ['B.1', 'dma_fence'],
  ['B.2', 'dma_resv'],
  ['B.4', 'ww acquire contexts'],
  ['B.5', 'arrays, chains, merge'],
  ['B.6', 'sync_file and sw_sync'],
  ['C.1', 'scatterlists'],
  ['C.2', 'dma_map_sgtable'],
  ['C.3', 'dma_map_phys, dma_map_resource'],
  ['C.4', 'I/O address blocks'],
  ['C.6', 'phys_vec'],
  ['D.3', 'distance and map type'],
  ['D.4', 'CPU and host bridges'],
  ['E.1', 'vfio-pci'],
  ['E.2', 'udmabuf'],
  ['E.3', 'dma-heaps'],
  ['E.4', 'vgem'],
  ['E.5', 'DRM PRIME'],
  ['E.9', 'videobuf2'],
  ['F.1', 'ib_umem_dmabuf'],
  ['F.2', 'iommufd'],
  ['F.4', 'gntdev'],
  ['G.2', 'ioctl numbers'],
  ['G.3', 'struct layouts'],
  ['G.4', 'memfd seals'],
  ['I.3', 'coherent pools'],
  ['I.4', 'dma_get_sgtable'],
  ['I.5', 'sync on non-coherent devices'],
  ['I.6', 'bounce buffers'],
];

const VENDOR = 'a vendor driver; only what the core and PRIME show of it is modelled';

/** Rows that are not tested, with the reason. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  N34: 'habanalabs is a vendor driver that is not modelled; VFIO shows such a refusal',
};

function numbered(prefix: string, from: number, to: number, what: string): CoverageRow[] {
  return Array.from({ length: to - from + 1 }, (_, i) => row(`${prefix}${from + i}`, what));
}

function row(id: string, what: string): CoverageRow {
  const leftOut = LEFT_OUT[id];
  return leftOut === undefined ? { id, what } : { id, what, leftOut };
}

/** All rows, in the order of the reference. */
export const COVERAGE_ROWS: readonly CoverageRow[] = [
  ...VECTORS.map((what, i) => row(`N${i + 1}`, what)),
  ...SECTIONS.map(([id, what]) => row(id, what)),
  { id: 'E.6', what: 'amdgpu, xe, i915', leftOut: VENDOR },
  { id: 'E.7', what: 'habanalabs', leftOut: VENDOR },
  { id: 'E.8', what: 'uverbs exporter', leftOut: 'VFIO shows the same attach, map and revoke' },
  ...numbered('S000-', 1, 20, 'thread S000: devices without real DMA'),
  ...numbered('S002-', 1, 23, 'thread S002: memory without pages'),
  ...numbered('S003-', 1, 17, 'thread S003: try-get and VFIO'),
  ...['AC-16', 'AC-17', 'AC-18', 'AC-19', 'AC-22', 'AC-23'].map((id) =>
    row(id, 'acceptance criterion'),
  ),
];
