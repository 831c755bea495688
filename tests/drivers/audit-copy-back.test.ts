/**
 * Goal: what a call made and cannot tell its program of is gone again, where Linux takes it back.
 * Method: each call that tells a number in its argument, with an argument that can only be read.
 */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  dmaBufExportSyncFile,
  dmaHeapAllocationData,
  DRM_IOCTL,
  drmModeCreateDumb,
  drmPrimeHandle,
  GNTDEV_DMABUF,
  gntdevDmabufExpFromRefs,
  gntdevDmabufImpToRefs,
  IOMMU_IOCTL,
  iommuIoasMapFile,
  joinBytes,
  MAP,
  MFD,
  O,
  PAGE_SIZE,
  PROT,
  SW_SYNC_IOC,
  swSyncCreateFenceData,
  swSyncInc,
  SYNC_IOC,
  syncMergeData,
  type UserAddr,
  V4L2_BUF_TYPE,
  v4l2Requestbuffers,
  VIDIOC,
} from '../../src/base/index.ts';
import { IOMMUFD_IOCTL, iommuIoasAlloc, iommuIoasUnmap } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { EveryDriver, NODES, NOTHING, OTHER, SIZE } from './every-driver-rig.ts';
import { Program } from './failure-program.ts';

/** Bytes that the program can read and not write. */
function* readOnly({ sys }: Program, bytes: Uint8Array): Task<UserAddr> {
  const memory = yield* sys.alloc(PAGE_SIZE);
  yield* sys.store(memory, bytes);
  const fd = yield* sys.memfdCreate('constants', MFD.CLOEXEC);
  yield* sys.ftruncate(fd, PAGE_SIZE);
  yield* sys.write(fd, memory, PAGE_SIZE);
  const request = { length: PAGE_SIZE, prot: PROT.READ, flags: MAP.SHARED, fd, offset: 0 };
  const at = yield* sys.mmap(request);
  yield* sys.close(fd);
  return at;
}

type Asked = readonly [fd: number, request: number, argument: Uint8Array];

/** Runs a program; what it left must be nothing. */
function run(body: (program: Program, rig: EveryDriver) => Task): void {
  const rig = new EveryDriver();
  const ended = rig.run((sys) => body(new Program(sys), rig));
  expect({ ended, left: rig.left }).toEqual({ ended: 'well', left: NOTHING });
}

/** Each call whose effect is undone. */
const UNDONE: Readonly<Record<string, (program: Program) => Task<Asked>>> = {
  *'EXPORT_SYNC_FILE (A.16)'(program) {
    const fd = yield* program.heap();
    return [fd, DMA_BUF_IOCTL.EXPORT_SYNC_FILE, dmaBufExportSyncFile.encode({ flags: 3 })];
  },
  *'DMA_HEAP_IOCTL_ALLOC (E.3)'(program) {
    const asked = { len: 4096n, fdFlags: O.RDWR };
    const heap = yield* program.open(NODES.heap);
    return [heap, DMA_HEAP_IOCTL.ALLOC, dmaHeapAllocationData.encode(asked)];
  },
  *'SYNC_IOC_MERGE (B.6)'(program) {
    const sync = yield* program.exportSync(yield* program.heap());
    return [sync, SYNC_IOC.MERGE, syncMergeData.encode({ name: 'm', fd2: sync })];
  },
  *'SW_SYNC_IOC_CREATE_FENCE (B.6)'(program) {
    const timeline = yield* program.open(NODES.swSync);
    const asked = { value: 3, name: 'point' };
    return [timeline, SW_SYNC_IOC.CREATE_FENCE, swSyncCreateFenceData.encode(asked)];
  },
  *'EXP_FROM_REFS of gntdev (F.4)'(program) {
    const asked = gntdevDmabufExpFromRefs.encode({ count: 2, domid: OTHER, refs: [1] });
    const second = swSyncInc.encode({ value: 2 });
    const gntdev = yield* program.open(NODES.gntdev);
    return [gntdev, GNTDEV_DMABUF.EXP_FROM_REFS, joinBytes(asked, second)];
  },
  *'IMP_TO_REFS of gntdev (F.4)'(program) {
    const asked = { fd: yield* program.heap(), count: 2, domid: OTHER };
    const gntdev = yield* program.open(NODES.gntdev);
    return [gntdev, GNTDEV_DMABUF.IMP_TO_REFS, gntdevDmabufImpToRefs.encode(asked)];
  },
};

describe('An answer that cannot be written', () => {
  test.each(Object.keys(UNDONE))('is EFAULT, and nothing is left of %s', (name) => {
    run(function* (program, rig) {
      const [fd, request, bytes] = yield* (UNDONE[name] ?? expect.fail('a call'))(program);
      const at = yield* readOnly(program, bytes);
      const before = rig.counted();
      const { code } = yield* refused(program.sys.ioctl(fd, request, at));
      yield* rig.kernel.returnToUser();
      expect([code, rig.counted()]).toEqual(['EFAULT', before]);
    });
  });

  test('is EFAULT, and the I/O address space is nobody’s (F.2)', () => {
    run(function* (program) {
      const iommu = yield* program.open(NODES.iommu);
      const bytes = iommuIoasAlloc.encode({ size: iommuIoasAlloc.size });
      const at = yield* readOnly(program, bytes);
      const { code } = yield* refused(program.sys.ioctl(iommu, IOMMUFD_IOCTL.IOAS_ALLOC, at));
      expect(code).toBe('EFAULT');
      const size = iommuIoasUnmap.size;
      const asked = { size, ioasId: 1, length: 2n ** 64n - 1n };
      const unmap = program.call(iommu, IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap, asked);
      expect((yield* refused(unmap)).reason).toBe('no-such-address-space');
    });
  });

  test('leaves a map in an I/O address space, as in Linux (F.2)', () => {
    run(function* (program) {
      const { fd } = yield* program.vfio();
      const iommu = yield* program.open(NODES.iommu);
      const given = { size: iommuIoasAlloc.size };
      const made = yield* program.call(iommu, IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc, given);
      const ioasId = made.outIoasId;
      const map = { size: iommuIoasMapFile.size, flags: 6, ioasId, fd, length: BigInt(SIZE) };
      const at = yield* readOnly(program, iommuIoasMapFile.encode(map));
      const refusal = yield* refused(program.sys.ioctl(iommu, IOMMU_IOCTL.IOAS_MAP_FILE, at));
      expect(refusal.code).toBe('EFAULT');
      const all = { size: iommuIoasUnmap.size, ioasId, length: 2n ** 64n - 1n };
      const told = yield* program.call(iommu, IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap, all);
      expect(told.length).toBe(BigInt(SIZE));
    });
  });

  test('leaves a DRM object and its handle, as in Linux (G.3)', () => {
    run(function* (program) {
      const card = yield* program.open(NODES.card);
      const size = { width: 32, height: 32, bpp: 32 };
      const at = yield* readOnly(program, drmModeCreateDumb.encode(size));
      const refusal = yield* refused(program.sys.ioctl(card, DRM_IOCTL.MODE_CREATE_DUMB, at));
      expect(refusal.code).toBe('EFAULT');
      const asked = { handle: 1 };
      yield* program.call(card, DRM_IOCTL.PRIME_HANDLE_TO_FD, drmPrimeHandle, asked);
    });
  });

  test('leaves the buffers of a video queue, as in Linux (E.9)', () => {
    run(function* (program) {
      const camera = yield* program.open(NODES.camera);
      const asked = { type: V4L2_BUF_TYPE.VIDEO_CAPTURE, memory: 1, count: 2 };
      const at = yield* readOnly(program, v4l2Requestbuffers.encode(asked));
      const refusal = yield* refused(program.sys.ioctl(camera, VIDIOC.REQBUFS, at));
      expect(refusal.code).toBe('EFAULT');
      const prot = PROT.READ | PROT.WRITE;
      const request = { length: SIZE, prot, flags: MAP.SHARED, fd: camera, offset: 0 };
      yield* program.sys.mmap(request);
    });
  });
});
