/** What programs may ask of each kind of file, for tests that ask for what makes no sense. */

import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  DRM_IOCTL,
  GNTDEV_DMABUF,
  IOMMU_IOCTL,
  O,
  PROBE_EXPORT,
  PROBE_IOCTL,
  SW_SYNC_IOC,
  SYNC_IOC,
  UDMABUF_IOCTL,
  VFIO_DEVICE_FEATURE,
  VFIO_IOCTL,
  VIDIOC,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
  dmaBufSync,
  dmaHeapAllocationData,
  drmGemClose,
  drmGetCap,
  drmModeCreateDumb,
  drmModeDestroyDumb,
  drmModeMapDumb,
  drmPrimeHandle,
  drmSyncobjCreate,
  drmSyncobjDestroy,
  drmSyncobjHandle,
  drmVersion,
  drmVgemFenceAttach,
  drmVgemFenceSignal,
  gntdevDmabufExpFromRefs,
  gntdevDmabufExpWaitReleased,
  gntdevDmabufImpRelease,
  gntdevDmabufImpToRefs,
  iommuIoasMapFile,
  joinBytes,
  probeAttach,
  probeExport,
  probeFenceAdd,
  probeId,
  probeImport,
  swSyncCreateFenceData,
  swSyncGetDeadline,
  swSyncInc,
  syncFileInfo,
  syncMergeData,
  syncSetDeadline,
  udmabufCreate,
  udmabufCreateItem,
  udmabufCreateList,
  v4l2Buffer,
  v4l2CreateBuffers,
  v4l2Exportbuffer,
  v4l2Requestbuffers,
  vfioDeviceFeature,
  vfioDeviceFeatureDmaBuf,
  vfioRegionDmaRange,
} from '../../src/base/index.ts';
import {
  IOMMUFD_IOCTL,
  iommuDestroy,
  iommuIoasAlloc,
  iommuIoasUnmap,
  VFIO_FEATURE,
} from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { IMPORTER, NODES, OTHER } from './every-driver-rig.ts';
import type { Program } from './failure-program.ts';

/** A kind of file that is asked, and what it may be asked for. */
export interface Target {
  readonly requests: Readonly<Record<string, number>>;
  readonly open: (program: Program, files: Files) => Task<number>;
  /** Calls that make sense. */
  readonly seeds: (files: Files) => readonly Seed[];
}

/** A request and its argument. */
export type Seed = readonly [number, Uint8Array];

/** One of each kind of file that a program may name, and memory of its own. */
export interface Files {
  readonly heap: number;
  readonly sync: number;
  readonly memfd: number;
  /** A VFIO device, and a buffer of its memory. */
  readonly device: number;
  readonly vfio: number;
  readonly all: readonly number[];
  readonly at: number;
}

function node(
  path: string,
  requests: Readonly<Record<string, number>>,
  seeds: (files: Files) => readonly Seed[],
): Target {
  return { requests, open: (program) => program.open(path, O.RDWR | O.NONBLOCK), seeds };
}

function bufferSeeds({ sync }: Files): readonly Seed[] {
  return [
    [DMA_BUF_IOCTL.SYNC, dmaBufSync.encode({ flags: 3n })],
    [DMA_BUF_IOCTL.SYNC, dmaBufSync.encode({ flags: 7n })],
    [DMA_BUF_IOCTL.EXPORT_SYNC_FILE, dmaBufExportSyncFile.encode({ flags: 3 })],
    [DMA_BUF_IOCTL.IMPORT_SYNC_FILE, dmaBufImportSyncFile.encode({ flags: 3, fd: sync })],
    [DMA_BUF_IOCTL.SET_NAME_B, Uint8Array.of(65, 0)],
  ];
}

function syncSeeds({ sync, at }: Files): readonly Seed[] {
  const syncFenceInfo = BigInt(at);
  return [
    [SYNC_IOC.MERGE, syncMergeData.encode({ name: 'm', fd2: sync })],
    [SYNC_IOC.FILE_INFO, syncFileInfo.encode({})],
    [SYNC_IOC.FILE_INFO, syncFileInfo.encode({ numFences: 1, syncFenceInfo })],
    [SYNC_IOC.SET_DEADLINE, syncSetDeadline.encode({ deadlineNs: 5n })],
  ];
}

function timelineSeeds({ sync }: Files): readonly Seed[] {
  return [
    [SW_SYNC_IOC.CREATE_FENCE, swSyncCreateFenceData.encode({ value: 2, name: 'p' })],
    [SW_SYNC_IOC.INC, swSyncInc.encode({ value: 1 })],
    [SW_SYNC_IOC.GET_DEADLINE, swSyncGetDeadline.encode({ fenceFd: sync })],
    [SW_SYNC_IOC.GET_DEADLINE, swSyncGetDeadline.encode({ fenceFd: sync + 12 })],
  ];
}

function heapSeeds(): readonly Seed[] {
  const asked = { len: 4096n, fdFlags: O.RDWR | O.CLOEXEC };
  return [[DMA_HEAP_IOCTL.ALLOC, dmaHeapAllocationData.encode(asked)]];
}

function udmabufSeeds({ memfd }: Files): readonly Seed[] {
  const item = udmabufCreateItem.encode({ memfd, size: 4096n });
  const list = udmabufCreateList.encode({ count: 2 });
  return [
    [UDMABUF_IOCTL.CREATE, udmabufCreate.encode({ memfd, flags: 1, size: 8192n })],
    [UDMABUF_IOCTL.CREATE_LIST, joinBytes(list, item, item)],
  ];
}

function drmSeeds({ heap, sync, at }: Files): readonly Seed[] {
  const dumb = { width: 64, height: 32, bpp: 32 };
  const [handle, text] = [1, BigInt(at + 512)];
  return [
    [DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb.encode(dumb)],
    [DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb.encode(dumb)],
    [DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb.encode({ handle })],
    [DRM_IOCTL.MODE_DESTROY_DUMB, drmModeDestroyDumb.encode({ handle })],
    [DRM_IOCTL.PRIME_HANDLE_TO_FD, drmPrimeHandle.encode({ handle, flags: O.RDWR })],
    [DRM_IOCTL.PRIME_FD_TO_HANDLE, drmPrimeHandle.encode({ fd: heap })],
    [DRM_IOCTL.GEM_CLOSE, drmGemClose.encode({ handle })],
    [DRM_IOCTL.GET_CAP, drmGetCap.encode({ capability: 5n })],
    [DRM_IOCTL.VERSION, drmVersion.encode({ name: text, nameLen: 9n })],
    [DRM_IOCTL.SYNCOBJ_CREATE, drmSyncobjCreate.encode({ flags: 1 })],
    [DRM_IOCTL.SYNCOBJ_DESTROY, drmSyncobjDestroy.encode({ handle })],
    [DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD, drmSyncobjHandle.encode({ handle, flags: 1 })],
    [DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE, drmSyncobjHandle.encode({ handle, flags: 1, fd: sync })],
    [DRM_IOCTL.VGEM_FENCE_ATTACH, drmVgemFenceAttach.encode({ handle, flags: 1 })],
    [DRM_IOCTL.VGEM_FENCE_SIGNAL, drmVgemFenceSignal.encode({ fence: 1 })],
  ];
}

function videoSeeds(type: number): (files: Files) => readonly Seed[] {
  const pix = { width: 1, height: 1, pixelformat: 0, field: 0, bytesperline: 0, sizeimage: 9999 };
  return ({ heap }) => {
    const imported = { type, memory: 4, m: { fd: heap }, bytesused: 10 };
    const own = { type, memory: 1, bytesused: 10 };
    const format = { type, fmt: { pix } };
    return [
      [VIDIOC.REQBUFS, v4l2Requestbuffers.encode({ type, memory: 1, count: 2 })],
      [VIDIOC.REQBUFS, v4l2Requestbuffers.encode({ type, memory: 4, count: 2 })],
      [VIDIOC.CREATE_BUFS, v4l2CreateBuffers.encode({ memory: 1, count: 1, format })],
      [VIDIOC.QUERYBUF, v4l2Buffer.encode(own)],
      [VIDIOC.QBUF, v4l2Buffer.encode(own)],
      [VIDIOC.QBUF, v4l2Buffer.encode(imported)],
      [VIDIOC.PREPARE_BUF, v4l2Buffer.encode(imported)],
      [VIDIOC.DQBUF, v4l2Buffer.encode(own)],
      [VIDIOC.DQBUF, v4l2Buffer.encode(imported)],
      [VIDIOC.EXPBUF, v4l2Exportbuffer.encode({ type, flags: O.RDWR })],
      [VIDIOC.STREAMON, swSyncInc.encode({ value: type })],
      [VIDIOC.STREAMOFF, swSyncInc.encode({ value: type })],
    ];
  };
}

function vfioSeeds(): readonly Seed[] {
  const { GET, SET, PROBE, DMA_BUF } = VFIO_DEVICE_FEATURE;
  const feature = (flags: number, argsz: number): Uint8Array => {
    return vfioDeviceFeature.encode({ argsz, flags });
  };
  const asked = { regionIndex: 2, openFlags: O.RDWR, nrRanges: 1 };
  const range = vfioRegionDmaRange.encode({ length: 4096n });
  const buffer = joinBytes(
    feature(GET | DMA_BUF, 40),
    vfioDeviceFeatureDmaBuf.encode(asked),
    range,
    range,
  );
  return [
    [VFIO_IOCTL.DEVICE_FEATURE, buffer],
    [VFIO_IOCTL.DEVICE_FEATURE, buffer],
    [VFIO_IOCTL.DEVICE_FEATURE, feature(GET | PROBE | DMA_BUF, 8)],
    [VFIO_IOCTL.DEVICE_FEATURE, feature(SET | (VFIO_FEATURE.LOW_POWER_ENTRY ?? 3), 16)],
    [VFIO_IOCTL.DEVICE_FEATURE, feature(SET | (VFIO_FEATURE.LOW_POWER_EXIT ?? 5), 8)],
    [VFIO_IOCTL.DEVICE_RESET, new Uint8Array(8)],
  ];
}

function iommuSeeds({ vfio: fd }: Files): readonly Seed[] {
  const map = { size: iommuIoasMapFile.size, flags: 6, ioasId: 1, fd, length: 4096n };
  const fixed = { ...map, flags: 7, iova: 0x10_0000n };
  const gone = { size: iommuIoasUnmap.size, ioasId: 1, iova: 0x10_0000n, length: 4096n };
  return [
    [IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc.encode({ size: iommuIoasAlloc.size })],
    [IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc.encode({ size: iommuIoasAlloc.size })],
    [IOMMU_IOCTL.IOAS_MAP_FILE, iommuIoasMapFile.encode(map)],
    [IOMMU_IOCTL.IOAS_MAP_FILE, iommuIoasMapFile.encode(fixed)],
    [IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap.encode(gone)],
    [IOMMUFD_IOCTL.DESTROY, iommuDestroy.encode({ size: iommuDestroy.size, id: 1 })],
  ];
}

function gntdevSeeds({ heap: fd }: Files): readonly Seed[] {
  const second = swSyncInc.encode({ value: 2 });
  const lent = gntdevDmabufExpFromRefs.encode({ count: 2, domid: OTHER, refs: [1] });
  const waited = gntdevDmabufExpWaitReleased.encode({ fd: fd + 12, waitToMs: 3 });
  return [
    [GNTDEV_DMABUF.EXP_FROM_REFS, joinBytes(lent, second)],
    [GNTDEV_DMABUF.EXP_WAIT_RELEASED, waited],
    [GNTDEV_DMABUF.IMP_TO_REFS, gntdevDmabufImpToRefs.encode({ fd, count: 2, domid: OTHER })],
    [GNTDEV_DMABUF.IMP_RELEASE, gntdevDmabufImpRelease.encode({ fd })],
  ];
}

/** No maps: the probe may map twice, which a heap's attachments do not stand; that is its task. */
function probeSeeds({ heap: fd }: Files): readonly Seed[] {
  return [
    [PROBE_IOCTL.EXPORT, probeExport.encode({ pages: 1, flags: PROBE_EXPORT.DYNAMIC })],
    [PROBE_IOCTL.IMPORT, probeImport.encode({ fd })],
    [PROBE_IOCTL.ATTACH, probeAttach.encode({ import: 1, device: IMPORTER })],
    [PROBE_IOCTL.FENCE_ADD, probeFenceAdd.encode({ import: 1 })],
    [PROBE_IOCTL.UNMAP, probeId.encode({ id: 3 })],
    [PROBE_IOCTL.DETACH, probeId.encode({ id: 2 })],
    [PROBE_IOCTL.PUT, probeId.encode({ id: 1 })],
  ];
}

const IOMMU = { ...IOMMUFD_IOCTL, ...IOMMU_IOCTL };

export const TARGETS: Readonly<Record<string, Target>> = {
  'a dma-buf of a heap': {
    requests: DMA_BUF_IOCTL,
    open: (program) => program.heap(),
    seeds: bufferSeeds,
  },
  'a dma-buf of a VFIO device': {
    requests: DMA_BUF_IOCTL,
    open: function* (program, { device }) {
      return yield* program.vfioExport(device);
    },
    seeds: bufferSeeds,
  },
  'a sync file': {
    requests: SYNC_IOC,
    open: function* (program) {
      return yield* program.exportSync(yield* program.heap());
    },
    seeds: syncSeeds,
  },
  'a timeline': node(NODES.swSync, SW_SYNC_IOC, timelineSeeds),
  'a heap': node(NODES.heap, DMA_HEAP_IOCTL, heapSeeds),
  'the heap of contiguous memory': node(NODES.contiguous, DMA_HEAP_IOCTL, heapSeeds),
  udmabuf: node(NODES.udmabuf, UDMABUF_IOCTL, udmabufSeeds),
  vgem: node(NODES.card, DRM_IOCTL, drmSeeds),
  'a display': node(NODES.display, DRM_IOCTL, drmSeeds),
  'a render node': node(NODES.render, DRM_IOCTL, drmSeeds),
  'a camera': node(NODES.camera, VIDIOC, videoSeeds(1)),
  'a scattering camera': node(NODES.scattered, VIDIOC, videoSeeds(1)),
  'a camera without DMA': node(NODES.virtual, VIDIOC, videoSeeds(1)),
  'a screen': node(NODES.screen, VIDIOC, videoSeeds(2)),
  'a VFIO device': {
    requests: VFIO_IOCTL,
    // It is open once at a time.
    open: (program, { device }) => program.sys.dup(device),
    seeds: vfioSeeds,
  },
  iommufd: node(NODES.iommu, IOMMU, iommuSeeds),
  'the probe': node(NODES.probe, PROBE_IOCTL, probeSeeds),
  gntdev: node(NODES.gntdev, GNTDEV_DMABUF, gntdevSeeds),
};
