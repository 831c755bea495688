/**
 * A drive that is reset while a peer uses its memory. Thousands of random orders, each judged by
 * what the machine found, by what the peer was told, and by a monitor over the trace.
 */

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE, present } from '../../src/base/index.ts';
import type { MemoryRegion, MrMode } from '../../src/drivers/rdma-nic/memory-region.ts';
import { RdmaNic } from '../../src/drivers/rdma-nic/nic.ts';
import type { RdmaPacket } from '../../src/drivers/rdma-nic/packets.ts';
import { type RdmaResult, RemotePeer } from '../../src/drivers/rdma-nic/remote-peer.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import {
  type Actor,
  Completion,
  layWire,
  type MachineSpec,
  type Strategy,
  type Task,
} from '../../src/machine/index.ts';
import { CMB_SIZE, LENGTH, PATH_MTU, ResetStory, statuses } from './rdma-nic-reset-story.ts';
import { strayAccesses } from './rdma-nic-silence.ts';
import {
  ALL_ACCESS,
  BRIDGES,
  CMB_BAR,
  eventsOf,
  IOVA,
  MODES,
  pattern,
  SWITCH,
  World,
} from './rdma-nic-world.ts';

describe('a reset during traffic', () => {
  test.each([
    ['a switch', SWITCH, 2000],
    ['host bridges with an IOMMU', BRIDGES, 500],
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

  test('leaves pinned regions dead and mapped nowhere (AC-15)', () => {
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

describe('a pinned region that a reset killed', () => {
  function* registerAnew({ world, results }: ResetRecord): Task {
    const { vfio, spdk, nic, peer } = world;
    const fd = yield* world.exportCmb([{ offset: 0, length: CMB_SIZE }]);
    const dead = yield* world.register(fd, CMB_SIZE, { mode: 'pinned-revocable' });
    results.push(yield* peer.write(dead.rkey, IOVA, pattern(LENGTH)));
    yield* vfio.reset(spdk);
    results.push(yield* peer.read(dead.rkey, IOVA, LENGTH));
    yield* nic.deregMr(spdk, dead);
    const alive = yield* world.register(fd, CMB_SIZE, { mode: 'pinned-revocable' });
    results.push(yield* peer.write(alive.rkey, IOVA, pattern(LENGTH)));
    results.push(yield* peer.read(alive.rkey, IOVA, LENGTH));
    yield* nic.closeContext(spdk);
    yield* spdk.exit();
  }

  test('is replaced by a new registration (AC-15)', () => {
    const record: ResetRecord = { world: new World(), results: [] };
    record.world.user(registerAnew(record));
    record.world.expectClean(record.world.run());
    const expected = ['success', 'remote-access-error', 'success', 'success'];
    expect(statuses(record.results)).toEqual(expected);
    expect(record.results.at(-1)?.bytes).toEqual(pattern(LENGTH));
  });
});

/** A world and what its peer was told. */
interface ResetRecord {
  readonly world: World;
  readonly results: RdmaResult[];
}

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
  /** The unmap, behind at most one page fault of another connection. */
  const WORKER_STEPS_MAX = 24;

  test('takes a bounded number of steps of the card (AC-13)', () => {
    const most = { engine: 0, worker: 0 };
    for (let seed = 1; seed <= 500; seed += 1) {
      const strategy = new NotingStrategy(new RandomStrategy(seed));
      const story = new ResetStory();
      story.run(seed, strategy);
      for (const { from, fence, unmap, signaler } of revocations(story)) {
        const engine = strategy.who.slice(from, fence).filter((name) => name === signaler);
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
    signaler: string;
  }> {
    for (const init of eventsOf(trace, 'fence.init')) {
      const signal = eventsOf(trace, 'fence.signal').find(({ fence }) => fence === init.fence);
      const [begin] = eventsOf(trace, 'attachment.invalidate')
        .filter(({ phase, seq }) => phase === 'begin' && seq < init.seq)
        .slice(-1);
      const unmap = eventsOf(trace, 'attachment.unmap').find(
        ({ attachment, seq }) => attachment === begin?.attachment && seq > init.seq,
      );
      const { step: fence, task: signaler } = present(signal, 'the signal of a fence');
      yield { from: init.step, fence, signaler, unmap: present(unmap, 'the unmap').step };
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
    // EINVAL, revoked between attach and map, is one schedule in thousands.
    expect(codes.get('ENODEV')).toBeGreaterThan(0);
    expect(['EINVAL', 'ENODEV']).toEqual(expect.arrayContaining([...codes.keys()]));
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
      this.world.remote(this.initiator(this.world.peer));
      this.world.remote(this.initiator(this.world.secondPeer), 'second initiator');
    }

    private *program(): Task {
      const { world, mode } = this;
      const { spdk, nic } = world;
      const fd = yield* world.exportCmb([{ offset: 0, length: CMB_SIZE }]);
      const region = yield* world.register(fd, CMB_SIZE, { mode });
      yield* world.register(fd, PAGE_SIZE);
      yield* spdk.close(fd);
      for (let i = 0; i < 3; i += 1) yield* this.registered.complete();
      yield* nic.deregMr(spdk, region);
      yield* nic.closeContext(spdk);
    }

    private *admin(): Task {
      yield* this.registered.wait();
      yield* this.world.vfio.reset(this.world.spdk);
    }

    private *initiator(peer: RemotePeer): Task {
      const { regions } = this.world;
      yield* this.registered.wait();
      for (const { rkey } of regions) {
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

describe('two cards that share a buffer', () => {
  class TwoCards {
    readonly world: World;
    private readonly second: RdmaNic;
    private readonly peers: readonly RemotePeer[];
    private readonly registered: Completion;
    private readonly over: Completion;

    constructor() {
      this.world = new World({ spec: BRIDGES, nicOptions: { pathMtu: PATH_MTU } });
      const { kernel, scheduler, peer } = this.world;
      const [near, far] = layWire<RdmaPacket>(scheduler, 'other wire', 'other peer');
      const fn = kernel.machine.function('0000:81:00.0');
      this.second = new RdmaNic(kernel, fn, near, { name: 'other', pathMtu: PATH_MTU });
      this.peers = [peer, new RemotePeer(far)];
      this.registered = new Completion(scheduler, 'registered');
      this.over = new Completion(scheduler, 'over');
      this.world.user(this.program());
      this.world.user(this.admin(), 'admin');
      for (let i = 0; i < 2; i += 1) this.world.remote(this.initiator(i), `initiator ${i}`);
    }

    private *program(): Task {
      const { world, second } = this;
      const { spdk, nic, regions } = world;
      const fd = yield* world.exportCmb([{ offset: 0, length: CMB_SIZE }]);
      const request = { fd, offset: 0, length: CMB_SIZE, iova: IOVA, access: ALL_ACCESS };
      for (const card of [nic, second]) regions.push(yield* card.regDmabufMr(spdk, request));
      for (let i = 0; i < 3; i += 1) yield* this.registered.complete();
      for (let i = 0; i < 3; i += 1) yield* this.over.wait();
      for (const card of [nic, second]) yield* card.closeContext(spdk);
      yield* spdk.exit();
    }

    private *admin(): Task {
      yield* this.registered.wait();
      yield* this.world.vfio.reset(this.world.spdk);
      yield* this.over.complete();
    }

    private *initiator(i: number): Task {
      const peer = this.peers[i] as RemotePeer;
      yield* this.registered.wait();
      const rkey = this.world.regions[i]?.rkey ?? 0;
      for (let k = 0; k < 3; k += 1) yield* peer.write(rkey, IOVA, pattern(LENGTH));
      yield* this.over.complete();
    }
  }

  test('are both stopped, waited for and brought back by one reset', () => {
    let fencedTwice = 0;
    for (let seed = 1; seed <= 500; seed += 1) {
      const { world } = new TwoCards();
      world.expectClean(world.run(new RandomStrategy(seed)));
      const [{ umem }] = world.regions as [MemoryRegion];
      const bar = `${world.driveFn.name} BAR${CMB_BAR}`;
      const monitored = { buffer: umem.dmabuf.number, bar, offset: 0, length: CMB_SIZE };
      expect(strayAccesses(world.trace, [monitored])).toEqual([]);
      if (eventsOf(world.trace, 'resv.add-fence').length === 2) fencedTwice += 1;
    }
    expect(fencedTwice).toBeGreaterThan(0);
  });
});
