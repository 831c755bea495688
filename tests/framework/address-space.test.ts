/**
 * Goal: a program's memory behaves as Linux's: it is there when touched, private or shared, and
 * gone when it is unmapped. Method: a program maps, stores, loads and unmaps.
 */

import { describe, expect, test } from 'vitest';
import { MAP, O, PAGE_SIZE, PROT, type UserAddr, userAddr } from '../../src/base/index.ts';
import type { PageEntry, Vma } from '../../src/framework/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { bytesOf, FAKE, SysRig, textOf } from './sys-rig.ts';

const RW = PROT.READ | PROT.WRITE;
const ANONYMOUS = MAP.PRIVATE | MAP.ANONYMOUS;

function anonymous(rig: SysRig, length: number, prot = RW, flags = ANONYMOUS): Task<UserAddr> {
  return rig.sys.mmap({ length, prot, flags, fd: -1, offset: 0 });
}

describe('Anonymous memory', () => {
  test('is zero, costs nothing until it is touched, and goes back', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const before = rig.machine.memory.pagesInUse;
    const at = rig.do(sys.alloc(2 ** 30));
    expect(rig.machine.memory.pagesInUse).toBe(before);
    expect(rig.do(sys.load(userAddr(at + 5000), 3))).toEqual(new Uint8Array(3));
    rig.do(sys.store(userAddr(at + PAGE_SIZE - 2), bytesOf('over')));
    expect(textOf(rig.do(sys.load(userAddr(at + PAGE_SIZE - 2), 4)))).toBe('over');
    expect(rig.machine.memory.pagesInUse).toBe(before + 2);
    rig.do(sys.munmap(at, 2 ** 30));
    expect(rig.machine.memory.pagesInUse).toBe(before);
  });

  test('touched by two threads at once gets one page, in any of 100 schedules', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const rig = new SysRig();
      const at = rig.do(rig.sys.alloc(1));
      const before = rig.machine.memory.pagesInUse;
      for (const [i, text] of ['a', 'b', 'c'].entries()) {
        rig.thread(rig.sys.store(userAddr(at + i), bytesOf(text)), text);
      }
      expect(rig.run(new RandomStrategy(seed)).status).toBe('done');
      expect(textOf(rig.do(rig.sys.load(at, 3)))).toBe('abc');
      expect(rig.machine.memory.pagesInUse).toBe(before + 1);
    }
  });

  test('that is unmapped while another thread stores to it leaves no page', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const rig = new SysRig();
      const at = rig.do(rig.sys.alloc(1));
      const before = rig.machine.memory.pagesInUse;
      const writer = function* (): Task {
        try {
          yield* rig.sys.store(at, bytesOf('x'));
        } catch (error) {
          expect(error).toMatchObject({ reason: 'segmentation-fault' });
        }
      };
      rig.thread(writer(), 'writer');
      rig.thread(rig.sys.munmap(at, PAGE_SIZE), 'unmapper');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(rig.machine.memory.pagesInUse).toBe(before);
    }
  });
});

describe('An access', () => {
  test('where nothing is mapped is EFAULT: segmentation-fault', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const at = rig.do(sys.alloc(1));
    const bad = [0, 8, at - 1, at + PAGE_SIZE, 2 ** 47, 2 ** 52, -4096, Number.NaN, 0.5];
    for (const address of bad) {
      const load = rig.fails(sys.load(address as UserAddr, 1));
      expect(load).toMatchObject({ code: 'EFAULT', reason: 'segmentation-fault' });
      const store = rig.fails(sys.store(address as UserAddr, bytesOf('x')));
      expect(store).toMatchObject({ code: 'EFAULT', reason: 'segmentation-fault' });
    }
    // A length that would not fit into our own memory is refused, not tried.
    expect(rig.fails(sys.load(at, 2 ** 50)).reason).toBe('segmentation-fault');
    expect(rig.do(sys.load(0 as UserAddr, 0))).toEqual(new Uint8Array());
  });

  test('that the map does not allow is EFAULT', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const none = rig.do(anonymous(rig, 1, PROT.NONE));
    const read = rig.do(anonymous(rig, 1, PROT.READ));
    const write = rig.do(anonymous(rig, 1, PROT.WRITE));
    for (const at of [none, read]) {
      expect(rig.fails(sys.store(at, bytesOf('x'))).reason).toBe('segmentation-fault');
    }
    expect(rig.fails(sys.load(none, 1)).reason).toBe('segmentation-fault');
    expect(rig.do(sys.load(read, 1))).toEqual(new Uint8Array(1));
    // The processors that we model cannot write without reading.
    expect(rig.do(sys.load(write, 1))).toEqual(new Uint8Array(1));
  });

  test('that the owner of the map leaves without a page is a bus error', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({ *mmap() {} }, '/dev/no-fault');
    rig.addNode(
      {
        *mmap(_file, vma: Vma) {
          vma.operations = { *fault() {} };
        },
      },
      '/dev/pretends',
    );
    for (const path of ['/dev/no-fault', '/dev/pretends']) {
      const fd = rig.do(sys.open(path, O.RDWR));
      const request = { length: 1, prot: RW, flags: MAP.SHARED, fd, offset: 0 };
      const at = rig.do(sys.mmap(request));
      expect(rig.fails(sys.load(at, 1))).toMatchObject({ code: 'EFAULT', reason: 'bus-error' });
    }
  });
});

describe('mmap', () => {
  const page = { length: PAGE_SIZE, prot: RW, flags: ANONYMOUS, fd: -1, offset: 0 };

  test.each([
    ['a crooked offset, before the descriptor', { offset: 1 }, 'EINVAL', 'crooked-offset'],
    ['no length', { length: 0 }, 'EINVAL', 'nothing-to-map'],
    ['a length that is none', { length: Number.NaN }, 'EINVAL', 'nothing-to-map'],
    ['no type', { flags: MAP.ANONYMOUS }, 'EINVAL', 'neither-shared-nor-private'],
    ['more than all addresses', { length: 2 ** 48 }, 'ENOMEM', 'larger-than-all-addresses'],
    ['more than is left', { length: 2 ** 46 }, 'ENOMEM', 'no-address-left'],
    ['the first page', { flags: ANONYMOUS | MAP.FIXED }, 'EPERM', 'fixed-at-null'],
  ])('of %s is refused (A.15)', (_name, change, code, reason) => {
    const rig = new SysRig();
    const error = rig.fails(rig.sys.mmap({ ...page, ...change }));
    expect(error).toMatchObject({ code, reason });
  });

  test('of a file is refused without a type, and beyond any file', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({ *mmap() {} });
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    const beyond = rig.fails(sys.mmap({ ...page, flags: MAP.SHARED, fd, offset: -PAGE_SIZE }));
    expect(beyond).toMatchObject({ code: 'EOVERFLOW', reason: 'offset-beyond-any-file' });
    const none = rig.fails(sys.mmap({ ...page, flags: 0, fd }));
    expect(none).toMatchObject({ code: 'EINVAL', reason: 'neither-shared-nor-private' });
  });

  test('holds its file until it is unmapped', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({ *mmap() {} });
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    const at = rig.do(sys.mmap({ ...page, flags: MAP.SHARED, fd }));
    rig.do(sys.close(fd));
    expect(rig.released).toBe(0);
    rig.do(sys.munmap(at, PAGE_SIZE));
    expect(rig.released).toBe(1);
  });

  test('that the file refuses leaves nothing, also if the map was forwarded', () => {
    const rig = new SysRig();
    const { sys } = rig;
    let forwarded = 0;
    rig.addNode({}, '/dev/target');
    const target = rig.do(sys.open('/dev/target', O.RDWR));
    rig.addNode({
      *mmap(file, vma: Vma) {
        const other = (yield* rig.process.fds.fget(target)) ?? expect.fail('a target');
        vma.file = other;
        yield* file.put();
        forwarded += 1;
        throw rig.fails(sys.close(99));
      },
    });
    // The error is made beforehand: nothing may be run inside of a run.
    const refusal = rig.fails(sys.close(99));
    rig.fails = (): never => {
      throw refusal;
    };
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    const error = rig.do(refused(sys.mmap({ ...page, flags: MAP.SHARED, fd })));
    expect([error.code, forwarded]).toEqual(['EBADF', 1]);
    const { fds, mm } = rig.process;
    expect([...fds.value.values()].map(({ file }) => file?.refs.value)).toEqual([1, 1]);
    expect(mm.vmas.value).toEqual([]);
  });
});

describe('munmap', () => {
  test('takes all maps in the range, and there may be none', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const maps = [1, 2, 3].map(() => rig.do(sys.alloc(1)));
    const [first = 0, , last = 0] = maps;
    rig.do(sys.munmap(userAddr(first), last + PAGE_SIZE - first));
    expect(rig.process.mm.vmas.value).toEqual([]);
    rig.do(sys.munmap(userAddr(first), PAGE_SIZE));
  });

  test.each([
    ['a crooked address', 1, PAGE_SIZE],
    ['no length', 0, 0],
    ['a range beyond all addresses', 0, 2 ** 48],
    ['an address beyond', 2 ** 48, PAGE_SIZE],
  ])('of %s is EINVAL: no-range-of-pages', (_name, more, length) => {
    const rig = new SysRig();
    const at = rig.do(rig.sys.alloc(2 * PAGE_SIZE));
    const error = rig.fails(rig.sys.munmap((at + more) as UserAddr, length));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-range-of-pages' });
  });

  test('of part of a map is EINVAL here: part-of-a-map', () => {
    const rig = new SysRig();
    const at = rig.do(rig.sys.alloc(2 * PAGE_SIZE));
    for (const start of [at, at + PAGE_SIZE]) {
      const error = rig.fails(rig.sys.munmap(userAddr(start), PAGE_SIZE));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'part-of-a-map' });
    }
  });
});

describe('A private map of a driver’s pages', () => {
  test('copies a page when it is written, and reads the driver’s until then', () => {
    const rig = new SysRig();
    const { sys, machine } = rig;
    const entries: PageEntry[] = [];
    rig.addNode({
      *mmap(_file, vma: Vma) {
        yield* vma.insertPages(0, entries);
      },
    });
    rig.do(
      (function* (): Task {
        const phys = (yield* machine.memory.allocate(1)) ?? expect.fail('a page');
        yield* machine.cpu.store(phys, bytesOf('driver'));
        entries.push({ phys, kind: 'ram' });
      })(),
    );
    const pages = machine.memory.pagesInUse;
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    const request = { length: 1, prot: RW, fd, offset: 0 };
    const own = rig.do(sys.mmap({ ...request, flags: MAP.PRIVATE }));
    const shared = rig.do(sys.mmap({ ...request, flags: MAP.SHARED }));
    rig.do(sys.store(shared, bytesOf('D')));
    expect(textOf(rig.do(sys.load(own, 6)))).toBe('Driver');
    rig.do(sys.store(own, bytesOf('mine')));
    expect(textOf(rig.do(sys.load(own, 6)))).toBe('mineer');
    expect(textOf(rig.do(sys.load(shared, 6)))).toBe('Driver');
    expect(machine.memory.pagesInUse).toBe(pages + 1);
    rig.do(sys.munmap(own, PAGE_SIZE));
    expect(machine.memory.pagesInUse).toBe(pages);
  });
});
