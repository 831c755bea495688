/**
 * The owner goes away in the middle: SPDK ends while a remote peer writes into the memory that it
 * lent. Regions, descriptors and the device go, in whatever order the traffic leaves them.
 */

import { PAGE_SIZE } from '../base/index.ts';
import { type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Scenario } from './scenario.ts';
import { payloadOf } from './spdk/initiator.ts';
import type { Hello } from './spdk/messages.ts';
import { SpdkStory } from './spdk/story.ts';

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

class ExitStory extends SpdkStory {
  private refusedWrites: number | null = null;

  protected result(): string {
    const { refusedWrites } = this;
    if (refusedWrites === null) throw new WrongResult('the peer did not get to its end');
    return `nothing is left; ${refusedWrites} of ${FLOOD_COUNT} writes were refused`;
  }

  protected *whileLent(): Task {
    yield* this.target.nic.receiveMessage();
    this.stage.note('ends');
  }

  protected *visit(hello: Hello): Task {
    const { initiator } = this;
    yield* initiator.signal();
    this.refusedWrites = yield* initiator.flood(hello, FLOOD_COUNT, payloadOf(3, PAGE_SIZE));
  }
}
