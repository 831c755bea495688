/**
 * The local half of the SPDK stories: a process that owns a drive through VFIO, and a network card
 * to which it lends the drive's controller memory and doorbells.
 */

import { isDmaBufError, PAGE_SIZE, present } from '../../base/index.ts';
import {
  ACCESS_LOCAL_WRITE,
  ACCESS_REMOTE_READ,
  ACCESS_REMOTE_WRITE,
  COMMAND_SIZE,
  type DriverLayout,
  NvmeController,
  NvmeDriver,
  type QueueMemory,
  type QueuePair,
  RdmaNic,
  type RdmaPacket,
  REGISTER_PAGE_SIZE,
  RemotePeer,
  tailDoorbell,
  VfioContainer,
  VfioPciDevice,
} from '../../drivers/index.ts';
import { Process } from '../../framework/index.ts';
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  layWire,
  type Task,
  WrongResult,
} from '../../machine/index.ts';
import type { Stage } from '../scenario.ts';
import { encodeDone, encodeHello, type Hello } from './messages.ts';
import { PinnedPage, VfioAccess } from './vfio-access.ts';

/** Where the drive finds its controller memory: no address of anything that it reaches by DMA. */
const CMB_BASE = 2 ** 40;

/** Pages of the controller memory: queue and data are what the peer uses. */
const QUEUE_PAGE = 0;
const DATA_PAGE = 1;
const LENT_PAGES = 2;
/** Pages that the other queues take, if there is room for them: admin twice, I/O completions. */
const PRIVATE_PAGES = 3;

/** Entries of each queue: a page of commands. */
const QUEUE_ENTRIES: number = PAGE_SIZE / COMMAND_SIZE;

/** Where the drive finds pages of the process, with an IOMMU. */
const FIRST_IOVA = 0x10_0000;

/** Where the regions begin, in their own addresses; any page-aligned number will do. */
const MEMORY_ADDRESS = 0x1000_0000;
const DOORBELL_ADDRESS = 0x2000_0000;

const REMOTE_ACCESS = ACCESS_LOCAL_WRITE | ACCESS_REMOTE_READ | ACCESS_REMOTE_WRITE;

/** A greeting that says: no memory. */
export const REFUSED: Hello = {
  memoryKey: 0,
  doorbellKey: 0,
  memoryAddress: 0,
  doorbellAddress: 0,
  queueOffset: 0,
  dataOffset: 0,
  dataForDrive: 0,
  queueEntries: 0,
  tailDoorbell: 0,
};

/** SPDK, the drive and the card. */
export class SpdkTarget {
  readonly drive: NvmeController;
  readonly vdev: VfioPciDevice;
  readonly nic: RdmaNic;
  /** The far end of the card's cable. */
  readonly peer: RemotePeer;
  readonly process: Process;
  private readonly stage: Stage;
  private readonly container: VfioContainer;
  private readonly access: VfioAccess;
  private readonly pinned: PinnedPage[] = [];
  private io: QueuePair | null = null;

  /** @context At boot: drivers bind, engines start. */
  constructor(stage: Stage) {
    const { machine, kernel, scheduler, cast } = stage;
    const drive = machine.function(present(cast['nvme-drive'], 'a drive'));
    const card = machine.function(present(cast['network-card'], 'a card'));
    const [near, far] = layWire<RdmaPacket>(scheduler, 'nic', 'peer');
    this.stage = stage;
    this.drive = new NvmeController(drive);
    this.drive.spawn(scheduler);
    this.container = new VfioContainer(drive);
    this.vdev = new VfioPciDevice(kernel, drive);
    this.access = new VfioAccess(this.vdev);
    this.nic = new RdmaNic(kernel, card, near);
    this.peer = new RemotePeer(far);
    this.process = new Process(kernel, 'spdk');
  }

  /** Opens the drive and brings it up. */
  *open(): Task {
    yield* this.vdev.open();
    yield* this.vdev.writeCommand(this.process, COMMAND_MEMORY | COMMAND_BUS_MASTER);
    yield* this.initialise();
  }

  /** Brings the drive up, at first and after a reset: queues are where they were. */
  *initialise(): Task {
    const driver = new NvmeDriver(this.access);
    this.io = yield* driver.initialise(yield* this.layout(driver));
    this.stage.note('the drive is up; its submission queue is in its controller memory');
  }

  /**
   * Exports controller memory and doorbells and registers both with the card, then greets the peer.
   *
   * @throws {@link DmaBufError} the kernel refused; the peer has been told so.
   */
  *lend(): Task {
    const { drive, nic, process, stage } = this;
    const { bar, offset } = present(drive.cmb, 'controller memory').place;
    try {
      const memory = yield* this.lendRange(bar, offset, LENT_PAGES * PAGE_SIZE, MEMORY_ADDRESS);
      const bells = yield* this.lendRange(0, REGISTER_PAGE_SIZE, PAGE_SIZE, DOORBELL_ADDRESS);
      stage.note('controller memory and doorbells are registered with the card');
      yield* nic.postSend(encodeHello(greeting(memory, bells)));
    } catch (error) {
      if (isDmaBufError(error)) {
        stage.note(`the kernel refuses: ${error.code}`);
        yield* nic.closeContext(process);
        yield* nic.postSend(encodeHello(REFUSED));
      }
      throw error;
    }
  }

  /** Waits for `count` commands to be done, and tells the peer of each. */
  *serve(count: number): Task {
    for (let i = 0; i < count; i += 1) {
      const { cid, status } = yield* present(this.io, 'the I/O queues').pollCompletion();
      this.stage.note(`command ${cid}: ${status}`);
      yield* this.nic.postSend(encodeDone({ cid, isSuccess: status === 'success' }));
    }
  }

  /** The end of the process: regions, descriptors, device, in the order of a well-kept program. */
  *exit(): Task {
    const { nic, process, vdev } = this;
    yield* nic.closeContext(process);
    yield* process.exit();
    yield* vdev.close(process);
  }

  /** Throws unless nothing of what was lent is left. */
  checkNothingLeft(): void {
    const { kernel, machine } = this.stage;
    if (kernel.bufferList.value !== 0) throw new WrongResult('a buffer was never released');
    if (this.vdev.dmabufs.value.length > 0) throw new WrongResult('VFIO still lists a buffer');
    if (machine.memory.pagesInUse > 0) throw new WrongResult('pages were not given back');
  }

  private *lendRange(bar: number, offset: number, length: number, iova: number): Task<number> {
    const ranges = [{ offset, length }];
    const fd = yield* this.vdev.featureDmaBuf(this.process, { regionIndex: bar, ranges });
    const request = { fd, offset: 0, length, iova, access: REMOTE_ACCESS };
    return (yield* this.nic.regDmabufMr(this.process, request)).rkey;
  }

  /**
   * All queues in the controller memory if they fit, else those that only the drive and we use in
   * RAM.
   */
  private *layout(driver: NvmeDriver): Task<DriverLayout> {
    const pages = present(this.drive.cmb, 'controller memory').place.size / PAGE_SIZE;
    const fits = pages >= LENT_PAGES + PRIVATE_PAGES;
    const place: QueueMemory[] = [];
    for (let i = 0; i < PRIVATE_PAGES; i += 1) {
      const offset = (LENT_PAGES + i) * PAGE_SIZE;
      place.push(fits ? driver.cmbMemory(CMB_BASE, offset) : yield* this.pinnedPage(i));
    }
    const [adminSubmission, adminCompletion, ioCompletion] = place as [
      QueueMemory,
      QueueMemory,
      QueueMemory,
    ];
    const entries = QUEUE_ENTRIES;
    const submission = driver.cmbMemory(CMB_BASE, QUEUE_PAGE * PAGE_SIZE);
    return {
      admin: { entries, submission: adminSubmission, completion: adminCompletion },
      io: { entries, submission, completion: ioCompletion, vector: 1 },
      cmbBase: CMB_BASE,
    };
  }

  /** A page of the process, the same one after a reset. */
  private *pinnedPage(index: number): Task<PinnedPage> {
    const known = this.pinned[index];
    if (known !== undefined) return known;
    const iova = FIRST_IOVA + index * PAGE_SIZE;
    const made = yield* PinnedPage.allocate(this.process, this.container, iova);
    this.pinned.push(made);
    return made;
  }
}

function greeting(memoryKey: number, doorbellKey: number): Hello {
  return {
    memoryKey,
    doorbellKey,
    memoryAddress: MEMORY_ADDRESS,
    doorbellAddress: DOORBELL_ADDRESS,
    queueOffset: QUEUE_PAGE * PAGE_SIZE,
    dataOffset: DATA_PAGE * PAGE_SIZE,
    dataForDrive: CMB_BASE + DATA_PAGE * PAGE_SIZE,
    queueEntries: QUEUE_ENTRIES,
    tailDoorbell: tailDoorbell(1) - REGISTER_PAGE_SIZE,
  };
}
