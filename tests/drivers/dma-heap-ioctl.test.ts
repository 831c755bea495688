/** Goal: what `/dev/dma_heap` is asked and answers, error by error, in Linux's order. */

import { describe, expect, test } from 'vitest';
import {
  DMA_HEAP_IOCTL,
  dmaHeapAllocationData,
  ioctlNumber,
  O,
  PAGE_SIZE,
} from '../../src/base/index.ts';
import {
  DMA_HEAP_MINORS,
  type DmaHeapOps,
  DmaHeaps,
  reserveCmaArea,
} from '../../src/drivers/index.ts';
import type { DmaBuf } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { KernelRig } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CMA, CMA_SIZE, HeapRig, SYSTEM } from './dma-heap-rig.ts';

const NO_OPS: DmaHeapOps = {
  *allocate(): Task<DmaBuf> {
    return expect.fail('nobody allocates');
  },
};

describe('dma_heap_add', () => {
  test('adds a node below /dev/dma_heap (E.3)', () => {
    const { kernel } = new HeapRig();
    const paths = kernel.nodes.paths.filter((path) => path.startsWith('/dev/dma_heap/'));
    expect(paths).toEqual([SYSTEM, CMA]);
  });

  test.each([
    ['without a name', { name: '', ops: NO_OPS }, 'heap-without-a-name'],
    ['without allocate', { name: 'new', ops: null }, 'heap-that-cannot-allocate'],
    ['of a name that is there', { name: 'system', ops: NO_OPS }, 'heap-of-that-name-is-there'],
  ])('refuses a heap %s with EINVAL (E.3)', (_, info, reason) => {
    const { heaps } = new HeapRig();
    expect(() => heaps.add(info)).toThrow(expect.objectContaining({ code: 'EINVAL', reason }));
    expect(heaps.all.map(({ name }) => name)).toEqual(['system', 'default_cma_region']);
  });

  test('has 128 minors (E.3)', () => {
    const heaps = new DmaHeaps(new KernelRig().kernel);
    for (let i = 0; i < DMA_HEAP_MINORS; i += 1) heaps.add({ name: `heap ${i}`, ops: NO_OPS });
    const error = expect.objectContaining({ code: 'EBUSY', reason: 'no-minor-left-for-a-heap' });
    expect(() => heaps.add({ name: 'one more', ops: NO_OPS })).toThrow(error);
  });
});

describe('DMA_HEAP_IOCTL_ALLOC', () => {
  test.each([SYSTEM, CMA])('of %s tells the descriptor of a buffer (E.3)', (path) => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        const told = yield* rig.allocIoctl(path, { len: 8192n });
        expect(told).toEqual({ len: 8192n, fd: 3, fdFlags: O.RDWR | O.CLOEXEC, heapFlags: 0n });
        const buf = yield* rig.bufOf(3);
        expect(buf.size).toBe(8192);
        expect(`/dev/dma_heap/${buf.exporterName}`).toBe(path);
        yield* rig.end();
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.area.value).toEqual([]);
  });

  test('rounds the length up to pages: 1 byte is a buffer of 4096 (N20)', () => {
    const rig = new HeapRig();
    expect(rig.do(rig.alloc(SYSTEM, 1)).size).toBe(4096);
    expect(rig.do(rig.alloc(CMA, 4097)).size).toBe(8192);
  });

  test.each([
    ['a length of 0', { len: 0n }, 'heap-buffer-of-no-pages'],
    ['a length that wraps to 0', { len: 2n ** 64n - 1n }, 'heap-buffer-of-no-pages'],
    ['a descriptor', { len: 4096n, fd: 1 }, 'descriptor-is-an-output'],
    ['a heap flag', { len: 4096n, heapFlags: 1n }, 'unknown-heap-flags'],
    ['O_NONBLOCK', { len: 4096n, fdFlags: O.NONBLOCK }, 'unknown-descriptor-flags'],
    ['the top bit', { len: 4096n, fdFlags: 2 ** 31 }, 'unknown-descriptor-flags'],
  ])('refuses %s with EINVAL (N20, E.3)', (_, data, reason) => {
    const rig = new HeapRig();
    for (const path of [SYSTEM, CMA]) {
      const error = rig.do(refused(rig.allocIoctl(path, data)));
      expect(error).toMatchObject({ code: 'EINVAL', reason });
    }
    expect(rig.process.fds.value.size).toBe(0);
  });

  test('checks descriptor, descriptor flags, heap flags and length in this order (E.3)', () => {
    const rig = new HeapRig();
    const wrong = { len: 0n, fd: 1, fdFlags: O.NONBLOCK, heapFlags: 1n };
    const reasons: string[] = [];
    for (const better of [{}, { fd: 0 }, { fdFlags: O.RDWR }, { heapFlags: 0n }]) {
      Object.assign(wrong, better);
      reasons.push(rig.do(refused(rig.allocIoctl(SYSTEM, wrong))).reason);
    }
    expect(reasons).toEqual([
      'descriptor-is-an-output',
      'unknown-descriptor-flags',
      'unknown-heap-flags',
      'heap-buffer-of-no-pages',
    ]);
  });

  test.each([
    [O.RDONLY, { read: true, write: false }],
    [O.WRONLY, { read: false, write: true }],
    [O.RDWR, { read: true, write: true }],
  ])('opens the buffer as the access mode %i says (E.3)', (fdFlags, mode) => {
    const rig = new HeapRig();
    const { fd } = rig.do(rig.allocIoctl(SYSTEM, { len: 4096n, fdFlags }));
    expect(rig.do(rig.bufOf(fd)).file.mode).toMatchObject(mode);
  });

  test('refuses an argument that is not mapped with EFAULT (E.3)', () => {
    const rig = new HeapRig();
    const error = rig.do(refused(rig.ioctl(SYSTEM, DMA_HEAP_IOCTL.ALLOC, 0)));
    expect(error).toMatchObject({ code: 'EFAULT' });
  });

  test('drops the buffer if the answer cannot be written: EFAULT (E.3)', () => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        const bytes = dmaHeapAllocationData.encode({ len: 4096n, fdFlags: O.RDWR });
        const { phys } = yield* rig.process.allocate(PAGE_SIZE);
        yield* rig.machine.cpu.store(phys, bytes);
        const asked = { pgoff: 0, read: true, write: false, isShared: true, file: null };
        const readOnly = yield* rig.process.mm.map({ size: PAGE_SIZE, ...asked }, (vma) =>
          vma.insertPages(0, [{ phys, kind: 'ram' }]),
        );
        const call = rig.ioctl(SYSTEM, DMA_HEAP_IOCTL.ALLOC, readOnly.start);
        expect(yield* refused(call)).toMatchObject({ code: 'EFAULT' });
      })(),
    );
    expect(rig.process.fds.value.size).toBe(0);
    expect(rig.kernel.bufferList.value).toBe(0);
    expect(rig.machine.memory.pagesInUse).toBe(1);
    expect(rig.do(rig.alloc(SYSTEM, 1)).size).toBe(4096);
    expect([...rig.process.fds.value.keys()]).toEqual([3]);
  });

  test('drops the buffer if there is no descriptor left: EMFILE (E.3)', () => {
    const rig = new HeapRig();
    rig.do(
      (function* (): Task {
        const fd = (yield* rig.allocIoctl(CMA, { len: 1n })).fd;
        for (;;) {
          try {
            yield* rig.process.dup(fd);
          } catch {
            break;
          }
        }
        const before = rig.area.value.length;
        const error = yield* refused(rig.allocIoctl(CMA, { len: 1n }));
        const reason = 'no-descriptor-for-the-heap-buffer';
        expect(error).toMatchObject({ code: 'EMFILE', reason });
        yield* rig.process.exit();
        expect(before).toBe(1);
      })(),
    );
    expect(rig.area.value).toEqual([]);
  });
});

describe('The number of a heap ioctl', () => {
  test('is all that counts: magic, direction and size may differ (E.3)', () => {
    const rig = new HeapRig();
    const other = ioctlNumber('rw', 'x', 0, 24);
    expect(rig.do(rig.allocIoctl(SYSTEM, { len: 1n }, other)).fd).toBe(3);
  });

  test.each([1, 2, 255])('is refused with EINVAL if it is %i (N7, E.3)', (nr) => {
    const rig = new HeapRig();
    const error = rig.do(refused(rig.ioctl(SYSTEM, ioctlNumber('rw', 'H', nr, 24), 0)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'unknown-heap-ioctl' });
  });

  test('with a shorter struct means zeroes for the rest (E.3)', () => {
    const rig = new HeapRig();
    const short = ioctlNumber('rw', 'H', 0, 12);
    const told = rig.do(rig.allocIoctl(SYSTEM, { len: 1n, fdFlags: O.NONBLOCK }, short));
    expect(told.fd).toBe(3);
    expect(rig.do(rig.bufOf(3)).file.mode).toMatchObject({ read: true, write: false });
  });

  test('with a longer struct ignores its end (E.3)', () => {
    const rig = new HeapRig();
    const longer = ioctlNumber('rw', 'H', 0, 200);
    expect(rig.do(rig.allocIoctl(SYSTEM, { len: 1n }, longer)).fd).toBe(3);
  });

  test('that says nothing is copied in means a length of 0: EINVAL (E.3)', () => {
    const rig = new HeapRig();
    const out = ioctlNumber('r', 'H', 0, 24);
    const error = rig.do(refused(rig.allocIoctl(SYSTEM, { len: 1n }, out)));
    expect(error.reason).toBe('heap-buffer-of-no-pages');
  });

  test('that says nothing is copied out does not tell the descriptor (E.3)', () => {
    const rig = new HeapRig();
    const told = rig.do(rig.allocIoctl(SYSTEM, { len: 1n }, ioctlNumber('w', 'H', 0, 24)));
    expect(told.fd).toBe(0);
    expect([...rig.process.fds.value.keys()]).toEqual([3]);
  });
});

describe('A heap', () => {
  test('has no pages left: ENOMEM, and what it had taken is given back (E.3)', () => {
    const rig = new HeapRig();
    const more = BigInt(CMA_SIZE) + 1n;
    expect(rig.do(refused(rig.allocIoctl(CMA, { len: more })))).toMatchObject({
      code: 'ENOMEM',
      reason: 'no-room-in-the-cma-area',
    });
    // Two banks of 1 GiB, less what is reserved: more than is free, less than there is.
    for (const len of [2n ** 31n - 4096n, 2n ** 63n]) {
      const before = rig.machine.memory.pagesInUse;
      expect(rig.do(refused(rig.allocIoctl(SYSTEM, { len })))).toMatchObject({
        code: 'ENOMEM',
        reason: 'no-pages-for-the-heap-buffer',
      });
      // The argument's page stays the program's.
      expect(rig.machine.memory.pagesInUse).toBe(before + 1);
    }
  });

  test('that cannot be set aside is refused with ENOMEM', () => {
    const rig = new HeapRig();
    const error = { code: 'ENOMEM', reason: 'no-room-for-the-cma-area' };
    expect(() => reserve(rig, 2 ** 31)).toThrow(expect.objectContaining(error));
  });
});

function reserve(rig: HeapRig, size: number): void {
  reserveCmaArea(rig.machine, 'too much', size);
}
