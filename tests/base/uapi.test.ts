/**
 * Goal: numbers and structs are those of Linux. Method: the tables of the reference, G.2 and G.3,
 * typed in once more as plain numbers.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as uapi from '../../src/base/index.ts';
import {
  arrayOf,
  chars,
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  DRM_IOCTL,
  FUNCTIONFS_DMABUF,
  GNTDEV_DMABUF,
  IIO_BUFFER_DMABUF,
  IOMMU_IOCTL,
  ioctlNumber,
  ioctlParts,
  joinBytes,
  packedStruct,
  Struct,
  SW_SYNC_IOC,
  SYNC_IOC,
  s32,
  struct,
  u16,
  u32,
  u64,
  u8,
  UDMABUF_IOCTL,
  union,
  VFIO_IOCTL,
  VIDIOC,
} from '../../src/base/index.ts';

const NUMBERS: readonly (readonly [string, number, number])[] = [
  ['DMA_BUF_IOCTL_SYNC', DMA_BUF_IOCTL.SYNC, 0x40086200],
  ['DMA_BUF_SET_NAME_A', DMA_BUF_IOCTL.SET_NAME_A, 0x40046201],
  ['DMA_BUF_SET_NAME_B', DMA_BUF_IOCTL.SET_NAME_B, 0x40086201],
  ['DMA_BUF_IOCTL_EXPORT_SYNC_FILE', DMA_BUF_IOCTL.EXPORT_SYNC_FILE, 0xc0086202],
  ['DMA_BUF_IOCTL_IMPORT_SYNC_FILE', DMA_BUF_IOCTL.IMPORT_SYNC_FILE, 0x40086203],
  ['SYNC_IOC_MERGE', SYNC_IOC.MERGE, 0xc0303e03],
  ['SYNC_IOC_FILE_INFO', SYNC_IOC.FILE_INFO, 0xc0383e04],
  ['SYNC_IOC_SET_DEADLINE', SYNC_IOC.SET_DEADLINE, 0x40103e05],
  ['SW_SYNC_IOC_CREATE_FENCE', SW_SYNC_IOC.CREATE_FENCE, 0xc0285700],
  ['SW_SYNC_IOC_INC', SW_SYNC_IOC.INC, 0x40045701],
  ['SW_SYNC_GET_DEADLINE', SW_SYNC_IOC.GET_DEADLINE, 0xc0105702],
  ['UDMABUF_CREATE', UDMABUF_IOCTL.CREATE, 0x40187542],
  ['UDMABUF_CREATE_LIST', UDMABUF_IOCTL.CREATE_LIST, 0x40087543],
  ['DMA_HEAP_IOCTL_ALLOC', DMA_HEAP_IOCTL.ALLOC, 0xc0184800],
  ['DRM_IOCTL_VERSION', DRM_IOCTL.VERSION, 0xc0406400],
  ['DRM_IOCTL_GEM_CLOSE', DRM_IOCTL.GEM_CLOSE, 0x40086409],
  ['DRM_IOCTL_GET_CAP', DRM_IOCTL.GET_CAP, 0xc010640c],
  ['DRM_IOCTL_PRIME_HANDLE_TO_FD', DRM_IOCTL.PRIME_HANDLE_TO_FD, 0xc00c642d],
  ['DRM_IOCTL_PRIME_FD_TO_HANDLE', DRM_IOCTL.PRIME_FD_TO_HANDLE, 0xc00c642e],
  ['DRM_IOCTL_MODE_CREATE_DUMB', DRM_IOCTL.MODE_CREATE_DUMB, 0xc02064b2],
  ['DRM_IOCTL_MODE_MAP_DUMB', DRM_IOCTL.MODE_MAP_DUMB, 0xc01064b3],
  ['DRM_IOCTL_MODE_DESTROY_DUMB', DRM_IOCTL.MODE_DESTROY_DUMB, 0xc00464b4],
  ['DRM_IOCTL_SYNCOBJ_CREATE', DRM_IOCTL.SYNCOBJ_CREATE, 0xc00864bf],
  ['DRM_IOCTL_SYNCOBJ_DESTROY', DRM_IOCTL.SYNCOBJ_DESTROY, 0xc00864c0],
  ['DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD', DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD, 0xc01864c1],
  ['DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE, 0xc01864c2],
  ['DRM_IOCTL_VGEM_FENCE_ATTACH', DRM_IOCTL.VGEM_FENCE_ATTACH, 0xc0106441],
  ['DRM_IOCTL_VGEM_FENCE_SIGNAL', DRM_IOCTL.VGEM_FENCE_SIGNAL, 0x40086442],
  ['VFIO_DEVICE_FEATURE', VFIO_IOCTL.DEVICE_FEATURE, 0x00003b75],
  ['VFIO_DEVICE_RESET', VFIO_IOCTL.DEVICE_RESET, 0x00003b6f],
  ['IOMMU_IOAS_MAP_FILE', IOMMU_IOCTL.IOAS_MAP_FILE, 0x00003b8f],
  ['IOCTL_GNTDEV_DMABUF_EXP_FROM_REFS', GNTDEV_DMABUF.EXP_FROM_REFS, 0x00144709],
  ['IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED', GNTDEV_DMABUF.EXP_WAIT_RELEASED, 0x0008470a],
  ['IOCTL_GNTDEV_DMABUF_IMP_TO_REFS', GNTDEV_DMABUF.IMP_TO_REFS, 0x0014470b],
  ['IOCTL_GNTDEV_DMABUF_IMP_RELEASE', GNTDEV_DMABUF.IMP_RELEASE, 0x0008470c],
  ['VIDIOC_QUERYCAP', VIDIOC.QUERYCAP, 0x80685600],
  ['VIDIOC_G_FMT', VIDIOC.G_FMT, 0xc0d05604],
  ['VIDIOC_S_FMT', VIDIOC.S_FMT, 0xc0d05605],
  ['VIDIOC_REQBUFS', VIDIOC.REQBUFS, 0xc0145608],
  ['VIDIOC_QUERYBUF', VIDIOC.QUERYBUF, 0xc0585609],
  ['VIDIOC_QBUF', VIDIOC.QBUF, 0xc058560f],
  ['VIDIOC_EXPBUF', VIDIOC.EXPBUF, 0xc0405610],
  ['VIDIOC_DQBUF', VIDIOC.DQBUF, 0xc0585611],
  ['VIDIOC_STREAMON', VIDIOC.STREAMON, 0x40045612],
  ['VIDIOC_STREAMOFF', VIDIOC.STREAMOFF, 0x40045613],
  ['VIDIOC_CREATE_BUFS', VIDIOC.CREATE_BUFS, 0xc100565c],
  ['VIDIOC_PREPARE_BUF', VIDIOC.PREPARE_BUF, 0xc058565d],
  ['IIO_BUFFER_DMABUF_ATTACH', IIO_BUFFER_DMABUF.ATTACH, 0x40046992],
  ['IIO_BUFFER_DMABUF_DETACH', IIO_BUFFER_DMABUF.DETACH, 0x40046993],
  ['IIO_BUFFER_DMABUF_ENQUEUE', IIO_BUFFER_DMABUF.ENQUEUE, 0x40106994],
  ['FUNCTIONFS_DMABUF_ATTACH', FUNCTIONFS_DMABUF.ATTACH, 0x40046783],
  ['FUNCTIONFS_DMABUF_DETACH', FUNCTIONFS_DMABUF.DETACH, 0x40046784],
  ['FUNCTIONFS_DMABUF_TRANSFER', FUNCTIONFS_DMABUF.TRANSFER, 0x40106785],
];

const LAYOUTS: readonly (readonly [keyof typeof uapi, number, Record<string, number>])[] = [
  ['dmaBufSync', 8, { flags: 0 }],
  ['dmaBufExportSyncFile', 8, { flags: 0, fd: 4 }],
  ['dmaBufImportSyncFile', 8, { flags: 0, fd: 4 }],
  ['syncMergeData', 48, { name: 0, fd2: 32, fence: 36, flags: 40, pad: 44 }],
  ['syncFenceInfo', 80, { objName: 0, driverName: 32, status: 64, flags: 68, timestampNs: 72 }],
  [
    'syncFileInfo',
    56,
    { name: 0, status: 32, flags: 36, numFences: 40, pad: 44, syncFenceInfo: 48 },
  ],
  ['syncSetDeadline', 16, { deadlineNs: 0, pad: 8 }],
  ['swSyncCreateFenceData', 40, { value: 0, name: 4, fence: 36 }],
  ['swSyncInc', 4, { value: 0 }],
  ['swSyncGetDeadline', 16, { deadlineNs: 0, pad: 8, fenceFd: 12 }],
  ['udmabufCreate', 24, { memfd: 0, flags: 4, offset: 8, size: 16 }],
  ['udmabufCreateList', 8, { flags: 0, count: 4 }],
  ['udmabufCreateItem', 24, { memfd: 0, pad: 4, offset: 8, size: 16 }],
  ['dmaHeapAllocationData', 24, { len: 0, fd: 8, fdFlags: 12, heapFlags: 16 }],
  [
    'drmVersion',
    64,
    {
      versionMajor: 0,
      versionMinor: 4,
      versionPatchlevel: 8,
      nameLen: 16,
      name: 24,
      dateLen: 32,
      date: 40,
      descLen: 48,
      desc: 56,
    },
  ],
  ['drmPrimeHandle', 12, { handle: 0, flags: 4, fd: 8 }],
  ['drmGemClose', 8, { handle: 0, pad: 4 }],
  ['drmGetCap', 16, { capability: 0, value: 8 }],
  [
    'drmModeCreateDumb',
    32,
    { height: 0, width: 4, bpp: 8, flags: 12, handle: 16, pitch: 20, size: 24 },
  ],
  ['drmModeMapDumb', 16, { handle: 0, pad: 4, offset: 8 }],
  ['drmModeDestroyDumb', 4, { handle: 0 }],
  ['drmSyncobjCreate', 8, { handle: 0, flags: 4 }],
  ['drmSyncobjDestroy', 8, { handle: 0, pad: 4 }],
  ['drmSyncobjHandle', 24, { handle: 0, flags: 4, fd: 8, pad: 12, point: 16 }],
  ['drmVgemFenceAttach', 16, { handle: 0, flags: 4, outFence: 8, pad: 12 }],
  ['drmVgemFenceSignal', 8, { fence: 0, flags: 4 }],
  ['vfioDeviceFeature', 8, { argsz: 0, flags: 4 }],
  ['vfioDeviceFeatureDmaBuf', 16, { regionIndex: 0, openFlags: 4, flags: 8, nrRanges: 12 }],
  ['vfioRegionDmaRange', 16, { offset: 0, length: 8 }],
  [
    'iommuIoasMapFile',
    40,
    { size: 0, flags: 4, ioasId: 8, fd: 12, start: 16, length: 24, iova: 32 },
  ],
  [
    'v4l2Capability',
    104,
    {
      driver: 0,
      card: 16,
      busInfo: 48,
      version: 80,
      capabilities: 84,
      deviceCaps: 88,
      reserved: 92,
    },
  ],
  [
    'v4l2Requestbuffers',
    20,
    { count: 0, type: 4, memory: 8, capabilities: 12, flags: 16, reserved: 17 },
  ],
  ['v4l2Exportbuffer', 64, { type: 0, index: 4, plane: 8, flags: 12, fd: 16, reserved: 20 }],
  ['v4l2Plane', 64, { bytesused: 0, length: 4, m: 8, dataOffset: 16, reserved: 20 }],
  [
    'v4l2Buffer',
    88,
    {
      index: 0,
      type: 4,
      bytesused: 8,
      flags: 12,
      field: 16,
      timestamp: 24,
      timecode: 40,
      sequence: 56,
      memory: 60,
      m: 64,
      length: 72,
      reserved2: 76,
      requestFd: 80,
    },
  ],
  ['v4l2Format', 208, { type: 0, fmt: 8 }],
  [
    'v4l2CreateBuffers',
    256,
    {
      index: 0,
      count: 4,
      memory: 8,
      format: 16,
      capabilities: 224,
      flags: 228,
      maxNumBuffers: 232,
      reserved: 236,
    },
  ],
  ['iioDmabuf', 16, { fd: 0, flags: 4, bytesUsed: 8 }],
  ['usbFfsDmabufTransferReq', 16, { fd: 0, flags: 4, length: 8 }],
  ['descriptorArgument', 4, { fd: 0 }],
  ['gntdevDmabufExpFromRefs', 20, { flags: 0, count: 4, fd: 8, domid: 12, refs: 16 }],
  ['gntdevDmabufExpWaitReleased', 8, { fd: 0, waitToMs: 4 }],
  ['gntdevDmabufImpToRefs', 20, { fd: 0, count: 4, domid: 8, reserved: 12, refs: 16 }],
  ['gntdevDmabufImpRelease', 8, { fd: 0, reserved: 4 }],
];

/** Every layout that base exports, by name. */
const EXPORTED = Object.entries(uapi).flatMap(([name, value]) =>
  value instanceof Struct
    ? [[name, value as unknown as Struct<Record<string, unknown>>] as const]
    : [],
);

describe('An ioctl number', () => {
  test.each(NUMBERS)('%s is that of Linux (G.2)', (_name, number, wanted) => {
    expect(number.toString(16)).toBe(wanted.toString(16));
  });

  test('comes apart into what it was made of (G.1)', () => {
    const direction = fc.constantFrom('none' as const, 'w' as const, 'r' as const, 'rw' as const);
    const magic = fc.integer({ min: 0, max: 0x7f });
    const nr = fc.integer({ min: 0, max: 0xff });
    const size = fc.integer({ min: 0, max: 0x3fff });
    fc.assert(
      fc.property(direction, magic, nr, size, (...[dir, letter, index, bytes]) => {
        const request = ioctlNumber(dir, String.fromCharCode(letter), index, bytes);
        expect(request >>> 0).toBe(request);
        const parts = { direction: dir, magic: letter, nr: index, size: bytes };
        expect(ioctlParts(request)).toEqual(parts);
      }),
    );
  });

  test('with parts that do not fit is a bug of ours', () => {
    expect(() => ioctlNumber('w', 'bb', 0, 8)).toThrow('one ASCII character');
    expect(() => ioctlNumber('w', 'b', 256, 8)).toThrow('8 bits');
    expect(() => ioctlNumber('w', 'b', 0, 0x4000)).toThrow('14 bits');
  });
});

describe('A struct', () => {
  test.each(LAYOUTS)('%s of %i bytes has the fields of Linux (G.3)', (name, size, offsets) => {
    const layout = uapi[name];
    if (!(layout instanceof Struct)) expect.fail(`${name} is a layout`);
    expect(layout.size).toBe(size);
    expect(layout.offsets).toEqual(offsets);
  });

  test('of the ABI is in the table of this test, and so is every number', () => {
    // The probe's structs are ours, not Linux's.
    const linux = EXPORTED.map(([name]) => name).filter((name) => !name.startsWith('probe'));
    expect(linux.sort()).toEqual(LAYOUTS.map(([name]) => name).sort());
    const known = NUMBERS.map(([, number]) => number);
    const tables = [DMA_BUF_IOCTL, SYNC_IOC, SW_SYNC_IOC, UDMABUF_IOCTL, DMA_HEAP_IOCTL, DRM_IOCTL];
    const more = [VFIO_IOCTL, IOMMU_IOCTL, GNTDEV_DMABUF, VIDIOC, IIO_BUFFER_DMABUF];
    const all = [...tables, ...more, FUNCTIONFS_DMABUF].flatMap((table) => Object.values(table));
    expect([...all].sort()).toEqual([...known].sort());
  });

  test.each(EXPORTED)('%s says of any bytes what makes the same bytes again', (_name, layout) => {
    const bytes = fc.uint8Array({ minLength: layout.size, maxLength: layout.size });
    fc.assert(
      fc.property(bytes, (given) => {
        const once = layout.encode(layout.decode(given));
        // Padding, and what follows the NUL of a name, are not said.
        expect(layout.encode(layout.decode(once))).toEqual(once);
        expect(layout.decode(once)).toEqual(layout.decode(given));
      }),
      { numRuns: 30 },
    );
  });

  test('is little-endian, and what is not named is zero (G.1)', () => {
    const bytes = uapi.udmabufCreate.encode({ memfd: -1, size: 0x1_0002_0003n });
    const wanted = [0xff, 0xff, 0xff, 0xff, ...new Array<number>(12).fill(0), 3, 0, 2, 0, 1, 0, 0];
    expect([...bytes]).toEqual([...wanted, 0]);
    expect(uapi.udmabufCreate.decode(bytes)).toMatchObject({ memfd: 0xffff_ffff, flags: 0 });
  });

  test('takes a signed field back as it was given', () => {
    const { fd } = uapi.drmPrimeHandle.decode(uapi.drmPrimeHandle.encode({ fd: -9 }));
    expect(fd).toBe(-9);
  });

  test('pads fields to their alignment and itself to the widest; packed it does not', () => {
    const fields = { one: u8, two: u64, three: u16 };
    const natural = struct<{ one: number; two: bigint; three: number }>(fields);
    expect([natural.size, natural.align, natural.offsets]).toEqual([
      24,
      8,
      { one: 0, two: 8, three: 16 },
    ]);
    const packed = packedStruct<{ one: number; two: bigint; three: number }>(fields);
    expect([packed.size, packed.align, packed.offsets]).toEqual([
      11,
      1,
      { one: 0, two: 1, three: 9 },
    ]);
  });

  test('decodes from the middle of a larger array', () => {
    const bytes = joinBytes(
      new Uint8Array(3),
      uapi.swSyncInc.encode({ value: 7 }),
      Uint8Array.of(9),
    );
    expect(uapi.swSyncInc.decode(bytes.subarray(3))).toEqual({ value: 7 });
    expect(() => uapi.swSyncInc.decode(bytes.subarray(5))).toThrow('4 bytes, not 3');
  });
});

describe('A field', () => {
  test.each([
    ['u8', u8, 256],
    ['u16', u16, 2 ** 16],
    ['u32', u32, 2 ** 32],
    ['s32', s32, 2 ** 32],
    ['u32', u32, 1.5],
  ])('%s refuses what does not fit', (_name, type, value) => {
    expect(() => struct<{ it: number }>({ it: type }).encode({ it: value })).toThrow('bits');
  });

  test('of 64 bits takes a negative number as C converts it, and no more than 64 bits', () => {
    const one = struct<{ it: bigint }>({ it: u64 });
    expect(one.decode(one.encode({ it: -1n })).it).toBe(2n ** 64n - 1n);
    expect(() => one.encode({ it: 2n ** 64n })).toThrow('64 bits');
  });

  test('of text is cut at its end and read up to the NUL', () => {
    const one = struct<{ it: string }>({ it: chars(4) });
    expect(one.decode(one.encode({ it: 'abcdef' })).it).toBe('abcd');
    expect(one.decode(Uint8Array.of(0x61, 0, 0x62, 0)).it).toBe('a');
  });

  test('of several items takes fewer, not more', () => {
    const one = struct<{ it: readonly number[] }>({ it: arrayOf(u16, 3) });
    expect(one.decode(one.encode({ it: [1] })).it).toEqual([1, 0, 0]);
    expect(() => one.encode({ it: [1, 2, 3, 4] })).toThrow('at most 3');
  });

  test('that is a union is read through each member, and members that are written agree', () => {
    interface Two {
      readonly wide: bigint;
      readonly fd: number;
    }
    const one = struct<{ it: Partial<Two> }>({ it: union<Two>({ wide: u64, fd: s32 }) });
    const both = one.decode(one.encode({ it: { fd: -1 } }));
    expect(both.it).toEqual({ wide: 0xffff_ffffn, fd: -1 });
    expect(one.decode(one.encode(both))).toEqual(both);
    expect(() => one.encode({ it: { wide: 1n, fd: 2 } })).toThrow('agree');
  });
});
