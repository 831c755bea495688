/** What programs do with buffers, for tests in which something goes wrong on the way. */

import {
  DRM_IOCTL,
  drmModeCreateDumb,
  drmModeMapDumb,
  drmPrimeHandle,
  drmSyncobjCreate,
  drmSyncobjHandle,
  F,
  F_SEAL,
  GNTDEV_DMABUF,
  gntdevDmabufExpFromRefs,
  gntdevDmabufImpRelease,
  gntdevDmabufImpToRefs,
  IOMMU_IOAS_MAP,
  IOMMU_IOCTL,
  iommuIoasMapFile,
  MAP,
  MFD,
  O,
  PROBE_ATTACH,
  PROBE_EXPORT,
  PROBE_IOCTL,
  probeExport,
  probeMap,
  PROT,
  struct,
  SW_SYNC_IOC,
  swSyncCreateFenceData,
  swSyncInc,
  SYNC_IOC,
  syncMergeData,
  u32,
  UDMABUF_IOCTL,
  udmabufCreate,
  V4L2_BUF_TYPE,
  V4L2_MEMORY,
  v4l2Buffer,
  v4l2Exportbuffer,
  v4l2Requestbuffers,
  VFIO_IOCTL,
  VIDIOC,
} from '../../src/base/index.ts';
import {
  IOMMUFD_IOCTL,
  iommuDestroy,
  iommuIoasAlloc,
  iommuIoasUnmap,
} from '../../src/drivers/index.ts';
import { POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { NODES, OTHER, SIZE } from './every-driver-rig.ts';
import type { Program } from './failure-program.ts';

/** An importer that can follow an exporter. */
export const DYNAMIC = PROBE_ATTACH.DYNAMIC | PROBE_ATTACH.PEER2PEER | PROBE_ATTACH.INVALIDATE;

const { VIDEO_CAPTURE: CAPTURE, VIDEO_OUTPUT: OUTPUT } = V4L2_BUF_TYPE;
const { MMAP, DMABUF } = V4L2_MEMORY;
const typeArgument = struct<{ readonly type: number }>({ type: u32 });

/** A camera and a screen: what the first paints, the second shows. */
function* cameraToScreen(program: Program, path: string): Task {
  const camera = yield* program.open(path);
  const wanted = { type: CAPTURE, memory: MMAP, count: 2 };
  yield* program.call(camera, VIDIOC.REQBUFS, v4l2Requestbuffers, wanted);
  const asked = { type: CAPTURE, index: 0, flags: O.RDWR };
  const { fd } = yield* program.call(camera, VIDIOC.EXPBUF, v4l2Exportbuffer, asked);
  yield* stream(program, camera, { type: CAPTURE, memory: MMAP });
  const screen = yield* program.open(NODES.screen);
  const other = { type: OUTPUT, memory: DMABUF, count: 2 };
  yield* program.call(screen, VIDIOC.REQBUFS, v4l2Requestbuffers, other);
  const given = { type: OUTPUT, memory: DMABUF, m: { fd } };
  yield* program.call(screen, VIDIOC.PREPARE_BUF, v4l2Buffer, given);
  yield* stream(program, screen, { ...given, bytesused: SIZE - 100 });
  yield* program.sys.close(camera);
}

function* stream(
  program: Program,
  video: number,
  buffer: { readonly type: number; memory: number; m?: { fd: number }; bytesused?: number },
): Task {
  const { type, memory } = buffer;
  yield* program.call(video, VIDIOC.QBUF, v4l2Buffer, buffer);
  yield* program.call(video, VIDIOC.STREAMON, typeArgument, { type });
  yield* program.call(video, VIDIOC.DQBUF, v4l2Buffer, { type, memory });
}

/** A dumb buffer as a descriptor. */
function* dumb(program: Program, path: string): Task<{ handle: number; fd: number }> {
  const card = yield* program.open(path);
  const size = { width: 64, height: 32, bpp: 32 };
  const made = yield* program.call(card, DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, size);
  const { handle } = made;
  yield* program.call(card, DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb, { handle });
  const asked = { handle, flags: O.RDWR };
  const { fd } = yield* program.call(card, DRM_IOCTL.PRIME_HANDLE_TO_FD, drmPrimeHandle, asked);
  return { handle, fd };
}

function* sealedMemfd({ sys }: Program): Task<number> {
  const memfd = yield* sys.memfdCreate('pages', MFD.ALLOW_SEALING);
  yield* sys.ftruncate(memfd, SIZE);
  yield* sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.SHRINK);
  return memfd;
}

/** A sync file of a timeline's point. */
function* point(program: Program, timeline: number, value: number): Task<number> {
  const asked = { value, name: `point ${value}` };
  const request = SW_SYNC_IOC.CREATE_FENCE;
  return (yield* program.call(timeline, request, swSyncCreateFenceData, asked)).fence;
}

type Body = (program: Program) => Task;

const BUFFERS: Readonly<Record<string, Body>> = {
  *'a heap buffer, imported statically'(program): Task {
    const fd = yield* program.heap();
    yield* program.use(fd);
    yield* program.import(fd, 0);
  },
  *'a contiguous heap buffer, imported dynamically'(program): Task {
    const fd = yield* program.heap(NODES.contiguous);
    yield* program.use(fd);
    yield* program.import(fd, DYNAMIC);
  },
  *'a udmabuf'(program): Task {
    const memfd = yield* sealedMemfd(program);
    const driver = yield* program.open(NODES.udmabuf);
    const asked = { memfd, size: BigInt(SIZE) };
    const made = yield* program.call(driver, UDMABUF_IOCTL.CREATE, udmabufCreate, asked);
    yield* program.use(made.result);
    yield* program.import(made.result, 0);
  },
  *'a buffer of the probe, exported dynamically'(program): Task {
    const probe = yield* program.open(NODES.probe);
    const asked = { pages: 2, flags: PROBE_EXPORT.DYNAMIC };
    const { fd } = yield* program.call(probe, PROBE_IOCTL.EXPORT, probeExport, asked);
    yield* program.import(fd, 0);
  },
};

const VIDEO: Readonly<Record<string, Body>> = {
  *'a picture from vgem to a display'(program): Task {
    const { fd } = yield* dumb(program, NODES.card);
    const other = yield* program.open(NODES.display);
    yield* program.call(other, DRM_IOCTL.PRIME_FD_TO_HANDLE, drmPrimeHandle, { fd });
  },
  *'a picture from a display to a screen'(program): Task {
    const { fd } = yield* dumb(program, NODES.display);
    yield* program.use(fd);
    const screen = yield* program.open(NODES.screen);
    const wanted = { type: OUTPUT, memory: DMABUF, count: 1 };
    yield* program.call(screen, VIDIOC.REQBUFS, v4l2Requestbuffers, wanted);
    yield* stream(program, screen, { type: OUTPUT, memory: DMABUF, m: { fd } });
  },
  *'a picture from a contiguous camera'(program): Task {
    yield* cameraToScreen(program, NODES.camera);
  },
  *'a picture from a scattering camera'(program): Task {
    yield* cameraToScreen(program, NODES.scattered);
  },
  *'a picture from a camera without DMA'(program): Task {
    yield* cameraToScreen(program, NODES.virtual);
  },
  *'a heap buffer that a camera fills'(program): Task {
    const fd = yield* program.heap();
    for (const path of [NODES.camera, NODES.scattered, NODES.virtual]) {
      const camera = yield* program.open(path);
      const wanted = { type: CAPTURE, memory: DMABUF, count: 1 };
      yield* program.call(camera, VIDIOC.REQBUFS, v4l2Requestbuffers, wanted);
      yield* stream(program, camera, { type: CAPTURE, memory: DMABUF, m: { fd } });
    }
  },
  *'pictures that are read and mapped'(program): Task {
    const { sys } = program;
    const camera = yield* program.open(NODES.camera);
    yield* sys.read(camera, yield* sys.alloc(SIZE), SIZE);
    yield* sys.close(camera);
    const again = yield* program.open(NODES.scattered);
    const wanted = { type: CAPTURE, memory: MMAP, count: 1 };
    yield* program.call(again, VIDIOC.REQBUFS, v4l2Requestbuffers, wanted);
    const prot = PROT.READ | PROT.WRITE;
    const request = { length: SIZE, prot, flags: MAP.SHARED, fd: again, offset: 0 };
    yield* sys.store(yield* sys.mmap(request), Uint8Array.of(1));
  },
};

const OWNERS: Readonly<Record<string, Body>> = {
  *'memory of a VFIO device, imported and taken back'(program): Task {
    const { device, fd } = yield* program.vfio();
    const { probe, attachment } = yield* program.attach(fd, DYNAMIC | PROBE_ATTACH.UNMAP_AT_ONCE);
    yield* program.call(probe, PROBE_IOCTL.MAP, probeMap, { attachment });
    yield* program.sys.ioctl(device, VFIO_IOCTL.DEVICE_RESET, 0);
    yield* program.call(probe, PROBE_IOCTL.MAP, probeMap, { attachment });
    yield* program.vfioExport(device);
    yield* program.sys.close(device);
  },
  *'memory of a VFIO device in an I/O address space'(program): Task {
    const { device, fd } = yield* program.vfio();
    const iommu = yield* program.open(NODES.iommu);
    const { size } = iommuIoasAlloc;
    const ioas = yield* program.call(iommu, IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc, { size });
    const asked = {
      size: iommuIoasMapFile.size,
      flags: IOMMU_IOAS_MAP.READABLE | IOMMU_IOAS_MAP.WRITEABLE,
      ioasId: ioas.outIoasId,
      fd,
      length: BigInt(SIZE),
    };
    const request = IOMMU_IOCTL.IOAS_MAP_FILE;
    const { iova } = yield* program.call(iommu, request, iommuIoasMapFile, asked);
    yield* program.call(iommu, request, iommuIoasMapFile, asked);
    yield* program.call(iommu, IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap, {
      size: iommuIoasUnmap.size,
      ioasId: ioas.outIoasId,
      iova,
      length: BigInt(SIZE),
    });
    yield* program.sys.ioctl(device, VFIO_IOCTL.DEVICE_RESET, 0);
    const gone = { size: iommuDestroy.size, id: ioas.outIoasId };
    yield* program.call(iommu, IOMMUFD_IOCTL.DESTROY, iommuDestroy, gone);
  },
  *'pages of another guest'(program): Task {
    const gntdev = yield* program.open(NODES.gntdev);
    const head = gntdevDmabufExpFromRefs.encode({ count: 2, domid: OTHER, refs: [1] });
    const second = typeArgument.encode({ type: 2 });
    yield* program.raw(gntdev, GNTDEV_DMABUF.EXP_FROM_REFS, head, second);
    const told = yield* program.sys.load(yield* program.scratch(), head.length);
    const { fd } = gntdevDmabufExpFromRefs.decode(told);
    const { probe, attachment } = yield* program.attach(fd, 0);
    yield* program.call(probe, PROBE_IOCTL.MAP, probeMap, { attachment });
  },
  *'a buffer lent to another guest'(program): Task {
    const fd = yield* program.heap();
    const gntdev = yield* program.open(NODES.gntdev);
    const asked = { fd, count: 2, domid: OTHER };
    yield* program.call(gntdev, GNTDEV_DMABUF.IMP_TO_REFS, gntdevDmabufImpToRefs, asked);
    yield* program.call(gntdev, GNTDEV_DMABUF.IMP_RELEASE, gntdevDmabufImpRelease, { fd });
    yield* program.call(gntdev, GNTDEV_DMABUF.IMP_TO_REFS, gntdevDmabufImpToRefs, asked);
  },
};

const FENCES: Readonly<Record<string, Body>> = {
  *'a sync object between two files'(program): Task {
    const fd = yield* program.heap();
    const sync = yield* program.exportSync(fd);
    const [card, other] = [yield* program.open(NODES.display), yield* program.open(NODES.display)];
    const { handle } = yield* program.call(card, DRM_IOCTL.SYNCOBJ_CREATE, drmSyncobjCreate, {});
    const filled = { handle, flags: 1, fd: sync };
    yield* program.call(card, DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE, drmSyncobjHandle, filled);
    const toFd = DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD;
    const { fd: shared } = yield* program.call(card, toFd, drmSyncobjHandle, { handle });
    const given = { fd: shared };
    yield* program.call(other, DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE, drmSyncobjHandle, given);
    const { fd: out } = yield* program.call(card, toFd, drmSyncobjHandle, { handle, flags: 1 });
    yield* program.importSync(fd, out);
  },
  *'points of a timeline on a buffer'(program): Task {
    const { sys } = program;
    const fd = yield* program.heap();
    const timeline = yield* program.open(NODES.swSync);
    const [one, two] = [yield* point(program, timeline, 1), yield* point(program, timeline, 2)];
    const asked = { name: 'both', fd2: two };
    const merged = yield* program.call(one, SYNC_IOC.MERGE, syncMergeData, asked);
    yield* program.importSync(fd, merged.fence);
    yield* program.exportSync(fd);
    const looked = [
      { fd, events: POLLIN | POLLOUT },
      { fd: two, events: POLLIN },
    ];
    yield* sys.poll(looked, 0);
    yield* program.call(timeline, SW_SYNC_IOC.INC, swSyncInc, { value: 2 });
    yield* sys.poll(looked, -1);
    yield* sys.close(timeline);
  },
  *'a timeline that ends before its points'(program): Task {
    const fd = yield* program.heap();
    const timeline = yield* program.open(NODES.swSync);
    yield* program.importSync(fd, yield* point(program, timeline, 5));
    yield* program.sys.poll([{ fd, events: POLLOUT }], 0);
    yield* program.sys.close(timeline);
  },
};

const PROCESSES: Readonly<Record<string, Body>> = {
  *'a buffer sent to oneself, and one that nobody receives'(program): Task {
    const { sys } = program;
    const fd = yield* program.heap();
    const [here, there] = yield* sys.socketpair();
    yield* sys.sendmsg(here, Uint8Array.of(1), [fd]);
    yield* sys.sendmsg(here, Uint8Array.of(2), [fd, fd]);
    yield* sys.close(fd);
    const { fds } = yield* sys.recvmsg(there, 1, 1);
    yield* program.use(fds[0] ?? -1);
  },
  *'a buffer in a child, mapped and sent back'(program): Task {
    const { sys } = program;
    const fd = yield* program.heap();
    const flags = MAP.SHARED;
    const prot = PROT.READ | PROT.WRITE;
    yield* sys.mmap({ length: SIZE, prot, flags, fd, offset: 0 });
    const [here, there] = yield* sys.socketpair();
    const pid = yield* sys.fork(function* (child): Task {
      yield* child.mmap({ length: SIZE, prot, flags, fd, offset: 0 });
      yield* child.sendmsg(there, Uint8Array.of(1), [fd]);
    });
    yield* sys.close(there);
    yield* sys.waitpid(pid);
    yield* sys.recvmsg(here, 1, 1);
  },
  *'a udmabuf whose memfd and driver are closed'(program): Task {
    const { sys } = program;
    const memfd = yield* sealedMemfd(program);
    const prot = PROT.READ | PROT.WRITE;
    const request = { length: SIZE, prot, flags: MAP.SHARED, fd: memfd, offset: 0 };
    yield* sys.store(yield* sys.mmap(request), Uint8Array.of(1));
    const driver = yield* program.open(NODES.udmabuf);
    const asked = { memfd, size: BigInt(SIZE) };
    const made = yield* program.call(driver, UDMABUF_IOCTL.CREATE, udmabufCreate, asked);
    yield* sys.close(memfd);
    yield* sys.close(driver);
    yield* program.use(made.result);
  },
};

/** All of them, by name. */
export const PROGRAMS: Readonly<Record<string, Body>> = {
  ...BUFFERS,
  ...VIDEO,
  ...OWNERS,
  ...FENCES,
  ...PROCESSES,
};
