/**
 * Goal: a wait ends when the fence is signaled, when the time is over or when a signal comes, and
 * says which; fences of one context have an order. Method: virtual time; reference B.1.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DmaFence,
  fenceContextAlloc,
  laterFence,
  waitAnyTimeout,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FenceRig } from './fence-rig.ts';

const EVER = Number.POSITIVE_INFINITY;

/** Signals a fence after some time. */
function* signalAfter(rig: FenceRig, ns: number, fence: DmaFence): Task {
  yield* rig.scheduler.sleep(ns);
  yield* fence.signal();
}

describe('A wait with a timeout (B.1)', () => {
  test('says what is left of it', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    rig.kthread(signalAfter(rig, 30, fence), 'card');
    expect(rig.do(fence.waitTimeout(false, 100))).toBe(70);
    expect(rig.do(fence.waitTimeout(false, 100))).toBe(100);
    expect(rig.do(fence.waitTimeout(false, EVER))).toBe(EVER);
  });

  test('says 0 when it is over', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    rig.kthread(signalAfter(rig, 300, fence), 'card');
    expect(rig.do(fence.waitTimeout(false, 100))).toBe(0);
    expect(fence.value.isEnabled).toBe(true);
  });

  test('of 0 only looks: 1 for a signaled fence, 0 for a pending one', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    expect(rig.do(fence.waitTimeout(true, 0))).toBe(0);
    rig.do(fence.signal());
    expect(rig.do(fence.waitTimeout(true, 0))).toBe(1);
    expect(rig.scheduler.t).toBe(0);
  });

  test('below 0 is a kernel warning and EINVAL: negative-fence-timeout', () => {
    const rig = new FenceRig();
    const error = rig.errorOf(rig.fence().waitTimeout(false, -1));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'negative-fence-timeout' });
    expect(rig.warnings).toEqual(['dma_fence_wait_timeout: a negative timeout']);
  });

  test('is in the trace from beginning to end, also of a signaled fence (H.2)', () => {
    const rig = new FenceRig();
    const fence = rig.fence();
    rig.do(fence.signal());
    rig.do(fence.waitTimeout(false, 1));
    expect(rig.events('fence.wait')).toMatchObject([{ phase: 'begin' }, { phase: 'end' }]);
  });
});

describe('An interruptible wait', () => {
  function interrupted(interruptible: boolean, signalNs: number) {
    const rig = new FenceRig();
    const fence = rig.fence();
    const got: unknown[] = [];
    function* wait(): Task {
      const error = yield* refused(fence.waitTimeout(interruptible, 100));
      got.push(error.code, error.reason);
    }
    function* left(): Task {
      got.push(yield* fence.waitTimeout(interruptible, 100));
    }
    const waiter = rig.user(interruptible ? wait() : left(), 'waiter');
    function* kill(): Task {
      yield* rig.scheduler.sleep(10);
      yield* rig.kernel.signals.kill(waiter);
    }
    rig.kthread(kill(), 'killer');
    rig.kthread(signalAfter(rig, signalNs, fence), 'card');
    rig.run();
    return { rig, got };
  }

  test('ends with ERESTARTSYS when a signal comes: fence-wait-interrupted (N38)', () => {
    const { rig, got } = interrupted(true, 50);
    expect(got).toEqual(['ERESTARTSYS', 'fence-wait-interrupted']);
    expect(rig.events('fence.wait')).toMatchObject([{ phase: 'begin' }, { phase: 'end', t: 10 }]);
  });

  test('prefers the signal to a fence that is signaled meanwhile, as Linux does', () => {
    expect(interrupted(true, 10).got).toEqual(['ERESTARTSYS', 'fence-wait-interrupted']);
  });

  test('is not one if it is uninterruptible', () => {
    expect(interrupted(false, 50).got).toEqual([50]);
  });
});

describe('A wait for any of several fences (B.1)', () => {
  test('ends with the first that is signaled', () => {
    const rig = new FenceRig();
    const fences = [rig.fence(1), rig.fence(2), rig.fence(3)];
    for (const [i, fence] of fences.entries()) {
      rig.kthread(signalAfter(rig, 100 - 20 * i, fence), `card ${i}`);
    }
    const waited = waitAnyTimeout(rig.kernel, fences, false, 100);
    expect(rig.do(waited)).toEqual({ left: 40, index: 2 });
    expect(rig.do(waitAnyTimeout(rig.kernel, fences, true, 9))).toEqual({ left: 9, index: 0 });
  });

  test('ends when the time is over', () => {
    const rig = new FenceRig();
    const waited = waitAnyTimeout(rig.kernel, [rig.fence()], true, 9);
    expect(rig.do(waited)).toEqual({ left: 0, index: -1 });
  });

  test('with no time only looks', () => {
    const rig = new FenceRig();
    const fences = [rig.fence(1), rig.fence(2)];
    expect(rig.do(waitAnyTimeout(rig.kernel, fences, true, 0))).toEqual({ left: 0, index: -1 });
    rig.do(fences[1]?.signal() ?? expect.fail());
    expect(rig.do(waitAnyTimeout(rig.kernel, fences, true, 0))).toEqual({ left: 1, index: 1 });
  });

  test.each([
    ['no fence', 0, 5],
    ['a negative timeout', 1, -5],
  ])('with %s is a kernel warning and EINVAL: wait-for-any-of-nothing', (_what, count, timeout) => {
    const rig = new FenceRig();
    const fences = [rig.fence()].slice(0, count);
    const error = rig.errorOf(waitAnyTimeout(rig.kernel, fences, false, timeout));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'wait-for-any-of-nothing' });
    expect(rig.warnings).toHaveLength(1);
  });

  test('without memory is ENOMEM: no-memory-to-wait-for-any', () => {
    const rig = new FenceRig();
    const error = rig.errorWithout(1, waitAnyTimeout(rig.kernel, [rig.fence()], false, 1));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-to-wait-for-any' });
  });

  test('ends with ERESTARTSYS when a signal comes: wait-for-any-interrupted', () => {
    const rig = new FenceRig();
    const got: unknown[] = [];
    function* wait(): Task {
      got.push((yield* refused(waitAnyTimeout(rig.kernel, [rig.fence()], true, EVER))).reason);
    }
    const waiter = rig.user(wait());
    rig.kthread(rig.kernel.signals.kill(waiter), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(got).toEqual(['wait-for-any-interrupted']);
  });
});

describe('The order of fences', () => {
  const WRAP = 2 ** 32;

  test.each([
    [2, 1, true],
    [1, 1, false],
    [1, 2, false],
    [0, WRAP - 1, true],
    [WRAP - 1, 0, false],
    [2 ** 31, 0, false],
    [2 ** 31 - 1, 0, true],
  ])('of 32 bits wraps: %d after %d is %s (B.1)', (one, other, later) => {
    const rig = new FenceRig();
    expect(rig.fence(1, one).isLater(rig.fence(1, other))).toBe(later);
  });

  test('of 32 bits is that of a signed difference of the low halves', () => {
    const rig = new FenceRig();
    const seqno = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(seqno, seqno, (one, other) => {
        const difference = BigInt.asIntN(32, BigInt(one) - BigInt(other));
        expect(rig.fence(1, one).isLater(rig.fence(1, other))).toBe(difference > 0n);
      }),
    );
  });

  test('of 64 bits does not wrap (B.1)', () => {
    const rig = new FenceRig();
    const origin = { driver: 'card', timeline: 'ring', context: 1 };
    const of = (seqno: number) =>
      new DmaFence(rig.kernel, { ...origin, seqno }, { isSeqno64: true });
    expect(of(WRAP).isLater(of(WRAP - 1))).toBe(true);
    expect(of(0).isLater(of(WRAP - 1))).toBe(false);
    expect(of(2 ** 31).isLater(of(0))).toBe(true);
  });

  test('of two contexts is none: a kernel warning, and false (B.1)', () => {
    const rig = new FenceRig();
    expect(rig.fence(1, 2).isLater(rig.fence(2, 1))).toBe(false);
    expect(rig.do(laterFence(rig.fence(1, 2), rig.fence(2, 1)))).toBe(null);
    expect(rig.warnings).toHaveLength(2);
  });

  test('is later or the same for the very same fence, not for one of the same number (B.1)', () => {
    const rig = new FenceRig();
    const fence = rig.fence(1, 1);
    expect(fence.isLaterOrSame(fence)).toBe(true);
    expect(fence.isLaterOrSame(rig.fence(1, 1))).toBe(false);
  });

  test('gives the later of two, or null once that is signaled', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1, 1), rig.fence(1, 2)];
    expect(rig.do(laterFence(one, two))).toBe(two);
    expect(rig.do(laterFence(two, one))).toBe(two);
    rig.do(two.signal());
    expect(rig.do(laterFence(one, two))).toBe(null);
  });
});

describe('A fence context', () => {
  test('is drawn from 1, several in a row', () => {
    const rig = new FenceRig();
    expect(rig.do(fenceContextAlloc(rig.kernel, 3))).toBe(1);
    expect(rig.do(fenceContextAlloc(rig.kernel, 1))).toBe(4);
    expect(rig.warnings).toEqual([]);
  });

  test('of which none is wanted is a kernel warning', () => {
    const rig = new FenceRig();
    rig.do(fenceContextAlloc(rig.kernel, 0));
    expect(rig.warnings).toEqual(['dma_fence_context_alloc: no context at all']);
  });
});
