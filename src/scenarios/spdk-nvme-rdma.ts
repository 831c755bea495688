/**
 * The story of thread S003: a drive owned by user space lends its controller memory and its
 * doorbells to an RDMA card, and a remote peer drives it without a byte passing through RAM.
 */

import { DmaBufError } from '../base/index.ts';
import { BLOCK_SIZE, ioRead, ioWrite } from '../drivers/index.ts';
import { type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Ending, type Scenario, type Stage } from './scenario.ts';
import { expectSameBytes, payloadOf, SpdkInitiator } from './spdk/initiator.ts';
import { concludeRefusal, isReachable } from './spdk/refusal.ts';
import { SpdkTarget } from './spdk/target.ts';

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
  boot: (stage) => new SpdkStory(stage),
});

const BLOCKS = 8;
const PAYLOAD = payloadOf(2003, BLOCKS * BLOCK_SIZE);
const LBA = 128;

class SpdkStory implements Ending {
  private readonly stage: Stage;
  private readonly target: SpdkTarget;
  private readonly initiator: SpdkInitiator;
  private refusal: DmaBufError | null = null;
  private readBack: Uint8Array | null = null;

  constructor(stage: Stage) {
    this.stage = stage;
    this.target = new SpdkTarget(stage);
    this.initiator = new SpdkInitiator(this.target.peer);
    stage.scheduler.spawn(this.spdk(), { name: 'spdk', role: 'user' });
    stage.scheduler.spawn(this.remote(), { name: 'remote', role: 'remote' });
  }

  conclude(): string {
    const { target, stage, refusal, readBack } = this;
    const route = stage.routeBetween('nvme-drive', 'network-card');
    target.checkNothingLeft();
    if (refusal !== null) return concludeRefusal(route, refusal);
    if (!isReachable(route)) throw new WrongResult('not refused, though Linux sees no route');
    if (readBack === null) throw new WrongResult('nothing was read back');
    expectSameBytes('the media', target.drive.media.peek(LBA, BLOCKS), PAYLOAD);
    expectSameBytes('what the peer read back', readBack, PAYLOAD);
    return `stored and read back, ${route.mapType}`;
  }

  private *spdk(): Task {
    const { target } = this;
    yield* target.open();
    try {
      yield* target.lend();
      yield* target.serve(2);
      yield* target.nic.receiveMessage();
    } catch (error) {
      if (!(error instanceof DmaBufError)) throw error;
      this.refusal = error;
    }
    yield* target.exit();
  }

  private *remote(): Task {
    const { initiator, stage } = this;
    const hello = yield* initiator.greet();
    if (hello === null) return;
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
