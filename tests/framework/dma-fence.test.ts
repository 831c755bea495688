/**
 * Goal: a fence is signaled once, tells its callbacks in order, and lets everybody go on who waits.
 * Method: one fence at a time, and waiters in many schedules; reference B.1.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { DmaFence } from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { KernelRig } from './kernel-rig.ts';

function boot() {
  const rig = new KernelRig();
  const origin = { driver: 'card', timeline: 'ring 0', context: 7, seqno: 42 };
  return { rig, fence: new DmaFence(rig.kernel, origin) };
}

function note(log: string[], text: string): () => Atomic {
  return function* callback(): Atomic {
    log.push(text);
  };
}

describe('A fence', () => {
  test('is pending at first, and has a number and an origin for the trace', () => {
    const { rig, fence } = boot();
    expect(fence.value).toMatchObject({ signaled: false, error: 0 });
    expect(rig.events('fence.init')).toMatchObject([
      { fence: 1, driver: 'card', timeline: 'ring 0', context: 7, seqno: 42 },
    ]);
    const other = new DmaFence(rig.kernel, { ...fence.origin, seqno: 43 });
    expect(other.number).toBe(2);
  });

  test('runs its callbacks in the order in which they came', () => {
    const { rig, fence } = boot();
    const log: string[] = [];
    for (const text of ['one', 'two', 'three']) {
      expect(rig.do(fence.addCallback(note(log, text)))).toBe(true);
    }
    rig.do(fence.signal());
    expect(log).toEqual(['one', 'two', 'three']);
  });

  test('is signaled once: later calls change nothing', () => {
    const { rig, fence } = boot();
    const log: string[] = [];
    rig.do(fence.addCallback(note(log, 'once')));
    rig.do(fence.signal(-5));
    rig.do(fence.signal(-12));
    expect(log).toEqual(['once']);
    expect(fence.value).toMatchObject({ signaled: true, error: -5 });
    expect(rig.events('fence.signal')).toMatchObject([{ fence: 1, error: -5 }]);
  });

  test('refuses a callback that comes too late, and does not run it', () => {
    const { rig, fence } = boot();
    const log: string[] = [];
    rig.do(fence.signal());
    expect(rig.do(fence.addCallback(note(log, 'late')))).toBe(false);
    rig.do(fence.signal());
    expect(log).toEqual([]);
  });

  test('runs or refuses a callback, never both, in any of 200 schedules', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 200; seed += 1) {
      const { rig, fence } = boot();
      const log: string[] = [];
      function* add(): Task {
        const added = yield* fence.addCallback(note(log, 'ran'));
        log.push(added ? 'added' : 'refused');
      }
      rig.kthread(add(), 'adder');
      rig.kthread(fence.signal(), 'one');
      rig.kthread(fence.signal(), 'other');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      seen.add(log.join());
    }
    expect([...seen].sort()).toEqual(['added,ran', 'refused']);
  });

  test('may be signaled from a callback of another', () => {
    const { rig, fence } = boot();
    const next = new DmaFence(rig.kernel, { ...fence.origin, seqno: 43 });
    rig.do(fence.addCallback(() => next.signal(-1)));
    rig.do(fence.signal());
    expect(next.value).toMatchObject({ signaled: true, error: -1 });
  });
});

describe('Waiting for a fence', () => {
  test('lasts until it is signaled, for all who wait, and tells its error', () => {
    const { rig, fence } = boot();
    const got: number[] = [];
    function* wait(): Task {
      got.push(yield* fence.wait());
    }
    function* signal(): Task {
      yield* rig.scheduler.sleep(10);
      expect(got).toEqual([]);
      yield* fence.signal(-110);
    }
    rig.kthread(wait(), 'one');
    rig.kthread(wait(), 'other');
    rig.kthread(signal(), 'card');
    expect(rig.run().findings).toEqual([]);
    expect(got).toEqual([-110, -110]);
    expect(rig.events('fence.wait')).toHaveLength(4);
  });

  test('is over at once if it is signaled', () => {
    const { rig, fence } = boot();
    rig.do(fence.signal());
    expect(rig.do(fence.wait())).toBe(0);
  });

  test('lasts for ever if nobody signals it, and the report names it', () => {
    const { rig, fence } = boot();
    rig.kthread(fence.wait(), 'waiter');
    expect(rig.run().findings).toMatchObject([
      { kind: 'deadlock', title: 'waiter waits for ever to wait for fence ring 0 42' },
    ]);
  });
});
