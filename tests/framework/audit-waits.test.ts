/**
 * Goal: which waits of the core a signal ends, and which it does not; and what is left of a call
 * that ended early. Method: programs that are killed while they wait; reference A.9, A.10, A.14 to
 * A.16, A.18.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { type DmaBuf, POLLIN } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';

/** What came of a call that a signal hit 100 ns after its start; what it waits for comes at 500. */
function killed(
  call: (rig: AuditRig, fd: number) => Task<unknown>,
  obstacle: 'fence' | 'lock',
  strategy?: RandomStrategy,
) {
  const rig = new AuditRig();
  const { scheduler } = rig;
  const log: string[] = [];
  let fd = -1;
  function* boot(): Task<DmaBuf> {
    fd = yield* rig.buffer();
    if (obstacle === 'fence') yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
    return yield* rig.bufOf(fd);
  }
  const buf = rig.do(boot());
  function* holder(): Task {
    if (obstacle === 'lock') yield* buf.resv.lock();
    yield* scheduler.sleep(500_000);
    log.push('free');
    if (obstacle === 'lock') yield* buf.resv.unlock();
    else yield* rig.advance(1);
  }
  function* program(): Task {
    yield* scheduler.sleep(1000);
    try {
      yield* call(rig, fd);
      log.push('done');
    } catch (error) {
      log.push((error as { code: string }).code);
    }
  }
  rig.kthread(holder(), 'holder');
  const thread = rig.user(program(), 'program');
  rig.killLater(thread, 100_000);
  const outcome = rig.run(strategy);
  expect(outcome.status).toBe('done');
  expect(buf.resv.lockCell.value.owner).toBeNull();
  return { rig, fd, buf, log };
}

describe('A signal', () => {
  test.each([1, 2, 3])(
    'ends a bracket’s wait for fences: SYNC %d is EINTR (A.10, A.15)',
    (flags) => {
      const { log } = killed((rig, fd) => rig.syncIoctl(fd, flags), 'fence');
      expect(log).toEqual(['EINTR', 'free']);
    },
  );

  test('ends the wait in any of 50 schedules, or comes when it is over (A.15)', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const call = (rig: AuditRig, fd: number) => rig.syncIoctl(fd, 1);
      const { log } = killed(call, 'fence', new RandomStrategy(seed));
      expect([
        ['EINTR', 'free'],
        ['free', 'EINTR'],
        ['free', 'done'],
      ]).toContainEqual(log);
    }
  });

  test('does not undo what the exporter did: the bracket can be begun again (A.15)', () => {
    const { rig, fd, log } = killed((one, at) => one.syncIoctl(at, 1), 'fence');
    expect(log[0]).toBe('EINTR');
    rig.do(rig.syncIoctl(fd, 1));
    rig.do(rig.syncIoctl(fd, 5));
    rig.leavesNothing();
  });

  test('does not hit the end of a bracket, which waits for nothing (A.15)', () => {
    const { log } = killed((rig, fd) => rig.syncIoctl(fd, 7), 'fence');
    expect(log).toEqual(['done', 'free']);
  });

  test('ends the wait of poll, and leaves the slot armed until the fence signals (A.9)', () => {
    const poll = (rig: AuditRig, fd: number) => rig.sys.poll([{ fd, events: POLLIN }], -1);
    const { rig, buf, log } = killed(poll, 'fence');
    expect(log).toEqual(['EINTR', 'free']);
    expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([0, 1]);
    rig.leavesNothing();
  });

  test.each([
    ['poll (A.9)', (rig: AuditRig, fd: number) => rig.ready(fd, POLLIN)],
    ['an import (A.16)', (rig: AuditRig, fd: number) => importOne(rig, fd)],
    ['a map that takes the lock itself (A.14)', (rig: AuditRig, fd: number) => mapOnce(rig, fd)],
    ['attach and detach (A.12)', (rig: AuditRig, fd: number) => attachOnce(rig, fd)],
  ] as const)('does not end the wait for the lock in %s', (_, call) => {
    const { rig, log } = killed(call, 'lock');
    expect(log).toEqual(['free', 'done']);
    rig.leavesNothing();
  });

  test('has nobody to wait in an export, which takes no lock (A.16)', () => {
    const { log } = killed((rig, fd) => rig.exportSync(fd, READ | WRITE), 'lock');
    expect(log).toEqual(['done', 'free']);
  });
});

function* importOne(rig: AuditRig, fd: number): Task {
  yield* rig.importSync(fd, READ, yield* rig.pending(1));
}

/** As an importing driver does in a system call of its own. */
function* mapOnce(rig: AuditRig, fd: number): Task {
  yield* rig.process.syscall(inKernel());
  function* inKernel(): Task {
    const buf = yield* rig.bufOf(fd);
    const attachment = yield* buf.dynamicAttach(rig.at('03:00.0'), { allowPeer2Peer: false });
    const table = yield* attachment.mapAttachmentUnlocked('to-device');
    yield* attachment.unmapAttachmentUnlocked(table, 'to-device');
    yield* buf.detach(attachment);
  }
}

function* attachOnce(rig: AuditRig, fd: number): Task {
  yield* rig.process.syscall(inKernel());
  function* inKernel(): Task {
    const buf = yield* rig.bufOf(fd);
    yield* buf.detach(yield* buf.attach(rig.at('03:00.0')));
  }
}

describe('A static importer killed while it maps a program’s buffer (A.14)', () => {
  test('gets EINTR, gives the mapping back, and the buffer goes as ever', () => {
    const rig = new AuditRig();
    const codes: string[] = [];
    function* boot(): Task<DmaBuf> {
      const buf = yield* rig.bufOf(yield* rig.buffer());
      yield* buf.resv.lock();
      yield* buf.resv.reserveFences(1);
      yield* buf.resv.addFence(fence, 'kernel');
      yield* buf.resv.unlock();
      return buf;
    }
    const fence = rig.kernelFence();
    const buf = rig.do(boot());
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    function* program(): Task {
      const map = attachment.mapAttachmentUnlocked('bidirectional');
      codes.push((yield* refused(rig.process.syscall(map))).code);
    }
    const thread = rig.user(program(), 'program');
    rig.killLater(thread, 100_000);
    expect(rig.run().status).toBe('done');
    expect(codes).toEqual(['EINTR']);
    expect(rig.events('attachment.refuse')).toMatchObject([{ code: 'ERESTARTSYS' }]);
    rig.do(fence.signal());
    rig.do(buf.detach(attachment));
    rig.leavesNothing();
  });
});
