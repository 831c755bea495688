/**
 * Goal: what a program asks of its VFIO device as bytes is checked in Linux's order, and maps of
 * BARs come and go with the memory. Method: the rows of reference E.1, through system calls.
 */

import { describe, expect, test } from 'vitest';
import {
  joinBytes,
  MAP,
  O,
  PROT,
  type UserAddr,
  userAddr,
  VFIO_DEVICE_FEATURE,
  VFIO_IOCTL,
  vfioDeviceFeature,
  type VfioDeviceFeatureDmaBuf,
  vfioDeviceFeatureDmaBuf,
  vfioRegionDmaRange,
} from '../../src/base/index.ts';
import {
  VFIO_FEATURE,
  VFIO_PAGES_PER_REGION,
  VfioDeviceNode,
  VfioPciDevice,
  type VfioPciOptions,
} from '../../src/drivers/index.ts';
import { DmaBuf, ModelSys } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { BAR, FakeImporter, OWNED, PEER, VfioRig } from './vfio-pci-rig.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const PATH = '/dev/vfio/devices/vfio0';
const { GET, SET, PROBE, DMA_BUF } = VFIO_DEVICE_FEATURE;

/** A program that has opened its device, and a page of memory for arguments. */
class Guest {
  readonly rig: VfioRig;
  readonly vdev: VfioPciDevice;
  readonly sys: ModelSys;
  readonly fd: number;
  readonly memory: UserAddr;

  constructor(rig: VfioRig, vdev: VfioPciDevice, sys: ModelSys, fd: number, memory: UserAddr) {
    this.rig = rig;
    this.vdev = vdev;
    this.sys = sys;
    this.fd = fd;
    this.memory = memory;
  }

  /** `VFIO_DEVICE_FEATURE` with any bytes behind the header. */
  *feature(
    flags: number,
    payload: Uint8Array = new Uint8Array(),
    argsz = 8 + payload.length,
  ): Task<number> {
    const header = vfioDeviceFeature.encode({ argsz, flags });
    yield* this.sys.store(this.memory, joinBytes(header, payload));
    return yield* this.sys.ioctl(this.fd, VFIO_IOCTL.DEVICE_FEATURE, this.memory);
  }

  *featureFails(flags: number, payload?: Uint8Array, argsz?: number): Task<string> {
    const error = yield* refused(this.feature(flags, payload, argsz));
    return `${error.code} ${error.reason}`;
  }

  /** Maps pages of a BAR. */
  *mmap(region: number, page: number, pages: number, flags = MAP.SHARED): Task<UserAddr> {
    const offset = (region * VFIO_PAGES_PER_REGION + page) * PAGE;
    const prot = PROT.READ | PROT.WRITE;
    return yield* this.sys.mmap({ length: pages * PAGE, prot, flags, fd: this.fd, offset });
  }

  /** Exports the first page. */
  *export(): Task<DmaBuf> {
    const fd = yield* this.feature(GET | DMA_BUF, request());
    const buf = yield* DmaBuf.get(this.sys.process, fd);
    yield* buf.put();
    return buf;
  }
}

/** The payload of a request for ranges of a BAR: offset, length. */
function request(
  ranges: readonly (readonly [bigint, bigint])[] = [[0n, 4096n]],
  changes: Partial<VfioDeviceFeatureDmaBuf> = {},
): Uint8Array {
  const header = { regionIndex: BAR, openFlags: O.RDWR, nrRanges: ranges.length, ...changes };
  return joinBytes(
    vfioDeviceFeatureDmaBuf.encode(header),
    ...ranges.map(([offset, length]) => vfioRegionDmaRange.encode({ offset, length })),
  );
}

/** Runs a program, which opens the device first and ends last. */
function run(body: (guest: Guest) => Task, options: VfioPciOptions = {}): VfioRig {
  const rig = new VfioRig();
  const vdev = new VfioPciDevice(rig.kernel, rig.owned, options);
  const node = new VfioDeviceNode(vdev, 0);
  expect(node.path).toBe(PATH);
  function* main(): Task {
    const sys = new ModelSys(rig.process);
    const fd = yield* sys.open(PATH, O.RDWR);
    const memory = yield* sys.alloc(PAGE);
    yield* body(new Guest(rig, vdev, sys, fd, memory));
    yield* sys.exit(0);
  }
  rig.user(main(), 'program');
  const { status, findings } = rig.run();
  expect({ status, findings }).toEqual({ status: 'done', findings: [] });
  expect(vdev.dmabufs.value).toEqual([]);
  return rig;
}

describe('VFIO_DEVICE_FEATURE', () => {
  test('checks header, flags, direction and size, in this order (E.1)', () => {
    run(function* (guest) {
      const { sys, fd } = guest;
      const gone = yield* refused(sys.ioctl(fd, VFIO_IOCTL.DEVICE_FEATURE, 8));
      expect(gone.code).toBe('EFAULT');
      const none = new Uint8Array();
      const rows: readonly (readonly [number, Uint8Array, number, string])[] = [
        [1 << 30, none, 7, 'EINVAL feature-argument-is-too-short'],
        [(1 << 20) | GET | SET, none, 8, 'EINVAL feature-flag-is-unknown'],
        [GET | SET | 99, none, 8, 'EINVAL feature-is-got-and-set-at-once'],
        [GET | 99, none, 8, 'ENOTTY feature-is-unknown'],
        [SET | DMA_BUF, request(), 40, 'EINVAL feature-has-no-such-direction'],
        [PROBE | SET | DMA_BUF, request(), 40, 'EINVAL feature-has-no-such-direction'],
        [DMA_BUF, request(), 40, 'EINVAL feature-is-neither-got-nor-set'],
        [GET | DMA_BUF, request(), 23, 'EINVAL feature-payload-is-too-short'],
        [GET | VFIO_FEATURE.LOW_POWER_EXIT, none, 8, 'EINVAL feature-has-no-such-direction'],
      ];
      for (const [flags, payload, argsz, answer] of rows) {
        expect(yield* guest.featureFails(flags, payload, argsz)).toBe(answer);
      }
    });
  });

  test('says 0 to a probe of what it has, whatever the size (E.1)', () => {
    run(function* (guest) {
      for (const flags of [PROBE | DMA_BUF, PROBE | GET | DMA_BUF, PROBE | SET | 3, PROBE | 5]) {
        expect(yield* guest.feature(flags)).toBe(0);
      }
      expect([...guest.sys.process.fds.value]).toHaveLength(1);
    });
  });

  test('exports: the descriptor is the result (E.1)', () => {
    run(function* (guest) {
      const openFlags = O.RDONLY | O.CLOEXEC | 0x4000_0000;
      const fd = yield* guest.feature(GET | DMA_BUF, request(undefined, { openFlags }));
      const buf = yield* DmaBuf.get(guest.sys.process, fd);
      expect([buf.size, buf.exporterName]).toEqual([PAGE, 'vfio_pci_core']);
      expect(buf.file.mode).toMatchObject({ read: true, write: false });
      expect(yield* guest.sys.process.fds.isCloseOnExec(fd)).toBe(true);
      yield* buf.put();
    });
  });

  test('does not look at argsz for the ranges, and takes repeated ones (E.1)', () => {
    run(function* (guest) {
      const payload = request([
        [0n, 8192n],
        [4096n, 4096n],
        [4096n, 4096n],
      ]);
      const fd = yield* guest.feature(GET | DMA_BUF, payload, 24);
      expect(yield* guest.sys.lseek(fd, 0, 2)).toBe(4 * PAGE);
    });
  });

  test('refuses an export in the order of the table (E.1)', () => {
    run(function* (guest) {
      const { sys, memory } = guest;
      const wild = 2n ** 63n;
      const rows: readonly (readonly [Uint8Array, string])[] = [
        [request([], { regionIndex: 6 }), 'EINVAL no-ranges-or-flags-set'],
        [request(undefined, { flags: 1 }), 'EINVAL no-ranges-or-flags-set'],
        [request([], { regionIndex: 6, nrRanges: 2 ** 32 - 1 }), 'ENODEV'],
        [request([], { nrRanges: 2 ** 18 + 1 }), 'ENOMEM ranges-do-not-fit-into-memory'],
        [request([], { nrRanges: 2 ** 18 }), 'EFAULT segmentation-fault'],
        [request([[0n, 0n]]), 'EINVAL range-is-not-whole-pages'],
        [request([[wild + 1n, 4096n]]), 'EINVAL range-is-not-whole-pages'],
        [request([[0n, wild]]), 'EINVAL sum-of-ranges-has-no-sign'],
        [
          request([
            [0n, wild - 4096n],
            [0n, 4096n],
          ]),
          'EINVAL sum-of-ranges-has-no-sign',
        ],
        [request([[2n ** 64n - 4096n, 4096n]]), 'EOVERFLOW range-overflows'],
        [request([[BigInt(MIB), 4096n]]), 'EINVAL range-ends-beyond-the-bar'],
      ];
      for (const [payload, answer] of rows) {
        expect(yield* guest.featureFails(GET | DMA_BUF, payload, 24)).toContain(answer);
      }
      // The header of the payload lies where nothing is mapped.
      const end = userAddr(memory + PAGE - 8);
      yield* sys.store(end, vfioDeviceFeature.encode({ argsz: 24, flags: GET | DMA_BUF }));
      const error = yield* refused(sys.ioctl(guest.fd, VFIO_IOCTL.DEVICE_FEATURE, end));
      expect(error.code).toBe('EFAULT');
    });
  });

  test('is refused by a variant driver, also to a probe, and by a kernel without it (E.1)', () => {
    const refusedFor = (options: VfioPciOptions, answer: string): void => {
      run(function* (guest) {
        expect(yield* guest.featureFails(PROBE | GET | DMA_BUF)).toBe(answer);
      }, options);
    };
    refusedFor({ hasGetDmabufPhys: false }, 'EOPNOTSUPP variant-driver-exports-no-dma-bufs');
    refusedFor({ hasDmaBuf: false }, 'ENOTTY kernel-is-built-without-vfio-dma-bufs');
  });
});

describe('The file of a device', () => {
  test('opens once at a time: EBUSY, vfio-device-is-open', () => {
    run(function* ({ sys, fd }) {
      expect((yield* refused(sys.open(PATH, O.RDWR))).reason).toBe('vfio-device-is-open');
      yield* sys.close(fd);
      const again = yield* sys.open(PATH, O.RDWR);
      expect(again).toBe(fd);
    });
  });

  test('knows no other ioctl: ENOTTY, vfio-ioctl-is-unknown', () => {
    run(function* ({ sys, fd }) {
      const error = yield* refused(sys.ioctl(fd, 0x3b64, 0));
      expect([error.code, error.reason]).toEqual(['ENOTTY', 'vfio-ioctl-is-unknown']);
    });
  });

  test('resets the device, and says EINVAL if that cannot be', () => {
    const rig = run(function* ({ sys, fd }) {
      expect(yield* sys.ioctl(fd, VFIO_IOCTL.DEVICE_RESET, 0)).toBe(0);
    });
    expect(rig.events('device.reset')).toHaveLength(2);
    const other = run(
      function* (guest) {
        const error = yield* refused(guest.sys.ioctl(guest.fd, VFIO_IOCTL.DEVICE_RESET, 0));
        expect([error.code, error.reason]).toEqual(['EINVAL', 'device-has-no-reset']);
        yield* guest.vdev.functionLevelReset(guest.sys.process);
      },
      { resetWorks: false },
    );
    expect(other.events('device.reset')).toHaveLength(0);
  });

  test('leaves buffers dead when it is closed; their descriptors stay valid (E.1)', () => {
    run(function* (guest) {
      const buf = yield* guest.export();
      const importer = new FakeImporter(guest.rig, guest.rig.at(PEER));
      yield* importer.import(buf);
      yield* guest.sys.close(guest.fd);
      expect(importer.invalidations).toBe(1);
      expect((yield* importer.mapRefused()).code).toBe('ENODEV');
      const late = new FakeImporter(guest.rig, guest.rig.at(PEER));
      expect((yield* refused(late.attach(buf))).code).toBe('ENODEV');
      yield* importer.leave();
    });
  });
});

describe('A BAR in a process', () => {
  test('is read and written through its map, at the offset that was asked for', () => {
    const rig = run(function* (guest) {
      const { sys } = guest;
      const at = yield* guest.mmap(BAR, 2, 3);
      yield* sys.store(userAddr(at + PAGE + 8), Uint8Array.of(1, 2));
      expect(yield* sys.load(userAddr(at + PAGE + 7), 4)).toEqual(Uint8Array.of(0, 1, 2, 0));
    });
    expect(rig.device(OWNED).bar(BAR).writes).toEqual([{ offset: 3 * PAGE + 8, bytes: [1, 2] }]);
  });

  test('is refused in the order of the kernel: EINVAL', () => {
    run(function* (guest) {
      const rows = [
        [6, 0, 1, MAP.PRIVATE, 'region-is-mapped-privately'],
        [6, 0, 1, MAP.SHARED, 'mapped-region-is-no-bar'],
        [1, 0, 1, MAP.SHARED, 'bar-cannot-be-mapped'],
        [BAR, MIB / PAGE, 1, MAP.SHARED, 'map-ends-beyond-the-bar'],
        [BAR, 0, MIB / PAGE + 1, MAP.SHARED, 'map-ends-beyond-the-bar'],
      ] as const;
      for (const [region, page, pages, flags, reason] of rows) {
        const error = yield* refused(guest.mmap(region, page, pages, flags));
        expect([error.code, error.reason]).toEqual(['EINVAL', reason]);
      }
    });
  });

  test('is a bus error while memory decoding is off, and is there again afterwards', () => {
    run(function* (guest) {
      const { sys, vdev } = guest;
      const at = yield* guest.mmap(BAR, 0, 1);
      yield* sys.store(at, Uint8Array.of(7));
      yield* vdev.writeCommand(sys.process, 4);
      const error = yield* refused(sys.load(at, 1));
      expect([error.code, error.reason]).toEqual(['EFAULT', 'bus-error-on-sleeping-memory']);
      yield* vdev.writeCommand(sys.process, 6);
      expect(yield* sys.load(at, 1)).toEqual(Uint8Array.of(7));
      yield* sys.munmap(at, PAGE);
      yield* sys.ioctl(guest.fd, VFIO_IOCTL.DEVICE_RESET, 0);
    });
  });

  test('outlives the descriptor; the device is closed when the map is gone', () => {
    const rig = run(function* (guest) {
      const { sys, fd } = guest;
      const at = yield* guest.mmap(BAR, 0, 1);
      yield* sys.close(fd);
      yield* sys.store(at, Uint8Array.of(1));
      yield* sys.munmap(at, PAGE);
      expect(guest.rig.owned.command.value).toBe(0);
    });
    expect(rig.machine.faults).toEqual([]);
  });
});
