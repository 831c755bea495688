/**
 * Goal: a container is signaled when all inside it is, whatever the order; what is inside comes out
 * again, and a merge keeps of each context the newest. Method: by hand, and random nestings against
 * plain lists; reference B.5.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  chainFindSeqno,
  chainWalk,
  type DmaFence,
  DmaFenceArray,
  DmaFenceChain,
  fenceUnwrap,
  fenceUnwrapMerge,
  privateStubFence,
  stubFence,
} from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { FenceRig, note } from './fence-rig.ts';

function arrayOf(rig: FenceRig, fences: readonly DmaFence[]): DmaFenceArray {
  return new DmaFenceArray(rig.kernel, fences, 1000, 1);
}

/** A chain of nodes for these fences, at points 1, 2, …; the head. */
function* chainOf(rig: FenceRig, fences: readonly DmaFence[]): Task<DmaFenceChain> {
  let head: DmaFenceChain | null = null;
  for (const [i, fence] of fences.entries()) {
    head = yield* DmaFenceChain.create(rig.kernel, head, fence, i + 1);
  }
  return head ?? expect.fail('a chain of nothing');
}

describe('An array of fences', () => {
  test('is signaled with the last member, in any of 200 schedules', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const rig = new FenceRig();
      const fences = [rig.fence(1), rig.fence(2), rig.fence(3)];
      const array = arrayOf(rig, fences);
      const log: string[] = [];
      function* signal(fence: DmaFence): Task {
        yield* fence.signal();
        if (fences.some(({ value }) => !value.signaled)) expect(array.value.signaled).toBe(false);
      }
      rig.kthread(array.addCallback(note(log, 'all')), 'waiter');
      for (const [i, fence] of fences.entries()) rig.kthread(signal(fence), `card ${i}`);
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(rig.do(array.isSignaled())).toBe(true);
    }
  });

  test('has the names of its kind', () => {
    const rig = new FenceRig();
    const { origin, isContainer } = arrayOf(rig, [rig.fence()]);
    expect(origin).toMatchObject({ driver: 'dma_fence_array', timeline: 'unbound' });
    expect(isContainer).toBe(true);
  });

  test('is signaled outside the locks of its members, before their signal returns', () => {
    const rig = new FenceRig();
    const member = rig.fence();
    const array = arrayOf(rig, [member]);
    const locks: boolean[] = [];
    rig.do(
      array.addCallback(function* callback(): Atomic {
        locks.push(member.value.isLocked);
      }),
    );
    rig.do(member.signal());
    expect(locks).toEqual([false]);
  });

  test('has the error of the member that failed first', () => {
    const rig = new FenceRig();
    const [one, two, three] = [rig.fence(1), rig.fence(2), rig.fence(3)];
    const array = arrayOf(rig, [one, two, three]);
    rig.do(array.enableSwSignaling());
    rig.do(three.signal());
    rig.do(two.signal(-5));
    rig.do(one.signal(-6));
    expect(rig.do(array.getStatus())).toBe(-5);
  });

  test('looks at each member while nobody has asked it to signal', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    const array = arrayOf(rig, [one, two]);
    rig.do(one.signal());
    expect(rig.do(array.isSignaled())).toBe(false);
    rig.do(two.signal());
    expect(rig.do(array.isSignaled())).toBe(true);
    expect(one.value.callbacks).toBe(null);
  });

  test('lets its members go when it goes', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    const array = arrayOf(rig, [one, two]);
    rig.do(array.enableSwSignaling());
    rig.do(one.signal());
    rig.do(two.signal());
    rig.do(array.put());
    expect([array.refs.value, one.refs.value, two.refs.value]).toEqual([0, 0, 0]);
    expect(rig.warnings).toEqual([]);
  });

  test('of nothing, or of containers, is a kernel warning (FN-002)', () => {
    const rig = new FenceRig();
    arrayOf(rig, []);
    arrayOf(rig, [arrayOf(rig, [rig.fence()])]);
    arrayOf(rig, [rig.do(chainOf(rig, [rig.fence()]))]);
    expect(rig.warnings).toHaveLength(3);
    expect(rig.warnings[0]).toBe('dma_fence_array_create: an array of no fence');
  });

  test('hands deadlines on', () => {
    const rig = new FenceRig();
    const asked: number[] = [];
    const member = rig.fence(1, 1, {
      *setDeadline(_fence, deadlineNs): Atomic {
        asked.push(deadlineNs);
      },
    });
    rig.do(arrayOf(rig, [member, rig.fence(2)]).setDeadline(77));
    rig.do(rig.do(chainOf(rig, [member, rig.fence(3)])).setDeadline(78));
    expect(asked).toEqual([77, 78]);
  });
});

describe('A chain of fences', () => {
  test('is signaled when all up to its point are, in any of 200 schedules', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const rig = new FenceRig();
      const fences = [rig.fence(1), rig.fence(2), rig.fence(3)];
      const head = rig.do(chainOf(rig, fences));
      const log: string[] = [];
      rig.do(head.addCallback(note(log, 'all')));
      for (const [i, fence] of fences.entries()) rig.kthread(fence.signal(), `card ${i}`);
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(log).toEqual(['all']);
    }
  });

  test('is not signaled by a later fence alone', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    const head = rig.do(chainOf(rig, [one, two]));
    rig.do(two.signal());
    expect(rig.do(head.isSignaled())).toBe(false);
    rig.do(one.signal());
    expect(rig.do(head.isSignaled())).toBe(true);
  });

  test('goes on in its context, with 64 bits, and begins a new one at a lower point (B.5)', () => {
    const rig = new FenceRig();
    const head = rig.do(chainOf(rig, [rig.fence(11), rig.fence(12)]));
    expect(head).toMatchObject({ prevSeqno: 1, isSeqno64: true });
    const { context } = head.origin;
    expect(context).toBe(head.prev.value?.origin.context);
    const lower = rig.do(DmaFenceChain.create(rig.kernel, head, rig.fence(13), 1));
    expect(lower.origin).toMatchObject({ context: context + 1, seqno: 2 });
    expect(lower.prevSeqno).toBe(0);
  });

  test('inside a chain is a kernel warning (FN-002)', () => {
    const rig = new FenceRig();
    const inner = rig.do(chainOf(rig, [rig.fence()]));
    rig.do(DmaFenceChain.create(rig.kernel, null, inner, 1));
    expect(rig.warnings).toEqual(['dma_fence_chain_init: fence unbound 1 is a chain itself']);
  });

  test('loses signaled nodes to who walks it', () => {
    const rig = new FenceRig();
    const fences = [rig.fence(1), rig.fence(2), rig.fence(3), rig.fence(4)];
    const head = rig.do(chainOf(rig, fences));
    const middle = [fences[1], fences[2]] as [DmaFence, DmaFence];
    for (const fence of middle) rig.do(fence.signal());
    function* walk(): Task<readonly number[]> {
      const seen: number[] = [];
      yield* head.get();
      for (let at: DmaFence | null = head; at !== null; at = yield* chainWalk(at)) {
        seen.push(at.origin.seqno);
      }
      return seen;
    }
    expect(rig.do(walk())).toEqual([4, 1]);
    expect(head.prev.value?.origin.seqno).toBe(1);
    for (const fence of middle) expect(fence.refs.value).toBe(0);
    expect(head.refs.value).toBe(1);
  });

  test('of thousands of nodes is let go without a deep stack', () => {
    const rig = new FenceRig();
    const fences = Array.from({ length: 3000 }, () => rig.fence());
    const head = rig.do(chainOf(rig, fences));
    rig.do(head.put());
    expect(fences.every(({ refs }) => refs.value === 0)).toBe(true);
    expect(rig.warnings).toEqual([]);
  });
});

describe('A point of a timeline', () => {
  /** Points 1 to 3, and the point at which a search ends. */
  function search(seqno: number, signaled = 0) {
    const rig = new FenceRig();
    const fences = [rig.fence(1), rig.fence(2), rig.fence(3)];
    const head = rig.do(chainOf(rig, fences));
    for (const fence of fences.slice(0, signaled)) rig.do(fence.signal());
    return rig.do(chainFindSeqno(head, seqno))?.origin.seqno ?? null;
  }

  test.each([
    [0, 0, 3],
    [3, 0, 3],
    [2, 0, 2],
    [1, 0, 1],
    [2, 3, null],
    [1, 2, null],
  ])('%d, with %d signaled, is found at node %o (B.5)', (seqno, signaled, found) => {
    expect(search(seqno, signaled)).toBe(found);
  });

  test('beyond the end is EINVAL: no-such-point-on-the-timeline (B.5)', () => {
    const rig = new FenceRig();
    const head = rig.do(chainOf(rig, [rig.fence()]));
    for (const [fence, seqno] of [
      [head, 2],
      [rig.fence(), 1],
    ] as const) {
      const error = rig.errorOf(chainFindSeqno(fence, seqno));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-such-point-on-the-timeline' });
    }
  });
});

describe('Unwrapping', () => {
  test('gives the leaves of any nesting, and keeps the count of references', () => {
    const shape = fc.array(fc.array(fc.constant(null), { minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(shape, (nodes) => {
        const rig = new FenceRig();
        let context = 0;
        const leaves = nodes.map((node) => node.map(() => rig.fence((context += 1))));
        const nested = leaves.map((node) =>
          node.length === 1 ? (node[0] as DmaFence) : arrayOf(rig, node),
        );
        const head = rig.do(chainOf(rig, nested));
        const found = rig.do(fenceUnwrap(head));
        expect(found).toEqual(leaves.toReversed().flat());
        for (const leaf of found) rig.do(leaf.put());
        expect(found.every(({ refs }) => refs.value === 1)).toBe(true);
        expect(head.refs.value).toBe(1);
      }),
      { numRuns: 30 },
    );
  });

  test('gives signaled members of an array too, and a plain fence as itself (B.5)', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    rig.do(one.signal());
    expect(rig.do(fenceUnwrap(arrayOf(rig, [one, two])))).toEqual([one, two]);
    expect(rig.do(fenceUnwrap(one))).toEqual([one]);
  });
});

describe('Merging', () => {
  test('of nothing pending is a signaled fence with the latest time (B.5)', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    function* signalAll(): Task {
      yield* two.signal();
      yield* rig.scheduler.sleep(40);
      yield* one.signal();
    }
    rig.do(signalAll());
    const merged = rig.do(fenceUnwrapMerge(rig.kernel, [one, two]));
    expect(merged.value).toMatchObject({ signaled: true, timestampNs: 40 });
    expect(merged).not.toBe(stubFence(rig.kernel));
  });

  test('of one pending fence is that fence, with a reference (B.5)', () => {
    const rig = new FenceRig();
    const [one, two] = [rig.fence(1), rig.fence(2)];
    rig.do(one.signal());
    expect(rig.do(fenceUnwrapMerge(rig.kernel, [one, arrayOf(rig, [two])]))).toBe(two);
    expect(two.refs.value).toBe(2);
  });

  test('keeps of each context the newest pending one, sorted by context', () => {
    const made = fc.record({
      context: fc.integer({ min: 1, max: 4 }),
      seqno: fc.integer({ min: 1, max: 5 }),
      isSignaled: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(fc.array(made, { maxLength: 3 }), { maxLength: 3 }), (groups) => {
        const rig = new FenceRig();
        const fences = groups.map((group) =>
          group.map(({ context, seqno, isSignaled }) => {
            const fence = rig.fence(context, seqno);
            if (isSignaled) rig.do(fence.signal());
            return fence;
          }),
        );
        const wrapped = fences.filter(({ length }) => length > 0).map((g) => arrayOf(rig, g));
        const merged = rig.do(fenceUnwrapMerge(rig.kernel, wrapped));
        const expected = new Map<number, number>();
        for (const { origin, value } of fences.flat()) {
          if (value.signaled) continue;
          const { context, seqno } = origin;
          expected.set(context, Math.max(seqno, expected.get(context) ?? 0));
        }
        const kept = rig.do(fenceUnwrap(merged)).filter(({ value }) => !value.signaled);
        const pairs = kept.map(({ origin }) => [origin.context, origin.seqno] as const);
        expect(pairs).toEqual([...expected].sort(([one], [other]) => one - other));
        expect(merged.isContainer).toBe(expected.size > 1);
        expect(rig.warnings).toEqual([]);
      }),
    );
  });

  test('without memory is ENOMEM, and gives all references back: no-memory-to-merge-fences', () => {
    const rig = new FenceRig();
    const fences = [rig.fence(1), rig.fence(2)];
    const error = rig.errorWithout(1, fenceUnwrapMerge(rig.kernel, fences));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-to-merge-fences' });
    expect(fences.map(({ refs }) => refs.value)).toEqual([1, 1]);
  });
});

describe('A stub', () => {
  test('is signaled since boot, the same for all, and not in the trace', () => {
    const rig = new FenceRig();
    const stub = stubFence(rig.kernel);
    expect(stub).toBe(stubFence(rig.kernel));
    expect(stub.value).toMatchObject({ signaled: true, timestampNs: 0 });
    expect(stub.origin).toMatchObject({ context: 0, driver: 'stub', timeline: 'stub' });
    expect(rig.events('fence.init')).toEqual([]);
    expect(rig.do(stub.waitTimeout(true, 0))).toBe(1);
  });

  test('of one’s own was signaled when one says', () => {
    const rig = new FenceRig();
    const stub = privateStubFence(rig.kernel, 99);
    expect(stub.value).toMatchObject({ signaled: true, timestampNs: 99 });
    expect(rig.kinds('fence.init', 'fence.signal')).toEqual(['fence.init', 'fence.signal']);
  });
});
