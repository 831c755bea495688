import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import { flush, ioWrite } from '../../src/drivers/nvme/commands.ts';
import type { QueueMemory } from '../../src/drivers/nvme/controller-access.ts';
import { encodeAqa, REGISTER } from '../../src/drivers/nvme/registers.ts';
import { NvmeDriver } from '../../src/drivers/nvme/spdk.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import { type Actor, Shared, type Task } from '../../src/machine/index.ts';
import { CMB_BASE, DirectAccess, EngineLastStrategy, NvmeRig } from './nvme-rig.ts';

/** Runs a story that must fail, and returns the error's words. */
function failureOf(rig: NvmeRig, story: Task<unknown>): readonly string[] {
  const caught: string[] = [];
  function* attempt(): Task {
    try {
      yield* story;
    } catch (error) {
      const { code, reason } = error as { code: string; reason: string };
      caught.push(code, reason);
    }
  }
  rig.user(attempt());
  expect(rig.run().status).toBe('done');
  return caught;
}

/** A controller whose status register is stuck. */
class FakeStuckAccess extends DirectAccess {
  override *readRegister(bar: number, offset: number, length: 4 | 8): Task<number> {
    return offset === REGISTER.csts ? 0 : yield* super.readRegister(bar, offset, length);
  }
}

/** The same memory under another address. */
function movedTo(memory: QueueMemory, deviceAddress: number): QueueMemory {
  return {
    deviceAddress,
    read: (offset, length) => memory.read(offset, length),
    write: (offset, bytes) => memory.write(offset, bytes),
  };
}

describe('bringing a controller up', () => {
  test('works from any state: fresh, in use, failed, and reset in use', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      for (const before of ['fresh', 'in use', 'failed', 'reset']) {
        if (before === 'failed') {
          yield* rig.access.writeRegister(0, REGISTER.cc, 0, 4);
          yield* rig.scheduler.sleep(1000);
          yield* rig.access.writeRegister(0, REGISTER.asq, 0x1234, 8);
          yield* rig.access.writeRegister(0, REGISTER.cc, 1, 4);
          yield* rig.scheduler.sleep(1000);
          expect(yield* rig.access.readRegister(0, REGISTER.csts, 4)).toBe(2);
        }
        if (before === 'reset') yield* rig.fn.reset();
        const { io } = yield* rig.bringUp('cmb');
        expect((yield* io.execute(flush({ cid: 1 }))).status).toBe('success');
      }
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('works in 200 schedules right after somebody else enabled it and went away', () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const rig = new NvmeRig();
      const gone = new Shared(rig.scheduler, 'gone', false);
      function* predecessor(): Task {
        const { admin } = yield* rig.hostLayout(4);
        yield* rig.access.writeRegister(0, REGISTER.aqa, encodeAqa(4, 4), 4);
        yield* rig.access.writeRegister(0, REGISTER.asq, admin.submission.deviceAddress, 8);
        yield* rig.access.writeRegister(0, REGISTER.acq, admin.completion.deviceAddress, 8);
        yield* rig.access.writeRegister(0, REGISTER.cc, 1, 4);
        if (seed % 2 === 0) yield* rig.access.writeRegister(0, REGISTER.cc, 0, 4);
        yield* gone.write(true);
      }
      function* successor(): Task {
        yield* gone.until((isGone) => isGone);
        const { io } = yield* rig.bringUp('cmb');
        expect((yield* io.execute(flush({ cid: 1 }))).status).toBe('success');
      }
      rig.user(predecessor(), 'predecessor');
      rig.user(successor());
      const outcome = rig.run(new RandomStrategy(seed));
      expect(outcome, `seed ${seed}`).toMatchObject({ status: 'done', findings: [] });
    }
  });

  test('waits for a controller that is becoming ready, and only then disables it', () => {
    const rig = new NvmeRig();
    const order: string[] = [];
    function* predecessor(): Task {
      const { admin } = yield* rig.hostLayout(4);
      yield* rig.access.writeRegister(0, REGISTER.aqa, encodeAqa(4, 4), 4);
      yield* rig.access.writeRegister(0, REGISTER.asq, admin.submission.deviceAddress, 8);
      yield* rig.access.writeRegister(0, REGISTER.acq, admin.completion.deviceAddress, 8);
      yield* rig.access.writeRegister(0, REGISTER.cc, 1, 4);
      // The engine has seen it and knows where the queues are, but gets no further.
      while (rig.engine.step?.verb !== 'set registers') {
        order.push('turn of the engine');
        yield* rig.drive.resets.get();
      }
      const { io } = yield* rig.bringUp();
      expect((yield* io.execute(flush({ cid: 1 }))).status).toBe('success');
    }
    rig.user(predecessor());
    const strategy = new EngineLastStrategy();
    const pick = (enabled: readonly Actor[]): number =>
      order.pop() === undefined ? strategy.pick(enabled) : enabled.indexOf(rig.engine);
    expect(rig.run({ name: 'two turns', pick })).toMatchObject({ status: 'done', findings: [] });
  });

  test('passes only virtual time while it waits', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const driver = new NvmeDriver(new FakeStuckAccess(rig.fn));
      yield* driver.initialise(yield* rig.hostLayout(4));
    }
    expect(failureOf(rig, story())).toEqual(['ETIMEDOUT', 'nvme-not-ready']);
    // Half a second, looked at every 10 ms.
    expect(rig.scheduler.t).toBe(510_000_000);
    expect(rig.scheduler.steps).toBeLessThan(150);
  });

  test('fails with EIO where the controller reports a fatal status', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const driver = new NvmeDriver(rig.access);
      const { admin, io } = yield* rig.hostLayout(4);
      const submission = movedTo(admin.submission, admin.submission.deviceAddress + 64);
      yield* driver.initialise({ admin: { ...admin, submission }, io, cmbBase: null });
    }
    expect(failureOf(rig, story())).toEqual(['EIO', 'nvme-fatal-status']);
    expect(rig.drive.registers.csts.value).toBe(2);
  });

  test('fails with ENODEV where nobody answers', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      yield* rig.fn.writeCommand(0);
      yield* rig.bringUp();
    }
    expect(failureOf(rig, story())).toEqual(['ENODEV', 'nvme-controller-gone']);
  });
});

/** Writes the admin queues and CC as they are given, and returns CSTS. */
function* enabledWith(
  rig: NvmeRig,
  registers: { aqa?: number; asq?: number; acq?: number; cc?: number; cmbmsc?: number },
): Task<number> {
  const { aqa = encodeAqa(4, 4), asq = 0x10_0000, acq = 0x10_1000, cc = 1, cmbmsc = 0 } = registers;
  yield* rig.access.writeRegister(0, REGISTER.cmbmsc, cmbmsc, 8);
  yield* rig.access.writeRegister(0, REGISTER.aqa, aqa, 4);
  yield* rig.access.writeRegister(0, REGISTER.asq, asq, 8);
  yield* rig.access.writeRegister(0, REGISTER.acq, acq, 8);
  yield* rig.access.writeRegister(0, REGISTER.cc, cc, 4);
  yield* rig.scheduler.sleep(1000);
  return yield* rig.access.readRegister(0, REGISTER.csts, 4);
}

describe('enabling with', () => {
  const open = CMB_BASE + 3;
  const noQueues = { cmb: { submissionQueues: false, completionQueues: false } };
  for (const [title, registers, csts, drive] of [
    ['admin queues in RAM', {}, 1, {}],
    ['a page size of 8 KiB', { cc: 0x81 }, 2, {}],
    ['another command set', { cc: 0x11 }, 2, {}],
    ['another arbitration', { cc: 0x801 }, 2, {}],
    ['an admin SQ of one entry', { aqa: 0x0003_0000 }, 2, {}],
    ['an admin CQ of one entry', { aqa: 0x0000_0003 }, 2, {}],
    ['an odd ASQ', { asq: 0x10_0040 }, 2, {}],
    ['an odd ACQ', { acq: 0x10_0010 }, 2, {}],
    ['an ASQ beyond all addresses', { asq: 2 ** 52 }, 2, {}],
    ['admin queues in the buffer', { asq: CMB_BASE, acq: CMB_BASE + 4096, cmbmsc: open }, 1, {}],
    ['an ASQ in a buffer that takes none', { asq: CMB_BASE, cmbmsc: open }, 2, noQueues],
    ['an ACQ in a buffer that takes none', { acq: CMB_BASE, cmbmsc: open }, 2, noQueues],
    [
      'an ASQ of two pages across the edge of the buffer',
      { asq: CMB_BASE - 4096, aqa: encodeAqa(128, 4), cmbmsc: open },
      2,
      {},
    ],
  ] as const) {
    test(`${title}: CSTS ${csts}`, () => {
      const rig = new NvmeRig({ drive });
      const actor = rig.user(enabledWith(rig, registers));
      expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
      expect(actor.result).toBe(csts);
    });
  }

  test('a doorbell that was rung before rings for nothing', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      for (const offset of [0x1000, 0x1004]) yield* rig.access.writeRegister(0, offset, 3, 4);
      yield* enabledWith(rig, {});
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    const { tails, heads } = rig.drive.registers;
    expect([tails[0]?.value, heads[0]?.value]).toEqual([0, 0]);
    expect(rig.events.some(({ kind }) => kind === 'dma.read')).toBe(false);
  });

  test('admin queues that are not mapped is fatal at the first command only', () => {
    const rig = new NvmeRig({ iommu: 'translated' });
    function* story(): Task<readonly number[]> {
      const before = yield* enabledWith(rig, {});
      yield* rig.access.writeRegister(0, 0x1000, 1, 4);
      yield* rig.scheduler.sleep(1000);
      const after = yield* rig.access.readRegister(0, REGISTER.csts, 4);
      // Disabling clears it.
      yield* rig.access.writeRegister(0, REGISTER.cc, 0, 4);
      yield* rig.scheduler.sleep(1000);
      return [before, after, yield* rig.access.readRegister(0, REGISTER.csts, 4)];
    }
    const actor = rig.user(story());
    expect(rig.run().findings).toMatchObject([{ kind: 'fault' }]);
    expect(actor.result).toEqual([1, 3, 0]);
  });
});

describe('opening the buffer', () => {
  test('fails with EOPNOTSUPP where there is none', () => {
    const rig = new NvmeRig({ drive: { cmb: null } });
    expect(failureOf(rig, rig.bringUp('cmb'))).toEqual(['EOPNOTSUPP', 'nvme-without-cmb']);
  });

  test('fails with EINVAL at a base that it does not fit behind', () => {
    const rig = new NvmeRig();
    const driver = new NvmeDriver(rig.access);
    expect(failureOf(rig, driver.openCmb(2 ** 52 - 4096))).toEqual([
      'EINVAL',
      'nvme-cmb-base-invalid',
    ]);
  });

  test('fails so also if it was open before, and the engine is late', () => {
    const rig = new NvmeRig();
    const driver = new NvmeDriver(rig.access);
    const reasons: string[] = [];
    function* story(): Task {
      yield* driver.openCmb(CMB_BASE);
      try {
        yield* driver.openCmb(2 ** 52 - 4096);
      } catch (error) {
        reasons.push((error as { reason: string }).reason);
      }
    }
    rig.user(story());
    expect(rig.run(new EngineLastStrategy()).status).toBe('done');
    expect(reasons).toEqual(['nvme-cmb-base-invalid']);
  });

  test('at another base moves it', () => {
    const rig = new NvmeRig();
    function* story(): Task<readonly (string | null)[]> {
      const { driver, io } = yield* rig.bringUp();
      const statuses: (string | null)[] = [];
      for (const base of [CMB_BASE, 2 * CMB_BASE]) {
        yield* driver.openCmb(base);
        const range = { cid: 1, lba: 0, blocks: 8 };
        statuses.push((yield* io.execute(ioWrite({ ...range, prp1: CMB_BASE }))).status);
        statuses.push((yield* io.execute(ioWrite({ ...range, prp1: 2 * CMB_BASE }))).status);
      }
      return statuses;
    }
    const actor = rig.user(story());
    rig.run();
    expect(actor.result).toEqual([
      'success',
      'data-transfer-error',
      'data-transfer-error',
      'success',
    ]);
  });
});

describe('a queue pair', () => {
  test('that the controller refuses fails with EIO, and leaves no half of it', () => {
    const rig = new NvmeRig();
    const refused: string[] = [];
    function* story(): Task {
      const { driver } = yield* rig.bringUp();
      const layout = yield* rig.hostQueues(4, 2);
      const submission = movedTo(layout.submission, layout.submission.deviceAddress + 8);
      for (const attempt of [
        { id: 9, layout },
        { id: 2, layout: { ...layout, submission } },
      ]) {
        try {
          yield* driver.createQueuePair(attempt.id, attempt.layout);
        } catch (error) {
          const { code, reason, detail } = error as {
            code: string;
            reason: string;
            detail: { status: string };
          };
          refused.push(`${code} ${reason} ${detail.status}`);
        }
      }
      const pair = yield* driver.createQueuePair(2, layout);
      expect((yield* pair.execute(flush({ cid: 1 }))).status).toBe('success');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(refused).toEqual([
      'EIO nvme-admin-command-failed invalid-queue-identifier',
      'EIO nvme-admin-command-failed prp-offset-invalid',
    ]);
  });

  test('does not take for new what was in its memory before', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { driver } = yield* rig.bringUp();
      const layout = yield* rig.hostQueues(4, 2);
      yield* layout.completion.write(0, new Uint8Array(64).fill(0x55));
      const pair = yield* driver.createQueuePair(2, layout);
      expect(yield* pair.poll()).toBeNull();
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('of four entries takes three commands, then EAGAIN', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io } = yield* rig.bringUp('host', 4);
      for (let cid = 0; cid < 4; cid += 1) yield* io.submit(flush({ cid }));
    }
    expect(failureOf(rig, story())).toEqual(['EAGAIN', 'submission-queue-full']);
  });

  test('that has another command under way cannot execute one: EIO', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io } = yield* rig.bringUp();
      yield* io.submit(flush({ cid: 1 }));
      yield* io.execute(flush({ cid: 2 }));
    }
    expect(failureOf(rig, story())).toEqual(['EIO', 'nvme-unexpected-completion']);
  });

  test('in the hands of two tasks fails with EBUSY in some schedule', () => {
    const failures = new Set<string>();
    for (let seed = 1; seed <= 50; seed += 1) {
      const rig = new NvmeRig();
      function* story(): Task {
        const { io } = yield* rig.bringUp();
        rig.user(io.submit(flush({ cid: 1 })), 'one');
        rig.user(io.submit(flush({ cid: 2 })), 'two');
      }
      rig.user(story());
      for (const { title } of rig.run(new RandomStrategy(seed)).findings) failures.add(title);
    }
    expect([...failures]).toEqual(['EBUSY: submit: queue pair in use']);
  });

  test('in a buffer that answers no more fails with ENODEV', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io } = yield* rig.bringUp('cmb');
      yield* rig.fn.writeCommand(0);
      yield* io.poll();
    }
    expect(failureOf(rig, story())).toEqual(['ENODEV', 'nvme-queue-gone']);
  });

  test('of a drive that was reset finds nothing', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io, driver } = yield* rig.bringUp('cmb');
      yield* rig.fn.reset();
      expect(yield* io.poll()).toBeNull();
      expect(driver.cmb).toEqual({ bar: 2, offset: 0, size: 256 * PAGE_SIZE });
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });
});
