/**
 * Goal: descriptors behave as Linux's, with the error of each wrong argument. Method: a program
 * makes the calls one by one; after each that fails nothing has changed.
 */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_BUF_MAGIC,
  F,
  MAP,
  MFD,
  O,
  PAGE_SIZE,
  PROT,
  SEEK,
  userAddr,
} from '../../src/base/index.ts';
import { DmaBuf, FD_MAX, POLLIN, POLLNVAL, POLLOUT } from '../../src/framework/index.ts';
import { FakeExporter } from './kernel-rig.ts';
import { bytesOf, FAKE, SysRig, textOf } from './sys-rig.ts';

describe('open', () => {
  test('of no path is ENOENT, and of a node for root alone EACCES', () => {
    const rig = new SysRig({ isRoot: false });
    const { sys } = rig;
    rig.addNode({}, '/dev/root-only', 0o660);
    rig.addNode({}, '/dev/to-read', 0o444);
    const reason = (path: string, flags: number): string => {
      const { code, reason: why } = rig.fails(sys.open(path, flags));
      return `${code} ${why}`;
    };
    expect(reason('/dev/none', O.RDWR)).toBe('ENOENT no-such-path');
    expect(reason('', O.RDWR)).toBe('ENOENT no-such-path');
    for (const flags of [O.RDONLY, O.WRONLY, O.RDWR, O.ACCMODE]) {
      expect(reason('/dev/root-only', flags)).toBe('EACCES only-root-may-open-this');
    }
    expect(reason('/dev/to-read', O.RDWR)).toBe('EACCES only-root-may-open-this');
    expect(rig.do(sys.open('/dev/to-read', O.RDONLY))).toBe(3);
  });

  test('gives root everything, and the flags back', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({}, FAKE, 0);
    const fd = rig.do(sys.open(FAKE, O.RDWR | O.NONBLOCK | O.CLOEXEC));
    expect(rig.do(sys.fcntl(fd, F.GETFL, 0))).toBe(O.RDWR | O.NONBLOCK | O.LARGEFILE);
    expect(rig.do(sys.fcntl(fd, F.GETFD, 0))).toBe(1);
    expect(rig.do(sys.readlink(`/proc/self/fd/${fd}`))).toBe(FAKE);
  });

  test('with no descriptor left is EMFILE, and asks no driver', () => {
    const rig = new SysRig({ fileLimit: 4 });
    const { sys } = rig;
    let opened = 0;
    rig.addNode();
    rig.kernel.nodes.add('/dev/counted', {
      *open() {
        opened += 1;
        return expect.fail('not asked');
      },
    });
    rig.do(sys.open(FAKE, O.RDWR));
    const error = rig.fails(sys.open('/dev/counted', O.RDWR));
    expect(error).toMatchObject({ code: 'EMFILE', reason: 'no-descriptor-left-to-open' });
    expect(rig.fails(sys.dup(3))).toMatchObject({ code: 'EMFILE' });
    expect(rig.fails(sys.memfdCreate('', 0))).toMatchObject({ code: 'EMFILE' });
    expect(rig.fails(sys.socketpair())).toMatchObject({
      code: 'EMFILE',
      reason: 'no-two-descriptors-left',
    });
    expect(opened).toBe(0);
  });

  test('again of what a descriptor leads to works for memfds alone', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode();
    const memfd = rig.do(sys.memfdCreate('again', 0));
    const fake = rig.do(sys.open(FAKE, O.RDWR));
    const reader = rig.do(sys.open(`/proc/self/fd/${memfd}`, O.RDONLY));
    expect(rig.do(sys.fcntl(reader, F.GETFL, 0)) & O.ACCMODE).toBe(O.RDONLY);
    expect(rig.do(sys.fstat(reader)).ino).toBe(rig.do(sys.fstat(memfd)).ino);
    const closed = rig.fails(sys.open('/proc/self/fd/99', O.RDONLY));
    expect(closed).toMatchObject({ code: 'ENOENT', reason: 'no-such-link-to-open' });
    const device = rig.fails(sys.open(`/proc/self/fd/${fake}`, O.RDONLY));
    expect(device).toMatchObject({ code: 'ENXIO', reason: 'not-to-be-opened-again' });
  });
});

describe('A call on a descriptor that is not open', () => {
  const calls = ['ioctl', 'lseek', 'read', 'write', 'fstat', 'fstatfs', 'ftruncate', 'fcntl'];

  test(`is EBADF, no-such-descriptor: ${calls.join(', ')}, mmap, sendmsg, recvmsg`, () => {
    const rig = new SysRig();
    const { sys } = rig;
    const at = rig.do(sys.alloc(1));
    for (const fd of [-1, 0, 3, 99, 2 ** 31, 1.5, Number.NaN]) {
      const map = { length: 1, prot: PROT.READ, flags: MAP.SHARED, fd, offset: 0 };
      const all = [
        sys.ioctl(fd, DMA_BUF_IOCTL.SYNC, at),
        sys.lseek(fd, 0, SEEK.SET),
        sys.read(fd, at, 1),
        sys.write(fd, at, 1),
        sys.fstat(fd),
        sys.fstatfs(fd),
        sys.ftruncate(fd, 0),
        sys.fcntl(fd, F.GETFL, 0),
        sys.mmap(map),
        sys.sendmsg(fd, bytesOf('x'), []),
        sys.recvmsg(fd, 1, 0),
      ];
      for (const call of all) {
        expect(rig.fails(call)).toMatchObject({ code: 'EBADF', reason: 'no-such-descriptor' });
      }
      for (const call of [sys.close(fd), sys.dup(fd)]) {
        expect(rig.fails(call).code).toBe('EBADF');
      }
    }
    expect(rig.do(sys.poll([{ fd: 99, events: POLLIN }], -1))).toEqual([POLLNVAL]);
  });
});

describe('A file without operations', () => {
  const rig = new SysRig();
  const { sys } = rig;
  rig.addNode();
  const fd = rig.do(sys.open(FAKE, O.RDWR));
  const at = rig.do(sys.alloc(1));
  const map = { length: 1, prot: PROT.READ, flags: MAP.SHARED, fd, offset: 0 };

  test.each([
    ['lseek', 'ESPIPE', 'file-has-no-positions', () => sys.lseek(fd, 0, SEEK.SET)],
    ['lseek, whence', 'EINVAL', 'no-such-whence', () => sys.lseek(fd, 0, 5)],
    ['lseek, whence below', 'EINVAL', 'no-such-whence', () => sys.lseek(fd, 0, -1)],
    ['read', 'EINVAL', 'file-is-not-read', () => sys.read(fd, at, 1)],
    ['write', 'EINVAL', 'file-is-not-written', () => sys.write(fd, at, 1)],
    ['ioctl', 'ENOTTY', 'file-takes-no-requests', () => sys.ioctl(fd, 1, 0)],
    ['mmap', 'ENODEV', 'files-of-this-kind-are-not-mapped', () => sys.mmap(map)],
    ['ftruncate', 'EINVAL', 'not-a-file-to-truncate', () => sys.ftruncate(fd, 0)],
    ['ftruncate below 0', 'EINVAL', 'shorter-than-nothing', () => sys.ftruncate(fd, -1)],
    ['F_ADD_SEALS', 'EINVAL', 'file-takes-no-seals', () => sys.fcntl(fd, F.ADD_SEALS, 1)],
    ['F_GET_SEALS', 'EINVAL', 'file-takes-no-seals', () => sys.fcntl(fd, F.GET_SEALS, 0)],
    ['another fcntl', 'EINVAL', 'no-such-command', () => sys.fcntl(fd, 9999, 0)],
    ['sendmsg', 'ENOTSOCK', 'file-is-no-socket', () => sys.sendmsg(fd, bytesOf('x'), [])],
    ['recvmsg', 'ENOTSOCK', 'file-is-no-socket', () => sys.recvmsg(fd, 1, 0)],
    ['readFile', 'EINVAL', 'no-text-to-read', () => sys.readFile(FAKE)],
    ['readlink of a node', 'EINVAL', 'not-a-link', () => sys.readlink(FAKE)],
    ['readlink of nothing', 'ENOENT', 'no-such-path-to-a-link', () => sys.readlink('/none')],
    ['readlink, closed', 'ENOENT', 'no-such-link', () => sys.readlink('/proc/self/fd/9')],
    ['fdinfo, closed', 'ENOENT', 'no-such-fdinfo', () => sys.readFile('/proc/self/fdinfo/9')],
  ])('answers %s with %s, %s', (_name, code, reason, call) => {
    const before = rig.released;
    const error = rig.do(
      (function* () {
        try {
          yield* call() as Generator<never, unknown, unknown>;
        } catch (caught) {
          return caught;
        }
        return null;
      })(),
    );
    expect(error).toMatchObject({ code, reason });
    rig.released = before;
  });

  test('is a device by its mode, and always ready', () => {
    expect(rig.do(sys.fstat(fd)).mode).toBe(0o20666);
    expect(rig.do(sys.poll([{ fd, events: POLLIN | POLLOUT }], -1))).toEqual([POLLIN | POLLOUT]);
    expect(rig.do(sys.poll([{ fd: -5, events: POLLIN }], 0))).toEqual([0]);
  });
});

describe('A descriptor', () => {
  test('is marked to be closed on exec by fcntl, and by ioctl on any file', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode();
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    const flags: number[] = [];
    const note = (): void => void flags.push(rig.do(sys.fcntl(fd, F.GETFD, 0)));
    rig.do(sys.ioctl(fd, 0x5451, 0));
    note();
    rig.do(sys.ioctl(fd, 0x5450, 0));
    note();
    rig.do(sys.fcntl(fd, F.SETFD, 1));
    note();
    const copy = rig.do(sys.dup(fd));
    flags.push(rig.do(sys.fcntl(copy, F.GETFD, 0)));
    expect(flags).toEqual([1, 0, 1, 0]);
  });

  test('is duplicated from a number on; the limit is EINVAL, a full table EMFILE', () => {
    const rig = new SysRig({ fileLimit: 8 });
    const { sys } = rig;
    rig.addNode();
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    expect(rig.do(sys.fcntl(fd, F.DUPFD_CLOEXEC, 6))).toBe(6);
    expect(rig.do(sys.fcntl(6, F.GETFD, 0))).toBe(1);
    expect(rig.do(sys.fcntl(fd, F.DUPFD, 6))).toBe(7);
    const full = rig.fails(sys.fcntl(fd, F.DUPFD, 6));
    expect(full).toMatchObject({ code: 'EMFILE', reason: 'no-descriptor-left-from-there' });
    for (const from of [8, -1, FD_MAX]) {
      const beyond = rig.fails(sys.fcntl(fd, F.DUPFD, from));
      expect(beyond).toMatchObject({ code: 'EINVAL', reason: 'no-such-descriptors' });
    }
  });

  test('opened to read or to write does nothing else: EBADF', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({
      *read() {
        return bytesOf('text');
      },
      *write(_file, bytes) {
        return bytes.length;
      },
    });
    const at = rig.do(sys.alloc(8));
    const reader = rig.do(sys.open(FAKE, O.RDONLY));
    const writer = rig.do(sys.open(FAKE, O.WRONLY));
    const neither = rig.do(sys.open(FAKE, O.ACCMODE));
    expect(rig.do(sys.read(reader, at, 8))).toBe(4);
    expect(textOf(rig.do(sys.load(at, 4)))).toBe('text');
    expect(rig.do(sys.write(writer, at, 8))).toBe(8);
    for (const fd of [writer, neither]) {
      const error = rig.fails(sys.read(fd, at, 1));
      expect(error).toMatchObject({ code: 'EBADF', reason: 'not-open-for-reading' });
    }
    for (const fd of [reader, neither]) {
      const error = rig.fails(sys.write(fd, at, 1));
      expect(error).toMatchObject({ code: 'EBADF', reason: 'not-open-for-writing' });
    }
  });

  test('reads into and writes from memory of the program alone, else EFAULT', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const fd = rig.do(sys.memfdCreate('', 0));
    const at = rig.do(sys.alloc(PAGE_SIZE));
    rig.do(sys.write(fd, at, 100));
    rig.do(sys.lseek(fd, 0, SEEK.SET));
    for (const bad of [0, 1, 2 ** 47, 2 ** 52 - 1, 2 ** 60, -1, Number.NaN]) {
      const read = rig.fails(sys.read(fd, bad as never, 10));
      expect(read).toMatchObject({ code: 'EFAULT', reason: 'nowhere-to-read-to' });
      const write = rig.fails(sys.write(fd, bad as never, 10));
      expect(write).toMatchObject({ code: 'EFAULT', reason: 'nothing-to-write' });
    }
    // What lies in front of the hole is written.
    expect(rig.do(sys.write(fd, userAddr(at + PAGE_SIZE - 4), 100))).toBe(4);
  });
});

describe('A dma-buf behind a descriptor', () => {
  test('is neither read nor written, and is known by its file system (N2)', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const exporter = new FakeExporter();
    const fd = rig.do(
      (function* () {
        const info = { exporterName: 'fake', ops: exporter.ops, size: 4096, priv: exporter };
        const buf = yield* DmaBuf.export(rig.kernel, info);
        return yield* buf.fd(rig.process);
      })(),
    );
    const at = rig.do(sys.alloc(1));
    expect(rig.fails(sys.read(fd, at, 1)).code).toBe('EINVAL');
    expect(rig.do(sys.fstatfs(fd))).toBe(DMA_BUF_MAGIC);
    expect(rig.do(sys.fstat(fd))).toMatchObject({ size: 4096, mode: 0o600, ino: 1 });
    expect(rig.do(sys.readlink(`/proc/self/fd/${fd}`))).toBe('/dmabuf:');
    expect(rig.do(sys.readFile(`/proc/self/fdinfo/${fd}`))).toMatch(
      /^pos:\t0\nflags:\t0\d+\nmnt_id:\t15\nino:\t1\nsize:\t4096\ncount:\t1\nexp_name:\tfake\n$/,
    );
    expect(rig.fails(sys.ioctl(fd, 0xdeadbeef, at)).code).toBe('ENOTTY');
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 52, 2 ** 64]) {
      const error = rig.fails(sys.ioctl(fd, DMA_BUF_IOCTL.SYNC, bad));
      expect(error).toMatchObject({ code: 'EFAULT', reason: 'pointer-out-of-range' });
    }
    for (const bad of [0, 1, at + PAGE_SIZE, 2 ** 47]) {
      const error = rig.fails(sys.ioctl(fd, DMA_BUF_IOCTL.SYNC, bad));
      expect(error).toMatchObject({ code: 'EFAULT', reason: 'segmentation-fault' });
    }
    rig.do(sys.close(fd));
    expect(exporter.calls).toEqual(['release']);
  });
});

describe('readFile', () => {
  test('reads all of a file that is text, however long', () => {
    const rig = new SysRig();
    const long = 'line\n'.repeat(3000);
    let at = 0;
    rig.addNode({
      *read(_file, length) {
        const piece = long.slice(at, at + length);
        at += piece.length;
        return bytesOf(piece);
      },
    });
    expect(rig.do(rig.sys.readFile(FAKE))).toBe(long);
    expect(rig.released).toBe(1);
  });
});

describe('memfd_create', () => {
  test.each([
    ['an unknown flag', '', 0x40, 'EINVAL', 'unknown-memfd-flags'],
    ['contrary flags', '', MFD.EXEC | MFD.NOEXEC_SEAL, 'EINVAL', 'executable-and-not'],
    ['a name of 250', 'x'.repeat(250), 0, 'EINVAL', 'memfd-name-is-too-long'],
    ['huge pages', '', MFD.HUGETLB, 'ENOSYS', 'no-huge-pages'],
  ])('with %s fails (G.4)', (_name, name, flags, code, reason) => {
    const rig = new SysRig();
    expect(rig.fails(rig.sys.memfdCreate(name, flags))).toMatchObject({ code, reason });
  });

  test('makes an empty file with the name in its link (G.4)', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const fd = rig.do(sys.memfdCreate('x'.repeat(249), MFD.CLOEXEC));
    const link = `/memfd:${'x'.repeat(249)} (deleted)`;
    expect(rig.do(sys.readlink(`/proc/self/fd/${fd}`))).toBe(link);
    expect(rig.do(sys.fstat(fd))).toMatchObject({ size: 0, mode: 0o100777 });
    expect(rig.do(sys.fstatfs(fd))).toBe(0x01021994);
    expect(rig.do(sys.fcntl(fd, F.GETFL, 0))).toBe(O.RDWR | O.LARGEFILE);
    expect(rig.do(sys.readFile(`/proc/self/fdinfo/${fd}`))).toContain('flags:\t02100002\n');
  });
});
