/** Goal: what a udmabuf does once it is there: maps, the CPU's bracket, pins, bytes. */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_BUF_SYNC,
  type DmaDirection,
  dmaBufSync,
  F,
  F_SEAL,
  MAP,
  PAGE_SIZE,
} from '../../src/base/index.ts';
import type { Attachment, DmaBuf, SgTable } from '../../src/framework/index.ts';
import type { Device, Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { FAR, NEAR } from './dma-heap-rig.ts';
import { FILE_SIZE, UdmabufRig } from './udmabuf-rig.ts';

const { READ, WRITE, RW, END } = DMA_BUF_SYNC;

interface Mapped {
  readonly attachment: Attachment;
  readonly table: SgTable;
}

function* map(
  buf: DmaBuf,
  device: Device,
  direction: DmaDirection = 'bidirectional',
): Task<Mapped> {
  const attachment = yield* buf.attach(device);
  return { attachment, table: yield* locked(buf.resv, attachment.mapAttachment(direction)) };
}

function* unmap(buf: DmaBuf, { attachment, table }: Mapped): Task {
  yield* locked(buf.resv, attachment.unmapAttachment(table, 'bidirectional'));
  yield* buf.detach(attachment);
}

/** `DMA_BUF_IOCTL_SYNC`. */
function* sync(rig: UdmabufRig, fd: number, flags: number): Task {
  const at = yield* rig.sys.alloc(PAGE_SIZE);
  yield* rig.sys.store(at, dmaBufSync.encode({ flags: BigInt(flags) }));
  yield* rig.sys.ioctl(fd, DMA_BUF_IOCTL.SYNC, at);
}

/** How often a cache was cleaned and invalidated, of all pages of the buffer. */
function maintenance(rig: UdmabufRig): readonly [cleaned: number, invalidated: number] {
  const sizes = (kind: 'cache.clean' | 'cache.invalidate'): number =>
    rig.trace.reduce((sum, event) => sum + (event.kind === kind ? event.size : 0), 0) / FILE_SIZE;
  return [sizes('cache.clean'), sizes('cache.invalidate')];
}

describe('A map of a udmabuf in a process', () => {
  test('is shared: MAP_PRIVATE is EINVAL (N19, E.2)', () => {
    const rig = new UdmabufRig();
    const { fd } = rig.do(rig.buffer());
    const error = rig.do(refused(rig.map(fd, FILE_SIZE, MAP.PRIVATE)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'private-map-of-a-udmabuf' });
    expect(rig.do(rig.map(fd))).toBeGreaterThan(0);
  });

  test('beyond the size is EINVAL (N19, E.2)', () => {
    const rig = new UdmabufRig();
    const { fd } = rig.do(rig.buffer());
    expect(rig.do(refused(rig.map(fd, FILE_SIZE + 1))).code).toBe('EINVAL');
    expect(rig.do(refused(rig.map(fd, PAGE_SIZE, MAP.SHARED, FILE_SIZE))).code).toBe('EINVAL');
    rig.do(rig.map(fd, PAGE_SIZE, MAP.SHARED, FILE_SIZE - PAGE_SIZE));
  });

  test('has no pages until one is touched, and then all (E.2)', () => {
    const rig = new UdmabufRig();
    const { buf, memfd } = rig.do(rig.buffer());
    const vma = rig.do(rig.mmap(buf, { pgoff: 2, size: 5 * PAGE_SIZE }));
    expect(vma.value.size).toBe(0);
    rig.do(rig.stores(vma, 3 * PAGE_SIZE + 1, [4, 5]));
    expect([...vma.value.keys()]).toEqual([0, 1, 2, 3, 4]);
    const file = rig.do(rig.map(memfd));
    expect(rig.do(rig.peek(file, 5 * PAGE_SIZE + 1, 2))).toEqual([4, 5]);
  });

  test('beyond the end is a bus error (E.2)', () => {
    const rig = new UdmabufRig();
    const { buf } = rig.do(rig.buffer(PAGE_SIZE));
    const vma = rig.do(rig.mmap(buf));
    // As mremap(2) would leave it.
    vma.pgoff = 1;
    const error = rig.do(refused(rig.loads(vma, 0, 1)));
    expect(error).toMatchObject({ code: 'EFAULT', reason: 'bus-error-beyond-the-udmabuf' });
  });
});

describe('The pages of a udmabuf', () => {
  test('stay when the memfd is closed (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const { fd, memfd } = yield* rig.buffer();
        const at = yield* rig.map(fd);
        yield* rig.poke(at, 100, [1, 2]);
        yield* rig.sys.close(memfd);
        expect(yield* rig.peek(at, 100, 2)).toEqual([1, 2]);
        yield* rig.sys.close(fd);
        expect(yield* rig.peek(at, 100, 2)).toEqual([1, 2]);
        yield* rig.end();
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.kernel.bufferList.value).toBe(0);
  });

  test('are pinned: no WRITE seal while the buffer lives, EBUSY (E.2, B025)', () => {
    const rig = new UdmabufRig();
    const { fd, memfd } = rig.do(rig.buffer());
    const seal = (): Task<number> => rig.sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.WRITE);
    expect(rig.do(refused(seal()))).toMatchObject({ code: 'EBUSY' });
    rig.do(rig.sys.close(fd));
    rig.do(seal());
  });

  test('are those that the file had, in pieces as they lie in memory', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const memfd = yield* rig.memfd();
        const file = yield* rig.map(memfd);
        yield* rig.poke(file, 3 * PAGE_SIZE, [1]);
        const between = yield* rig.machine.memory.allocate(1);
        expect(between).not.toBeNull();
        const buf = yield* rig.bufOf(yield* rig.create({ memfd, size: 4 * PAGE_SIZE }));
        const { table } = yield* map(buf, rig.at(NEAR));
        const lengths = table.entries.map(({ length }) => length);
        expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(4 * PAGE_SIZE);
        expect(lengths).toEqual([3 * PAGE_SIZE, PAGE_SIZE]);
      })(),
    );
  });
});

describe('The exporter of a udmabuf', () => {
  test('makes a fresh table for each mapping (E.2)', () => {
    const rig = new UdmabufRig(wideMachine({ iommu: 'translated' }));
    rig.do(
      (function* (): Task {
        const { buf } = yield* rig.buffer();
        const near = yield* map(buf, rig.at(NEAR));
        const again = yield* locked(buf.resv, near.attachment.mapAttachment('bidirectional'));
        const far = yield* map(buf, rig.at(FAR));
        yield* rig.deviceWrites(rig.at(NEAR), near.table, 4095, [1, 2]);
        expect(yield* rig.deviceReads(rig.at(NEAR), again, 4095, 2)).toEqual([1, 2]);
        expect(yield* rig.deviceReads(rig.at(FAR), far.table, 4095, 2)).toEqual([1, 2]);
        yield* locked(buf.resv, near.attachment.unmapAttachment(again, 'bidirectional'));
        yield* unmap(buf, near);
        yield* unmap(buf, far);
        yield* rig.end();
      })(),
    );
    expect(rig.warnings).toEqual([]);
    expect(rig.at(NEAR).domain.value?.value).toEqual([]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('maps and unmaps without cache maintenance (E.2)', () => {
    const rig = new UdmabufRig(wideMachine({ coherentDma: false }));
    rig.do(
      (function* (): Task {
        const { buf } = yield* rig.buffer();
        const before = maintenance(rig);
        yield* unmap(buf, yield* map(buf, rig.at(NEAR)));
        expect(maintenance(rig)).toEqual(before);
      })(),
    );
  });

  test('maps the buffer into the kernel (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const { buf, memfd } = yield* rig.buffer();
        const kernelMap = yield* buf.vmapUnlocked();
        yield* kernelMap.store(8190, Uint8Array.of(1, 2, 3, 4));
        yield* buf.vunmapUnlocked(kernelMap);
        expect(yield* rig.peek(yield* rig.map(memfd), 8190, 4)).toEqual([1, 2, 3, 4]);
      })(),
    );
  });
});

describe('The bracket of a udmabuf', () => {
  test('cannot end before it ever began: EINVAL (N6, E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const { fd } = yield* rig.buffer();
        const error = yield* refused(sync(rig, fd, RW | END));
        expect(error).toMatchObject({ code: 'EINVAL', reason: 'end-without-any-begin' });
        yield* sync(rig, fd, RW);
        yield* sync(rig, fd, RW | END);
        // It is not counted: one begin is enough for ever.
        yield* sync(rig, fd, RW | END);
      })(),
    );
  });

  test('has one table, in the direction of the first begin (E.2)', () => {
    const rig = new UdmabufRig(wideMachine({ coherentDma: false }));
    rig.do(
      (function* (): Task {
        const { fd } = yield* rig.buffer();
        yield* sync(rig, fd, READ);
        expect(maintenance(rig)).toEqual([0, 1]);
        yield* sync(rig, fd, READ | END);
        expect(maintenance(rig)).toEqual([1, 1]);
        yield* sync(rig, fd, READ);
        expect(maintenance(rig)).toEqual([1, 2]);
        expect(rig.warnings).toEqual([]);
        // Linux notices with CONFIG_DMA_API_DEBUG.
        yield* sync(rig, fd, WRITE);
        expect(rig.warnings).toEqual([expect.stringContaining('another device or direction')]);
        yield* rig.end();
      })(),
    );
    expect(rig.warnings).toHaveLength(1);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('is through the device of the driver, whoever is attached (E.2, B120)', () => {
    const rig = new UdmabufRig(wideMachine({ coherentDma: false }));
    rig.do(
      (function* (): Task {
        const { fd } = yield* rig.buffer();
        yield* sync(rig, fd, RW);
        yield* sync(rig, fd, RW | END);
        // Nobody is.
        expect(maintenance(rig)).toEqual([1, 1]);
      })(),
    );
  });

  test('is not guarded: two first begins at once lose a table (E.2)', () => {
    const rig = new UdmabufRig();
    const { buf } = rig.do(rig.buffer());
    for (const name of ['one', 'other']) rig.user(buf.beginCpuAccess('bidirectional'), name);
    rig.user(endLater(rig), 'closer');
    const { findings } = rig.run();
    const leaks = findings.filter(({ kind }) => kind === 'leak').map(({ title }) => title);
    expect(leaks).toEqual([expect.stringContaining('udmabuf sg_table')]);
  });
});

/** Ends the program when nobody else can go on. */
function* endLater(rig: UdmabufRig): Task {
  yield* rig.scheduler.sleep(1);
  yield* rig.end();
}

describe.each([true, false])('Where DMA is coherent: %s, a udmabuf', (coherentDma) => {
  test('shows a device what the program wrote in its bracket, and back (AC-18)', () => {
    const rig = new UdmabufRig(wideMachine({ coherentDma }));
    rig.do(
      (function* (): Task {
        const { buf, fd, memfd } = yield* rig.buffer();
        const mapped = yield* map(buf, rig.at(NEAR));
        const shared = yield* rig.map(fd);
        const file = yield* rig.map(memfd);
        yield* sync(rig, fd, RW);
        yield* rig.poke(shared, 4094, [1, 2, 3, 4]);
        yield* sync(rig, fd, RW | END);
        expect(yield* rig.deviceReads(rig.at(NEAR), mapped.table, 4094, 4)).toEqual([1, 2, 3, 4]);
        yield* rig.deviceWrites(rig.at(NEAR), mapped.table, 4094, [5, 6, 7, 8]);
        yield* sync(rig, fd, RW);
        expect(yield* rig.peek(shared, 4094, 4)).toEqual([5, 6, 7, 8]);
        // Through the memfd as well.
        expect(yield* rig.peek(file, 4094, 4)).toEqual([5, 6, 7, 8]);
        yield* sync(rig, fd, RW | END);
        yield* unmap(buf, mapped);
        yield* rig.end();
      })(),
    );
    expect(rig.warnings).toEqual([]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });
});

describe('Where devices do not see the cache, a udmabuf', () => {
  test('is stale without its bracket, on either side (AC-18)', () => {
    const rig = new UdmabufRig(wideMachine({ coherentDma: false }));
    rig.do(
      (function* (): Task {
        const { buf, fd } = yield* rig.buffer();
        const shared = yield* rig.map(fd);
        const device = rig.at(NEAR);
        yield* rig.poke(shared, 0, [1, 2]);
        // Not even the map helps: it leaves the cache alone.
        const mapped = yield* map(buf, device);
        expect(yield* rig.deviceReads(device, mapped.table, 0, 2)).toEqual([0, 0]);
        yield* sync(rig, fd, RW);
        yield* rig.poke(shared, 0, [1, 2]);
        yield* sync(rig, fd, RW | END);
        expect(yield* rig.deviceReads(device, mapped.table, 0, 2)).toEqual([1, 2]);
        yield* rig.deviceWrites(device, mapped.table, 0, [3, 4]);
        expect(yield* rig.peek(shared, 0, 2)).toEqual([1, 2]);
        yield* sync(rig, fd, WRITE);
        // The wrong direction.
        expect(yield* rig.peek(shared, 0, 2)).toEqual([1, 2]);
        yield* sync(rig, fd, READ);
        expect(yield* rig.peek(shared, 0, 2)).toEqual([3, 4]);
        yield* unmap(buf, mapped);
        yield* rig.end();
      })(),
    );
    expect(rig.warnings).toEqual([]);
    expect(rig.stale).toEqual([
      expect.stringMatching(/^0000:03:00.0 reads stale bytes/),
      expect.stringMatching(/^cpu reads stale bytes/),
    ]);
  });
});

describe('Every step of a udmabuf that may fail', () => {
  test('fails with an error number and leaves nothing', () => {
    const reasons = UdmabufRig.reasonsOf(() => new UdmabufRig(), useOne);
    expect([...reasons]).toEqual(
      expect.arrayContaining([
        'no-memory-for-the-items',
        'no-memory-for-a-udmabuf',
        'no-memory-for-the-pages-of-a-udmabuf',
        'no-memory-for-the-folios-of-a-udmabuf',
        'no-memory-for-a-dma-buf',
        'no-memory-for-a-udmabuf-table',
        'no-room-for-the-udmabuf',
        'descriptor-table-is-full',
      ]),
    );
  });
});

/** Makes a buffer of a list and uses all of it; cleans up whatever happens. */
function* useOne(rig: UdmabufRig): Task {
  const memfd = yield* rig.memfd();
  const fd = yield* rig.createList([{ memfd }, { memfd, size: PAGE_SIZE }]);
  const buf = yield* rig.bufOf(fd);
  const attachment = yield* buf.attach(rig.at(NEAR));
  try {
    const table = yield* locked(buf.resv, attachment.mapAttachment('bidirectional'));
    yield* locked(buf.resv, attachment.unmapAttachment(table, 'bidirectional'));
    yield* sync(rig, fd, RW);
    yield* sync(rig, fd, RW | END);
    yield* buf.vunmapUnlocked(yield* buf.vmapUnlocked());
  } finally {
    yield* buf.detach(attachment);
  }
}
