/**
 * A drive that is reset while a peer uses its memory. Thousands of random orders, each judged by what
 * the machine found, by what the peer was told, and by a monitor over the trace.
 */

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import type { MrMode } from '../../src/drivers/rdma-nic/memory-region.ts';
import type { RdmaResult } from '../../src/drivers/rdma-nic/remote-peer.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import {
  type Actor,
  Completion,
  type MachineSpec,
  type Strategy,
  type Task,
} from '../../src/machine/index.ts';
import { CMB_SIZE, LENGTH, PATH_MTU, ResetStory, statuses } from './rdma-nic-reset-story.ts';
import { BRIDGES, eventsOf, IOVA, MODES, pattern, SWITCH, World } from './rdma-nic-world.ts';

describe('a reset during traffic', () => {
  test.each([
    ['a switch', SWITCH, 2500],
    ['host bridges with an IOMMU', BRIDGES, 1000],
  ] as readonly (readonly [string, MachineSpec, number])[])(
    'by %s ends well in every order: silence, then everything works again (AC-14, AC-15, S003-16)',
    (_, spec, schedules) => {
      const seen = { refused: 0, fenced: 0, faults: 0 };
      for (let seed = 1; seed <= schedules; seed += 1) {
        const story = new ResetStory({ spec });
        const outcome = story.run(seed);
        story.world.expectClean(outcome);
        expect(story.strays()).toEqual([]);
        for (const { status } of story.results) {
          expect(['success', 'remote-operational-error']).toContain(status);
          if (status !== 'success') seen.refused += 1;
        }
        expect(statuses(story.afterwards)).toEqual(['success', 'success', 'success']);
        expect(story.afterwards[1]?.bytes).toEqual(pattern(LENGTH));
        expect(story.world.drive.doorbell.value).toBe(2);
        seen.fenced += eventsOf(story.world.trace, 'resv.add-fence').length;
        seen.faults += eventsOf(story.world.trace, 'attachment.map').length;
      }
      // The orders that matter were among them.
      expect(seen.refused).toBeGreaterThan(schedules / 10);
      expect(seen.fenced).toBeGreaterThan(schedules / 10);
      expect(seen.faults).toBeGreaterThan(2 * schedules);
    },
  );

  test('leaves pinned regions dead, which a new registration replaces (AC-15)', () => {
    for (let seed = 1; seed <= 500; seed += 1) {
      const story = new ResetStory({}, 'pinned-revocable', 1);
      story.world.expectClean(story.run(seed));
      expect(story.strays()).toEqual([]);
      for (const { status } of story.results) {
        expect(['success', 'remote-access-error']).toContain(status);
      }
      expect(statuses(story.afterwards)).toEqual(new Array(3).fill('remote-access-error'));
      expect(eventsOf(story.world.trace, 'attachment.map').length).toBe(2);
    }
  });

  test('gives the same trace for the same seed', () => {
    const [one, other] = [0, 0].map(() => {
      const story = new ResetStory();
      story.run(77);
      return story.world.trace;
    });
    expect(one).toEqual(other);
  });
});

/** Notes who took each step. */
class NotingStrategy implements Strategy {
  readonly name = 'noting';
  readonly who: string[] = [];
  private readonly inner: Strategy;

  constructor(inner: Strategy) {
    this.inner = inner;
  }

  pick(enabled: readonly Actor[], last: Actor | null): number {
    return this.inner.pick(enabled, last);
  }

  before({ name }: Actor): void {
    this.who.push(name);
  }
}

describe('a revocation', () => {
  /** Pieces of the longest access, its end, the signal and the hand-over to the worker. */
  const ENGINE_STEPS_MAX = Math.ceil(LENGTH / PATH_MTU) + 1 + 3;
  /** Takes the work, locks, looks at gate and mapping, and unmaps. */
  const WORKER_STEPS_MAX = 8;

  test('takes a bounded number of steps of the card (AC-13)', () => {
    const most = { engine: 0, worker: 0 };
    for (let seed = 1; seed <= 500; seed += 1) {
      const strategy = new NotingStrategy(new RandomStrategy(seed));
      const story = new ResetStory();
      story.run(seed, strategy);
      for (const { from, fence, unmap } of revocations(story)) {
        const engine = strategy.who.slice(from, fence).filter((name) => name === 'nic engine');
        const worker = strategy.who.slice(fence, unmap).filter((name) => name === 'kworker/nic');
        most.engine = Math.max(most.engine, engine.length);
        most.worker = Math.max(most.worker, worker.length);
      }
    }
    expect(most.engine).toBeGreaterThan(3);
    expect(most.engine).toBeLessThanOrEqual(ENGINE_STEPS_MAX);
    expect(most.worker).toBeGreaterThan(3);
    expect(most.worker).toBeLessThanOrEqual(WORKER_STEPS_MAX);
  });

  /** Of each fence: the steps at which it was made, signaled, and its region unmapped. */
  function* revocations({ world: { trace } }: ResetStory): Generator<{
    from: number;
    fence: number;
    unmap: number;
  }> {
    for (const init of eventsOf(trace, 'fence.init')) {
      const signal = eventsOf(trace, 'fence.signal').find(({ fence }) => fence === init.fence);
      const [begin] = eventsOf(trace, 'attachment.invalidate')
        .filter(({ phase, seq }) => phase === 'begin' && seq < init.seq)
        .slice(-1);
      const unmap = eventsOf(trace, 'attachment.unmap').find(
        ({ attachment, seq }) => attachment === begin?.attachment && seq > init.seq,
      );
      expect([signal, unmap]).not.toContain(undefined);
      yield { from: init.step, fence: signal?.step ?? 0, unmap: unmap?.step ?? 0 };
    }
  }
});

describe('a region that is registered while the drive is reset', () => {
  function* registerAndClose(world: World, isOver: Completion): Task {
    const { spdk, nic } = world;
    const fd = yield* world.exportCmb([{ offset: 0, length: PAGE_SIZE }]);
    for (const mode of MODES.filter((each) => each !== 'pinned')) {
      try {
        yield* world.register(fd, PAGE_SIZE, { mode });
      } catch (error) {
        world.seen.push((error as { code: string }).code);
      }
    }
    yield* isOver.wait();
    yield* nic.closeContext(spdk);
    yield* spdk.exit();
  }

  function* resetOnce({ vfio, spdk }: World, isOver: Completion): Task {
    yield* vfio.reset(spdk);
    yield* isOver.complete();
  }

  test('is either there or refused with ENODEV or EINVAL, and nothing is left of it', () => {
    const codes = new Map<unknown, number>();
    for (let seed = 1; seed <= 1000; seed += 1) {
      const world = new World({ isTraced: false });
      const isOver = new Completion(world.scheduler, 'over');
      world.user(registerAndClose(world, isOver));
      world.user(resetOnce(world, isOver), 'admin');
      world.expectClean(world.run(new RandomStrategy(seed)));
      for (const code of world.seen) codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    expect([...codes.keys()].toSorted()).toEqual(['EINVAL', 'ENODEV']);
  });
});

describe('a region that is deregistered during traffic', () => {
  class DeregStory {
    readonly world: World;
    readonly results: RdmaResult[] = [];
    private readonly mode: MrMode;
    private readonly registered: Completion;

    constructor(mode: MrMode) {
      this.world = new World({ nicOptions: { pathMtu: PATH_MTU } });
      this.mode = mode;
      this.registered = new Completion(this.world.scheduler, 'registered');
      this.world.user(this.program());
      this.world.user(this.admin(), 'admin');
      this.world.remote(this.initiator());
    }

    private *program(): Task {
      const { world, mode } = this;
      const { spdk, nic } = world;
      const fd = yield* world.exportCmb([{ offset: 0, length: CMB_SIZE }]);
      const region = yield* world.register(fd, CMB_SIZE, { mode });
      yield* world.register(fd, PAGE_SIZE);
      yield* spdk.close(fd);
      yield* this.registered.complete();
      yield* this.registered.complete();
      yield* nic.deregMr(spdk, region);
      yield* nic.closeContext(spdk);
    }

    private *admin(): Task {
      yield* this.registered.wait();
      yield* this.world.vfio.reset(this.world.spdk);
    }

    private *initiator(): Task {
      const { peer, regions } = this.world;
      yield* this.registered.wait();
      for (const { rkey } of [...regions, ...regions]) {
        this.results.push(yield* peer.write(rkey, IOVA, pattern(LENGTH)));
        this.results.push(yield* peer.read(rkey, IOVA, LENGTH));
      }
    }
  }

  test.each(['on-demand', 'pinned-revocable'] as const)(
    'and reset at once leaves nothing: %s',
    (mode) => {
      const seen = new Map<string, number>();
      for (let seed = 1; seed <= 1000; seed += 1) {
        const story = new DeregStory(mode);
        story.world.expectClean(story.world.run(new RandomStrategy(seed)));
        for (const { status } of story.results) seen.set(status, (seen.get(status) ?? 0) + 1);
        const transfers = story.world.trace.filter(({ kind }) => kind.startsWith('dma.'));
        const [freed] = eventsOf(story.world.trace, 'buffer.release');
        expect(transfers.at(-1)?.seq ?? 0).toBeLessThan(freed?.seq ?? 0);
      }
      expect([...seen.keys()].toSorted()).toEqual([
        'remote-access-error',
        'remote-operational-error',
        'success',
      ]);
    },
  );
});
