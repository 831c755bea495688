/**
 * Goal: fences go out of a buffer and in as Linux counts them: arrays out, leaves in, signaled ones
 * among them. Method: a program with timelines of its own; reference A.16, B.2, B.5, B.6.
 */

import { describe, expect, test } from 'vitest';
import { SYNC_IOC, syncFenceInfo, syncFileInfo } from '../../src/base/index.ts';
import { BUFINFO_PATH, POLLIN, POLLOUT, SW_SYNC_PATH } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';

/** Runs a program with one buffer, and looks that it leaves nothing. */
function program(body: (rig: AuditRig, fd: number) => Task): void {
  const rig = new AuditRig();
  function* main(): Task {
    yield* body(rig, yield* rig.buffer());
  }
  rig.do(main());
  rig.leavesNothing();
}

/** Lines of debugfs that tell of fences, without the numbers of their contexts. */
function* fenceLines(rig: AuditRig): Task<readonly string[]> {
  const text = yield* rig.sys.readFile(BUFINFO_PATH);
  const lines = text.split('\n').filter((line) => line.includes('fence:'));
  return lines.map((line) => line.trim().replace(/fence:\d+:/, 'fence:C:'));
}

/** The status of each fence of a sync file. */
function* statuses(rig: AuditRig, sync: number): Task<readonly number[]> {
  const { numFences } = yield* rig.info(sync);
  const size = syncFenceInfo.size;
  const at = yield* rig.sys.alloc(4096);
  yield* rig.call(sync, SYNC_IOC.FILE_INFO, syncFileInfo, {
    numFences,
    syncFenceInfo: BigInt(at),
  });
  const bytes = yield* rig.sys.load(at, numFences * size);
  return Array.from({ length: numFences }, (_, i) => {
    return syncFenceInfo.decode(bytes.subarray(i * size, (i + 1) * size)).status;
  });
}

describe('EXPORT_SYNC_FILE of a buffer with several fences (A.16)', () => {
  test('is one file of all of them: to write, readers too; to read, writers only', () => {
    program(function* (rig, fd): Task {
      const [one, other, third] = yield* rig.timelines(3);
      yield* rig.importSync(fd, WRITE, one.point);
      yield* rig.importSync(fd, READ, other.point);
      yield* rig.importSync(fd, READ, third.point);
      const counts: number[] = [];
      for (const flags of [READ, WRITE, READ | WRITE]) {
        counts.push((yield* rig.info(yield* rig.exportSync(fd, flags))).numFences);
      }
      expect(counts).toEqual([1, 3, 3]);
    });
  });

  test('is a snapshot: the file is done when those of then are, whatever came later', () => {
    program(function* (rig, fd): Task {
      const [one, other, later] = yield* rig.timelines(3);
      yield* rig.importSync(fd, WRITE, one.point);
      yield* rig.importSync(fd, WRITE, other.point);
      const sync = yield* rig.exportSync(fd, READ);
      yield* rig.importSync(fd, WRITE, later.point);
      expect(yield* rig.ready(sync, POLLIN)).toBe(0);
      yield* rig.goOn(one.timeline);
      expect(yield* statuses(rig, sync)).toEqual([1, 0]);
      yield* rig.goOn(other.timeline);
      expect(yield* rig.ready(sync, POLLIN)).toBe(POLLIN);
      expect(yield* rig.ready(fd, POLLIN)).toBe(0);
    });
  });

  test('leaves out what is signaled already, and is idle when all is', () => {
    program(function* (rig, fd): Task {
      const [one, other] = yield* rig.timelines(2);
      yield* rig.importSync(fd, WRITE, one.point);
      yield* rig.importSync(fd, WRITE, other.point);
      yield* rig.goOn(one.timeline);
      expect(yield* statuses(rig, yield* rig.exportSync(fd, READ))).toEqual([0]);
      yield* rig.goOn(other.timeline);
      expect(yield* statuses(rig, yield* rig.exportSync(fd, READ))).toEqual([1]);
    });
  });
});

describe('IMPORT_SYNC_FILE of a file of several fences (A.16)', () => {
  test('adds each leaf by itself, also those that are signaled', () => {
    program(function* (rig, fd): Task {
      const [one, other, third] = yield* rig.timelines(3);
      const both = yield* rig.merge(one.point, other.point);
      const all = yield* rig.merge(both, third.point);
      expect((yield* rig.info(all)).numFences).toBe(3);
      yield* rig.goOn(third.timeline);
      yield* rig.importSync(fd, WRITE, all);
      expect(yield* fenceLines(rig)).toEqual([
        'write fence:C:1 app sw_sync unsignalled',
        'write fence:C:1 app sw_sync unsignalled',
        'write fence:C:1   signalled',
      ]);
    });
  });

  test('puts what comes after a signaled one in its place (A.16, B.2)', () => {
    program(function* (rig, fd): Task {
      const [one, other] = yield* rig.timelines(2);
      const both = yield* rig.merge(one.point, other.point);
      yield* rig.goOn(one.timeline);
      yield* rig.importSync(fd, READ, both);
      expect(yield* fenceLines(rig)).toEqual(['read fence:C:1 app sw_sync unsignalled']);
    });
  });

  test('of an idle buffer adds the one signaled fence that is in it', () => {
    program(function* (rig, fd): Task {
      yield* rig.importSync(fd, WRITE, yield* rig.exportSync(fd, READ));
      expect(yield* fenceLines(rig)).toEqual(['write fence:C:0   signalled']);
      expect(yield* rig.ready(fd, POLLIN | POLLOUT)).toBe(POLLIN | POLLOUT);
    });
  });

  test('twice has each fence once; as a writer what was a reader is a writer then (B.2)', () => {
    program(function* (rig, fd): Task {
      const [one, other] = yield* rig.timelines(2);
      const both = yield* rig.merge(one.point, other.point);
      for (const flags of [READ, READ, WRITE, READ]) yield* rig.importSync(fd, flags, both);
      // As a reader once more it is behind the writer, which no reader takes the place of.
      const lines = (yield* fenceLines(rig)).map((line) => line.split(' ')[0]);
      expect(lines).toEqual(['write', 'write', 'read', 'read']);
    });
  });

  test('goes round in a circle: out of the buffer and in again changes nothing', () => {
    program(function* (rig, fd): Task {
      const [one, other] = yield* rig.timelines(2);
      yield* rig.importSync(fd, WRITE, one.point);
      yield* rig.importSync(fd, WRITE, other.point);
      const before = yield* fenceLines(rig);
      yield* rig.importSync(fd, WRITE, yield* rig.exportSync(fd, READ));
      expect(yield* fenceLines(rig)).toEqual(before);
    });
  });

  test('whose timeline ends with an error is over for the buffer, too (B.6)', () => {
    program(function* (rig, fd): Task {
      const [one] = yield* rig.timelines(1);
      yield* rig.importSync(fd, WRITE, one.point);
      yield* rig.sys.close(one.timeline);
      yield* rig.scheduler.sleep(1000);
      expect(yield* rig.ready(fd, POLLIN)).toBe(POLLIN);
      expect(yield* statuses(rig, one.point)).toEqual([-2]);
      // An error is nothing that a waiter hears of: the bracket opens (A.15).
      yield* rig.syncIoctl(fd, 1);
      expect(rig.kernel.nodes.find(SW_SYNC_PATH)).not.toBeNull();
    });
  });
});
