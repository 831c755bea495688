/**
 * Goal: a memfd is memory that is a file: written, mapped, cut, sealed and pinned as Linux does.
 * Method: a program makes the calls; after each that fails nothing has changed.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  F,
  F_SEAL,
  MAP,
  MFD,
  O,
  PAGE_SIZE,
  PROT,
  SEEK,
  type UserAddr,
  userAddr,
} from '../../src/base/index.ts';
import { type Memfd, memfdOf, pagesOf } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { bytesOf, FAKE, SysRig, textOf } from './sys-rig.ts';

const SEALING = MFD.ALLOW_SEALING;

/** A program with a memfd. */
class MemfdRig extends SysRig {
  readonly fd: number;
  readonly memfd: Memfd;

  constructor(size: number = 2 * PAGE_SIZE, flags: number = SEALING) {
    super();
    this.fd = this.do(this.sys.memfdCreate('memory', flags));
    this.do(this.sys.ftruncate(this.fd, size));
    const file = this.process.fds.value.get(this.fd)?.file ?? expect.fail('a file');
    this.memfd = memfdOf(file) ?? expect.fail('a memfd');
  }

  map(flags: number, prot: number = PROT.READ | PROT.WRITE, length = 2 * PAGE_SIZE): UserAddr {
    return this.do(this.mapping(flags, prot, length));
  }

  mapping(flags: number, prot = PROT.READ | PROT.WRITE, length = 2 * PAGE_SIZE): Task<UserAddr> {
    return this.sys.mmap({ length, prot, flags, fd: this.fd, offset: 0 });
  }

  text(at: number, length: number): string {
    return textOf(this.do(this.sys.load(userAddr(at), length)));
  }

  store(at: number, text: string): void {
    this.do(this.sys.store(userAddr(at), bytesOf(text)));
  }

  seal(seals: number): Task<number> {
    return this.sys.fcntl(this.fd, F.ADD_SEALS, seals);
  }

  override get state(): unknown {
    const { size, seals } = this.memfd;
    return [super.state, size.value, seals.value];
  }
}

describe('A memfd', () => {
  test('is read and written at its position, and grows', () => {
    const rig = new MemfdRig(0);
    const { sys, fd } = rig;
    const at = rig.do(rig.place(bytesOf('hello world')));
    expect(rig.do(sys.write(fd, at, 11))).toBe(11);
    expect(rig.do(sys.lseek(fd, -5, SEEK.END))).toBe(6);
    expect(rig.do(sys.read(fd, at, 100))).toBe(5);
    expect(rig.text(at, 5)).toBe('world');
    expect(rig.do(sys.lseek(fd, 0, SEEK.CUR))).toBe(11);
    expect(rig.do(sys.read(fd, at, 1))).toBe(0);
    expect(rig.do(sys.fstat(fd)).size).toBe(11);
    const before = rig.fails(sys.lseek(fd, -1, SEEK.SET));
    expect(before).toMatchObject({ code: 'EINVAL', reason: 'before-the-beginning' });
    const hole = rig.fails(sys.lseek(fd, 0, 3));
    expect(hole).toMatchObject({ code: 'EINVAL', reason: 'holes-are-not-sought' });
  });

  test('has holes that read as zero and take no memory', () => {
    const rig = new MemfdRig(2 ** 40);
    const { sys, fd } = rig;
    const at = rig.do(rig.place(bytesOf('????')));
    const pages = rig.machine.memory.pagesInUse;
    rig.do(sys.lseek(fd, 2 ** 39, SEEK.SET));
    expect(rig.do(sys.read(fd, at, 4))).toBe(4);
    expect(rig.text(at, 4)).toBe('\0\0\0\0');
    expect(rig.machine.memory.pagesInUse).toBe(pages);
  });

  test('shows the same bytes in shared maps and in the file', () => {
    const rig = new MemfdRig();
    const { sys, fd } = rig;
    const one = rig.map(MAP.SHARED);
    const other = rig.map(MAP.SHARED);
    rig.store(one + 4094, 'four');
    expect(rig.text(other + 4094, 4)).toBe('four');
    const at = rig.do(sys.alloc(8));
    rig.do(sys.lseek(fd, 4094, SEEK.SET));
    rig.do(sys.read(fd, at, 4));
    expect(rig.text(at, 4)).toBe('four');
  });

  test('in a private map shows what the file has until that page is written', () => {
    const rig = new MemfdRig();
    const shared = rig.map(MAP.SHARED);
    const own = rig.map(MAP.PRIVATE);
    rig.store(shared, 'one');
    expect(rig.text(own, 3)).toBe('one');
    rig.store(shared, 'two');
    expect(rig.text(own, 3)).toBe('two');
    rig.store(own + 1, 'W');
    rig.store(shared, 'six');
    expect([rig.text(own, 3), rig.text(shared, 3)]).toEqual(['tWo', 'six']);
    expect(rig.text(own + PAGE_SIZE, 1)).toBe('\0');
  });

  test('that is cut is gone from its maps, and zero when it grows again', () => {
    const rig = new MemfdRig();
    const { sys, fd } = rig;
    const shared = rig.map(MAP.SHARED);
    const own = rig.map(MAP.PRIVATE);
    rig.store(shared, 'abcdef');
    rig.store(shared + PAGE_SIZE, 'second');
    rig.store(own + PAGE_SIZE, 'copied');
    rig.do(sys.ftruncate(fd, 3));
    for (const at of [shared, own]) {
      const error = rig.fails(sys.load(userAddr(at + PAGE_SIZE), 1));
      expect(error).toMatchObject({ code: 'EFAULT', reason: 'beyond-the-end-of-the-memfd' });
    }
    rig.do(sys.ftruncate(fd, 2 * PAGE_SIZE));
    expect(rig.text(shared, 6)).toBe('abc\0\0\0');
    expect(rig.text(own + PAGE_SIZE, 6)).toBe('\0\0\0\0\0\0');
  });

  test('gives all pages back when the last descriptor and the last map are gone', () => {
    const rig = new MemfdRig();
    const { sys, fd } = rig;
    const before = rig.machine.memory.pagesInUse;
    const shared = rig.map(MAP.SHARED);
    const own = rig.map(MAP.PRIVATE);
    rig.store(shared, 'x'.repeat(2 * PAGE_SIZE));
    rig.store(own, 'y');
    expect(rig.machine.memory.pagesInUse).toBe(before + 3);
    rig.do(sys.close(fd));
    rig.do(sys.munmap(own, 2 * PAGE_SIZE));
    expect(rig.text(shared, 1)).toBe('x');
    rig.do(sys.munmap(shared, 2 * PAGE_SIZE));
    expect(rig.machine.memory.pagesInUse).toBe(before);
  });

  test('opened again to be read takes no seals, cuts or shared maps that write (A.15)', () => {
    const rig = new MemfdRig();
    const { sys } = rig;
    const fd = rig.do(sys.open(`/proc/self/fd/${rig.fd}`, O.RDONLY));
    const writer = rig.do(sys.open(`/proc/self/fd/${rig.fd}`, O.WRONLY));
    const map = (flags: number, prot: number, of = fd): Task<UserAddr> =>
      sys.mmap({ length: 1, prot, flags, fd: of, offset: 0 });
    const seals = rig.fails(sys.fcntl(fd, F.ADD_SEALS, 0));
    expect(seals).toMatchObject({ code: 'EPERM', reason: 'seals-need-a-writable-file' });
    expect(rig.fails(sys.ftruncate(fd, 0)).code).toBe('EINVAL');
    const shared = rig.fails(map(MAP.SHARED, PROT.WRITE));
    const reason = 'shared-writing-needs-a-writable-file';
    expect(shared).toMatchObject({ code: 'EACCES', reason });
    for (const [flags, prot] of [
      [MAP.SHARED, PROT.READ],
      [MAP.PRIVATE, PROT.READ],
      [MAP.SHARED, PROT.WRITE],
    ] as const) {
      const unread = rig.fails(map(flags, prot, writer));
      expect(unread).toMatchObject({ code: 'EACCES', reason: 'mapping-needs-a-readable-file' });
    }
    rig.do(map(MAP.PRIVATE, PROT.READ | PROT.WRITE));
    rig.do(map(MAP.SHARED, PROT.READ));
  });
});

describe('A seal', () => {
  test('is there from the beginning without ALLOW_SEALING: EPERM (G.4)', () => {
    const rig = new MemfdRig(0, 0);
    expect(rig.do(rig.sys.fcntl(rig.fd, F.GET_SEALS, 0))).toBe(F_SEAL.SEAL);
    const error = rig.fails(rig.seal(F_SEAL.SHRINK));
    expect(error).toMatchObject({ code: 'EPERM', reason: 'sealed-against-seals' });
  });

  test('of an unknown kind is EINVAL, on a file that takes none EINVAL or EPERM (G.4)', () => {
    const rig = new MemfdRig();
    const { sys } = rig;
    rig.addNode();
    const error = rig.fails(rig.seal(0x40));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'unknown-seals' });
    const reader = rig.do(sys.open(FAKE, O.RDONLY));
    const both = rig.do(sys.open(FAKE, O.RDWR));
    expect(rig.fails(sys.fcntl(reader, F.ADD_SEALS, 1)).code).toBe('EPERM');
    expect(rig.fails(sys.fcntl(both, F.ADD_SEALS, 1)).code).toBe('EINVAL');
  });

  test('against shrinking, growing and writing is kept: EPERM (G.4)', () => {
    const rig = new MemfdRig(PAGE_SIZE);
    const { sys, fd } = rig;
    const at = rig.do(rig.place(bytesOf('text')));
    rig.do(rig.seal(F_SEAL.SHRINK));
    const cut = rig.fails(sys.ftruncate(fd, 0));
    expect(cut).toMatchObject({ code: 'EPERM', reason: 'sealed-against-this-size' });
    rig.do(sys.ftruncate(fd, 2 * PAGE_SIZE));
    rig.do(rig.seal(F_SEAL.GROW));
    expect(rig.fails(sys.ftruncate(fd, 3 * PAGE_SIZE)).code).toBe('EPERM');
    rig.do(sys.lseek(fd, 2 * PAGE_SIZE - 2, SEEK.SET));
    const grow = rig.fails(sys.write(fd, at, 4));
    expect(grow).toMatchObject({ code: 'EPERM', reason: 'sealed-against-writing' });
    expect(rig.do(sys.write(fd, at, 2))).toBe(2);
    rig.do(rig.seal(F_SEAL.WRITE));
    rig.do(sys.lseek(fd, 0, SEEK.SET));
    expect(rig.fails(sys.write(fd, at, 1)).code).toBe('EPERM');
    const map = rig.fails(rig.mapping(MAP.SHARED));
    expect(map).toMatchObject({ code: 'EPERM', reason: 'sealed-against-writing-maps' });
    rig.map(MAP.SHARED, PROT.READ);
    rig.map(MAP.PRIVATE);
    rig.do(rig.seal(F_SEAL.SEAL));
    expect(rig.fails(rig.seal(0)).code).toBe('EPERM');
    const all = F_SEAL.SHRINK | F_SEAL.GROW | F_SEAL.WRITE | F_SEAL.SEAL;
    expect(rig.do(sys.fcntl(fd, F.GET_SEALS, 0))).toBe(all);
  });

  test('against writing is EBUSY while a shared map may write, also one to read (G.4)', () => {
    const rig = new MemfdRig();
    const at = rig.map(MAP.SHARED, PROT.READ);
    const error = rig.fails(rig.seal(F_SEAL.WRITE));
    expect(error).toMatchObject({ code: 'EBUSY', reason: 'a-map-may-still-write' });
    rig.do(rig.seal(F_SEAL.FUTURE_WRITE));
    expect(rig.fails(rig.mapping(MAP.SHARED)).code).toBe('EPERM');
    rig.do(rig.sys.munmap(at, 2 * PAGE_SIZE));
    rig.do(rig.seal(F_SEAL.WRITE));
  });

  test('against writing is EBUSY while pages are pinned, unless the pins go soon (G.4)', () => {
    const rig = new MemfdRig();
    const pages = rig.do(rig.memfd.pinRange(0, PAGE_SIZE));
    const error = rig.fails(rig.seal(F_SEAL.WRITE));
    expect(error).toMatchObject({ code: 'EBUSY', reason: 'pages-are-still-pinned' });
    rig.thread(rig.seal(F_SEAL.WRITE), 'sealer');
    rig.thread(
      (function* (): Task {
        yield* rig.scheduler.sleep(15_000_000);
        yield* rig.memfd.unpinRange(pages);
      })(),
      'owner of the pins',
    );
    expect(rig.run().status).toBe('done');
    expect(rig.memfd.seals.value).toBe(F_SEAL.WRITE);
  });

  test('against the execute bits seals a program whole; without them it is alone (G.4)', () => {
    const program = new MemfdRig();
    program.do(program.seal(F_SEAL.EXEC));
    expect(program.memfd.seals.value).toBe(0x3e);
    const data = new MemfdRig(0, MFD.NOEXEC_SEAL);
    expect(data.memfd.seals.value).toBe(F_SEAL.EXEC);
    expect(data.memfd.mode).toBe(0o100666);
  });
});

describe('Pinned pages', () => {
  test('are the file’s pages, and outlive it', () => {
    const rig = new MemfdRig();
    const before = rig.machine.memory.pagesInUse;
    const at = rig.map(MAP.SHARED);
    rig.store(at + PAGE_SIZE, 'pinned');
    const list = rig.do(rig.memfd.pinRange(0, 2 * PAGE_SIZE));
    const again = rig.do(rig.memfd.pinRange(PAGE_SIZE, PAGE_SIZE));
    const [, second] = pagesOf(list);
    expect(pagesOf(again)).toEqual([second]);
    rig.do(rig.sys.munmap(at, 2 * PAGE_SIZE));
    rig.do(rig.sys.close(rig.fd));
    expect(textOf(Uint8Array.from(rig.ram(second ?? 0, 6)))).toBe('pinned');
    expect(rig.machine.memory.pagesInUse).toBe(before + 2);
    rig.do(rig.memfd.unpinRange(list));
    expect(rig.machine.memory.pagesInUse).toBe(before + 1);
    rig.do(rig.memfd.unpinRange(again));
    expect(rig.machine.memory.pagesInUse).toBe(before);
  });

  test.each([
    ['nothing', 0, 0],
    ['more than there is', PAGE_SIZE, 2 * PAGE_SIZE],
    ['what begins behind the end', 2 * PAGE_SIZE, PAGE_SIZE],
    ['what begins before the file', -PAGE_SIZE, PAGE_SIZE],
  ])('are not had of %s: EINVAL (E.2)', (_name, offset, size) => {
    const rig = new MemfdRig();
    const error = rig.fails(rig.memfd.pinRange(offset, size));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'pinned-range-beyond-the-file' });
  });
});

describe('A machine without a free page', () => {
  /** Uses up all memory, leaving so many pages. */
  function fill(rig: SysRig, left: number): void {
    const { memory } = rig.machine;
    const taken: number[] = [];
    rig.do(
      (function* (): Task {
        for (let size = 2 ** 20; size >= 1; size /= 2) {
          for (;;) {
            const phys = yield* memory.allocate(size);
            if (phys === null) break;
            taken.push(phys);
          }
        }
        for (const phys of taken.slice(taken.length - left)) yield* memory.free(phys as never, 1);
      })(),
    );
  }

  test('answers a fault, a write and a pin with ENOMEM: no-page-left-for-a-memfd', () => {
    const rig = new MemfdRig();
    const { sys, fd } = rig;
    const at = rig.do(rig.place(bytesOf('x'.repeat(2 * PAGE_SIZE))));
    const map = rig.map(MAP.SHARED);
    const empty = rig.do(sys.alloc(1));
    fill(rig, 1);
    expect(rig.do(sys.write(fd, at, 2 * PAGE_SIZE))).toBe(PAGE_SIZE);
    const reason = 'no-page-left-for-a-memfd';
    expect(rig.fails(sys.write(fd, at, 1))).toMatchObject({ code: 'ENOMEM', reason });
    const fault = rig.fails(sys.load(userAddr(map + PAGE_SIZE), 1));
    expect(fault).toMatchObject({ code: 'ENOMEM', reason });
    const pin = rig.fails(rig.memfd.pinRange(0, 2 * PAGE_SIZE));
    expect(pin).toMatchObject({ code: 'ENOMEM', reason });
    const touch = rig.fails(sys.load(empty, 1));
    expect(touch).toMatchObject({ code: 'ENOMEM', reason: 'no-page-left-to-fault-in' });
  });
});

describe('Random writes, cuts and stores', () => {
  test('leave in file and map what an array would have', () => {
    const size = 3 * PAGE_SIZE;
    const offset = fc.integer({ min: 0, max: size - 1 });
    const change = fc.record({
      kind: fc.constantFrom('write' as const, 'store' as const, 'cut' as const),
      offset,
      length: fc.integer({ min: 1, max: 6000 }),
      byte: fc.integer({ min: 1, max: 255 }),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        const rig = new MemfdRig(size);
        const { sys, fd } = rig;
        const model = new Uint8Array(size);
        const map = rig.map(MAP.SHARED, undefined, size);
        const at = rig.do(sys.alloc(size));
        for (const { kind, offset: from, length, byte } of changes) {
          const end = Math.min(from + length, size);
          if (kind === 'cut') {
            rig.do(sys.ftruncate(fd, from));
            rig.do(sys.ftruncate(fd, size));
            model.fill(0, from);
            continue;
          }
          const bytes = new Uint8Array(end - from).fill(byte);
          model.set(bytes, from);
          rig.do(sys.store(kind === 'store' ? userAddr(map + from) : at, bytes));
          if (kind === 'store') continue;
          rig.do(sys.lseek(fd, from, SEEK.SET));
          rig.do(sys.write(fd, at, bytes.length));
        }
        rig.do(sys.lseek(fd, 0, SEEK.SET));
        expect(rig.do(sys.read(fd, at, size))).toBe(size);
        expect(rig.do(sys.load(at, size))).toEqual(model);
        expect(rig.do(sys.load(map, size))).toEqual(model);
      }),
      { numRuns: 60 },
    );
  });
});
