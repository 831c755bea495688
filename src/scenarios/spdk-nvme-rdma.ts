/**
 * The story of thread S003: a drive owned by user space lends its controller memory and its
 * doorbells to an RDMA card, and a remote peer drives it without a byte passing through RAM.
 */

import { BLOCK_SIZE, ioRead, ioWrite } from '../drivers/index.ts';
import type { P2pRoute } from '../framework/index.ts';
import { type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Scenario } from './scenario.ts';
import { expectSameBytes, payloadOf } from './spdk/initiator.ts';
import type { Hello } from './spdk/messages.ts';
import { SpdkStory } from './spdk/story.ts';

/** The story. */
export const spdkNvmeRdma: Scenario = defineScenario({
  id: 'spdk-nvme-rdma',
  title: 'a remote peer stores data on a drive through its controller memory',
  story:
    'SPDK owns an NVMe drive through VFIO and exports its controller memory and its doorbells; ' +
    'an RDMA card registers both. A remote peer writes data and a command into the memory and ' +
    'rings the doorbell; the drive stores the data, and the peer reads it back the same way. ' +
    'Where Linux sees no route between the two devices, the registration is refused.',
  machine: 'server-switch',
  roles: ['nvme-drive', 'network-card'],
  boot: (stage) => new StoreStory(stage),
});

const BLOCKS = 8;
const PAYLOAD = payloadOf(2003, BLOCKS * BLOCK_SIZE);
const LBA = 128;

class StoreStory extends SpdkStory {
  private readBack: Uint8Array | null = null;

  protected result({ mapType }: P2pRoute): string {
    const { target, readBack } = this;
    if (readBack === null) throw new WrongResult('nothing was read back');
    expectSameBytes('the media', target.drive.media.peek(LBA, BLOCKS), PAYLOAD);
    expectSameBytes('what the peer read back', readBack, PAYLOAD);
    return `stored and read back, ${mapType}`;
  }

  protected *whileLent(): Task {
    yield* this.target.serve(2);
    yield* this.target.nic.receiveMessage();
  }

  protected *visit(hello: Hello): Task {
    const { initiator, stage } = this;
    const range = { lba: LBA, blocks: BLOCKS, prp1: hello.dataForDrive, prp2: 0 };
    stage.note('writes the payload and a write command into the controller memory');
    yield* initiator.putData(hello, PAYLOAD);
    yield* initiator.execute(hello, ioWrite({ cid: 1, ...range }));
    stage.note('wipes the page and has the drive read the blocks back into it');
    yield* initiator.putData(hello, new Uint8Array(PAYLOAD.length));
    yield* initiator.execute(hello, ioRead({ cid: 2, ...range }));
    this.readBack = yield* initiator.getData(hello, PAYLOAD.length);
    yield* initiator.signal();
  }
}
