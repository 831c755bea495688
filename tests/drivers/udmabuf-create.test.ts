/** Goal: what `/dev/udmabuf` is asked and answers, error by error, in Linux's order. */

import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  F,
  F_SEAL,
  FD_CLOEXEC,
  ioctlNumber,
  MFD,
  PAGE_SIZE,
  UDMABUF_FLAGS_CLOEXEC,
  UDMABUF_IOCTL,
  udmabufCreate,
  udmabufCreateList,
} from '../../src/base/index.ts';
import { UDMABUF_PATH } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FILE_SIZE, type Piece, UdmabufRig } from './udmabuf-rig.ts';

const MIB = 2 ** 20;
const ALL_BUT_WRITE = F_SEAL.SEAL | F_SEAL.SHRINK | F_SEAL.GROW;

/** Why a piece of a memfd with these seals is refused. Nothing of the try is left then. */
function refusal(piece: Omit<Piece, 'memfd'>, seals: number = F_SEAL.SHRINK): DmaBufError {
  const rig = new UdmabufRig();
  const memfd = rig.do(rig.memfd(FILE_SIZE, seals));
  const error = rig.do(refused(rig.create({ memfd, ...piece })));
  expectNothingLeft(rig);
  return error;
}

function expectNothingLeft(rig: UdmabufRig): void {
  expect(rig.kernel.bufferList.value).toBe(0);
  rig.do(rig.end());
  expect(rig.machine.memory.pagesInUse).toBe(0);
}

describe('UDMABUF_CREATE', () => {
  test('makes a buffer of the pages of a memfd (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const { buf, fd, memfd } = yield* rig.buffer();
        expect(buf.size).toBe(FILE_SIZE);
        expect(buf.exporterName).toBe('udmabuf');
        expect(buf.file.mode).toMatchObject({ read: true, write: true });
        const file = yield* rig.map(memfd);
        const shared = yield* rig.map(fd);
        yield* rig.poke(file, 5000, [1, 2, 3]);
        expect(yield* rig.peek(shared, 5000, 3)).toEqual([1, 2, 3]);
        yield* rig.poke(shared, PAGE_SIZE - 1, [8, 9]);
        expect(yield* rig.peek(file, PAGE_SIZE - 1, 2)).toEqual([8, 9]);
        yield* rig.end();
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('makes a buffer of a part of a memfd (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const memfd = yield* rig.memfd();
        const fd = yield* rig.create({ memfd, offset: 3 * PAGE_SIZE, size: 2 * PAGE_SIZE });
        const file = yield* rig.map(memfd);
        const shared = yield* rig.map(fd, 2 * PAGE_SIZE);
        yield* rig.poke(file, 4 * PAGE_SIZE, [1, 2, 3]);
        expect(yield* rig.peek(shared, PAGE_SIZE, 3)).toEqual([1, 2, 3]);
      })(),
    );
  });

  test('refuses an argument that is not mapped with EFAULT (E.2)', () => {
    const rig = new UdmabufRig();
    for (const number of [UDMABUF_IOCTL.CREATE, UDMABUF_IOCTL.CREATE_LIST]) {
      expect(rig.do(refused(rig.requestAt(number, 0)))).toMatchObject({ code: 'EFAULT' });
    }
  });

  test.each([
    ['an offset of 1', { offset: 1 }, 'item-is-not-whole-pages'],
    ['a size that is no page', { size: 4095 }, 'item-is-not-whole-pages'],
    ['a size of 0', { size: 0 }, 'udmabuf-of-no-pages'],
    ['a range that begins beyond the end', { offset: FILE_SIZE, size: 4096 }, 'pinned-range'],
    ['a range that ends beyond the end', { offset: 4096 }, 'pinned-range-beyond-the-file'],
    ['an offset of 2^63', { offset: 2n ** 63n, size: 4096 }, 'pinned-range-beyond-the-file'],
    ['an offset near 2^64', { offset: 2n ** 64n - 4096n }, 'pinned-range-beyond-the-file'],
    ['a size of 2^63', { size: 2n ** 63n }, 'more-pages-than-the-limit'],
  ])('refuses %s with EINVAL (N16, E.2)', (_, piece, reason) => {
    const error = refusal(piece);
    expect(error.code).toBe('EINVAL');
    expect(error.reason).toContain(reason);
  });

  test.each([
    ['no seal', 0, 'memfd-may-shrink'],
    ['all seals but SHRINK', F_SEAL.GROW | F_SEAL.SEAL, 'memfd-may-shrink'],
    ['a WRITE seal', F_SEAL.SHRINK | F_SEAL.WRITE, 'memfd-is-sealed-against-writing'],
    ['a FUTURE_WRITE seal', F_SEAL.SHRINK | F_SEAL.FUTURE_WRITE, 'memfd-is-sealed-against-writing'],
  ])('refuses a memfd with %s with EINVAL (N16, E.2, B144)', (_, seals, reason) => {
    expect(refusal({}, seals)).toMatchObject({ code: 'EINVAL', reason });
  });

  test.each([F_SEAL.SHRINK, F_SEAL.SHRINK | F_SEAL.GROW, ALL_BUT_WRITE])(
    'takes a memfd with seals %i (E.2)',
    (seals) => {
      const rig = new UdmabufRig();
      const memfd = rig.do(rig.memfd(FILE_SIZE, seals));
      expect(rig.do(rig.create({ memfd }))).toBeGreaterThan(memfd);
    },
  );

  test('refuses a memfd that was made without seals with EINVAL, as ordinary tmpfs (E.2)', () => {
    const rig = new UdmabufRig();
    const memfd = rig.do(rig.memfd(FILE_SIZE, 0, MFD.CLOEXEC));
    const error = rig.do(refused(rig.create({ memfd })));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'memfd-may-shrink' });
  });

  test('refuses a descriptor that is not open, or no memfd, with EBADFD (N16, E.2)', () => {
    const rig = new UdmabufRig();
    const { fd } = rig.do(rig.buffer());
    for (const [memfd, reason] of [
      [99, 'memfd-is-not-open'],
      [2 ** 32 - 1, 'memfd-is-not-open'],
      [fd, 'file-without-seals'],
    ] as const) {
      const error = rig.do(refused(rig.create({ memfd })));
      expect(error).toMatchObject({ code: 'EBADFD', reason });
    }
  });

  test('checks sizes, then the descriptor, then the seals, then the range (E.2)', () => {
    const rig = new UdmabufRig();
    const reasons = rig.do(
      (function* (): Task<string[]> {
        const open = yield* rig.memfd(FILE_SIZE, 0);
        const sealed = yield* rig.memfd();
        const pieces = [
          { memfd: 99, offset: 1, size: 2 * FILE_SIZE },
          { memfd: 99, size: 2 * FILE_SIZE },
          { memfd: open, size: 2 * FILE_SIZE },
          { memfd: sealed, size: 2 * FILE_SIZE },
        ];
        const found: string[] = [];
        for (const piece of pieces) found.push((yield* refused(rig.create(piece))).reason);
        return found;
      })(),
    );
    expect(reasons).toEqual([
      'item-is-not-whole-pages',
      'memfd-is-not-open',
      'memfd-may-shrink',
      'pinned-range-beyond-the-file',
    ]);
  });

  test('allows 64 MiB, and not a page more: EINVAL (N17, E.2)', () => {
    const rig = new UdmabufRig();
    const memfd = rig.do(rig.memfd(64 * MIB + PAGE_SIZE));
    const over = rig.do(refused(rig.create({ memfd, size: 64 * MIB + PAGE_SIZE })));
    expect(over).toMatchObject({ code: 'EINVAL', reason: 'more-pages-than-the-limit' });
    rig.do(
      (function* (): Task {
        yield* rig.driver.sizeLimitMb.write(1);
        expect((yield* refused(rig.create({ memfd, size: MIB + 4096 }))).code).toBe('EINVAL');
        const buf = yield* rig.bufOf(yield* rig.create({ memfd, size: MIB }));
        expect(buf.size).toBe(MIB);
      })(),
    );
  });

  test('looks at bit 0 of the flags only: it closes the descriptor on exec (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const memfd = yield* rig.memfd();
        for (const [flags, closes] of [
          [0, 0],
          [UDMABUF_FLAGS_CLOEXEC, FD_CLOEXEC],
          [2 ** 32 - 2, 0],
          [2 ** 32 - 1, FD_CLOEXEC],
        ] as const) {
          const fd = yield* rig.create({ memfd }, flags);
          expect(yield* rig.sys.fcntl(fd, F.GETFD, 0)).toBe(closes);
        }
      })(),
    );
  });

  test('drops the buffer if there is no descriptor left: EMFILE (B060)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const memfd = yield* rig.memfd();
        // The node has to be opened, too.
        const arg = udmabufCreate.encode({ memfd, size: BigInt(FILE_SIZE) });
        const at = yield* rig.argument(arg);
        const node = yield* rig.open(UDMABUF_PATH);
        for (;;) {
          if ((yield* rig.process.fds.reserve()) === null) break;
        }
        const { ioctl } = node.operations;
        const call = ioctl?.(node, UDMABUF_IOCTL.CREATE, at, rig.process);
        const error = yield* refused(call ?? expect.fail('no ioctl'));
        expect(error).toMatchObject({ code: 'EMFILE' });
        yield* node.put();
        // Nothing is pinned any more.
        yield* rig.sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.WRITE);
      })(),
    );
    expect(rig.kernel.bufferList.value).toBe(0);
  });
});

describe('UDMABUF_CREATE_LIST', () => {
  test('makes one buffer of pieces of several memfds, in order (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const one = yield* rig.memfd();
        const other = yield* rig.memfd();
        const fd = yield* rig.createList([
          { memfd: one, offset: PAGE_SIZE, size: PAGE_SIZE },
          { memfd: other, size: 2 * PAGE_SIZE },
          { memfd: one, offset: PAGE_SIZE, size: PAGE_SIZE },
        ]);
        expect((yield* rig.bufOf(fd)).size).toBe(4 * PAGE_SIZE);
        const first = yield* rig.map(one);
        const second = yield* rig.map(other);
        const shared = yield* rig.map(fd, 4 * PAGE_SIZE);
        yield* rig.poke(first, PAGE_SIZE, [1]);
        yield* rig.poke(second, PAGE_SIZE, [2]);
        expect(yield* rig.peek(shared, 0, 1)).toEqual([1]);
        expect(yield* rig.peek(shared, 2 * PAGE_SIZE, 1)).toEqual([2]);
        // The same page twice.
        yield* rig.poke(shared, 0, [3]);
        expect(yield* rig.peek(shared, 3 * PAGE_SIZE, 1)).toEqual([3]);
        yield* rig.end();
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('allows 1024 items, of one page each (E.2)', () => {
    const rig = new UdmabufRig();
    const memfd = rig.do(rig.memfd());
    const piece = { memfd, size: PAGE_SIZE };
    const fd = rig.do(rig.createList(Array<Piece>(1024).fill(piece)));
    expect(rig.do(rig.bufOf(fd)).size).toBe(1024 * PAGE_SIZE);
  });

  test('refuses 1025 items, before it reads them, and no items, with EINVAL (N18, E.2)', () => {
    const rig = new UdmabufRig();
    const many = rig.do(refused(rig.createList([], 0, 1025)));
    expect(many).toMatchObject({ code: 'EINVAL', reason: 'more-items-than-the-limit' });
    const none = rig.do(refused(rig.createList([])));
    expect(none).toMatchObject({ code: 'EINVAL', reason: 'udmabuf-of-no-pages' });
    rig.do(
      (function* (): Task {
        yield* rig.driver.listLimit.write(1);
        const memfd = yield* rig.memfd();
        const error = yield* refused(rig.createList([{ memfd }, { memfd }]));
        expect(error.reason).toBe('more-items-than-the-limit');
      })(),
    );
  });

  test('refuses items that are not mapped with EFAULT (E.2)', () => {
    const rig = new UdmabufRig();
    const bytes = udmabufCreateList.encode({ flags: 0, count: 1024 });
    const error = rig.do(refused(rig.request(UDMABUF_IOCTL.CREATE_LIST, bytes)));
    expect(error).toMatchObject({ code: 'EFAULT' });
  });

  test('adds the pages of all items up: more than the limit is EINVAL (E.2)', () => {
    const rig = new UdmabufRig();
    const memfd = rig.do(rig.memfd());
    const pieces = [
      { memfd, size: 32 * MIB },
      { memfd, size: 32 * MIB + PAGE_SIZE },
      { memfd, offset: 1 },
    ];
    const error = rig.do(refused(rig.createList(pieces)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'more-pages-than-the-limit' });
  });

  test('refuses an item of size 0 among others with EINVAL (E.2)', () => {
    const rig = new UdmabufRig();
    rig.do(
      (function* (): Task {
        const memfd = yield* rig.memfd();
        const error = yield* refused(rig.createList([{ memfd }, { memfd, size: 0 }]));
        expect(error).toMatchObject({ code: 'EINVAL', reason: 'pinned-range-beyond-the-file' });
        // What was pinned before is let go.
        yield* rig.sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.WRITE);
      })(),
    );
    expectNothingLeft(rig);
  });
});

describe('An unknown ioctl of /dev/udmabuf', () => {
  test.each([
    ioctlNumber('w', 'u', 0x41, 24),
    ioctlNumber('w', 'u', 0x44, 8),
    ioctlNumber('rw', 'u', 0x42, 24),
    ioctlNumber('w', 'u', 0x42, 32),
    0,
  ])('is refused with ENOTTY: %i (N7, E.2)', (number) => {
    const rig = new UdmabufRig();
    const error = rig.do(refused(rig.requestAt(number, 0)));
    expect(error).toMatchObject({ code: 'ENOTTY', reason: 'unknown-udmabuf-ioctl' });
  });
});
