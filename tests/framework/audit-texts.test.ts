/**
 * Goal: what the kernel tells of buffers is the very text, to the byte. Method: a program reads
 * fdinfo and debugfs; reference A.11, A.7.
 */

import { expect, describe, test } from 'vitest';
import { O } from '../../src/base/index.ts';
import { BUFINFO_PATH, POLLIN } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';
import { PEER_OPS } from './kernel-rig.ts';

function program(body: (rig: AuditRig) => Task): void {
  const rig = new AuditRig();
  rig.do(body(rig));
  rig.leavesNothing();
}

/** Line for line; each ends with a newline. */
function lines(...all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('');
}

describe('fdinfo of a buffer (A.11)', () => {
  test('has the lines of every file, then size, count and exporter', () => {
    program(function* (rig): Task {
      const fd = yield* rig.buffer(8192);
      expect(yield* rig.sys.readFile(`/proc/self/fdinfo/${fd}`)).toBe(
        lines(
          'pos:\t0',
          `flags:\t0${(O.RDWR | O.CLOEXEC).toString(8)}`,
          'mnt_id:\t15',
          'ino:\t1',
          'size:\t8192',
          'count:\t1',
          'exp_name:\tsystem',
        ),
      );
    });
  });

  test('counts descriptors, maps and pending polls, but not its own look', () => {
    program(function* (rig): Task {
      const { sys } = rig;
      const fd = yield* rig.buffer(4096);
      const path = `/proc/self/fdinfo/${fd}`;
      const count = function* (): Task<string | undefined> {
        return (yield* sys.readFile(path)).split('\n').find((line) => line.startsWith('count'));
      };
      const seen = [yield* count()];
      const other = yield* sys.dup(fd);
      seen.push(yield* count());
      const map = { length: 4096, prot: 1, flags: 1, fd, offset: 0 };
      const at = yield* sys.mmap(map);
      seen.push(yield* count());
      yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
      yield* rig.ready(fd, POLLIN);
      seen.push(yield* count());
      yield* sys.munmap(at, 4096);
      yield* sys.close(other);
      yield* rig.advance(1);
      seen.push(yield* count());
      expect(seen).toEqual(['count:\t1', 'count:\t2', 'count:\t3', 'count:\t4', 'count:\t1']);
    });
  });

  test('shows O_CLOEXEC of the descriptor, O_NONBLOCK of the file, and the name last', () => {
    program(function* (rig): Task {
      const { sys } = rig;
      const fd = yield* rig.buffer(1, O.RDONLY);
      const [copy] = [yield* sys.dup(fd)];
      yield* sys.fcntl(copy, 2, 1);
      yield* rig.setName(fd, 'frame 1');
      const tail = ['mnt_id:\t15', 'ino:\t1', 'size:\t4096', 'count:\t2', 'exp_name:\tsystem'];
      const text = (flags: string) => lines('pos:\t0', flags, ...tail, 'name:\tframe 1');
      expect(yield* sys.readFile(`/proc/self/fdinfo/${fd}`)).toBe(text('flags:\t00'));
      expect(yield* sys.readFile(`/proc/self/fdinfo/${copy}`)).toBe(text('flags:\t02000000'));
    });
  });
});

describe('debugfs of a program’s buffers (A.11)', () => {
  const HEAD =
    '\nDma-buf Objects:\nsize    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n';

  test('is the very text: names, fences and devices, newest buffer first', () => {
    program(function* (rig): Task {
      const first = yield* rig.buffer(123456);
      const second = yield* rig.buffer(4096, O.RDONLY);
      yield* rig.setName(first, '');
      yield* rig.importSync(first, READ, yield* rig.pending(7));
      const [{ timeline, point }] = yield* rig.timelines(1);
      yield* rig.goOn(timeline);
      yield* rig.importSync(second, WRITE, point);
      const buf = yield* rig.bufOf(first);
      const one = yield* buf.attach(rig.at('03:00.0'));
      const other = yield* buf.dynamicAttach(rig.at('0a:00.0'), PEER_OPS);
      const contexts = /(kernel|write|read) fence:(\d+)/g;
      const text = yield* rig.sys.readFile(BUFINFO_PATH);
      expect(text.replaceAll(contexts, '$1 fence:C')).toBe(
        [
          HEAD,
          '00004096\t00000000\t00080005\t00000001\tsystem\t00000002\t<none>\n',
          '\twrite fence:C:1   signalled\n',
          '\tAttached Devices:\nTotal 0 devices attached\n\n',
          '00126976\t00000002\t00080007\t00000001\tsystem\t00000001\t\n',
          '\tread fence:C:7 app sw_sync unsignalled\n',
          '\tAttached Devices:\n\t0000:0a:00.0\n\t0000:03:00.0\n',
          'Total 2 devices attached\n\n',
          '\nTotal 2 objects, 131072 bytes\n',
        ].join(''),
      );
      yield* buf.detach(one);
      yield* buf.detach(other);
    });
  });

  test('grows beyond its columns and cuts nothing', () => {
    program(function* (rig): Task {
      const size = 128 * 2 ** 20;
      const fd = yield* rig.buffer(size);
      yield* rig.setName(fd, 'n'.repeat(31));
      expect(yield* rig.sys.readFile(BUFINFO_PATH)).toBe(
        [
          HEAD,
          `${size}\t00000002\t00080007\t00000001\tsystem\t00000001\t${'n'.repeat(31)}\n`,
          '\tAttached Devices:\nTotal 0 devices attached\n\n',
          `\nTotal 1 objects, ${size} bytes\n`,
        ].join(''),
      );
    });
  });
});
