/**
 * Goal: a walk through a reservation sees what it must, under the lock and without it; snapshots,
 * waits and copies rest on it. Method: lists changed between two steps, and random programs beside
 * a plain list; reference B.2, B.3.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  type DmaFence,
  DmaFenceArray,
  DmaResv,
  type DmaResvUsage,
  dmaResvUsageRw,
} from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { oneStep, refused } from '../machine/fabric-rig.ts';
import { addTo, FenceRig } from './fence-rig.ts';
import { locked } from './kernel-rig.ts';

const USAGES: readonly DmaResvUsage[] = ['kernel', 'write', 'read', 'bookkeep'];

/** Contexts of the fences that a query finds. */
function contextsIn(rig: FenceRig, resv: DmaResv, usage: DmaResvUsage): readonly number[] {
  return rig.do(resv.getFences(usage)).map(({ origin }) => origin.context);
}

/** A reservation with a fence of each usage, contexts 1 to 4. */
function oneOfEach() {
  const rig = new FenceRig();
  const fences = USAGES.map((_usage, i) => rig.fence(i + 1));
  const resv = rig.resv(...USAGES.map((usage, i) => [fences[i] as DmaFence, usage] as const));
  return { rig, fences, resv };
}

describe('A walk without the lock', () => {
  test('skips signaled fences and holds a reference to the one it is at', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(fences[1]?.signal() ?? expect.fail());
    const seen: (readonly [number, DmaResvUsage, boolean, number])[] = [];
    function* walk(): Task {
      const iter = resv.iterate('read');
      let fence = yield* iter.firstUnlocked();
      for (; fence !== null; fence = yield* iter.nextUnlocked()) {
        const { context } = fence.origin;
        seen.push([context, iter.fenceUsage, iter.isRestarted, fence.refs.value]);
      }
    }
    rig.do(walk());
    expect(seen).toEqual([
      [1, 'kernel', true, 3],
      [3, 'read', false, 3],
    ]);
    expect(fences.map(({ refs }) => refs.value)).toEqual([2, 2, 2, 2]);
  });

  test('begins anew when the table is another, and says so (FN-008)', () => {
    const { rig, resv } = oneOfEach();
    const careless: number[] = [];
    const careful: number[] = [];
    function* walk(): Task {
      const iter = resv.iterate('bookkeep');
      let fence = yield* iter.firstUnlocked();
      for (; fence !== null; fence = yield* iter.nextUnlocked()) {
        if (iter.isRestarted) careful.length = 0;
        careful.push(fence.origin.context);
        careless.push(fence.origin.context);
        if (careless.length === 2) yield* locked(resv, resv.reserveFences(9));
      }
    }
    rig.do(walk());
    expect(careful).toEqual([1, 2, 3, 4]);
    expect(careless).toEqual([1, 2, 1, 2, 3, 4]);
  });

  test('does not begin anew when an entry is replaced in its place (B.2)', () => {
    const { rig, resv } = oneOfEach();
    const seen: number[] = [];
    function* walk(): Task {
      const iter = resv.iterate('bookkeep');
      let fence = yield* iter.firstUnlocked();
      for (; fence !== null; fence = yield* iter.nextUnlocked()) {
        seen.push(fence.origin.seqno);
        if (seen.length === 1) yield* addReserved(resv, rig.fence(3, 33), 'read');
      }
    }
    function* addReserved(to: DmaResv, fence: DmaFence, usage: DmaResvUsage): Task {
      yield* to.lock();
      yield* to.addFence(fence, usage);
      yield* to.unlock();
    }
    rig.do(walk());
    expect(seen).toEqual([1, 1, 33, 1]);
  });

  test('lets drivers say that they are done', () => {
    const rig = new FenceRig();
    let isDone = false;
    const fence = rig.fence(1, 1, {
      *signaled(): Atomic<boolean> {
        return isDone;
      },
    });
    const resv = rig.resv([fence, 'write']);
    expect(rig.do(resv.testSignaled('write'))).toBe(false);
    isDone = true;
    expect(rig.do(resv.testSignaled('write'))).toBe(true);
    expect(fence.value.signaled).toBe(true);
  });

  test('finds in any schedule what is pending all the time', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const { rig, fences, resv } = oneOfEach();
      function* snapshot(): Task {
        const found = yield* resv.getFences('bookkeep');
        const contexts = found.map(({ origin }) => origin.context);
        expect(contexts).toContain(4);
        expect(new Set(contexts).size).toBe(contexts.length);
        for (const fence of found) yield* fence.put();
      }
      rig.kthread(snapshot(), 'reader');
      rig.kthread(fences[0]?.signal() ?? expect.fail(), 'card');
      for (const context of [5, 6]) {
        rig.kthread(addTo(resv, rig.fence(context), 'read'), `writer ${context}`);
      }
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(fences[3]?.refs.value).toBe(2);
    }
  });
});

describe('A walk under the lock', () => {
  test('sees signaled fences too, and is new at the first only (B.2)', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(fences[0]?.signal() ?? expect.fail());
    const seen: (readonly [number, boolean])[] = [];
    function* walk(): Task {
      const iter = resv.iterate('read');
      for (let fence = yield* iter.first(); fence !== null; fence = yield* iter.next()) {
        seen.push([fence.origin.context, iter.isRestarted]);
      }
    }
    rig.do(locked(resv, walk()));
    expect(seen).toEqual([
      [1, true],
      [2, false],
      [3, false],
    ]);
    rig.do(walk());
    expect(rig.warnings).toHaveLength(4);
  });
});

describe('A snapshot of a reservation', () => {
  test.each(USAGES)('has the pending fences up to its usage: %s', (usage) => {
    const { rig, resv } = oneOfEach();
    const count = USAGES.indexOf(usage) + 1;
    expect(contextsIn(rig, resv, usage)).toEqual([1, 2, 3, 4].slice(0, count));
  });

  test('as one fence is null, the fence, or an array on a context of its own (B.2)', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(101), rig.fence(102)];
    const resv = rig.resv([one, 'write'], [two, 'read']);
    const array = rig.do(resv.getSingleton('read'));
    expect(array).toBeInstanceOf(DmaFenceArray);
    expect(array).toMatchObject({ fences: [one, two], origin: { context: 1, seqno: 1 } });
    expect(rig.do(resv.getSingleton('write'))).toBe(one);
    expect(rig.do(resv.getSingleton('kernel'))).toBe(null);
  });

  test('without memory is ENOMEM, and keeps no reference (B.2)', () => {
    const { rig, fences, resv } = oneOfEach();
    const codes = [
      rig.errorWithout(1, resv.getFences('read')),
      rig.errorWithout(2, resv.getSingleton('read')),
      rig.errorWithout(1, locked(resv, resv.reserveFences(9))),
    ];
    expect(codes.map(({ code, reason }) => `${code} ${reason}`)).toEqual([
      'ENOMEM no-memory-for-a-snapshot',
      'ENOMEM no-memory-for-a-fence-array',
      'ENOMEM no-memory-for-fences',
    ]);
    expect(fences.map(({ refs }) => refs.value)).toEqual([2, 2, 2, 2]);
  });
});

describe('Waiting for a reservation (B.2)', () => {
  test('spends one timeout on all fences', () => {
    const { rig, fences, resv } = oneOfEach();
    for (const [i, fence] of fences.entries()) {
      rig.kthread(later(rig, 10 * (i + 1), fence), `card ${i}`);
    }
    expect(rig.do(resv.waitTimeout('write', false, 100))).toBe(80);
    expect(rig.do(resv.waitTimeout('bookkeep', true, 100))).toBe(100);
  });

  test('says 0 when the time is over, and with no time only looks', () => {
    const { rig, fences, resv } = oneOfEach();
    expect(rig.do(resv.waitTimeout('read', true, 30))).toBe(0);
    expect(rig.scheduler.t).toBe(30);
    expect(rig.do(resv.waitTimeout('read', true, 0))).toBe(0);
    for (const fence of fences.slice(0, 3)) rig.do(fence.signal());
    expect(rig.do(resv.waitTimeout('read', true, 0))).toBe(1);
    expect(rig.do(resv.waitTimeout('bookkeep', true, 0))).toBe(0);
  });

  test('does not wait where nobody does: a dynamic importer’s wait is its own (N37)', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(fences[0]?.signal() ?? expect.fail());
    expect(rig.do(resv.waitTimeout('kernel', true, Number.POSITIVE_INFINITY))).toBe(
      Number.POSITIVE_INFINITY,
    );
    expect(rig.do(resv.testSignaled('write'))).toBe(false);
  });

  test('ends with ERESTARTSYS when a signal comes: fence-wait-interrupted (N38)', () => {
    const { rig, fences, resv } = oneOfEach();
    const got: unknown[] = [];
    function* wait(): Task {
      const all = resv.waitTimeout('kernel', true, Number.POSITIVE_INFINITY);
      got.push((yield* refused(locked(resv, all))).code);
    }
    const waiter = rig.user(wait());
    rig.kthread(rig.kernel.signals.kill(waiter), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(got).toEqual(['ERESTARTSYS']);
    expect(fences[0]?.refs.value).toBe(2);
    expect(resv.lockCell.value.owner).toBe(null);
  });
});

function* later(rig: FenceRig, ns: number, fence: DmaFence): Task {
  yield* rig.scheduler.sleep(ns);
  yield* fence.signal();
}

describe('A reservation', () => {
  test('asks writers to wait for readers, and readers for writers (B.3)', () => {
    expect([dmaResvUsageRw(true), dmaResvUsageRw(false)]).toEqual(['read', 'write']);
  });

  test('takes no containers: a kernel warning (FN-002)', () => {
    const rig = new FenceRig();
    rig.resv([new DmaFenceArray(rig.kernel, [rig.fence()], 9, 1), 'read']);
    expect(rig.warnings).toEqual(['dma_resv_add_fence: fence unbound 1 is a container']);
  });

  test('replaces every fence of a context, whatever it stands for (B.2)', () => {
    const { rig, fences, resv } = oneOfEach();
    const moved = rig.fence(50);
    const [first] = fences;
    rig.do(locked(resv, resv.replaceFences(1, moved, 'bookkeep')));
    rig.do(locked(resv, resv.replaceFences(77, moved, 'kernel')));
    expect(contextsIn(rig, resv, 'bookkeep')).toEqual([50, 2, 3, 4]);
    expect(contextsIn(rig, resv, 'read')).toEqual([2, 3]);
    expect(first?.refs.value).toBe(1);
  });

  test('takes over what is pending in another (B.2)', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(fences[2]?.signal() ?? expect.fail());
    const old = rig.fence(60);
    const copy = rig.resv([old, 'write']);
    rig.do(locked(copy, copy.copyFences(resv)));
    expect(contextsIn(rig, copy, 'kernel')).toEqual([1]);
    expect(contextsIn(rig, copy, 'bookkeep')).toEqual([1, 2, 4]);
    expect(old.refs.value).toBe(1);
  });

  test('hands deadlines on to what a query finds', () => {
    const rig = new FenceRig();
    const asked: number[] = [];
    const ops = (context: number) => ({
      *setDeadline(): Atomic {
        asked.push(context);
      },
    });
    const fences = [1, 2, 3].map((context) => rig.fence(context, 1, ops(context)));
    const [one, two, three] = fences as [DmaFence, DmaFence, DmaFence];
    const resv = rig.resv([one, 'kernel'], [two, 'write'], [three, 'read']);
    rig.do(resv.setDeadline('write', 500));
    expect(asked).toEqual([1, 2]);
  });

  test('describes its fences as debugfs shows them, but for bookkeeping (A.11)', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(fences[1]?.signal() ?? expect.fail());
    expect(rig.do(locked(resv, resv.describe()))).toEqual([
      '\tkernel fence:1:1 ring card unsignalled',
      '\twrite fence:2:1   signalled',
      '\tread fence:3:1 ring card unsignalled',
    ]);
  });

  test('lets everything go at its end', () => {
    const { rig, fences, resv } = oneOfEach();
    rig.do(resv.fini());
    rig.do(resv.fini());
    expect(fences.map(({ refs }) => refs.value)).toEqual([1, 1, 1, 1]);
  });

  test('is locked by a try only if it is free, without a context', () => {
    const rig = new FenceRig();
    const resv = new DmaResv(rig.kernel, 'test');
    expect(rig.do(oneStep(resv.trylock()))).toBe(true);
    expect(rig.do(oneStep(resv.trylock()))).toBe(false);
    expect(resv.lockingCtx).toBe(null);
  });

  test('takes a seqno that goes backwards as any other: the older fence stays (FN-004)', () => {
    const rig = new FenceRig();
    const resv = rig.resv([rig.fence(1, 5), 'write'], [rig.fence(1, 4), 'write']);
    const found = rig.do(resv.getFences('write'));
    expect(found.map(({ origin }) => origin.seqno)).toEqual([5, 4]);
  });

  test('has the same fences as a plain list after random adds and signals', () => {
    const act = fc.oneof(
      fc.record({
        do: fc.constant('add' as const),
        context: fc.integer({ min: 1, max: 4 }),
        seqno: fc.integer({ min: 0, max: 6 }),
        usage: fc.constantFrom(...USAGES),
      }),
      fc.record({ do: fc.constant('signal' as const), nth: fc.nat({ max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(act, { maxLength: 25 }), (acts) => {
        const rig = new FenceRig();
        const resv = rig.resv();
        const made: DmaFence[] = [];
        let plain: { fence: DmaFence; usage: DmaResvUsage }[] = [];
        for (const one of acts) {
          if (one.do === 'signal') {
            const fence = made[one.nth];
            if (fence !== undefined) rig.do(fence.signal());
            continue;
          }
          const fence = rig.fence(one.context, one.seqno);
          made.push(fence);
          // Room is made first, which may drop what is signaled; a query cannot tell.
          plain = plain.filter((old) => !old.fence.value.signaled);
          const isOld = (old: (typeof plain)[number]): boolean =>
            old.fence.origin.context === one.context &&
            USAGES.indexOf(old.usage) >= USAGES.indexOf(one.usage) &&
            one.seqno > old.fence.origin.seqno;
          const at = plain.findIndex(isOld);
          if (at < 0) plain.push({ fence, usage: one.usage });
          else plain.splice(at, 1, { fence, usage: one.usage });
          rig.do(addTo(resv, fence, one.usage));
        }
        for (const usage of USAGES) {
          const expected = plain
            .filter((old) => !old.fence.value.signaled)
            .filter((old) => USAGES.indexOf(old.usage) <= USAGES.indexOf(usage))
            .map((old) => old.fence.number);
          const found = rig.do(resv.getFences(usage)).map(({ number }) => number);
          expect(found.toSorted()).toEqual(expected.toSorted());
        }
        expect(rig.warnings).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});
