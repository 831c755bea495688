/**
 * Goal: a call with several things wrong says the first of them, in the kernel's order, and a sync
 * file tells what Linux's does. Method: a program whose arguments are wrong in all ways at once;
 * reference A.10, A.16, B.6.
 */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  dmaBufExportSyncFile,
  F,
  FD_CLOEXEC,
  SYNC_IOC,
  syncFenceInfo,
  syncFileInfo,
  syncMergeData,
  syncSetDeadline,
} from '../../src/base/index.ts';
import { POLLIN } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';

const NOWHERE = 0x10;

/** Runs a program with one buffer, and looks that it leaves nothing. */
function program(body: (rig: AuditRig, fd: number) => Task): void {
  const rig = new AuditRig();
  function* main(): Task {
    yield* body(rig, yield* rig.buffer());
  }
  rig.do(main());
  rig.leavesNothing();
}

/** Takes every descriptor that there is. */
function* fill(rig: AuditRig, fd: number): Task {
  for (;;) {
    try {
      yield* rig.sys.dup(fd);
    } catch {
      return;
    }
  }
}

describe('A call with several things wrong', () => {
  test('EXPORT_SYNC_FILE: the address, the flags, then a descriptor (A.16)', () => {
    program(function* (rig, fd): Task {
      const good = yield* rig.bytes(dmaBufExportSyncFile.encode({ flags: READ }));
      const bad = yield* rig.bytes(dmaBufExportSyncFile.encode({ flags: 8 }));
      yield* fill(rig, fd);
      const calls = [NOWHERE, bad, good].map((at) => {
        return rig.sys.ioctl(fd, DMA_BUF_IOCTL.EXPORT_SYNC_FILE, at);
      });
      expect(yield* rig.codes(calls)).toEqual(['EFAULT', 'EINVAL', 'EMFILE']);
    });
  });

  test('IMPORT_SYNC_FILE: the address, the flags, then the file; no lock (A.16)', () => {
    program(function* (rig, fd): Task {
      const { resv } = yield* rig.bufOf(fd);
      yield* resv.lock();
      const calls = [
        rig.sys.ioctl(fd, DMA_BUF_IOCTL.IMPORT_SYNC_FILE, NOWHERE),
        rig.importSync(fd, 8, -1),
        rig.importSync(fd, READ, -1),
      ];
      const errors: string[] = [];
      for (const call of calls) errors.push((yield* refused(call)).reason);
      yield* resv.unlock();
      expect(errors.slice(1)).toEqual([
        'import-for-neither-read-nor-write',
        'import-of-no-sync-file',
      ]);
    });
  });

  test('SYNC: the address, then the flags; the exporter hears of neither (A.10)', () => {
    program(function* (rig, fd): Task {
      const fault = rig.sys.ioctl(fd, DMA_BUF_IOCTL.SYNC, NOWHERE);
      expect(yield* rig.codes([fault, rig.syncIoctl(fd, 12)])).toEqual(['EFAULT', 'EINVAL']);
      expect(rig.kinds('buffer.begin-cpu-access', 'buffer.end-cpu-access')).toEqual([]);
    });
  });

  test('MERGE: a descriptor, the address, reserved fields, then the file (N14, B.6)', () => {
    program(function* (rig): Task {
      const one = yield* rig.pending(1);
      const call = (values: object): Task<unknown> =>
        rig.call(one, SYNC_IOC.MERGE, syncMergeData, { name: 'both', ...values });
      const codes = yield* rig.codes([
        rig.sys.ioctl(one, SYNC_IOC.MERGE, NOWHERE),
        call({ fd2: -1, pad: 1 }),
        call({ fd2: -1, flags: 1 }),
        call({ fd2: -1 }),
      ]);
      expect(codes).toEqual(['EFAULT', 'EINVAL', 'EINVAL', 'ENOENT']);
      yield* fill(rig, one);
      const full = rig.sys.ioctl(one, SYNC_IOC.MERGE, NOWHERE);
      expect(yield* rig.codes([full])).toEqual(['EMFILE']);
    });
  });

  test('FILE_INFO: the address, reserved fields, room, then the array (N15, B.6)', () => {
    program(function* (rig): Task {
      const [a, b] = yield* rig.timelines(2);
      const both = yield* rig.merge(a.point, b.point);
      const call = (values: object): Task<unknown> =>
        rig.call(both, SYNC_IOC.FILE_INFO, syncFileInfo, values);
      const codes = yield* rig.codes([
        rig.sys.ioctl(both, SYNC_IOC.FILE_INFO, NOWHERE),
        call({ numFences: 1, pad: 1 }),
        call({ numFences: 1, flags: 1 }),
        call({ numFences: 1 }),
        call({ numFences: 2, syncFenceInfo: BigInt(NOWHERE) }),
      ]);
      expect(codes).toEqual(['EFAULT', 'EINVAL', 'EINVAL', 'EINVAL', 'EFAULT']);
      expect(yield* rig.info(both)).toMatchObject({ numFences: 2, status: 0, name: 'both' });
    });
  });

  test('SET_DEADLINE: the address, then the padding; else 0, whatever the fence (B.6)', () => {
    program(function* (rig): Task {
      const sync = yield* rig.pending(1);
      const call = (values: object): Task<unknown> =>
        rig.call(sync, SYNC_IOC.SET_DEADLINE, syncSetDeadline, values);
      const fault = rig.sys.ioctl(sync, SYNC_IOC.SET_DEADLINE, NOWHERE);
      expect(yield* rig.codes([fault, call({ pad: 1n })])).toEqual(['EFAULT', 'EINVAL']);
      yield* call({ deadlineNs: 5n });
      yield* rig.advance(1);
      yield* call({ deadlineNs: 2n ** 64n - 1n });
    });
  });
});

/** What a sync file tells of each fence. */
function* infos(rig: AuditRig, sync: number, room: number): Task<readonly object[]> {
  const at = yield* rig.sys.alloc(4096);
  const asked = { numFences: room, syncFenceInfo: BigInt(at) };
  const { numFences } = yield* rig.call(sync, SYNC_IOC.FILE_INFO, syncFileInfo, asked);
  const { size } = syncFenceInfo;
  const bytes = yield* rig.sys.load(at, numFences * size);
  return Array.from({ length: numFences }, (_, i) => {
    return syncFenceInfo.decode(bytes.subarray(i * size, (i + 1) * size));
  });
}

describe('A sync file (B.6)', () => {
  test('is closed by exec, wherever it is from, and shows what it is (A.16)', () => {
    program(function* (rig, fd): Task {
      const [a, b] = yield* rig.timelines(2);
      for (const made of [yield* rig.merge(a.point, b.point), yield* rig.exportSync(fd, WRITE)]) {
        expect(yield* rig.sys.fcntl(made, F.GETFD, 0)).toBe(FD_CLOEXEC);
        expect(yield* rig.sys.readlink(`/proc/self/fd/${made}`)).toBe('anon_inode:sync_file');
      }
    });
  });

  test('has a name of 31 characters at most, or one made of its fence', () => {
    program(function* (rig, fd): Task {
      const one = yield* rig.pending(3);
      const asked = { name: 'n'.repeat(32), fd2: one };
      const { fence } = yield* rig.call(one, SYNC_IOC.MERGE, syncMergeData, asked);
      expect((yield* rig.info(fence)).name).toBe('n'.repeat(31));
      yield* rig.importSync(fd, WRITE, one);
      const { name } = yield* rig.info(yield* rig.exportSync(fd, READ));
      expect(name).toMatch(/^sw_sync-app\d+-3$/);
    });
  });

  test('with room to spare has the real count, and names, times and errors of each', () => {
    program(function* (rig): Task {
      const [a, b, c] = yield* rig.timelines(3);
      const all = yield* rig.merge(yield* rig.merge(a.point, b.point), c.point);
      yield* rig.goOn(a.timeline);
      yield* rig.sys.close(b.timeline);
      yield* rig.scheduler.sleep(1000);
      const gone = { objName: 'signaled-timeline', driverName: 'detached-driver' };
      expect(yield* infos(rig, all, 9)).toMatchObject([
        { ...gone, status: 1 },
        { ...gone, status: -2 },
        { objName: 'app', driverName: 'sw_sync', status: 0, timestampNs: 0n },
      ]);
      // The first status that is not well stays: -2, not the 0 of the last.
      const asked = { numFences: 9, syncFenceInfo: BigInt(yield* rig.sys.alloc(4096)) };
      const told = yield* rig.call(all, SYNC_IOC.FILE_INFO, syncFileInfo, asked);
      expect(told).toMatchObject({ numFences: 3, status: -2 });
      expect(yield* rig.info(all)).toMatchObject({ numFences: 3, status: 0 });
    });
  });

  test.each([
    [true, -2],
    [false, 1],
  ])('of several knows an error if somebody waited before (%s): %d (B.5)', (waits, status) => {
    program(function* (rig): Task {
      const [a, b] = yield* rig.timelines(2);
      const both = yield* rig.merge(a.point, b.point);
      if (waits) expect(yield* rig.ready(both, POLLIN)).toBe(0);
      yield* rig.sys.close(b.timeline);
      yield* rig.scheduler.sleep(1000);
      yield* rig.goOn(a.timeline);
      // Nobody counts errors of members before signaling is enabled: who looks asks who is done.
      expect(yield* rig.info(both)).toMatchObject({ numFences: 2, status });
      // An error is readiness, and nothing else.
      expect(yield* rig.ready(both, POLLIN)).toBe(POLLIN);
    });
  });
});
