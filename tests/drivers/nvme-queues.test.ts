import { describe, expect, test } from 'vitest';
import {
  createIoCompletionQueue,
  createIoSubmissionQueue,
  decodeCompletion,
  encodeCommand,
  flush,
  identifyController,
} from '../../src/drivers/nvme/commands.ts';
import { headDoorbell, tailDoorbell } from '../../src/drivers/nvme/registers.ts';
import type { Task } from '../../src/machine/index.ts';
import { NvmeRig } from './nvme-rig.ts';

describe('queues', () => {
  test('the phase flips in each of many rounds', () => {
    const rig = new NvmeRig();
    const phases: number[] = [];
    function* story(): Task {
      const { io } = yield* rig.bringUp('host', 4);
      for (let cid = 0; cid < 13; cid += 1) {
        const { phase, status, sqHead } = yield* io.execute(flush({ cid }));
        expect([status, sqHead]).toEqual(['success', (cid + 1) % 4]);
        phases.push(phase);
      }
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(phases).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0]);
  });

  test('several commands may be under way; they end in order', () => {
    const rig = new NvmeRig();
    const cids: number[] = [];
    function* story(): Task {
      const { io } = yield* rig.bringUp('host', 8);
      for (let round = 0; round < 5; round += 1) {
        for (let cid = 0; cid < 7; cid += 1) yield* io.submit(flush({ cid: round * 7 + cid }));
        for (let cid = 0; cid < 7; cid += 1) cids.push((yield* io.pollCompletion()).cid);
      }
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(cids).toEqual(Array.from({ length: 35 }, (_, index) => index));
  });

  test('a full completion queue holds up its own commands, and the admin queue goes on', () => {
    const rig = new NvmeRig();
    const log: string[] = [];
    function* story(): Task {
      const { driver } = yield* rig.bringUp();
      const [sq, cq] = [yield* rig.hostMemory(1), yield* rig.hostMemory(1)];
      const make = { cid: 1, qid: 2, address: cq.deviceAddress };
      yield* driver.submitAdmin(createIoCompletionQueue({ ...make, entries: 2, vector: 2 }));
      const queue = { cid: 1, qid: 2, address: sq.deviceAddress, completionQueue: 2 };
      yield* driver.submitAdmin(createIoSubmissionQueue({ ...queue, entries: 8 }));
      for (let cid = 0; cid < 3; cid += 1) {
        yield* sq.write(64 * cid, encodeCommand(flush({ cid })));
      }
      yield* rig.access.writeRegister(0, tailDoorbell(2), 3, 4);
      for (let round = 0; round < 3; round += 1) {
        // Time passes only when the drive can do no more.
        yield* rig.scheduler.sleep(1000);
        const found = decodeCompletion(yield* cq.read(16 * (round % 2), 16));
        const next = decodeCompletion(yield* cq.read(16 * ((round + 1) % 2), 16));
        log.push(`cid ${found.cid} phase ${found.phase}, then phase ${next.phase}`);
        const page = yield* rig.hostMemory(1);
        const identify = identifyController({ cid: 9, prp1: page.deviceAddress });
        log.push(`${(yield* driver.submitAdmin(identify)).status}`);
        yield* rig.access.writeRegister(0, headDoorbell(2), (round + 1) % 2, 4);
      }
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(log).toEqual([
      'cid 0 phase 1, then phase 0',
      'success',
      'cid 1 phase 1, then phase 1',
      'success',
      'cid 2 phase 0, then phase 1',
      'success',
    ]);
  });

  test('queues are served in turn', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { driver, io } = yield* rig.bringUp();
      const other = yield* driver.createQueuePair(2, yield* rig.hostQueues(8, 2));
      yield* rig.fn.writeCommand(0x2);
      for (const pair of [io, other]) {
        for (let cid = 0; cid < 3; cid += 1) yield* pair.submit(flush({ cid }));
      }
      yield* rig.fn.writeCommand(0x6);
      for (const pair of [io, other, io, other, io, other]) yield* pair.pollCompletion();
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    const vectors = rig.events.filter((event) => event.kind === 'irq.raise').map((e) => e.vector);
    expect(vectors.filter((vector) => vector > 0)).toEqual([1, 2, 1, 2, 1, 2]);
  });

  test('a doorbell value beyond the queue is ignored', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io } = yield* rig.bringUp('host', 4);
      yield* rig.access.writeRegister(0, tailDoorbell(1), 4, 4);
      yield* rig.access.writeRegister(0, headDoorbell(1), 0xffff, 4);
      yield* rig.scheduler.sleep(1000);
      expect((yield* io.execute(flush({ cid: 1 }))).status).toBe('success');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('a doorbell rung before there is a queue rings for nothing', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { driver } = yield* rig.bringUp('host', 4);
      yield* rig.access.writeRegister(0, tailDoorbell(2), 3, 4);
      const pair = yield* driver.createQueuePair(2, yield* rig.hostQueues(4, 2));
      yield* rig.scheduler.sleep(1000);
      expect(yield* pair.poll()).toBeNull();
      expect((yield* pair.execute(flush({ cid: 1 }))).cid).toBe(1);
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('a deleted queue pair is gone and can be made again', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { driver, io } = yield* rig.bringUp();
      for (let round = 0; round < 3; round += 1) {
        const pair = yield* driver.createQueuePair(2, yield* rig.hostQueues(4, 2));
        expect((yield* pair.execute(flush({ cid: round }))).cid).toBe(round);
        yield* driver.deleteQueuePair(pair);
      }
      expect((yield* io.execute(flush({ cid: 9 }))).cid).toBe(9);
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('without interrupts the completion is just there', () => {
    const rig = new NvmeRig();
    function* story(): Task<number> {
      const { driver } = yield* rig.bringUp();
      const [sq, cq] = [yield* rig.hostMemory(1), yield* rig.hostMemory(1)];
      const queue = { cid: 1, qid: 2, entries: 4 };
      const address = cq.deviceAddress;
      yield* driver.submitAdmin(createIoCompletionQueue({ ...queue, address, vector: null }));
      const ours = { ...queue, address: sq.deviceAddress, completionQueue: 2 };
      yield* driver.submitAdmin(createIoSubmissionQueue(ours));
      yield* sq.write(0, encodeCommand(flush({ cid: 5 })));
      yield* rig.access.writeRegister(0, tailDoorbell(2), 1, 4);
      yield* rig.scheduler.sleep(1000);
      return decodeCompletion(yield* cq.read(0, 16)).cid;
    }
    const actor = rig.user(story());
    rig.run();
    expect(actor.result).toBe(5);
    const vectors = rig.events.filter((event) => event.kind === 'irq.raise').map((e) => e.vector);
    expect(new Set(vectors)).toEqual(new Set([0]));
  });
});
