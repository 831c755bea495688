/**
 * Goal: a process reaches a BAR that it mapped, except while the memory is away: then it waits, or
 * gets SIGBUS if the memory is off. Method: accesses before, during and after; many schedules.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { type Atomic, Completion, type Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FakeImporter, OWNED, PEER, VfioRig } from './vfio-pci-rig.ts';

const MIB = 2 ** 20;

function boot() {
  const rig = new VfioRig();
  rig.do(rig.vdev.open());
  return { rig, bar: rig.vdev.mmap(2) };
}

describe('Opening a device', () => {
  test('switches memory decoding on and bus mastering off', () => {
    const rig = new VfioRig();
    expect(rig.owned.command.value).toBe(6);
    rig.do(rig.vdev.open());
    expect(rig.owned.command.value).toBe(2);
  });
});

describe('A mapped BAR', () => {
  test('reads and writes the device', () => {
    const { rig, bar } = boot();
    expect([bar.bar, bar.size]).toEqual([2, MIB]);
    rig.do(bar.write(16, Uint8Array.of(1, 2)));
    expect(rig.do(bar.read(15, 4))).toEqual(Uint8Array.of(0, 1, 2, 0));
    expect(rig.device(OWNED).bar(2).writes).toEqual([{ offset: 16, bytes: [1, 2] }]);
  });

  test('faults in at the first access only', () => {
    const { rig, bar } = boot();
    for (let i = 0; i < 3; i += 1) rig.do(bar.read(0, 1));
    const locks = rig.events('lock.acquire').filter((event) => 'mode' in event);
    expect(locks).toMatchObject([{ lock: 'vfio_pci.memory_lock', mode: 'shared' }]);
  });

  test.each([1, 6, -1])('must be a memory BAR: BAR%d is EINVAL, no-such-bar', (index) => {
    const { rig } = boot();
    try {
      rig.vdev.mmap(index);
      expect.fail('there is no such BAR');
    } catch (error) {
      if (!(error instanceof DmaBufError)) throw error;
      expect(error).toMatchObject({ code: 'EINVAL', call: 'mmap', reason: 'no-such-bar' });
    }
  });

  test('is SIGBUS while memory decoding is off: bus-error-on-disabled-memory', () => {
    const { rig, bar } = boot();
    rig.do(bar.write(0, Uint8Array.of(1)));
    rig.do(rig.setMemory(false));
    for (const access of [bar.read(0, 1), bar.write(0, Uint8Array.of(2))]) {
      expect(rig.do(refused(access))).toMatchObject({
        code: 'EFAULT',
        call: 'page fault',
        reason: 'bus-error-on-disabled-memory',
      });
    }
    expect(rig.machine.faults).toEqual([]);
    rig.do(rig.setMemory(true));
    expect(rig.do(bar.read(0, 1))).toEqual(Uint8Array.of(1));
  });

  test('waits for the end of a reset, and then finds the device fresh', () => {
    const { rig, bar } = boot();
    rig.do(bar.write(0, Uint8Array.of(7)));
    // An importer holds the reset up.
    const buf = rig.do(rig.exportPages([0, 1]));
    const importer = new FakeImporter(rig, rig.at(PEER), 'late');
    rig.do(importer.import(buf));
    const order: string[] = [];
    function* reset(): Task {
      yield* rig.vdev.reset(rig.process);
      order.push('reset');
    }
    function* access(): Task {
      yield* importer.stale.until((isStale) => isStale);
      const bytes = yield* bar.read(0, 1);
      order.push(`read ${bytes[0]}`);
    }
    rig.user(reset(), 'owner');
    rig.user(access(), 'reader');
    rig.kthread(importer.finishLate(50, 50, order), 'card');
    expect(rig.run().status).toBe('done');
    expect(order).toEqual(['work is done', 'unmaps', 'reset', 'read 0']);
    expect(rig.machine.faults).toEqual([]);
  });

  test('never shows a device in reset, in any of 500 schedules', () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 500; seed += 1) {
      const { rig, bar } = boot();
      rig.do(bar.write(0, Uint8Array.of(7)));
      const got: number[] = [];
      function* read(): Task {
        for (let i = 0; i < 3; i += 1) got.push((yield* bar.read(0, 1))[0] ?? -1);
      }
      rig.user(rig.vdev.reset(rig.process), 'owner');
      rig.user(read(), 'reader');
      const outcome = rig.run(new RandomStrategy(seed));
      expect(outcome).toMatchObject({ status: 'done', findings: [] });
      expect(got).toEqual(got.toSorted((one, other) => other - one));
      for (const byte of got) seen.add(byte);
    }
    expect([...seen].sort()).toEqual([0, 7]);
  });

  test('is taken away from all mappings of it', () => {
    const { rig, bar } = boot();
    const again = rig.vdev.mmap(2);
    rig.do(bar.read(0, 1));
    rig.do(again.read(0, 1));
    rig.do(rig.setMemory(false));
    for (const one of [bar, again]) expect(rig.do(refused(one.read(0, 1))).code).toBe('EFAULT');
  });

  test('ends at the end of the BAR: EFAULT: beyond-the-mapped-bar', () => {
    const { rig, bar } = boot();
    for (const [offset, length] of [
      [MIB, 1],
      [MIB - 1, 2],
      [-1, 1],
    ] as const) {
      const error = rig.do(refused(bar.write(offset, new Uint8Array(length))));
      expect(error).toMatchObject({ code: 'EFAULT', reason: 'beyond-the-mapped-bar' });
      expect(rig.do(refused(bar.read(offset, length))).code).toBe('EFAULT');
    }
    expect(rig.arrived).toEqual([]);
  });
});

describe('An interrupt', () => {
  test('counts up the eventfd of its vector', () => {
    const { rig } = boot();
    const eventfds = [0, 1].map((vector) => new Completion(rig.scheduler, `eventfd ${vector}`));
    for (const [vector, eventfd] of eventfds.entries()) rig.vdev.setIrq(vector, eventfd);
    function* raise(vector: number): Atomic {
      const handler = yield* rig.owned.interrupt(vector);
      yield* handler();
    }
    rig.do(raise(1));
    rig.do(raise(1));
    rig.do(raise(5));
    expect(eventfds.map(({ value }) => value)).toEqual([0, 2]);
  });
});
