/** Rows of reference F.2 that no other test shows, through system calls. */

import { describe, expect, test } from 'vitest';
import { IOMMU_IOCTL, type IommuIoasMapFile, iommuIoasMapFile } from '../../src/base/index.ts';
import {
  IOMMUFD_IOCTL,
  iommuIoasAlloc,
  type IommuIoasUnmap,
  iommuIoasUnmap,
} from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { EveryDriver, NODES, NOTHING, SIZE } from './every-driver-rig.ts';
import { Program } from './failure-program.ts';

const ULONG_MAX = 2n ** 64n - 1n;

/** A program with an address space and a buffer of a VFIO device. */
function run(body: (program: Program, iommu: number, fd: number) => Task): void {
  const rig = new EveryDriver();
  const ended = rig.run(function* (sys) {
    const program = new Program(sys);
    const { fd } = yield* program.vfio();
    const iommu = yield* program.open(NODES.iommu);
    const given = { size: iommuIoasAlloc.size };
    yield* program.call(iommu, IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc, given);
    yield* body(program, iommu, fd);
  });
  expect({ ended, left: rig.left }).toEqual({ ended: 'well', left: NOTHING });
}

describe('IOMMU_IOAS_MAP_FILE', () => {
  type Row = readonly [Partial<IommuIoasMapFile>, string];
  const rows: readonly Row[] = [
    [{ flags: 14, iova: ULONG_MAX }, 'EOPNOTSUPP flags-of-a-map-unknown'],
    [{ flags: 1, iova: ULONG_MAX }, 'EOVERFLOW io-address-wraps'],
    [{ flags: 1, length: ULONG_MAX }, 'EOVERFLOW io-address-wraps'],
    [{ flags: 1, ioasId: 9 }, 'EINVAL map-neither-to-read-nor-to-write'],
    [{ ioasId: 9, length: 0n }, 'ENOENT no-such-address-space'],
    [{ length: 0n, fd: -1 }, 'EINVAL map-of-nothing'],
    [{ start: ULONG_MAX, length: 2n, fd: -1 }, 'EOVERFLOW file-offset-wraps'],
    [{ fd: -1, start: 1n }, 'EBADF descriptor-is-not-open'],
    [{ start: BigInt(SIZE) }, 'EINVAL map-beyond-the-file'],
    [{ length: BigInt(SIZE) + 1n }, 'EINVAL map-beyond-the-file'],
  ];

  test.each(rows)('refuses %o with %s, before what comes later in the order (F.2)', (wish, why) => {
    run(function* (program, iommu, fd) {
      const base = { size: iommuIoasMapFile.size, flags: 6, ioasId: 1, fd, length: 4096n };
      const asked = { ...base, ...wish };
      const call = program.call(iommu, IOMMU_IOCTL.IOAS_MAP_FILE, iommuIoasMapFile, asked);
      const { code, reason } = yield* refused(call);
      expect(`${code} ${reason}`).toBe(why);
    });
  });

  test('refuses a heap’s buffer with EOPNOTSUPP, and keeps nothing of it (F.2)', () => {
    run(function* (program, iommu) {
      const fd = yield* program.heap();
      const asked = { size: iommuIoasMapFile.size, flags: 6, ioasId: 1, fd, length: 4096n };
      const call = program.call(iommu, IOMMU_IOCTL.IOAS_MAP_FILE, iommuIoasMapFile, asked);
      expect((yield* refused(call)).code).toBe('EOPNOTSUPP');
    });
  });

  test('takes no struct with more than it knows, to the last byte: E2BIG (F.2)', () => {
    run(function* (program, iommu, fd) {
      const size = iommuIoasMapFile.size + 1;
      const bytes = iommuIoasMapFile.encode({ size, flags: 6, ioasId: 1, fd, length: 4096n });
      const longer = program.raw(iommu, IOMMU_IOCTL.IOAS_MAP_FILE, bytes, Uint8Array.of(1));
      expect((yield* refused(longer)).code).toBe('E2BIG');
      yield* program.raw(iommu, IOMMU_IOCTL.IOAS_MAP_FILE, bytes, Uint8Array.of(0));
    });
  });
});

describe('IOMMU_IOAS_UNMAP', () => {
  type Row = readonly [Partial<IommuIoasUnmap>, string];
  const rows: readonly Row[] = [
    [{ iova: 4096n, length: ULONG_MAX }, 'EOVERFLOW range-to-unmap-wraps'],
    [{ iova: 4096n, length: 0n }, 'EINVAL unmap-of-nothing'],
    [{ iova: ULONG_MAX - 1n, length: 4096n }, 'EOVERFLOW range-to-unmap-has-no-end'],
    [{ iova: 4096n, length: 4096n }, 'ENOENT nothing-is-mapped-in-the-range'],
  ];

  test.each(rows)('refuses %o with %s (F.2)', (wish, why) => {
    run(function* (program, iommu) {
      const asked = { size: iommuIoasUnmap.size, ioasId: 1, ...wish };
      const call = program.call(iommu, IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap, asked);
      const { code, reason } = yield* refused(call);
      expect(`${code} ${reason}`).toBe(why);
    });
  });
});
