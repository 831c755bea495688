/**
 * Goal: vectors N1 to N13 hold for a program. Method: system calls alone, on a buffer of the system
 * heap; pending fences are the program's own, of a timeline.
 */

import { describe, expect, test } from 'vitest';
import { ioctlNumber, MFD, O, SEEK } from '../../src/base/index.ts';
import { POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';

const BOTH = POLLIN | POLLOUT;

/** Runs a program with one buffer, and looks that it leaves nothing. */
function program(body: (rig: AuditRig, fd: number) => Task): void {
  const rig = new AuditRig();
  function* main(): Task {
    yield* body(rig, yield* rig.buffer());
  }
  rig.do(main());
  rig.leavesNothing();
}

describe('A program with a buffer', () => {
  test('finds its size at the end, and seeks nowhere else (N1, A.8)', () => {
    program(function* (rig, fd): Task {
      const { sys } = rig;
      expect(yield* sys.lseek(fd, 0, SEEK.END)).toBe(8192);
      expect(yield* sys.lseek(fd, 0, SEEK.SET)).toBe(0);
      const wrong = [sys.lseek(fd, 0, SEEK.CUR), sys.lseek(fd, 1, SEEK.SET)];
      wrong.push(sys.lseek(fd, -1, SEEK.END));
      expect(yield* rig.codes(wrong)).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    });
  });

  test('neither reads nor writes it: EINVAL, whatever the address (N2, A.8)', () => {
    program(function* (rig, fd): Task {
      const at = yield* rig.bytes(Uint8Array.of(1));
      const { sys } = rig;
      const calls = [sys.read(fd, at, 1), sys.write(fd, at, 1), sys.read(fd, 0 as typeof at, 1)];
      expect(yield* rig.codes(calls)).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    });
  });

  test('names it with 31 characters; 32 are EINVAL and change nothing (N3, A.7)', () => {
    program(function* (rig, fd): Task {
      const name = 'n'.repeat(31);
      yield* rig.setName(fd, name);
      expect(yield* rig.codes([rig.setName(fd, 'x'.repeat(32))])).toEqual(['EINVAL']);
      expect(yield* rig.sys.readlink(`/proc/self/fd/${fd}`)).toBe(`/dmabuf:${name}`);
    });
  });

  test('may give it the empty name, which fdinfo shows (N4, A.7, A.11)', () => {
    program(function* (rig, fd): Task {
      const path = `/proc/self/fdinfo/${fd}`;
      expect(yield* rig.sys.readFile(path)).not.toContain('name:\t\n');
      yield* rig.setName(fd, '');
      expect(yield* rig.sys.readFile(path)).toMatch(/exp_name:\tsystem\nname:\t\n$/);
    });
  });

  test('brackets with READ, WRITE or both; 0, END alone and bit 3 are EINVAL (N5, A.10)', () => {
    program(function* (rig, fd): Task {
      const wrong = [0, 4, 8, 9, 1n << 32n].map((flags) => rig.syncIoctl(fd, flags));
      expect(new Set(yield* rig.codes(wrong))).toEqual(new Set(['EINVAL']));
      for (const flags of [1, 2, 3, 5, 6, 7]) yield* rig.syncIoctl(fd, flags);
      const events = rig.events('buffer.begin-cpu-access', 'buffer.end-cpu-access');
      expect(events).toMatchObject([
        { kind: 'buffer.begin-cpu-access', direction: 'from-device' },
        { kind: 'buffer.begin-cpu-access', direction: 'to-device' },
        { kind: 'buffer.begin-cpu-access', direction: 'bidirectional' },
        { kind: 'buffer.end-cpu-access', direction: 'from-device' },
        { kind: 'buffer.end-cpu-access', direction: 'to-device' },
        { kind: 'buffer.end-cpu-access', direction: 'bidirectional' },
      ]);
    });
  });

  test('ends what it never began: the system heap does not mind (N6, A.10)', () => {
    program(function* (rig, fd): Task {
      yield* rig.syncIoctl(fd, 7);
    });
  });

  test('gets ENOTTY for a command that a dma-buf or a sync file lacks (N7, A.10, B.6)', () => {
    program(function* (rig, fd): Task {
      const unknown = ioctlNumber('rw', 'b', 9, 8);
      const sync = yield* rig.exportSync(fd, READ);
      const calls = [fd, sync].map((one) => rig.sys.ioctl(one, unknown, 0));
      expect(yield* rig.codes(calls)).toEqual(['ENOTTY', 'ENOTTY']);
    });
  });

  test('opened to read, is refused no command (A.10, A.16)', () => {
    program(function* (rig): Task {
      const fd = yield* rig.buffer(4096, O.RDONLY);
      yield* rig.syncIoctl(fd, 2);
      yield* rig.setName(fd, 'mine');
      yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
      yield* rig.exportSync(fd, READ | WRITE);
    });
  });
});

describe('A program with a buffer and sync files', () => {
  test('exports for READ or WRITE; 0 and 4 are EINVAL and take no descriptor (N8, A.16)', () => {
    program(function* (rig, fd): Task {
      const open = rig.process.fds.value.size;
      const calls = [0, 4, 7].map((flags) => rig.exportSync(fd, flags));
      expect(yield* rig.codes(calls)).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
      expect(rig.process.fds.value.size).toBe(open);
    });
  });

  test('gets one fence that is done from an idle buffer (N9, A.16)', () => {
    program(function* (rig, fd): Task {
      const info = yield* rig.info(yield* rig.exportSync(fd, READ | WRITE));
      expect(info).toMatchObject({ numFences: 1, status: 1 });
    });
  });

  test('imports nothing but sync files: EINVAL, never EBADF (N10, A.16)', () => {
    program(function* (rig, fd): Task {
      const regular = yield* rig.sys.memfdCreate('regular', MFD.CLOEXEC);
      const calls = [-1, 999, regular, fd].map((wrong) => rig.importSync(fd, READ, wrong));
      expect(yield* rig.codes(calls)).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
    });
  });

  test('may read beside a reader, and not write (N11, A.9)', () => {
    program(function* (rig, fd): Task {
      expect(yield* rig.ready(fd, BOTH)).toBe(BOTH);
      yield* rig.importSync(fd, READ, yield* rig.pending(1));
      expect(yield* rig.ready(fd, POLLIN)).toBe(POLLIN);
      expect(yield* rig.ready(fd, POLLOUT)).toBe(0);
      yield* rig.advance(1);
      expect(yield* rig.ready(fd, BOTH)).toBe(BOTH);
    });
  });

  test('may neither read nor write beside a writer (N12, A.9)', () => {
    program(function* (rig, fd): Task {
      yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
      expect(yield* rig.ready(fd, POLLIN)).toBe(0);
      expect(yield* rig.ready(fd, POLLOUT)).toBe(0);
      yield* rig.advance(1);
      expect(yield* rig.ready(fd, BOTH)).toBe(BOTH);
    });
  });

  test.each([true, false])(
    'keeps it by a poll (%s) until the fence signals (N13, A.9)',
    (polls) => {
      program(function* (rig, fd): Task {
        yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
        const count = rig.sys.readFile(`/proc/self/fdinfo/${fd}`);
        if (polls) yield* rig.ready(fd, POLLIN);
        // The pending callback holds a reference, which shows.
        expect(yield* count).toContain(`count:\t${polls ? 2 : 1}\n`);
        yield* rig.sys.close(fd);
        yield* rig.scheduler.sleep(1000);
        expect(rig.kernel.bufferList.value).toBe(polls ? 1 : 0);
        yield* rig.advance(1);
        yield* rig.scheduler.sleep(1000);
        expect(rig.kernel.bufferList.value).toBe(0);
      });
    },
  );
});
