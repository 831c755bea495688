/**
 * The same devices, and a reset in the middle: VFIO takes the memory back while a remote peer
 * writes into it, and gives it back. Nobody touches what was taken away, and traffic goes on
 * afterwards.
 */

import { BLOCK_SIZE, ioWrite } from '../drivers/index.ts';
import { type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Scenario } from './scenario.ts';
import { expectSameBytes, payloadOf } from './spdk/initiator.ts';
import type { Hello } from './spdk/messages.ts';
import { SpdkStory } from './spdk/story.ts';

/** The story. */
export const spdkResetDuringTraffic: Scenario = defineScenario({
  id: 'spdk-reset-during-traffic',
  title: 'a drive is reset while a remote peer writes into its controller memory',
  story:
    'While a remote peer writes into the controller memory of a drive, SPDK resets the drive. ' +
    'VFIO revokes the exported buffers, waits until the card has let go of them, resets, and ' +
    'restores. Requests in between are refused; afterwards the peer stores its data as if ' +
    'nothing had been.',
  machine: 'epyc-2s',
  roles: ['nvme-drive', 'network-card'],
  boot: (stage) => new ResetStory(stage),
});

const BLOCKS = 8;
const NOISE = payloadOf(1, BLOCKS * BLOCK_SIZE);
const PAYLOAD = payloadOf(2, BLOCKS * BLOCK_SIZE);
const LBA = 0;

/** Writes that are under way, or about to be, when the reset comes. */
const FLOOD_COUNT = 4;

class ResetStory extends SpdkStory {
  private refusedWrites: number | null = null;

  protected result(): string {
    const { target, refusedWrites } = this;
    if (refusedWrites === null) throw new WrongResult('the peer did not get to its end');
    expectSameBytes('the media', target.drive.media.peek(LBA, BLOCKS), PAYLOAD);
    return `restored; ${refusedWrites} of ${FLOOD_COUNT} writes were refused meanwhile`;
  }

  protected *whileLent(): Task {
    const { target, stage } = this;
    yield* target.nic.receiveMessage();
    stage.note('resets the drive');
    yield* target.vdev.reset(target.process);
    yield* target.initialise();
    yield* target.nic.postSend(new Uint8Array(1));
    yield* target.serve(1);
    yield* target.nic.receiveMessage();
  }

  protected *visit(hello: Hello): Task {
    const { initiator, stage } = this;
    stage.note(`writes ${FLOOD_COUNT} times and does not wait in between`);
    yield* initiator.signal();
    const refused = yield* initiator.flood(hello, FLOOD_COUNT, NOISE);
    yield* initiator.awaitSignal();
    initiator.forgetQueue();
    stage.note('the drive is back: stores the payload');
    yield* initiator.putData(hello, PAYLOAD);
    const range = { lba: LBA, blocks: BLOCKS, prp1: hello.dataForDrive };
    yield* initiator.execute(hello, ioWrite({ cid: 3, ...range }));
    this.refusedWrites = refused;
    yield* initiator.signal();
  }
}
