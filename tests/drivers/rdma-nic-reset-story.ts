/** A story for the tests: a drive is reset while a peer uses its buffer memory and its doorbell. */

import { PAGE_SIZE } from '../../src/base/index.ts';
import type { MrMode } from '../../src/drivers/rdma-nic/memory-region.ts';
import type { RdmaResult } from '../../src/drivers/rdma-nic/remote-peer.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import { Completion, type Outcome, type Strategy, type Task } from '../../src/machine/index.ts';
import { strayAccesses } from './rdma-nic-silence.ts';
import {
  CMB_BAR,
  DOORBELL_OFFSET,
  IOVA,
  pattern,
  World,
  type WorldOptions,
} from './rdma-nic-world.ts';

/** Bytes of buffer memory that are shared. */
export const CMB_SIZE: number = 2 * PAGE_SIZE;
/** So that an access of {@link LENGTH} bytes is four pieces. */
export const PATH_MTU = 64;
/** Bytes of an access. */
export const LENGTH = 250;

/** Two connections use the drive's BARs while it is reset; then one of them tries again. */
export class ResetStory {
  readonly world: World;
  readonly results: RdmaResult[] = [];
  readonly afterwards: RdmaResult[] = [];
  private readonly mode: MrMode;
  private readonly registered: Completion;
  private readonly isReset: Completion;
  private readonly trafficOver: Completion;
  private readonly again: Completion;
  private readonly over: Completion;

  constructor(options: WorldOptions = {}, mode: MrMode = 'on-demand', resets = 2) {
    const world = new World({ nicOptions: { pathMtu: PATH_MTU }, ...options });
    const { scheduler } = world;
    this.world = world;
    this.mode = mode;
    this.registered = new Completion(scheduler, 'registered');
    this.isReset = new Completion(scheduler, 'reset');
    this.trafficOver = new Completion(scheduler, 'traffic over');
    this.again = new Completion(scheduler, 'again');
    this.over = new Completion(scheduler, 'over');
    world.user(this.program());
    world.user(this.admin(resets), 'admin');
    world.remote(this.initiator());
    world.remote(this.secondInitiator(), 'second initiator');
  }

  run(seed: number, strategy: Strategy = new RandomStrategy(seed)): Outcome {
    return this.world.run(strategy);
  }

  /** Accesses to the drive that its owner could not expect. */
  strays(): readonly string[] {
    const { trace, driveFn, regions } = this.world;
    const [cmb, doorbell] = regions.map(({ umem }) => umem.dmabuf.number) as [number, number];
    return strayAccesses(trace, [
      { buffer: cmb, bar: `${driveFn.name} BAR${CMB_BAR}`, offset: 0, length: CMB_SIZE },
      {
        buffer: doorbell,
        bar: `${driveFn.name} BAR0`,
        offset: DOORBELL_OFFSET,
        length: PAGE_SIZE,
      },
    ]);
  }

  private *program(): Task {
    const { world, mode } = this;
    const { spdk, nic } = world;
    const cmb = yield* world.exportCmb([{ offset: 0, length: CMB_SIZE }]);
    const doorbell = yield* world.exportDoorbell();
    yield* world.register(cmb, CMB_SIZE, { mode });
    yield* world.register(doorbell, PAGE_SIZE, { mode });
    for (let i = 0; i < 3; i += 1) yield* this.registered.complete();
    yield* this.isReset.wait();
    for (let i = 0; i < 2; i += 1) yield* this.trafficOver.wait();
    yield* this.again.complete();
    yield* this.over.wait();
    yield* nic.closeContext(spdk);
    yield* spdk.exit();
  }

  private *admin(resets: number): Task {
    const { vfio, spdk } = this.world;
    yield* this.registered.wait();
    for (let i = 0; i < resets; i += 1) yield* vfio.reset(spdk);
    yield* this.isReset.complete();
  }

  private *initiator(): Task {
    const { peer, regions } = this.world;
    yield* this.registered.wait();
    const [cmb, doorbell] = regions.map(({ rkey }) => rkey) as [number, number];
    for (let i = 0; i < 2; i += 1) {
      const psns = [
        yield* peer.postWrite(cmb, IOVA + PAGE_SIZE - 100, pattern(LENGTH)),
        yield* peer.postWrite(doorbell, IOVA, Uint8Array.of(1, 0, 0, 0)),
        yield* peer.postRead(cmb, IOVA + 8, LENGTH),
      ];
      for (const psn of psns) this.results.push(yield* peer.completion(psn));
    }
    yield* this.trafficOver.complete();
    yield* this.again.wait();
    this.afterwards.push(
      yield* peer.write(cmb, IOVA, pattern(LENGTH)),
      yield* peer.read(cmb, IOVA, LENGTH),
      yield* peer.write(doorbell, IOVA, Uint8Array.of(2, 0, 0, 0)),
    );
    yield* this.over.complete();
  }

  /** Accesses of this connection are under way at the same time as those of the other. */
  private *secondInitiator(): Task {
    const { secondPeer, regions } = this.world;
    yield* this.registered.wait();
    const rkey = regions[0]?.rkey ?? 0;
    for (let i = 0; i < 3; i += 1) {
      this.results.push(yield* secondPeer.write(rkey, IOVA + 0x1800, pattern(LENGTH)));
    }
    yield* this.trafficOver.complete();
  }
}

/** How requests ended. */
export function statuses(results: readonly RdmaResult[]): readonly string[] {
  return results.map(({ status }) => status);
}
