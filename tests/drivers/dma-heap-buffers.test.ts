/** Goal: what a heap's buffer is made of, and what its exporter does, callback by callback. */

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import type { Attachment, DmaBuf, SgTable } from '../../src/framework/index.ts';
import type { Device, Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { CMA, CMA_SIZE, FAR, HeapRig, NEAR, SYSTEM } from './dma-heap-rig.ts';

const KIB = 1024;
const MIB = 2 ** 20;

/** What a device sees of a buffer. */
interface Mapped {
  readonly attachment: Attachment;
  readonly table: SgTable;
}

function* map(buf: DmaBuf, device: Device): Task<Mapped> {
  const attachment = yield* buf.attach(device);
  return { attachment, table: yield* locked(buf.resv, attachment.mapAttachment('bidirectional')) };
}

function* unmap(buf: DmaBuf, { attachment, table }: Mapped): Task {
  yield* locked(buf.resv, attachment.unmapAttachment(table, 'bidirectional'));
  yield* buf.detach(attachment);
}

/** Maps a fresh buffer for a device and gives back the lengths of its pieces. */
function lengthsOf(rig: HeapRig, path: string, size: number): readonly number[] {
  return rig.do(
    (function* (): Task<readonly number[]> {
      const buf = yield* rig.alloc(path, size);
      const mapped = yield* map(buf, rig.at(NEAR));
      yield* unmap(buf, mapped);
      return mapped.table.entries.map(({ length }) => length);
    })(),
  );
}

describe('A buffer of the system heap', () => {
  test.each([
    [4 * KIB, [4 * KIB]],
    [64 * KIB, [64 * KIB]],
    [MIB, [MIB]],
    [MIB + 68 * KIB, [MIB, 64 * KIB, 4 * KIB]],
    [2 * MIB + 8 * KIB, [MIB, MIB, 4 * KIB, 4 * KIB]],
  ])('of %i bytes is in chunks of 1 MiB, 64 KiB and 4 KiB (E.3)', (size, chunks) => {
    expect(lengthsOf(new HeapRig(), SYSTEM, size)).toEqual(chunks);
  });

  test('does not lie in one piece, and leaves no page busy between (E.3)', () => {
    const rig = new HeapRig();
    const { entries } = rig.do(
      (function* (): Task<SgTable> {
        const buf = yield* rig.alloc(SYSTEM, MIB + 68 * KIB);
        return (yield* map(buf, rig.at(NEAR))).table;
      })(),
    );
    const [first, second, third] = entries.map(({ address }) => address);
    expect(second).toBe((first ?? 0) + MIB + PAGE_SIZE);
    expect(third).not.toBe((second ?? 0) + 64 * KIB);
    // One page is the ioctl's argument.
    expect(rig.machine.memory.pagesInUse).toBe(256 + 16 + 1 + 1);
  });

  test('takes smaller chunks where there are no larger ones, to the last page (E.3)', () => {
    // 256 pages are free; the program needs one.
    const memory = [{ node: 0, start: 0, size: 2 * MIB }];
    const rig = new HeapRig({ ...wideMachine(), memory }, [SYSTEM]);
    const lengths = lengthsOf(rig, SYSTEM, 255 * PAGE_SIZE);
    expect(lengths.slice(0, 15)).toEqual(Array(15).fill(64 * KIB));
    expect(lengths.slice(15).every((length) => length === PAGE_SIZE)).toBe(true);
    rig.do(rig.end());
    const error = rig.do(refused(rig.alloc(SYSTEM, 256 * PAGE_SIZE)));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-pages-for-the-heap-buffer' });
    // The argument's.
    expect(rig.machine.memory.pagesInUse).toBe(1);
  });

  test('is zero, whatever was in its pages before', () => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        for (const path of [SYSTEM, CMA, SYSTEM, CMA]) {
          const { fd } = yield* rig.allocIoctl(path, { len: 8192n });
          const buf = yield* rig.bufOf(fd);
          const vma = yield* rig.mmap(buf);
          expect(yield* rig.loads(vma, 4090, 12)).toEqual(Array(12).fill(0));
          yield* rig.stores(vma, 4090, Array(12).fill(7));
          yield* rig.process.mm.unmap(vma.start, vma.size);
          yield* rig.process.close(fd);
        }
      })(),
    );
  });

  test('is one piece for a device behind an IOMMU', () => {
    const rig = new HeapRig(wideMachine({ iommu: 'translated' }));
    const { entries } = rig.do(
      (function* (): Task<SgTable> {
        const buf = yield* rig.alloc(SYSTEM, 72 * KIB);
        return (yield* map(buf, rig.at(NEAR))).table;
      })(),
    );
    const [first, second] = entries;
    expect(second?.address).toBe((first?.address ?? 0) + (first?.length ?? 0));
  });

  test('ends its allocation when the thread is killed: EINTR (E.3)', () => {
    const rig = new HeapRig();
    const before = rig.machine.memory.pagesInUse;
    const error = rig.do(
      (function* (): Task<unknown> {
        const me = rig.scheduler.current ?? expect.fail('an actor');
        yield* rig.kernel.signals.kill(me);
        return yield* refused(rig.allocIoctl(SYSTEM, { len: 4096n }));
      })(),
    );
    expect(error).toMatchObject({ code: 'EINTR', reason: 'killed-while-allocating' });
    expect(rig.machine.memory.pagesInUse).toBe(before + 1);
  });
});

describe('A buffer of the CMA heap', () => {
  test('is one piece from the area (E.3)', () => {
    expect(lengthsOf(new HeapRig(), CMA, MIB + 68 * KIB)).toEqual([MIB + 68 * KIB]);
  });

  test('is aligned to its size, up to 1 MiB (E.3)', () => {
    const rig = new HeapRig();
    const starts = [1, 3, 16, 200, 300].map((pages) => {
      rig.do(rig.alloc(CMA, pages * PAGE_SIZE));
      return rig.area.value.map(({ start }) => start);
    });
    expect(starts.at(-1)?.every((start) => rig.area.holds(start))).toBe(true);
    const byPages = new Map(rig.area.value.map(({ start, size }) => [size / PAGE_SIZE, start]));
    expect([...byPages].map(([pages]) => pages).sort((a, b) => a - b)).toEqual([
      1, 3, 16, 200, 300,
    ]);
    for (const [pages, align] of [
      [3, 4],
      [16, 16],
      [200, 256],
      [300, 256],
    ] as const) {
      expect((byPages.get(pages) ?? 1) % (align * PAGE_SIZE)).toBe(0);
    }
  });

  test('cannot be larger than what is free in one piece: ENOMEM (E.3)', () => {
    const rig = new HeapRig();
    const whole = rig.do(rig.alloc(CMA, CMA_SIZE));
    const error = rig.do(refused(rig.alloc(CMA, 1)));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-room-in-the-cma-area' });
    rig.do(rig.end());
    expect(whole.isFreed).toBe(true);
    expect(rig.area.value).toEqual([]);
  });

  test('that cannot be mapped says ENOMEM, whatever the cause (E.3)', () => {
    const rig = new HeapRig(wideMachine({ iommu: 'translated' }));
    const reasons: Record<string, string> = {};
    for (const path of [SYSTEM, CMA]) {
      const buf = rig.do(rig.alloc(path, 4096));
      const device = rig.at(FAR);
      useUpAddresses(device);
      const error = rig.do(refused(map(buf, device)));
      expect(error.code).toBe('ENOMEM');
      reasons[path] = error.reason;
    }
    expect(reasons[SYSTEM]).not.toBe('cma-buffer-not-mapped');
    expect(reasons[CMA]).toBe('cma-buffer-not-mapped');
  });

  test('that the kernel still maps at its release is a kernel warning (E.3)', () => {
    const rig = new HeapRig();
    const buf = rig.do(rig.alloc(CMA, 4096));
    // Past the core, which would stop the kernel.
    rig.do(locked(buf.resv, buf.ops.vmap?.(buf) ?? expect.fail('vmap')));
    rig.do(rig.end());
    expect(rig.warnings).toEqual([expect.stringContaining('the kernel still maps the buffer')]);
    expect(rig.area.value).toEqual([]);
  });
});

describe.each([SYSTEM, CMA])('The exporter of %s', (path) => {
  test('gives every attachment a table of its own (E.3)', () => {
    const rig = new HeapRig(wideMachine({ iommu: 'translated' }));
    rig.do(
      (function* (): Task {
        const buf = yield* rig.alloc(path, 8192);
        const near = yield* map(buf, rig.at(NEAR));
        const far = yield* map(buf, rig.at(FAR));
        expect(near.table).not.toBe(far.table);
        yield* rig.deviceWrites(rig.at(NEAR), near.table, 5000, [1, 2, 3]);
        expect(yield* rig.deviceReads(rig.at(FAR), far.table, 5000, 3)).toEqual([1, 2, 3]);
        yield* unmap(buf, near);
        expect(yield* rig.deviceReads(rig.at(FAR), far.table, 5000, 3)).toEqual([1, 2, 3]);
        yield* unmap(buf, far);
        yield* rig.end();
      })(),
    );
    expect(rig.warnings).toEqual([]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('has one mapping per attachment: a second one loses the first (E.3)', () => {
    const rig = new HeapRig(wideMachine({ iommu: 'translated' }));
    rig.do(
      (function* (): Task {
        const buf = yield* rig.alloc(path, 4096);
        const { attachment, table } = yield* map(buf, rig.at(NEAR));
        const again = yield* locked(buf.resv, attachment.mapAttachment('bidirectional'));
        expect(again.entries).not.toEqual(table.entries);
        // The one table is unmapped twice; what the first mapping was stays in the IOMMU.
        yield* locked(buf.resv, attachment.unmapAttachment(table, 'bidirectional'));
        yield* locked(buf.resv, attachment.unmapAttachment(again, 'bidirectional'));
        yield* buf.detach(attachment);
      })(),
    );
    expect(rig.warnings).toEqual([
      expect.stringContaining('its one table is lost'),
      expect.stringContaining('was unmapped before'),
    ]);
    expect(rig.at(NEAR).domain.value?.value).toHaveLength(1);
  });

  test('passes over an unmap of what was never mapped', () => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        const buf = yield* rig.alloc(path, 4096);
        const attachment = yield* buf.attach(rig.at(NEAR));
        yield* locked(buf.resv, attachment.unmapAttachment({ entries: [] }, 'bidirectional'));
        yield* buf.detach(attachment);
      })(),
    );
  });

  test('maps it into the kernel once, for everybody (E.3)', () => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        const buf = yield* rig.alloc(path, 72 * KIB);
        const vma = yield* rig.mmap(buf);
        yield* rig.stores(vma, 68 * KIB - 2, [1, 2, 3, 4]);
        const map = yield* locked(buf.resv, buf.ops.vmap?.(buf) ?? expect.fail('vmap'));
        const same = yield* locked(buf.resv, buf.ops.vmap?.(buf) ?? expect.fail('vmap'));
        expect(same).toBe(map);
        expect(map.isIomem).toBe(false);
        expect([...(yield* map.load(68 * KIB - 2, 4))]).toEqual([1, 2, 3, 4]);
        yield* locked(buf.resv, buf.ops.vunmap?.(buf, map) ?? expect.fail('vunmap'));
        yield* locked(buf.resv, buf.ops.vunmap?.(buf, map) ?? expect.fail('vunmap'));
        const other = yield* locked(buf.resv, buf.ops.vmap?.(buf) ?? expect.fail('vmap'));
        expect(other).not.toBe(map);
        yield* locked(buf.resv, buf.ops.vunmap?.(buf, other) ?? expect.fail('vunmap'));
        yield* rig.process.mm.unmap(vma.start, vma.size);
      })(),
    );
    expect(rig.warnings).toEqual([]);
  });
});

describe('A map of a heap buffer in a process', () => {
  test('has all pages at once if it is of the system heap (E.3)', () => {
    const rig = new HeapRig();
    const buf = rig.do(rig.alloc(SYSTEM, 68 * KIB));
    const vma = rig.do(rig.mmap(buf, { size: 8192, pgoff: 15 }));
    expect(vma.value.size).toBe(2);
    rig.do(rig.stores(vma, 4095, [1, 2]));
    expect(rig.do(rig.loads(rig.do(rig.mmap(buf)), 64 * KIB - 1, 2))).toEqual([1, 2]);
  });

  test('has pages when they are touched if it is of the CMA heap (E.3)', () => {
    const rig = new HeapRig();
    const buf = rig.do(rig.alloc(CMA, 5 * PAGE_SIZE));
    const vma = rig.do(rig.mmap(buf, { size: 3 * PAGE_SIZE, pgoff: 2 }));
    expect(vma.value.size).toBe(0);
    rig.do(rig.stores(vma, PAGE_SIZE - 1, [1, 2]));
    expect([...vma.value.keys()]).toEqual([0, 1]);
    expect(rig.do(rig.loads(rig.do(rig.mmap(buf)), 3 * PAGE_SIZE - 1, 2))).toEqual([1, 2]);
  });

  test('of the CMA heap beyond the end is a bus error', () => {
    const rig = new HeapRig();
    const buf = rig.do(rig.alloc(CMA, PAGE_SIZE));
    const vma = rig.do(rig.mmap(buf));
    // As mremap(2) would leave it.
    vma.pgoff = 1;
    const error = rig.do(refused(rig.loads(vma, 0, 1)));
    expect(error).toMatchObject({ code: 'EFAULT', reason: 'bus-error-beyond-the-cma-buffer' });
  });

  test('may be private for the system heap, not for CMA: EINVAL (E.3)', () => {
    const rig = new HeapRig();
    const system = rig.do(rig.alloc(SYSTEM, 64 * KIB));
    const vma = rig.do(rig.mmap(system, { isShared: false }));
    expect(vma.value.size).toBe(16);
    const cma = rig.do(rig.alloc(CMA, 64 * KIB));
    const error = rig.do(refused(rig.mmap(cma, { isShared: false })));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'private-map-of-a-cma-buffer' });
  });

  test.each([
    [0, 17, false],
    [15, 2, false],
    [0, 16, true],
    [16, 1, true],
    [3, 13, true],
  ])('that is private, from page %i, %i pages, lies in one chunk', (pgoff, pages, fits) => {
    const rig = new HeapRig();
    const buf = rig.do(rig.alloc(SYSTEM, 68 * KIB));
    const asked = { pgoff, size: pages * PAGE_SIZE, isShared: false };
    if (fits) expect(rig.do(rig.mmap(buf, asked)).value.size).toBe(pages);
    else {
      const error = rig.do(refused(rig.mmap(buf, asked)));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'private-map-of-several-chunks' });
    }
  });
});
