/**
 * Memory that its exporter moves while a peer uses it: every read after a write finds what was
 * written, wherever the memory is by then. The exporter waits for fences only, not for unmaps, and
 * leaves the copying to a worker and a KERNEL fence; so page faults, late unmaps and copies meet in
 * every way.
 */

import { describe, expect, test } from 'vitest';
import { type DmaAddr, type DmaDirection, PAGE_SIZE, type PhysAddr } from '../../src/base/index.ts';
import type { MrMode } from '../../src/drivers/rdma-nic/memory-region.ts';
import type { RemotePeer } from '../../src/drivers/rdma-nic/remote-peer.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  DmaFence,
  dmaMapPhys,
  dmaUnmapPhys,
  type SgTable,
  WorkQueue,
} from '../../src/framework/index.ts';
import { Completion, Shared, type Task } from '../../src/machine/index.ts';
import { BRIDGES, eventsOf, IOVA, pattern, World } from './rdma-nic-world.ts';

/** Two places of one page; the memory is at one of them. */
type Place = 0 | 1;

/** What unmapping needs, too. */
interface PlacedTable extends SgTable {
  readonly place: Place;
  readonly address: DmaAddr;
}

/** Lends a page of RAM and moves it to and fro. */
class FakeMover implements DmaBufOps<FakeMover> {
  readonly moves: Completion;
  private readonly world: World;
  private readonly phys: PhysAddr[] = [];
  /** Guarded by the reservation, as is {@link pins}. */
  private readonly place: Shared<Place>;
  private readonly pins: Shared<number>;
  private readonly copier: WorkQueue;
  private fences = 0;

  constructor(world: World) {
    const { scheduler } = world;
    this.world = world;
    this.place = new Shared<Place>(scheduler, 'place', 0);
    this.pins = new Shared<number>(scheduler, 'pins', 0);
    this.moves = new Completion(scheduler, 'moves');
    this.copier = new WorkQueue(scheduler, 'kworker/copier');
  }

  *export(): Task<DmaBuf> {
    const { kernel } = this.world;
    for (let place = 0; place < 2; place += 1) {
      this.phys.push((yield* kernel.machine.memory.allocate(1)) as PhysAddr);
    }
    const info = { exporterName: 'fake', ops: this, size: PAGE_SIZE, priv: this };
    return (yield* DmaBuf.export(kernel, info)) as DmaBuf;
  }

  /** Moves the memory if nobody has pinned it. The old place may still be mapped afterwards. */
  *move(dmabuf: DmaBuf): Task {
    const { resv } = dmabuf;
    yield* resv.lock();
    if ((yield* this.pins.read()) === 0) {
      // Twice: the second one finds accesses under way that the first has covered.
      yield* dmabuf.invalidateMappings();
      yield* dmabuf.invalidateMappings();
      // Accesses under way, and the copy before this one.
      yield* resv.wait('bookkeep');
      const from = yield* this.place.read();
      yield* this.place.write(from === 0 ? 1 : 0);
      const fence = this.nextFence();
      yield* resv.reserveFences(1);
      yield* resv.addFence(fence, 'kernel');
      yield* this.copier.queue(() => this.copy(from, fence));
    }
    yield* resv.unlock();
  }

  *pin(): Task {
    yield* this.pins.write((yield* this.pins.read()) + 1);
  }

  *unpin(): Task {
    yield* this.pins.write((yield* this.pins.read()) - 1);
  }

  *mapDmaBuf({ device }: Attachment<FakeMover>, direction: DmaDirection): Task<PlacedTable> {
    const place = yield* this.place.read();
    const { machine } = this.world.kernel;
    const address = yield* dmaMapPhys(machine, device, this.range(place), direction, 'ram');
    return { place, address, entries: [{ address, length: PAGE_SIZE }] };
  }

  *unmapDmaBuf({ device }: Attachment<FakeMover>, table: SgTable, direction: DmaDirection): Task {
    const { place, address } = table as PlacedTable;
    const { machine } = this.world.kernel;
    yield* dmaUnmapPhys(machine, device, address, this.range(place), direction, 'ram');
  }

  *release(): Task {
    const { memory } = this.world.kernel.machine;
    for (const phys of this.phys) yield* memory.free(phys, 1);
  }

  private range(place: Place): { phys: PhysAddr; size: number } {
    return { phys: this.phys[place] as PhysAddr, size: PAGE_SIZE };
  }

  private nextFence(): DmaFence {
    this.fences += 1;
    const origin = { driver: 'fake', timeline: 'moves', context: 1000, seqno: this.fences };
    return new DmaFence(this.world.kernel, origin);
  }

  private *copy(from: Place, fence: DmaFence): Task {
    const { cpu } = this.world.kernel.machine;
    const bytes = yield* cpu.load(this.phys[from] as PhysAddr, PAGE_SIZE);
    yield* cpu.store(this.phys[from === 0 ? 1 : 0] as PhysAddr, bytes);
    yield* fence.signal();
    yield* this.moves.complete();
  }
}

const MOVES = 3;
const LENGTH = 200;

class MoveStory {
  readonly world: World;
  readonly read: (readonly [Uint8Array, Uint8Array])[] = [];
  private readonly mode: MrMode;
  private readonly mover: FakeMover;
  private readonly registered: Completion;
  private readonly over: Completion;

  constructor(mode: MrMode) {
    this.world = new World({ spec: BRIDGES, nicOptions: { pathMtu: 64 } });
    this.mode = mode;
    this.mover = new FakeMover(this.world);
    this.registered = new Completion(this.world.scheduler, 'registered');
    this.over = new Completion(this.world.scheduler, 'over');
    this.world.user(this.program());
    this.world.remote(this.initiator(this.world.peer, IOVA));
    this.world.remote(this.initiator(this.world.secondPeer, IOVA + 0x800), 'second initiator');
  }

  private *program(): Task {
    const { world, mover, mode } = this;
    const dmabuf = yield* mover.export();
    const fd = yield* dmabuf.fd(world.spdk);
    yield* world.register(fd, PAGE_SIZE, { mode });
    for (let i = 0; i < 2; i += 1) yield* this.registered.complete();
    for (let i = 0; i < MOVES; i += 1) yield* mover.move(dmabuf);
    if (mode === 'on-demand') for (let i = 0; i < MOVES; i += 1) yield* mover.moves.wait();
    for (let i = 0; i < 2; i += 1) yield* this.over.wait();
    yield* world.nic.closeContext(world.spdk);
    yield* world.spdk.exit();
  }

  private *initiator(peer: RemotePeer, start: number): Task {
    yield* this.registered.wait();
    const rkey = this.world.regions[0]?.rkey ?? 0;
    for (let i = 0; i < 3; i += 1) {
      const bytes = pattern(LENGTH, i);
      const { status } = yield* peer.write(rkey, start + i, bytes);
      expect(status).toBe('success');
      const result = yield* peer.read(rkey, start + i, LENGTH);
      expect(result.status).toBe('success');
      this.read.push([result.bytes, bytes]);
    }
    yield* this.over.complete();
  }
}

describe('memory that moves under a region', () => {
  test('on demand is found wherever it is, and no access comes too late', () => {
    let fences = 0;
    for (let seed = 1; seed <= 600; seed += 1) {
      const story = new MoveStory('on-demand');
      story.world.expectClean(story.world.run(new RandomStrategy(seed)));
      for (const [read, written] of story.read) expect(read).toEqual(written);
      fences += eventsOf(story.world.trace, 'resv.add-fence').length - MOVES;
    }
    expect(fences).toBeGreaterThan(150);
  });

  test('pinned stays where it is', () => {
    for (const mode of ['pinned', 'pinned-revocable'] as const) {
      for (let seed = 1; seed <= 100; seed += 1) {
        const story = new MoveStory(mode);
        story.world.expectClean(story.world.run(new RandomStrategy(seed)));
        for (const [read, written] of story.read) expect(read).toEqual(written);
        expect(eventsOf(story.world.trace, 'attachment.map').length).toBe(1);
        expect(eventsOf(story.world.trace, 'attachment.pin').length).toBe(1);
        expect(eventsOf(story.world.trace, 'attachment.unpin').length).toBe(1);
      }
    }
  });
});
