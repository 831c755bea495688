/**
 * Goal: VFIO_DEVICE_FEATURE_DMA_BUF refuses what Linux refuses, in Linux's order, and leaves
 * nothing behind. Method: each error of reference E.1; requests with two mistakes; what Linux
 * 7.2.12 answered for an NVMe drive (samples/errno/k7.2/vfio.txt).
 */

import { describe, expect, test } from 'vitest';
import type { VfioDmaBufRequest } from '../../src/drivers/index.ts';
import { DmaBuf, KernelFile } from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BAR, FakeImporter, OWNED, PEER, VfioRig } from './vfio-pci-rig.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const IO_BAR = 4;
const UNASSIGNED_BAR = 5;

/** The owned device also has I/O ports, and a BAR that the firmware gave no address. */
function withMoreBars(): MachineSpec {
  const spec = wideMachine();
  const plain = { prefetchable: false, is64: false } as const;
  const more = [
    { index: IO_BAR, kind: 'io', address: 0x4000, size: 64, ...plain },
    { index: UNASSIGNED_BAR, kind: 'memory', address: 0, size: MIB, ...plain },
  ] as const;
  const functions = spec.functions.map((fn) =>
    fn.address === `0000:${OWNED}` ? { ...fn, bars: [...fn.bars, ...more] } : fn,
  );
  return { ...spec, functions };
}

/** A request for one page of the memory BAR, changed. */
function request(changes: Partial<VfioDmaBufRequest> = {}): VfioDmaBufRequest {
  return { regionIndex: BAR, ranges: [{ offset: 0, length: PAGE }], ...changes };
}

function ranges(...list: readonly (readonly [number, number])[]) {
  return { ranges: list.map(([offset, length]) => ({ offset, length })) };
}

const [GOOD, ODD, BEYOND, OVERFLOW] = [
  [0, PAGE],
  [100, PAGE],
  [MIB, PAGE],
  [2 ** 64 - PAGE, PAGE],
] as const;

/** What is wrong, the request, the answer. The order of rows is the order of checks. */
const REFUSALS: readonly (readonly [string, Partial<VfioDmaBufRequest>, string, string])[] = [
  ['no ranges', { ranges: [] }, 'EINVAL', 'no-ranges-or-flags-set'],
  ['flags', { flags: 1 }, 'EINVAL', 'no-ranges-or-flags-set'],
  ['the ROM', { regionIndex: 6 }, 'ENODEV', 'region-is-not-an-assigned-bar'],
  ['configuration space', { regionIndex: 7 }, 'ENODEV', 'region-is-not-an-assigned-bar'],
  ['no region at all', { regionIndex: 99 }, 'ENODEV', 'region-is-not-an-assigned-bar'],
  ['the upper half of a BAR', { regionIndex: 3 }, 'ENODEV', 'region-is-not-an-assigned-bar'],
  ['no address', { regionIndex: UNASSIGNED_BAR }, 'ENODEV', 'region-is-not-an-assigned-bar'],
  ['an odd offset', ranges(ODD), 'EINVAL', 'range-is-not-whole-pages'],
  ['an odd length', ranges([0, 100]), 'EINVAL', 'range-is-not-whole-pages'],
  ['an empty range', ranges([0, 0]), 'EINVAL', 'range-is-not-whole-pages'],
  ['an odd range behind a good one', ranges(GOOD, ODD), 'EINVAL', 'range-is-not-whole-pages'],
  ['I/O ports', { regionIndex: IO_BAR }, 'EINVAL', 'bar-is-not-memory'],
  ['an overflow', ranges(OVERFLOW), 'EOVERFLOW', 'range-overflows'],
  ['an end beyond the BAR', ranges(BEYOND), 'EINVAL', 'range-ends-beyond-the-bar'],
  ['a page too many', ranges([0, MIB + PAGE]), 'EINVAL', 'range-ends-beyond-the-bar'],
  ['one range beyond of two', ranges(GOOD, BEYOND), 'EINVAL', 'range-ends-beyond-the-bar'],
];

function expectNothingLeft(rig: VfioRig): void {
  expect(rig.kernel.bufferList.value).toBe(0);
  expect(rig.vdev.dmabufs.value).toEqual([]);
  expect([...rig.process.fds.value]).toEqual([]);
  expect(rig.run().findings).toEqual([]);
}

describe('An export is refused (S003-3, E.1)', () => {
  test.each(REFUSALS)('for %s', (_, changes, code, reason) => {
    const rig = new VfioRig(withMoreBars());
    const asked = request(changes);
    const error = rig.do(refused(rig.vdev.featureDmaBuf(rig.process, asked)));
    expect(error).toMatchObject({
      code,
      reason,
      call: 'ioctl(VFIO_DEVICE_FEATURE_DMA_BUF)',
      detail: { device: `0000:${OWNED}`, regionIndex: asked.regionIndex, ranges: asked.ranges },
    });
    expectNothingLeft(rig);
  });

  test.each([
    ['flags before the region', { flags: 1, regionIndex: 6 }, 'no-ranges-or-flags-set'],
    ['no ranges before the region', { ranges: [], regionIndex: 6 }, 'no-ranges-or-flags-set'],
    [
      'the region before the pages',
      { regionIndex: 6, ...ranges(ODD) },
      'region-is-not-an-assigned-bar',
    ],
    [
      'the pages before the kind of BAR',
      { regionIndex: IO_BAR, ...ranges(ODD) },
      'range-is-not-whole-pages',
    ],
    ['all pages before any end', ranges(BEYOND, ODD), 'range-is-not-whole-pages'],
    [
      'the kind of BAR before the end',
      { regionIndex: IO_BAR, ...ranges(BEYOND) },
      'bar-is-not-memory',
    ],
    ['the first range before the second', ranges(OVERFLOW, BEYOND), 'range-overflows'],
    ['and the other way round', ranges(BEYOND, OVERFLOW), 'range-ends-beyond-the-bar'],
  ] as const)('with %s', (_, changes, reason) => {
    const rig = new VfioRig(withMoreBars());
    const error = rig.do(refused(rig.vdev.featureDmaBuf(rig.process, request(changes))));
    expect(error.reason).toBe(reason);
    expectNothingLeft(rig);
  });

  test('for a range of 2^60 bytes with EINVAL', () => {
    const rig = new VfioRig();
    const asked = request(ranges([0, 2 ** 60]));
    const error = rig.do(refused(rig.vdev.featureDmaBuf(rig.process, asked)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'range-ends-beyond-the-bar' });
  });

  test('last of all, when no descriptor is free, and is undone (DB-005)', () => {
    const rig = new VfioRig();
    const { fds } = rig.process;
    const other = new KernelFile(rig.kernel, 'other', { *release(): Task {} });
    function* fill(): Task {
      while ((yield* fds.install(other)) !== null) yield* other.get();
    }
    rig.do(fill());
    const got: unknown[] = [];
    function* program(): Task {
      got.push(yield* refused(rig.vdev.featureDmaBuf(rig.process, request())));
      // The buffer was released before the call returned.
      got.push(rig.kernel.bufferList.value, rig.vdev.dmabufs.value.length);
    }
    rig.user(program());
    expect(rig.run().findings).toEqual([]);
    expect(got).toMatchObject([{ code: 'EMFILE', reason: 'descriptor-table-is-full' }, 0, 0]);
    expect(rig.events('buffer.export', 'buffer.release')).toHaveLength(3);
  });
});

describe('An export', () => {
  test('gives a descriptor of a buffer as large as its ranges', () => {
    const rig = new VfioRig();
    rig.do(rig.vdev.open());
    const asked = request(ranges([0, 2 * PAGE], [MIB - PAGE, PAGE]));
    const fd = rig.do(rig.vdev.featureDmaBuf(rig.process, asked));
    expect(fd).toBe(3);
    const buf = rig.do(DmaBuf.get(rig.process, fd));
    expect([buf.size, buf.exporterName, buf.file.refs.value]).toEqual([
      3 * PAGE,
      'vfio_pci_core',
      2,
    ]);
    expect(rig.vdev.dmabufs.value).toEqual([buf.priv]);
    expect(rig.kinds('buffer.export', 'buffer.fd')).toEqual(['buffer.export', 'buffer.fd']);
  });

  test('takes a whole BAR, its last page, and ranges that overlap or repeat', () => {
    for (const list of [
      [[0, MIB]],
      [[MIB - PAGE, PAGE]],
      [
        [0, 2 * PAGE],
        [PAGE, 2 * PAGE],
        [0, 2 * PAGE],
      ],
    ] as const) {
      const rig = new VfioRig();
      rig.do(rig.vdev.open());
      const fd = rig.do(rig.vdev.featureDmaBuf(rig.process, request(ranges(...list))));
      const buf = rig.do(DmaBuf.get(rig.process, fd));
      const importer = new FakeImporter(rig, rig.at(PEER));
      rig.do(importer.import(buf));
      const bus = rig.busAddressOf(OWNED, BAR);
      expect(importer.tables[0]?.entries).toEqual(
        list.map(([offset, length]) => ({ address: bus + offset, length })),
      );
    }
  });

  test('may be made again and again of the same memory, each its own buffer', () => {
    const rig = new VfioRig();
    const [one, other] = [rig.do(rig.open([0, 1])), rig.do(rig.exportPages([0, 1]))];
    expect([one.number, other.number]).toEqual([1, 2]);
    expect(rig.vdev.dmabufs.value).toHaveLength(2);
  });

  test("is off the device's list and freed after the last close (S003-9, S003-10)", () => {
    const rig = new VfioRig();
    const buf = rig.do(rig.open([0, 1]));
    expect(rig.vdev.dmabufs.value).toEqual([buf.priv]);
    rig.user(rig.process.close(3));
    rig.run();
    expectNothingLeft(rig);
  });

  test('of a device whose memory is off is made, but revoked; it works once it is on (N32)', () => {
    const rig = new VfioRig();
    rig.do(rig.vdev.open());
    rig.do(rig.setMemory(false));
    const buf = rig.do(rig.exportPages([0, 1]));
    expect(rig.isRevoked(buf)).toBe(true);
    const importer = new FakeImporter(rig, rig.at(PEER));
    expect(rig.do(refused(importer.attach(buf)))).toMatchObject({
      code: 'ENODEV',
      reason: 'attach-to-revoked-memory',
    });
    rig.do(rig.setMemory(true));
    expect(rig.isRevoked(buf)).toBe(false);
    rig.do(importer.import(buf));
    rig.write(PEER, importer.tables[0]?.entries[0]?.address ?? 0, [1]);
    expect(rig.device(OWNED).bar(BAR).writes).toEqual([{ offset: 0, bytes: [1] }]);
    rig.do(importer.unmap());
  });
});
