/**
 * Goal: reservations locked under one context back off or go on as the table says, and who misuses
 * a context hears of it. Method: each row by hand; reference B.4.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { DmaResv } from '../../src/framework/index.ts';
import { type AcquireContext, type Task, WwClass } from '../../src/machine/index.ts';
import { oneStep, refused } from '../machine/fabric-rig.ts';
import { FenceRig } from './fence-rig.ts';
import { ScriptedStrategy } from './kernel-rig.ts';

function boot() {
  const rig = new FenceRig();
  const [a, b, c] = [
    new DmaResv(rig.kernel, 'a'),
    new DmaResv(rig.kernel, 'b'),
    new DmaResv(rig.kernel, 'c'),
  ];
  const context = (): AcquireContext => rig.do(oneStep(rig.kernel.reservationClass.acquireInit()));
  return { rig, a, b, c, context };
}

/** Holds a lock for some time. */
function* hold(rig: FenceRig, resv: DmaResv, ctx: AcquireContext | null, ns: number): Task {
  yield* resv.lock(ctx);
  yield* rig.scheduler.sleep(ns);
  yield* resv.unlock();
}

/** What a second lock of a context says while somebody else holds it for 100 ns. */
function contend(holderFirst: boolean, holderHasCtx: boolean, callerHoldsOne: boolean) {
  const { rig, a, b, context } = boot();
  const [older, younger] = [context(), context()];
  const holder = holderHasCtx ? (holderFirst ? older : younger) : null;
  const caller = holderFirst ? younger : older;
  const got: unknown[] = [];
  function* call(): Task {
    if (callerHoldsOne) yield* a.lock(caller);
    yield* rig.scheduler.sleep(10);
    got.push(yield* b.lock(caller), rig.scheduler.t);
    if (callerHoldsOne) yield* a.unlock();
    if (got[0] === 'locked') yield* b.unlock();
  }
  rig.kthread(hold(rig, b, holder, 100), 'holder');
  rig.kthread(call(), 'caller');
  expect(rig.run().findings).toEqual([]);
  return got;
}

describe('A lock that another holds (B.4)', () => {
  test('is EDEADLK at once for a younger context that holds one', () => {
    expect(contend(true, true, true)).toEqual(['EDEADLK', 10]);
  });

  test.each([
    ['for a younger context that holds none', true, true, false],
    ['for an older context', false, true, true],
    ['if it is held without a context', true, false, true],
  ] as const)('is waited for %s', (_what, holderFirst, holderHasCtx, callerHoldsOne) => {
    expect(contend(holderFirst, holderHasCtx, callerHoldsOne)).toEqual(['locked', 100]);
  });

  test('is EDEADLK for a sleeper once an older context has got it', () => {
    const seen = new Set<unknown>();
    for (let seed = 0; seed < 50; seed += 1) {
      const { rig, a, b, context } = boot();
      const [oldest, middle, youngest] = [context(), context(), context()];
      const got: unknown[] = [];
      function* sleeper(): Task {
        yield* a.lock(middle);
        yield* rig.scheduler.sleep(10);
        const result = yield* b.lock(middle);
        got.push(result, rig.scheduler.t);
        if (result === 'locked') yield* b.unlock();
        yield* a.unlock();
      }
      function* elder(): Task {
        yield* rig.scheduler.sleep(10);
        yield* hold(rig, b, oldest, 50);
      }
      rig.kthread(hold(rig, b, youngest, 100), 'youngest');
      rig.kthread(elder(), 'oldest');
      rig.kthread(sleeper(), 'middle');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      seen.add(got.join());
    }
    expect([...seen].sort()).toEqual(['EDEADLK,100', 'locked,100']);
  });

  test('is EALREADY if this context holds it', () => {
    const { rig, a, context } = boot();
    const ctx = context();
    function* twice(): Task<unknown> {
      yield* a.lock(ctx);
      const second = yield* a.lock(ctx);
      yield* a.unlock();
      return second;
    }
    expect(rig.do(twice())).toBe('EALREADY');
  });

  test('is waited for ever by who holds it without a context (LK-006)', () => {
    const { rig, a } = boot();
    function* twice(): Task {
      yield* a.lock();
      yield* a.lock();
    }
    expect(rig.try(twice()).outcome.findings).toMatchObject([{ kind: 'deadlock' }]);
  });

  test('is EINTR for an interruptible lock and a signal: reservation-lock-interrupted', () => {
    const { rig, a, context } = boot();
    const ctx = context();
    ctx.contending = a.lockCell;
    const got: unknown[] = [];
    function* wait(): Task {
      const { code, reason } = yield* refused(a.lockInterruptible());
      const slow = yield* refused(a.lockSlowInterruptible(ctx));
      got.push(code, reason, slow.code, rig.scheduler.t);
    }
    const waiter = rig.user(wait());
    function* kill(): Task {
      yield* rig.scheduler.sleep(10);
      yield* rig.kernel.signals.kill(waiter);
    }
    rig.kthread(hold(rig, a, null, 100), 'holder');
    rig.kthread(kill(), 'killer');
    expect(rig.run(new ScriptedStrategy(['holder'])).findings).toEqual([]);
    expect(got).toEqual(['EINTR', 'reservation-lock-interrupted', 'EINTR', 10]);
  });

  test('is had by an interruptible lock if it is free, whatever is pending', () => {
    const { rig, a } = boot();
    function* lock(): Task<unknown> {
      yield* rig.kernel.signals.kill(rig.scheduler.current ?? expect.fail('an actor'));
      const got = yield* a.lockInterruptible();
      yield* a.unlock();
      return got;
    }
    expect(rig.do(lock())).toBe('locked');
  });
});

describe('A context', () => {
  /** What the kernel warns of. */
  function warnings(body: (world: ReturnType<typeof boot>) => Task): readonly string[] {
    const world = boot();
    world.rig.do(body(world));
    return world.rig.warnings;
  }

  test('that is used as it should be is not complained of', () => {
    const seen = warnings(function* ({ a, b, rig }): Task {
      const ctx = yield* rig.kernel.reservationClass.acquireInit();
      yield* a.lock(ctx);
      yield* b.lock(ctx);
      ctx.done();
      yield* a.unlock();
      yield* b.unlock();
      ctx.fini();
    });
    expect(seen).toEqual([]);
  });

  test('takes no lock after it is done, nor is it done twice (LK-008)', () => {
    const seen = warnings(function* ({ a, rig }): Task {
      const ctx = yield* rig.kernel.reservationClass.acquireInit();
      ctx.done();
      ctx.done();
      yield* a.lock(ctx);
      yield* a.unlock();
      ctx.fini();
    });
    expect(seen).toEqual([
      'ww_acquire_done: said twice',
      'ww_mutex_lock: a resv is taken after ww_acquire_done',
    ]);
  });

  test('holds nothing at its end, and takes nothing after it (LK-008)', () => {
    const seen = warnings(function* ({ a, b, rig }): Task {
      const ctx = yield* rig.kernel.reservationClass.acquireInit();
      yield* a.lock(ctx);
      ctx.fini();
      yield* b.lock(ctx);
      yield* a.unlock();
      yield* b.unlock();
    });
    expect(seen).toEqual([
      'ww_acquire_fini: 1 locks are still held',
      'ww_mutex_lock: b resv: the context has ended',
    ]);
  });

  test('takes the lock that said EDEADLK next, with nothing held (LK-007)', () => {
    const seen = warnings(function* ({ a, b, c, rig }): Task {
      const ctx = yield* rig.kernel.reservationClass.acquireInit();
      yield* a.lock(ctx);
      // As if another had held it.
      ctx.contending = b.lockCell;
      yield* c.lock(ctx);
      yield* a.unlock();
      yield* c.unlock();
      yield* a.lockSlow(ctx);
      yield* a.unlock();
      ctx.fini();
    });
    expect(seen).toEqual([
      'ww_mutex_lock: b resv said EDEADLK, and c resv is taken',
      'ww_mutex_lock: 1 locks are still held after EDEADLK',
      'ww_mutex_lock_slow: a resv did not say EDEADLK',
    ]);
  });

  test('is of the class of the lock (B.4)', () => {
    const seen = warnings(function* ({ a, rig }): Task {
      const ctx = yield* new WwClass(rig.scheduler, 'other').acquireInit();
      yield* a.lock(ctx);
      yield* a.unlock();
    });
    expect(seen).toEqual(['ww_mutex_lock: a resv is of another class than its context']);
  });

  test('is known to who asks the lock, and a try sets none (B.4)', () => {
    const { rig, a, context } = boot();
    const ctx = context();
    function* look(): Task<readonly unknown[]> {
      const seen: unknown[] = [];
      yield* a.lock(ctx);
      seen.push(a.lockingCtx);
      yield* a.unlock();
      yield* a.trylock();
      seen.push(a.lockingCtx);
      yield* a.unlock();
      return seen;
    }
    expect(rig.do(look())).toEqual([ctx, null]);
  });
});
