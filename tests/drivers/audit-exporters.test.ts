/** Rows of reference E that no other test shows: what a program sees of each exporter's buffers. */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  dmaBufSync,
  DRM_IOCTL,
  drmModeCreateDumb,
  drmPrimeHandle,
  F,
  F_SEAL,
  FD_CLOEXEC,
  GNTDEV_DMABUF,
  gntdevDmabufExpFromRefs,
  isDmaBufError,
  joinBytes,
  MAP,
  MFD,
  O,
  PROT,
  swSyncInc,
  UDMABUF_IOCTL,
  udmabufCreate,
  udmabufCreateItem,
  udmabufCreateList,
  V4L2_BUF_TYPE,
  v4l2Exportbuffer,
  v4l2Requestbuffers,
  VFIO_DEVICE_FEATURE,
  VFIO_IOCTL,
  vfioDeviceFeature,
  vfioDeviceFeatureDmaBuf,
  vfioRegionDmaRange,
  VIDIOC,
} from '../../src/base/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { EveryDriver, NODES, NOTHING, OTHER, SIZE } from './every-driver-rig.ts';
import { Program } from './failure-program.ts';
import { BAR } from './vfio-pci-rig.ts';

const CAPTURE = V4L2_BUF_TYPE.VIDEO_CAPTURE;

/** Runs a program; what it left must be nothing. */
function run(body: (program: Program) => Task): void {
  const rig = new EveryDriver();
  const ended = rig.run((sys) => body(new Program(sys)));
  expect({ ended, left: rig.left }).toEqual({ ended: 'well', left: NOTHING });
}

/** Access mode of a descriptor's file, and whether the descriptor is closed on exec. */
function* modeOf({ sys }: Program, fd: number): Task<readonly [number, boolean]> {
  const mode = (yield* sys.fcntl(fd, F.GETFL, 0)) & O.ACCMODE;
  return [mode, (yield* sys.fcntl(fd, F.GETFD, 0)) === FD_CLOEXEC];
}

/** What a shared map of a buffer fails with; `mapped` if it does not. */
function* mapOf({ sys }: Program, fd: number, prot = PROT.READ | PROT.WRITE): Task<string> {
  try {
    yield* sys.mmap({ length: SIZE, prot, flags: MAP.SHARED, fd, offset: 0 });
    return 'mapped';
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    return error.code;
  }
}

describe('A buffer of a VFIO device', () => {
  test('takes its access mode and close-on-exec from open_flags, and nothing else (E.1)', () => {
    run(function* (program) {
      const device = yield* program.open(NODES.vfio);
      const { GET, DMA_BUF } = VFIO_DEVICE_FEATURE;
      const rows = [
        [O.RDONLY, O.RDONLY, false],
        [O.RDWR | O.CLOEXEC, O.RDWR, true],
        [O.WRONLY | O.NONBLOCK | 0x40, O.WRONLY, false],
      ] as const;
      for (const [openFlags, mode, closes] of rows) {
        const fd = yield* program.raw(
          device,
          VFIO_IOCTL.DEVICE_FEATURE,
          vfioDeviceFeature.encode({ argsz: 40, flags: GET | DMA_BUF }),
          vfioDeviceFeatureDmaBuf.encode({ regionIndex: BAR, openFlags, nrRanges: 1 }),
          vfioRegionDmaRange.encode({ length: 4096n }),
        );
        expect(yield* modeOf(program, fd)).toEqual([mode, closes]);
        // The core keeps O_NONBLOCK, too (A.3).
        const kept = mode | (openFlags & O.NONBLOCK);
        expect((yield* program.sys.fcntl(fd, F.GETFL, 0)) & ~O.LARGEFILE).toBe(kept);
      }
    });
  });

  test('is not mapped by programs, EINVAL, and brackets of CPU access do nothing (E.1)', () => {
    run(function* (program) {
      const { device, fd } = yield* program.vfio();
      expect(yield* mapOf(program, fd)).toBe('EINVAL');
      yield* program.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 7n });
      yield* program.sys.close(device);
      yield* program.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 3n });
      expect((yield* program.sys.fstat(fd)).size).toBe(SIZE);
    });
  });
});

describe('A udmabuf', () => {
  function* memfd({ sys }: Program): Task<number> {
    const fd = yield* sys.memfdCreate('pages', MFD.ALLOW_SEALING);
    yield* sys.ftruncate(fd, SIZE);
    yield* sys.fcntl(fd, F.ADD_SEALS, F_SEAL.SHRINK);
    return fd;
  }

  test('is always open for reading and writing, and its padding is not looked at (E.2)', () => {
    run(function* (program) {
      const driver = yield* program.open(NODES.udmabuf, O.RDONLY);
      const item = { memfd: yield* memfd(program), pad: 0xffff_ffff, size: BigInt(SIZE) };
      const list = udmabufCreateList.encode({ count: 1, flags: 0xffff_fffe });
      const parts = [list, udmabufCreateItem.encode(item)];
      const fd = yield* program.raw(driver, UDMABUF_IOCTL.CREATE_LIST, ...parts);
      expect(yield* modeOf(program, fd)).toEqual([O.RDWR, false]);
      expect(yield* mapOf(program, fd)).toBe('mapped');
    });
  });

  test('is the memory of its memfd: what one writes, the other reads (E.2)', () => {
    run(function* (program) {
      const { sys } = program;
      const from = yield* memfd(program);
      const driver = yield* program.open(NODES.udmabuf);
      const asked = { memfd: from, size: BigInt(SIZE) };
      const made = yield* program.call(driver, UDMABUF_IOCTL.CREATE, udmabufCreate, asked);
      const prot = PROT.READ | PROT.WRITE;
      const request = { length: SIZE, prot, flags: MAP.SHARED, offset: 0 };
      const [one, other] = [
        yield* sys.mmap({ ...request, fd: from }),
        yield* sys.mmap({ ...request, fd: made.result }),
      ];
      yield* sys.store(one, Uint8Array.of(1, 2, 3));
      expect([...(yield* sys.load(other, 3))]).toEqual([1, 2, 3]);
      yield* sys.store(other, Uint8Array.of(9));
      expect([...(yield* sys.load(one, 2))]).toEqual([9, 2]);
    });
  });
});

describe('A buffer of a video queue', () => {
  function* exported(program: Program, camera: number, flags: number): Task<number> {
    const asked = { type: CAPTURE, flags };
    return (yield* program.call(camera, VIDIOC.EXPBUF, v4l2Exportbuffer, asked)).fd;
  }

  test.each([NODES.camera, NODES.scattered, NODES.virtual])(
    'of %s takes its access mode and close-on-exec from the flags (E.9)',
    (path) => {
      run(function* (program) {
        const camera = yield* program.open(path);
        const wanted = { type: CAPTURE, memory: 1, count: 1 };
        yield* program.call(camera, VIDIOC.REQBUFS, v4l2Requestbuffers, wanted);
        const reader = yield* exported(program, camera, O.CLOEXEC);
        expect(yield* modeOf(program, reader)).toEqual([O.RDONLY, true]);
        expect(yield* mapOf(program, reader)).toBe('EACCES');
        expect(yield* mapOf(program, reader, PROT.READ)).toBe('mapped');
        const both = yield* exported(program, camera, O.RDWR);
        expect(yield* modeOf(program, both)).toEqual([O.RDWR, false]);
        expect(yield* mapOf(program, both)).toBe('mapped');
        const again = exported(program, camera, O.RDWR | O.NONBLOCK);
        expect((yield* refused(again)).reason).toBe('export-flags-unknown');
      });
    },
  );
});

describe('Two exports of one DRM object', () => {
  test('differ in close-on-exec, not in the access mode (E.5)', () => {
    run(function* (program) {
      const card = yield* program.open(NODES.card);
      const size = { width: 64, height: 32, bpp: 32 };
      const made = yield* program.call(card, DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, size);
      const request = DRM_IOCTL.PRIME_HANDLE_TO_FD;
      const found: unknown[] = [];
      for (const flags of [O.CLOEXEC, O.RDWR]) {
        const asked = { handle: made.handle, flags };
        const { fd } = yield* program.call(card, request, drmPrimeHandle, asked);
        found.push([...(yield* modeOf(program, fd)), yield* mapOf(program, fd)]);
      }
      expect(found).toEqual([
        [O.RDONLY, true, 'EACCES'],
        [O.RDONLY, false, 'EACCES'],
      ]);
    });
  });
});

describe('A buffer of another guest’s pages', () => {
  test('is closed on exec, and not mapped by programs: EINVAL (F.4)', () => {
    run(function* (program) {
      const gntdev = yield* program.open(NODES.gntdev);
      const head = gntdevDmabufExpFromRefs.encode({ count: 2, domid: OTHER, refs: [1] });
      const bytes = joinBytes(head, swSyncInc.encode({ value: 2 }));
      yield* program.raw(gntdev, GNTDEV_DMABUF.EXP_FROM_REFS, bytes);
      const told = yield* program.sys.load(yield* program.scratch(), head.length);
      const { fd } = gntdevDmabufExpFromRefs.decode(told);
      expect(yield* modeOf(program, fd)).toEqual([O.RDWR, true]);
      expect(yield* mapOf(program, fd)).toBe('EINVAL');
    });
  });
});
