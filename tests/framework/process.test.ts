/**
 * Goal: processes share what Linux lets them share and copy the rest, and leave nothing. Method: a
 * program forks; its child makes calls of its own.
 */

import { describe, expect, test } from 'vitest';
import { F, MAP, O, PAGE_SIZE, PROT, SEEK, type UserAddr } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { ModelSys, Process, type Sys, type Vma } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { bytesOf, FAKE, SysRig, textOf } from './sys-rig.ts';

const RW = PROT.READ | PROT.WRITE;

/** Runs a program to its end as a thread of user mode. */
function program(rig: SysRig, main: (sys: Sys) => Task<unknown>): unknown {
  const actor = rig.scheduler.spawn(main(rig.sys), { name: 'main', role: 'user' });
  expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  return actor.result;
}

function* text(sys: Sys, at: UserAddr, length: number): Task<string> {
  return textOf(yield* sys.load(at, length));
}

describe('fork', () => {
  test('copies private memory and shares shared memory', () => {
    const rig = new SysRig();
    const before = rig.machine.memory.pagesInUse;
    const seen = program(rig, function* (sys): Task<readonly string[]> {
      const own = yield* sys.alloc(1);
      const flags = MAP.SHARED | MAP.ANONYMOUS;
      const shared = yield* sys.mmap({ length: 1, prot: RW, flags, fd: -1, offset: 0 });
      yield* sys.store(own, bytesOf('parent'));
      yield* sys.store(shared, bytesOf('parent'));
      const pid = yield* sys.fork(function* (child): Task {
        expect(yield* text(child, own, 6)).toBe('parent');
        yield* child.store(own, bytesOf('child'));
        yield* child.store(shared, bytesOf('child'));
        yield* child.exit(7);
      });
      expect(yield* sys.waitpid(pid)).toBe(7);
      const found = [yield* text(sys, own, 6), yield* text(sys, shared, 6)];
      yield* sys.exit(0);
      return found;
    });
    expect(seen).toEqual(['parent', 'childt']);
    expect(rig.machine.memory.pagesInUse).toBe(before);
  });

  test('shares open files with their positions, but neither table nor flags', () => {
    const rig = new SysRig();
    program(rig, function* (sys): Task {
      const fd = yield* sys.memfdCreate('', 0);
      const copy = yield* sys.fcntl(fd, F.DUPFD_CLOEXEC, 0);
      const at = yield* sys.alloc(8);
      const pid = yield* sys.fork(function* (child): Task {
        yield* child.write(fd, at, 8);
        expect(yield* child.fcntl(copy, F.GETFD, 0)).toBe(1);
        yield* child.fcntl(copy, F.SETFD, 0);
        yield* child.close(fd);
      });
      yield* sys.waitpid(pid);
      expect(yield* sys.lseek(fd, 0, SEEK.CUR)).toBe(8);
      expect(yield* sys.fcntl(copy, F.GETFD, 0)).toBe(1);
    });
  });

  test('tells the owner of a map, and keeps its file until both have unmapped', () => {
    const rig = new SysRig();
    const calls: string[] = [];
    rig.addNode({
      *mmap(_file, vma: Vma) {
        vma.operations = {
          *open() {
            calls.push('open');
          },
          *close() {
            calls.push('close');
          },
        };
      },
    });
    program(rig, function* (sys): Task {
      const fd = yield* sys.open(FAKE, O.RDWR);
      const request = { length: 1, prot: RW, flags: MAP.SHARED, fd, offset: 0 };
      const at = yield* sys.mmap(request);
      yield* sys.close(fd);
      const pid = yield* sys.fork(function* (child): Task {
        expect(rig.released).toBe(0);
        yield* child.munmap(at, PAGE_SIZE);
      });
      yield* sys.waitpid(pid);
      expect(rig.released).toBe(0);
      yield* sys.munmap(at, PAGE_SIZE);
      expect(rig.released).toBe(1);
    });
    expect(calls).toEqual(['open', 'close', 'close']);
  });

  test('leaves no reserved number behind, and no reference, in any of 100 schedules', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const rig = new SysRig();
      rig.addNode();
      const { sys, process } = rig;
      const opener = function* (): Task {
        const fd = yield* sys.open(FAKE, O.RDWR);
        yield* sys.dup(fd);
      };
      rig.thread(opener(), 'opener');
      rig.thread(
        sys.fork(function* () {}),
        'forker',
      );
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
      expect([...process.fds.value.values()].map(({ file }) => file?.refs.value)).toEqual([2, 2]);
      rig.do(sys.exit(0));
      expect(rig.released).toBe(1);
    }
  });

  test('without memory for the copies is ENOMEM, and the parent has what it had', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode();
    rig.do(sys.open(FAKE, O.RDWR));
    const at = rig.do(sys.alloc(1));
    rig.do(sys.store(at, bytesOf('x')));
    rig.do(
      (function* (): Task {
        for (let size = 2 ** 20; size >= 1; size /= 2) {
          while ((yield* rig.machine.memory.allocate(size)) !== null);
        }
      })(),
    );
    const error = rig.fails(sys.fork(() => expect.fail('there is no child')));
    expect(error).toMatchObject({ code: 'ENOMEM' });
  });

  test('gives the child the limits of its parent, and a name and a number of its own', () => {
    const rig = new SysRig({ fileLimit: 5, isRoot: false });
    rig.addNode();
    rig.addNode({}, '/dev/root-only', 0o660);
    program(rig, function* (sys): Task {
      yield* sys.open(FAKE, O.RDWR);
      const pid = yield* sys.fork(function* (child): Task {
        expect((yield* refused(child.open('/dev/root-only', O.RDONLY))).code).toBe('EACCES');
        yield* child.dup(3);
        expect((yield* refused(child.dup(3))).code).toBe('EMFILE');
      });
      expect(pid).not.toBe(rig.process.pid);
    });
  });
});

describe('waitpid', () => {
  test('waits for one’s own children, each once: else ECHILD, no-such-child', () => {
    const rig = new SysRig();
    program(rig, function* (sys): Task {
      const pid = yield* sys.fork(function* (child): Task {
        const error = yield* refused(child.waitpid(rig.process.pid));
        expect(error).toMatchObject({ code: 'ECHILD', reason: 'no-such-child' });
      });
      expect(yield* sys.waitpid(pid)).toBe(0);
      expect((yield* refused(sys.waitpid(pid))).code).toBe('ECHILD');
    });
  });

  test('is ended by a signal: EINTR', () => {
    const rig = new SysRig();
    const { sys, kernel } = rig;
    const main = function* (): Task {
      const pid = yield* sys.fork(function* (): Task {
        yield* rig.scheduler.sleep(1000);
      });
      expect((yield* refused(sys.waitpid(pid))).code).toBe('EINTR');
    };
    const waiter = rig.scheduler.spawn(main(), { name: 'main', role: 'user' });
    rig.thread(
      (function* (): Task {
        yield* rig.scheduler.sleep(10);
        yield* kernel.signals.kill(waiter);
      })(),
      'killer',
    );
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });
});

describe('exit', () => {
  test('unmaps before it closes, drops everything, and does nothing twice', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.addNode({ *mmap() {} });
    const before = rig.machine.memory.pagesInUse;
    const fd = rig.do(sys.open(FAKE, O.RDWR));
    rig.do(sys.mmap({ length: 1, prot: RW, flags: MAP.SHARED, fd, offset: 0 }));
    rig.do(rig.place(bytesOf('memory')));
    rig.do(sys.memfdCreate('', 0));
    rig.do(sys.exit(3));
    rig.do(sys.exit(4));
    expect(rig.state).toEqual({ files: [], maps: [], released: 1 });
    expect(rig.machine.memory.pagesInUse).toBe(before);
    expect(() => rig.do(sys.alloc(1))).toThrow('has ended');
  });

  test('is what an error in the child’s program comes to as well', () => {
    const rig = new SysRig();
    rig.addNode();
    const { sys } = rig;
    rig.thread(
      sys.fork(function* (child): Task {
        yield* child.open(FAKE, O.RDWR);
        yield* child.close(99);
      }),
    );
    const { findings } = rig.run();
    expect(findings.map(({ kind }) => kind)).toEqual(['failure']);
    expect(rig.released).toBe(1);
  });
});

describe('Two processes of a machine', () => {
  test('have numbers and memory of their own', () => {
    const rig = new SysRig();
    const other = new Process(rig.kernel, 'other');
    expect(other.pid).not.toBe(rig.process.pid);
    const at = rig.do(rig.place(bytesOf('mine')));
    const error = rig.do(refused(new ModelSys(other).load(at, 4)));
    expect(error.code).toBe('EFAULT');
  });
});
