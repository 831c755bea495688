/**
 * Goal: a fence is signaled once, tells its callbacks in order, and lets everybody go on who waits;
 * its driver is asked when the kernel asks it, and misuse is noticed. Method: one fence at a time,
 * and waiters in many schedules; reference B.1.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { DmaFence, type DmaFenceOps } from '../../src/framework/index.ts';
import type { Atomic, PreemptStep, Task } from '../../src/machine/index.ts';
import { FenceRig, note } from './fence-rig.ts';

function boot() {
  const rig = new FenceRig();
  const origin = { driver: 'card', timeline: 'ring 0', context: 7, seqno: 42 };
  return { rig, fence: new DmaFence(rig.kernel, origin) };
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
    rig.do(fence.signal());
    expect(rig.do(fence.checkAndSignal())).toBe(true);
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

describe('The callbacks of a fence', () => {
  test('may be taken back while they are queued (B.1)', () => {
    const { rig, fence } = boot();
    const log: string[] = [];
    const [one, two, three] = [note(log, 'one'), note(log, 'two'), note(log, 'three')];
    for (const callback of [one, two, three]) rig.do(fence.addCallback(callback));
    expect(rig.do(step(fence.removeCallback(two)))).toBe(true);
    expect(rig.do(step(fence.removeCallback(two)))).toBe(false);
    rig.do(fence.signal());
    expect(log).toEqual(['one', 'three']);
    expect(rig.do(step(fence.removeCallback(one)))).toBe(false);
  });

  test('have all run when a removal says false, in any of 200 schedules', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 200; seed += 1) {
      const { rig, fence } = boot();
      const log: string[] = [];
      function* slow(): Atomic {
        log.push('begin');
        yield* fence.isSignaled();
        log.push('end');
      }
      rig.do(fence.addCallback(slow));
      function* remove(): Task {
        log.push((yield* fence.removeCallback(slow)) ? 'removed' : 'too late');
      }
      rig.kthread(remove(), 'remover');
      rig.kthread(fence.signal(), 'card');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      seen.add(log.join());
    }
    expect([...seen].sort()).toEqual(['begin,end,too late', 'removed']);
  });

  test('run under the lock of the fence: to signal it from one is a deadlock', () => {
    const { rig, fence } = boot();
    rig.do(fence.addCallback(() => fence.signal()));
    const { findings } = rig.try(fence.signal()).outcome;
    expect(findings).toMatchObject([{ kind: 'deadlock' }]);
  });

  test('are told which fence it is', () => {
    const { rig, fence } = boot();
    const told: unknown[] = [];
    rig.do(
      fence.addCallback(function* callback(signaled): Atomic {
        told.push(signaled);
      }),
    );
    rig.do(fence.signal());
    expect(told).toEqual([fence]);
  });
});

describe('The driver of a fence', () => {
  /** A driver that counts what it is asked, and answers as told. */
  function driver(answers: { readonly enable?: boolean; readonly signaled?: boolean }) {
    const log: string[] = [];
    const ops: DmaFenceOps = {
      *enableSignaling(): Atomic<boolean> {
        log.push('enable');
        return answers.enable ?? true;
      },
      *signaled(): Atomic<boolean> {
        log.push('signaled?');
        return answers.signaled ?? false;
      },
      *setDeadline(_fence, deadlineNs): Atomic {
        log.push(`deadline ${deadlineNs}`);
      },
      *release(): Atomic {
        log.push('release');
      },
    };
    const rig = new FenceRig();
    return { rig, log, fence: rig.fence(1, 1, ops) };
  }

  test('is told once that somebody wants to know', () => {
    const { rig, log, fence } = driver({});
    expect(rig.do(fence.addCallback(note(log, 'ran')))).toBe(true);
    expect(rig.do(fence.addCallback(note(log, 'ran too')))).toBe(true);
    expect(rig.do(fence.enableSwSignaling())).toBe(true);
    expect(log).toEqual(['enable']);
  });

  test('may say then that it is done: the fence is signaled right there (B.1)', () => {
    const { rig, log, fence } = driver({ enable: false });
    expect(rig.do(fence.addCallback(note(log, 'ran')))).toBe(false);
    expect(log).toEqual(['enable']);
    expect(fence.value).toMatchObject({ signaled: true, isLocked: false });
    expect(rig.do(fence.waitTimeout(false, 5))).toBe(5);
  });

  test('is asked by who looks, and its yes signals the fence (B.1)', () => {
    const { rig, log, fence } = driver({ signaled: true });
    const ran: string[] = [];
    rig.do(fence.addCallback(note(ran, 'ran')));
    expect(rig.do(fence.isSignaled())).toBe(true);
    expect(log).toEqual(['enable', 'signaled?']);
    expect(ran).toEqual(['ran']);
    expect(rig.do(fence.isSignaled())).toBe(true);
    expect(log).toHaveLength(2);
  });

  test('is not told by who only looks that somebody wants to know', () => {
    const { rig, log, fence } = driver({});
    expect(rig.do(fence.isSignaled())).toBe(false);
    expect(log).toEqual(['signaled?']);
    expect(fence.value.isEnabled).toBe(false);
  });

  test('hears deadlines while the fence is pending, and no longer', () => {
    const { rig, log, fence } = driver({});
    rig.do(fence.setDeadline(70));
    rig.do(fence.setDeadline(50));
    rig.do(fence.signal());
    rig.do(fence.setDeadline(10));
    expect(log.filter((text) => text !== 'signaled?')).toEqual(['deadline 70', 'deadline 50']);
  });

  test('hears when the last reference is gone', () => {
    const { rig, log, fence } = driver({});
    rig.do(step(fence.get()));
    rig.do(fence.put());
    expect(log).toEqual([]);
    rig.do(fence.put());
    expect(log).toEqual(['release']);
    expect(rig.do(step(fence.getRcu()))).toBe(false);
  });

  test('may wait in its own way', () => {
    const rig = new FenceRig();
    const asked: unknown[] = [];
    const fence = rig.fence(1, 1, {
      *wait(_fence, interruptible, timeoutNs): Task<number> {
        asked.push(interruptible, timeoutNs);
        return 7;
      },
    });
    expect(rig.do(fence.waitTimeout(true, 9))).toBe(7);
    expect(asked).toEqual([true, 9]);
  });
});

describe('The error of a fence', () => {
  test('is stored before it is signaled, and is its status then', () => {
    const { rig, fence } = boot();
    expect(rig.do(fence.getStatus())).toBe(0);
    rig.do(step(fence.setError(-61)));
    rig.do(fence.signal());
    expect(rig.do(fence.getStatus())).toBe(-61);
    expect(rig.warnings).toEqual([]);
  });

  test('is 1 as a status where there is none', () => {
    const { rig, fence } = boot();
    rig.do(fence.signal());
    expect(rig.do(fence.getStatus())).toBe(1);
  });

  test('after the signal is a kernel warning, and is not stored (FN-003)', () => {
    const { rig, fence } = boot();
    rig.do(fence.signal());
    rig.do(step(fence.setError(-5)));
    expect(fence.value.error).toBe(0);
    const text = 'dma_fence_set_error: fence ring 0 42 is signaled already';
    expect(rig.warnings).toEqual([text]);
  });

  test.each([5, -4096, 0.5])(
    'is a negative error number: %d is a kernel warning (B.1)',
    (error) => {
      const { rig, fence } = boot();
      rig.do(step(fence.setError(error)));
      expect(rig.warnings).toHaveLength(1);
    },
  );
});

describe('A fence that is let go', () => {
  test('while somebody waits for it is a kernel warning and EDEADLK for them (FN-003)', () => {
    const { rig, fence } = boot();
    const errors: number[] = [];
    rig.do(
      fence.addCallback(function* callback({ value }): Atomic {
        errors.push(value.error);
      }),
    );
    rig.do(fence.put());
    expect(errors).toEqual([-35]);
    const text = 'Fence card:ring 0:7:2a released with pending signals!';
    expect(rig.warnings).toEqual([`dma_fence_release: ${text}`]);
  });

  test('while nobody waits for it is none', () => {
    const { rig, fence } = boot();
    rig.do(fence.put());
    expect(rig.warnings).toEqual([]);
  });

  test('is not taken up again', () => {
    const { rig, fence } = boot();
    rig.do(fence.put());
    rig.do(step(fence.get()));
    fence.hold();
    expect(rig.warnings).toHaveLength(2);
  });
});

describe('The names of a fence', () => {
  test('are the driver’s until it is signaled', () => {
    const { rig, fence } = boot();
    expect(rig.do(step(fence.names()))).toMatchObject({ driver: 'card', timeline: 'ring 0' });
    rig.do(fence.signal());
    expect(rig.do(step(fence.names()))).toEqual({
      driver: 'detached-driver',
      timeline: 'signaled-timeline',
    });
  });
});

describe('The time of a fence', () => {
  test('is that of its signal', () => {
    const { rig, fence } = boot();
    function* signal(): Task {
      yield* rig.scheduler.sleep(123);
      yield* fence.signal();
    }
    rig.do(signal());
    expect(fence.value.timestampNs).toBe(123);
  });
});

function* step<R>(one: PreemptStep<R>): Task<R> {
  return yield* one;
}
