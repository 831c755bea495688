/**
 * Goal: a sync file polls, merges and tells of its fences as the kernel's does, errno by errno.
 * Method: ioctls with arguments in a program's memory; reference B.6.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  SYNC_IOC,
  syncFenceInfo,
  syncFileInfo,
  syncMergeData,
  syncSetDeadline,
} from '../../src/base/index.ts';
import {
  type DmaFence,
  DmaFenceArray,
  FD_MAX,
  KernelFile,
  POLLIN,
  PollTable,
  stubFence,
  SyncFile,
  syncFileCreate,
  syncFileFence,
  waitForAny,
} from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { oneStep } from '../machine/fabric-rig.ts';
import { FenceRig } from './fence-rig.ts';

const { MERGE, FILE_INFO, SET_DEADLINE } = SYNC_IOC;
const NOWHERE = 0x10;

/** What FILE_INFO tells, with room for some fences. */
function* fileInfo(rig: FenceRig, fd: number, room: number): Task<ReturnType<typeof decode>> {
  const array = yield* rig.userBytes(new Uint8Array(syncFenceInfo.size * room + 1));
  const told = yield* rig.call(fd, FILE_INFO, syncFileInfo, {
    numFences: room,
    syncFenceInfo: BigInt(array),
  });
  const count = Math.min(room, told.numFences);
  const fences: ReturnType<typeof syncFenceInfo.decode>[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = (array + i * syncFenceInfo.size) as typeof array;
    fences.push(syncFenceInfo.decode(yield* rig.process.mm.load(at, syncFenceInfo.size)));
  }
  return decode(told, fences);
}

function decode(
  told: ReturnType<typeof syncFileInfo.decode>,
  fences: readonly ReturnType<typeof syncFenceInfo.decode>[],
) {
  return { name: told.name, status: told.status, numFences: told.numFences, fences };
}

/** A sync file of an array of two fences. */
function twoFences() {
  const rig = new FenceRig();
  const [one, two] = [rig.fence(1, 1), rig.fence(2, 1)];
  const fd = rig.do(rig.syncFd(new DmaFenceArray(rig.kernel, [one, two], 9, 1)));
  return { rig, one, two, fd };
}

describe('A sync file', () => {
  test('shows what it is in its path, and gives its fence out', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    const file = syncFileCreate(rig.kernel, fence);
    expect(file.path).toBe('anon_inode:sync_file');
    expect(syncFileFence(file)).toBe(fence);
    expect(fence.refs.value).toBe(2);
    const plain = new KernelFile(rig.kernel, 'plain', { *release(): Task {} });
    expect(syncFileFence(plain)).toBe(null);
  });

  test('lets its fence go when it is closed', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    const fd = rig.do(rig.syncFd(fence));
    rig.do(fence.signal());
    rig.kthread(rig.process.close(fd), 'closer');
    expect(rig.run().findings).toEqual([]);
    expect(fence.refs.value).toBe(0);
  });

  test('takes its callback back when it is closed before the signal (B.6)', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    const fd = rig.do(rig.syncFd(fence));
    rig.do(rig.poll(fd, new PollTable(POLLIN)));
    expect(fence.value.callbacks).not.toBe(null);
    rig.kthread(rig.process.close(fd), 'closer');
    expect(rig.run().findings).toEqual([]);
    expect(fence.value.callbacks).toBe(null);
    expect(rig.warnings).toEqual([]);
  });

  test('knows no other command: ENOTTY, no-such-sync-file-command (N7)', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(rig.fence()));
    const error = rig.errorOf(rig.callAt(fd, 0x3e07, 0));
    expect(error).toMatchObject({ code: 'ENOTTY', reason: 'no-such-sync-file-command' });
  });
});

describe('Polling a sync file (B.6)', () => {
  test('is readable once the fence is signaled, also with an error', () => {
    for (const error of [0, -5]) {
      const rig = new FenceRig();
      const fence = rig.fence();
      const fd = rig.do(rig.syncFd(fence));
      expect(rig.do(rig.poll(fd, new PollTable(POLLIN)))).toBe(0);
      rig.do(fence.signal(error));
      expect(rig.do(rig.poll(fd, new PollTable(POLLIN)))).toBe(POLLIN);
    }
  });

  test('tells the driver that somebody waits, at the first poll only', () => {
    const rig = new FenceRig();
    const asked: string[] = [];
    const fence = rig.fence(1, 1, {
      *enableSignaling(): Atomic<boolean> {
        asked.push('enable');
        return true;
      },
    });
    const fd = rig.do(rig.syncFd(fence));
    for (let i = 0; i < 2; i += 1) rig.do(rig.poll(fd, new PollTable(POLLIN)));
    expect(asked).toEqual(['enable']);
    expect(fence.value.callbacks?.before).toBe(null);
  });

  test('wakes who sleeps on it', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    const fd = rig.do(rig.syncFd(fence));
    const seen: unknown[] = [];
    function* poller(): Task {
      const table = new PollTable(POLLIN);
      seen.push(yield* rig.poll(fd, table));
      const { clock } = rig.scheduler;
      yield* waitForAny(clock, table.entries, Number.POSITIVE_INFINITY);
      seen.push(yield* rig.poll(fd, new PollTable(POLLIN)), rig.scheduler.t);
    }
    function* card(): Task {
      yield* rig.scheduler.sleep(25);
      yield* fence.signal();
    }
    rig.user(poller(), 'poller');
    rig.kthread(card(), 'card');
    expect(rig.run().findings).toEqual([]);
    expect(seen).toEqual([0, POLLIN, 25]);
  });
});

describe('FILE_INFO (B.6)', () => {
  test('of an idle file tells of one fence that is done (N9)', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(stubFence(rig.kernel)));
    const { numFences, status, fences } = rig.do(fileInfo(rig, fd, 1));
    expect([numFences, status]).toEqual([1, 1]);
    expect(fences).toMatchObject([
      { objName: 'signaled-timeline', driverName: 'detached-driver', status: 1, timestampNs: 0n },
    ]);
  });

  test('with too little room is EINVAL, without any only counts, with more is fine (N15)', () => {
    const { rig, fd } = twoFences();
    const error = rig.errorOf(fileInfo(rig, fd, 1));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-room-for-all-fences' });
    expect(rig.do(fileInfo(rig, fd, 0))).toMatchObject({ numFences: 2, fences: [] });
    expect(rig.do(fileInfo(rig, fd, 3))).toMatchObject({ numFences: 2 });
  });

  test('tells each fence’s names, status and time', () => {
    const { rig, one, two, fd } = twoFences();
    function* signal(): Task {
      yield* rig.scheduler.sleep(90);
      yield* one.signal(-5);
    }
    rig.do(signal());
    expect(rig.do(fileInfo(rig, fd, 2)).fences).toEqual([
      {
        objName: 'signaled-timeline',
        driverName: 'detached-driver',
        status: -5,
        flags: 0,
        timestampNs: 90n,
      },
      { objName: 'ring', driverName: 'card', status: 0, flags: 0, timestampNs: 0n },
    ]);
    expect([one.refs.value, two.refs.value]).toEqual([1, 1]);
  });

  test('has the status of the first that is not well; without room that of the whole', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(1, 0, -5, -6), { minLength: 1, maxLength: 5 }),
        (all) => {
          const rig = new FenceRig();
          const fences = all.map((status, i) => {
            const fence = rig.fence(i + 1);
            if (status !== 0) rig.do(fence.signal(status === 1 ? 0 : status));
            return fence;
          });
          const fd = rig.do(rig.syncFd(new DmaFenceArray(rig.kernel, fences, 99, 1)));
          const expected = all.find((status) => status <= 0) ?? 1;
          expect(rig.do(fileInfo(rig, fd, all.length)).status).toBe(expected);
          const isDone = !all.includes(0);
          expect(rig.do(fileInfo(rig, fd, 0)).status).toBe(isDone ? 1 : 0);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('has the name that user space gave, or one of the fence', () => {
    const rig = new FenceRig();
    const named = rig.do(rig.syncFd(rig.fence(), 'mine'));
    const fence = rig.fence(12, 34);
    const nameless = rig.do(rig.syncFd(fence));
    expect(rig.do(fileInfo(rig, named, 0)).name).toBe('mine');
    expect(rig.do(fileInfo(rig, nameless, 0)).name).toBe('card-ring12-34');
    rig.do(fence.signal());
    expect(rig.do(fileInfo(rig, nameless, 0)).name).toBe('detached-driver-signaled-timeli');
  });

  test('with reserved fields is EINVAL: reserved-info-fields-set', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(rig.fence()));
    for (const fields of [{ flags: 1 }, { pad: 1 }]) {
      const error = rig.errorOf(rig.call(fd, FILE_INFO, syncFileInfo, fields));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'reserved-info-fields-set' });
    }
  });

  test('at an address that is none is EFAULT, also of the array', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(rig.fence()));
    expect(rig.codeOf(rig.callAt(fd, FILE_INFO, NOWHERE))).toBe('EFAULT');
    for (const pointer of [0n, 2n ** 64n - 8n]) {
      const fields = { numFences: 1, syncFenceInfo: pointer };
      expect(rig.codeOf(rig.call(fd, FILE_INFO, syncFileInfo, fields))).toBe('EFAULT');
    }
  });

  test('without memory is ENOMEM: no-memory-for-fence-infos', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(rig.fence()));
    const at = rig.do(rig.userBytes(syncFileInfo.encode({ numFences: 1 })));
    const error = rig.errorWithout(1, rig.callAt(fd, FILE_INFO, at));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-for-fence-infos' });
  });
});

describe('MERGE (B.6)', () => {
  function boot() {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    return { rig, one, two, fd: rig.do(rig.syncFd(one)), fd2: rig.do(rig.syncFd(two)) };
  }

  function fenceAt(rig: FenceRig, fd: number): DmaFence | null {
    const file = rig.do(oneStep(rig.process.fds.fget(fd)));
    return file === null ? null : syncFileFence(file);
  }

  test('makes a new file of the fences of both, with the name given', () => {
    const { rig, one, two, fd, fd2 } = boot();
    const name = 'a name that is cut at 31 characters';
    const { fence } = rig.do(rig.call(fd, MERGE, syncMergeData, { name, fd2 }));
    const merged = fenceAt(rig, fence);
    expect(merged).toMatchObject({ fences: [one, two] });
    expect(rig.do(fileInfo(rig, fence, 0)).name).toBe(name.slice(0, 31));
    rig.do(one.signal());
    rig.do(two.signal());
    expect(rig.do(rig.poll(fence, new PollTable(POLLIN)))).toBe(POLLIN);
  });

  test('of a file with itself is fine', () => {
    const { rig, one, fd } = boot();
    const { fence } = rig.do(rig.call(fd, MERGE, syncMergeData, { fd2: fd }));
    expect(fenceAt(rig, fence)).toBe(one);
    expect(one.refs.value).toBe(2);
  });

  test('with no sync file is ENOENT, with a reserved field EINVAL (N14)', () => {
    const { rig, fd } = boot();
    const plain = new KernelFile(rig.kernel, 'plain', { *release(): Task {} });
    const other = rig.do(oneStep(rig.process.fds.install(plain))) ?? expect.fail();
    const before = rig.process.fds.value.size;
    for (const fd2 of [-1, 500, other]) {
      const error = rig.errorOf(rig.call(fd, MERGE, syncMergeData, { fd2 }));
      expect(error).toMatchObject({ code: 'ENOENT', reason: 'second-file-is-no-sync-file' });
    }
    for (const fields of [{ pad: 1 }, { flags: 1 }]) {
      const error = rig.errorOf(rig.call(fd, MERGE, syncMergeData, { fd2: -1, ...fields }));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'reserved-merge-fields-set' });
    }
    expect(rig.process.fds.value.size).toBe(before);
  });

  test('looks for a descriptor before anything else: EMFILE, no-descriptor-for-a-new-file', () => {
    const { rig, fd } = boot();
    const plain = new KernelFile(rig.kernel, 'plain', { *release(): Task {} });
    for (let i = rig.process.fds.value.size + 3; i < FD_MAX; i += 1) {
      rig.do(oneStep(rig.process.fds.install(plain)));
    }
    const error = rig.errorOf(rig.callAt(fd, MERGE, NOWHERE));
    expect(error).toMatchObject({ code: 'EMFILE', reason: 'no-descriptor-for-a-new-file' });
  });

  test('at an address that is none is EFAULT, and leaves no descriptor', () => {
    const { rig, fd } = boot();
    const before = rig.process.fds.value.size;
    expect(rig.codeOf(rig.callAt(fd, MERGE, NOWHERE))).toBe('EFAULT');
    expect(rig.process.fds.value.size).toBe(before);
  });

  test('without memory is ENOMEM, and leaves nothing: no-memory-for-a-sync-file', () => {
    const { rig, one, two, fd, fd2 } = boot();
    const at = rig.do(rig.userBytes(syncMergeData.encode({ fd2 })));
    const before = rig.process.fds.value.size;
    const reasons = [2, 3].map((n) => rig.errorWithout(n, rig.callAt(fd, MERGE, at)).reason);
    expect(reasons).toEqual(['no-memory-for-a-sync-file', 'no-memory-to-merge-fences']);
    expect([one.refs.value, two.refs.value]).toEqual([1, 1]);
    expect(rig.process.fds.value.size).toBe(before);
  });
});

describe('SET_DEADLINE (B.6)', () => {
  test('is handed on to the fences inside', () => {
    const rig = new FenceRig();
    const asked: number[] = [];
    const fence = rig.fence(1, 1, {
      *setDeadline(_fence, deadlineNs): Atomic {
        asked.push(deadlineNs);
      },
    });
    const fd = rig.do(rig.syncFd(new DmaFenceArray(rig.kernel, [fence], 9, 1)));
    rig.do(rig.call(fd, SET_DEADLINE, syncSetDeadline, { deadlineNs: 400n }));
    expect(asked).toEqual([400]);
  });

  test('with padding is EINVAL, at no address EFAULT: reserved-deadline-field-set', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(rig.fence()));
    const error = rig.errorOf(rig.call(fd, SET_DEADLINE, syncSetDeadline, { pad: 1n }));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'reserved-deadline-field-set' });
    expect(rig.codeOf(rig.callAt(fd, SET_DEADLINE, NOWHERE))).toBe('EFAULT');
  });

  test('of a signaled fence is 0 and nothing else', () => {
    const rig = new FenceRig();
    const fd = rig.do(rig.syncFd(stubFence(rig.kernel)));
    expect(rig.do(rig.call(fd, SET_DEADLINE, syncSetDeadline)).deadlineNs).toBe(0n);
    expect(new SyncFile(rig.kernel, stubFence(rig.kernel), '').userName).toBe('');
  });
});
