/**
 * The owner goes away in the middle: SPDK ends while a remote peer writes into the memory that it
 * lent. Regions, descriptors and the device go, in whatever order the traffic leaves them.
 */

import { DmaBufError, PAGE_SIZE } from '../base/index.ts';
import { type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Ending, type Scenario, type Stage } from './scenario.ts';
import { payloadOf, SpdkInitiator } from './spdk/initiator.ts';
import { concludeRefusal } from './spdk/refusal.ts';
import { SpdkTarget } from './spdk/target.ts';

/** The story. */
export const spdkExitsDuringTraffic: Scenario = defineScenario({
  id: 'spdk-exits-during-traffic',
  title: 'the process that lent the memory ends while a remote peer writes into it',
  story:
    'SPDK lends controller memory to an RDMA card and ends, without a word to the peer that is ' +
    'writing into it. What is under way is finished, the rest is refused, and nothing is left ' +
    'behind.',
  machine: 'server-switch',
  roles: ['nvme-drive', 'network-card'],
  boot: (stage) => new ExitStory(stage),
});

/** Writes that are under way, or about to be, when the process ends. */
const FLOOD_COUNT = 3;

class ExitStory implements Ending {
  private readonly stage: Stage;
  private readonly target: SpdkTarget;
  private readonly initiator: SpdkInitiator;
  private refusal: DmaBufError | null = null;
  private refusedWrites: number | null = null;

  constructor(stage: Stage) {
    this.stage = stage;
    this.target = new SpdkTarget(stage);
    this.initiator = new SpdkInitiator(this.target.peer);
    stage.scheduler.spawn(this.spdk(), { name: 'spdk', role: 'user' });
    stage.scheduler.spawn(this.remote(), { name: 'remote', role: 'remote' });
  }

  conclude(): string {
    const { target, stage, refusal, refusedWrites } = this;
    target.checkNothingLeft();
    if (refusal !== null) {
      return concludeRefusal(stage.routeBetween('nvme-drive', 'network-card'), refusal);
    }
    if (refusedWrites === null) throw new WrongResult('the peer did not get to its end');
    return `nothing is left; ${refusedWrites} of ${FLOOD_COUNT} writes were refused`;
  }

  private *spdk(): Task {
    const { target, stage } = this;
    yield* target.open();
    try {
      yield* target.lend();
      yield* target.nic.receiveMessage();
      stage.note('ends');
    } catch (error) {
      if (!(error instanceof DmaBufError)) throw error;
      this.refusal = error;
    }
    yield* target.exit();
  }

  private *remote(): Task {
    const { initiator } = this;
    const hello = yield* initiator.greet();
    if (hello === null) return;
    yield* initiator.signal();
    this.refusedWrites = yield* initiator.flood(hello, FLOOD_COUNT, payloadOf(3, PAGE_SIZE));
  }
}
