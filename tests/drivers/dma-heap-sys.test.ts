/** Goal: a program that knows system calls only gets along with heaps. */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_MAGIC,
  DMA_HEAP_IOCTL,
  dmaHeapAllocationData,
  F,
  FD_CLOEXEC,
  ioctlNumber,
  MAP,
  O,
  PROT,
  SEEK,
  type UserAddr,
} from '../../src/base/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CMA, HeapRig, NEAR, SYSTEM } from './dma-heap-rig.ts';

const KIB = 1024;

/** `DMA_HEAP_IOCTL_ALLOC` as a program does it. */
function* alloc({ sys }: HeapRig, path: string, len: number, fdFlags: number): Task<number> {
  const heap = yield* sys.open(path, O.RDONLY | O.CLOEXEC);
  const at = yield* sys.alloc(dmaHeapAllocationData.size);
  yield* sys.store(at, dmaHeapAllocationData.encode({ len: BigInt(len), fdFlags }));
  expect(yield* sys.ioctl(heap, DMA_HEAP_IOCTL.ALLOC, at)).toBe(0);
  yield* sys.close(heap);
  return dmaHeapAllocationData.decode(yield* sys.load(at, dmaHeapAllocationData.size)).fd;
}

function* map({ sys }: HeapRig, fd: number, length: number, flags: number): Task<UserAddr> {
  return yield* sys.mmap({ length, prot: PROT.READ | PROT.WRITE, flags, fd, offset: 0 });
}

describe.each([SYSTEM, CMA])('A program with a buffer of %s', (path) => {
  test('sees a dma-buf of its size (E.3)', () => {
    const rig = new HeapRig();
    const { sys } = rig;
    rig.do(
      (function* (): Task {
        const fd = yield* alloc(rig, path, 5000, O.RDWR | O.CLOEXEC);
        expect(yield* sys.lseek(fd, 0, SEEK.END)).toBe(8 * KIB);
        expect(yield* sys.fstatfs(fd)).toBe(DMA_BUF_MAGIC);
        expect(yield* sys.fcntl(fd, F.GETFD, 0)).toBe(FD_CLOEXEC);
        expect(yield* sys.readFile(`/proc/self/fdinfo/${fd}`)).toContain(
          `exp_name:\t${path.replace('/dev/dma_heap/', '')}\n`,
        );
        const other = yield* alloc(rig, path, 1, O.RDWR);
        expect(yield* sys.fcntl(other, F.GETFD, 0)).toBe(0);
        yield* sys.exit(0);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.area.value).toEqual([]);
  });

  test('may not map a read-only one for writing: EACCES (N21, E.3)', () => {
    const rig = new HeapRig();
    const { sys } = rig;
    rig.do(
      (function* (): Task {
        const fd = yield* alloc(rig, path, 1, O.RDONLY);
        expect((yield* refused(map(rig, fd, 1, MAP.SHARED))).code).toBe('EACCES');
        const request = { length: 1, prot: PROT.READ, flags: MAP.SHARED, fd, offset: 0 };
        expect([...(yield* sys.load(yield* sys.mmap(request), 2))]).toEqual([0, 0]);
        const writeOnly = yield* alloc(rig, path, 1, O.WRONLY);
        expect((yield* refused(map(rig, writeOnly, 1, MAP.SHARED))).code).toBe('EACCES');
      })(),
    );
  });

  test('keeps the memory by its map alone, and shares it with a child', () => {
    const rig = new HeapRig();
    const { sys } = rig;
    rig.do(
      (function* (): Task {
        const fd = yield* alloc(rig, path, 68 * KIB, O.RDWR);
        const at = yield* map(rig, fd, 68 * KIB, MAP.SHARED);
        yield* sys.close(fd);
        const last = (at + 68 * KIB - 1) as UserAddr;
        const pid = yield* sys.fork(function* (child): Task {
          yield* child.store(last, Uint8Array.of(7));
          yield* child.exit(0);
        });
        yield* sys.waitpid(pid);
        expect([...(yield* sys.load(last, 1))]).toEqual([7]);
        yield* sys.munmap(at, 68 * KIB);
        yield* sys.exit(0);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.area.value).toEqual([]);
  });

  test('gets EINVAL for another ioctl, as a heap has none (N7, E.3)', () => {
    const rig = new HeapRig();
    const { sys } = rig;
    rig.do(
      (function* (): Task {
        const heap = yield* sys.open(path, O.RDWR);
        const error = yield* refused(sys.ioctl(heap, ioctlNumber('rw', 'H', 1, 24), 0));
        expect(error).toMatchObject({ code: 'EINVAL', reason: 'unknown-heap-ioctl' });
      })(),
    );
  });
});

describe('A private map of a buffer of the system heap', () => {
  test('keeps what the program writes to itself (E.3)', () => {
    const rig = new HeapRig();
    const { sys } = rig;
    rig.do(
      (function* (): Task {
        const fd = yield* alloc(rig, SYSTEM, 64 * KIB, O.RDWR);
        const shared = yield* map(rig, fd, 64 * KIB, MAP.SHARED);
        const own = yield* map(rig, fd, 64 * KIB, MAP.PRIVATE);
        yield* sys.store(shared, Uint8Array.of(1, 2));
        expect([...(yield* sys.load(own, 2))]).toEqual([1, 2]);
        yield* sys.store(own, Uint8Array.of(9));
        expect([...(yield* sys.load(own, 2))]).toEqual([9, 2]);
        expect([...(yield* sys.load(shared, 2))]).toEqual([1, 2]);
        yield* sys.exit(0);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });
});

describe.each([SYSTEM, CMA])('Every step of a buffer of %s that may fail', (path) => {
  test('fails with an error number and leaves nothing', () => {
    const reasons = HeapRig.reasonsOf(
      () => new HeapRig(),
      (rig) => useOne(rig, path),
    );
    const own =
      path === SYSTEM
        ? [
            'no-memory-for-the-heap-buffer',
            'no-pages-for-the-heap-buffer',
            'no-memory-for-the-heap-buffers-table',
          ]
        : ['no-memory-for-the-cma-buffer', 'no-memory-for-the-cma-buffers-pages'];
    expect([...reasons]).toEqual(
      expect.arrayContaining([
        ...own,
        'no-memory-for-the-argument',
        'no-memory-for-a-dma-buf',
        'no-descriptor-for-the-heap-buffer',
        'no-memory-for-the-heap-attachment',
        'no-memory-for-the-attachments-table',
        'no-room-for-the-heap-buffer',
      ]),
    );
  });
});

/** Makes a buffer, with a long argument, and uses all of it; cleans up whatever happens. */
function* useOne(rig: HeapRig, path: string): Task {
  const { fd } = yield* rig.allocIoctl(path, { len: 4096n }, ioctlNumber('rw', 'H', 0, 200));
  const buf = yield* rig.bufOf(fd);
  const attachment = yield* buf.attach(rig.at(NEAR));
  try {
    const table = yield* locked(buf.resv, attachment.mapAttachment('bidirectional'));
    yield* locked(buf.resv, attachment.unmapAttachment(table, 'bidirectional'));
    yield* buf.vunmapUnlocked(yield* buf.vmapUnlocked());
  } finally {
    yield* buf.detach(attachment);
  }
}
