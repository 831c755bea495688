import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import {
  decodeCompletion,
  encodeCommand,
  flush,
  identifyController,
  ioRead,
  ioWrite,
} from '../../src/drivers/nvme/commands.ts';
import type { QueueMemory } from '../../src/drivers/nvme/controller-access.ts';
import type { QueuePair } from '../../src/drivers/nvme/queue-pair.ts';
import { tailDoorbell } from '../../src/drivers/nvme/registers.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import { type Task, WrongResult } from '../../src/machine/index.ts';
import {
  bar0Only,
  CMB_BASE,
  DirectAccess,
  NvmeRig,
  PeerWriter,
  pattern,
  type Session,
  sameBytes,
} from './nvme-rig.ts';

/** Writes a page from `data`, clears it, reads the page back, and returns what came. */
function* throughTheDrive(io: QueuePair, data: QueueMemory, lba: number): Task<Uint8Array> {
  const where = { lba, blocks: 8, prp1: data.deviceAddress };
  yield* data.write(0, pattern(PAGE_SIZE, lba));
  const written = yield* io.execute(ioWrite({ cid: 10, ...where }));
  yield* data.write(0, new Uint8Array(PAGE_SIZE));
  const read = yield* io.execute(ioRead({ cid: 11, ...where }));
  expect([written.status, read.status, written.cid, read.cid]).toEqual([
    'success',
    'success',
    10,
    11,
  ]);
  return yield* data.read(0, PAGE_SIZE);
}

function dmaOf(rig: NvmeRig): readonly string[] {
  return rig.events
    .filter((event) => event.kind === 'dma.read' || event.kind === 'dma.write')
    .map((event) => event.kind);
}

describe('a drive with its queues in host memory', () => {
  for (const iommu of ['off', 'translated'] as const) {
    test(`stores what is written and reads it back, IOMMU ${iommu}`, () => {
      const rig = new NvmeRig({ iommu });
      function* story(): Task<Uint8Array> {
        const { io } = yield* rig.bringUp('host');
        return yield* throughTheDrive(io, yield* rig.hostMemory(1), 3);
      }
      const actor = rig.user(story());
      const outcome = rig.run();
      expect(outcome).toMatchObject({ status: 'done', findings: [] });
      expect(actor.result).toEqual(pattern(PAGE_SIZE, 3));
      expect(rig.blocks(3, 8)).toEqual(pattern(PAGE_SIZE, 3));
    });
  }

  test('fetches each command once and posts each completion once', () => {
    const rig = new NvmeRig();
    function* story(): Task<Uint8Array> {
      const { io } = yield* rig.bringUp('host');
      return yield* throughTheDrive(io, yield* rig.hostMemory(1), 0);
    }
    rig.user(story());
    rig.run();
    const admin = ['dma.read', 'dma.write', 'dma.read', 'dma.write'];
    const write = ['dma.read', 'dma.read', 'dma.write'];
    const read = ['dma.read', 'dma.write', 'dma.write'];
    expect(dmaOf(rig)).toEqual([...admin, ...write, ...read]);
  });
});

describe('a drive with queues and data in its buffer', () => {
  for (const [title, bars] of [
    ['in a BAR of its own', undefined],
    ['behind the doorbells of a 32 KiB BAR0', bar0Only(0x8000)],
  ] as const) {
    test(`does everything without the bus, ${title}`, () => {
      const rig = new NvmeRig(bars === undefined ? {} : { bars });
      function* story(): Task<Uint8Array> {
        const { driver, io } = yield* rig.bringUp('cmb');
        return yield* throughTheDrive(io, driver.cmbMemory(CMB_BASE, 5 * PAGE_SIZE), 9);
      }
      const actor = rig.user(story());
      const outcome = rig.run();
      expect(outcome).toMatchObject({ status: 'done', findings: [] });
      expect(actor.result).toEqual(pattern(PAGE_SIZE, 9));
      expect(dmaOf(rig)).toEqual([]);
    });
  }

  test('16 KiB of BAR0 leave 8 KiB: room for an I/O queue pair, the rest is in host memory', () => {
    const rig = new NvmeRig({ bars: bar0Only(0x4000) });
    function* story(): Task<Uint8Array> {
      const { driver } = yield* rig.bringUp('host');
      const place = yield* driver.openCmb(CMB_BASE);
      expect(place).toEqual({ bar: 0, offset: 0x2000, size: 0x2000 });
      const io = yield* driver.createQueuePair(2, {
        entries: 8,
        submission: driver.cmbMemory(CMB_BASE, 0),
        completion: driver.cmbMemory(CMB_BASE, PAGE_SIZE),
        vector: 2,
      });
      return yield* throughTheDrive(io, yield* rig.hostMemory(1), 1);
    }
    const actor = rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(actor.result).toEqual(pattern(PAGE_SIZE, 1));
  });
});

describe('a peer that was lent buffer and doorbells', () => {
  test('S003-4, S003-5: its command, payload and doorbell over PCI make the drive store', () => {
    const rig = new NvmeRig();
    const peer = new PeerWriter(rig.fn);
    const payload = pattern(PAGE_SIZE, 77);
    function* story(): Task<string | null> {
      yield* rig.bringUp('cmb');
      // The payload into page 6 of the buffer, the command into slot 0 of I/O queue 1, then the
      // doorbell.
      yield* peer.write(2, 6 * PAGE_SIZE, payload);
      const prp1 = CMB_BASE + 6 * PAGE_SIZE;
      const command = ioWrite({ cid: 0x77, lba: 100, blocks: 8, prp1 });
      yield* peer.write(2, 2 * PAGE_SIZE, encodeCommand(command));
      yield* peer.write(0, tailDoorbell(1), Uint8Array.of(1, 0, 0, 0));
      yield* rig.access.waitForInterrupt(1);
      const { status, cid } = decodeCompletion(yield* peer.read(2, 3 * PAGE_SIZE, 16));
      return `${status} ${cid}`;
    }
    const actor = rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(actor.result).toBe('success 119');
    expect(rig.blocks(100, 8)).toEqual(payload);
    const written = rig.events.filter(({ kind }) => kind === 'dma.write');
    expect(written.map((event) => 'target' in event && event.target)).toEqual([
      '0000:41:00.0 BAR2+0x6000',
      '0000:41:00.0 BAR2+0x2000',
      '0000:41:00.0 BAR0+0x1008',
    ]);
  });

  test('S003-5: reading the doorbells does nothing', () => {
    const rig = new NvmeRig();
    const peer = new PeerWriter(rig.fn);
    function* story(): Task<Uint8Array> {
      yield* rig.bringUp('cmb');
      return yield* peer.read(0, tailDoorbell(0), 8);
    }
    const actor = rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    // Two admin commands were submitted and both completions taken.
    expect(actor.result).toEqual(Uint8Array.of(2, 0, 0, 0, 2, 0, 0, 0));
    expect(rig.engine.step?.verb).toBe('wait for registers');
  });

  test('a write of less than a word is not answered', () => {
    const rig = new NvmeRig();
    const peer = new PeerWriter(rig.fn);
    rig.user(peer.write(0, tailDoorbell(1), Uint8Array.of(1, 0)));
    expect(rig.run().findings).toMatchObject([{ kind: 'fault' }]);
    expect(rig.drive.registers.tails[1]?.value).toBe(0);
  });
});

describe('Identify', () => {
  test('says who the drive is and what it can do', () => {
    const rig = new NvmeRig();
    function* story(): Task<Uint8Array> {
      const { driver } = yield* rig.bringUp();
      const page = yield* rig.hostMemory(1);
      yield* page.write(0, pattern(PAGE_SIZE, 1));
      const identify = identifyController({ cid: 1, prp1: page.deviceAddress });
      expect((yield* driver.submitAdmin(identify)).status).toBe('success');
      return yield* page.read(0, PAGE_SIZE);
    }
    const actor = rig.user(story());
    rig.run();
    const bytes = actor.result as Uint8Array;
    const view = new DataView(bytes.buffer);
    const text = (from: number, to: number): string =>
      String.fromCharCode(...bytes.subarray(from, to));
    expect([view.getUint16(0, true), view.getUint16(2, true)]).toEqual([0x1234, 0x1af4]);
    expect(text(4, 24)).toBe('0000:41:00.0        ');
    expect(text(24, 64).trim()).toBe('peerbuf modelled NVMe drive');
    expect([bytes[77], bytes[111], bytes[512], bytes[513]]).toEqual([5, 1, 0x66, 0x44]);
    expect([view.getUint32(80, true), view.getUint32(516, true)]).toEqual([0x0001_0400, 1]);
    expect(text(768, 807)).toBe('nqn.2014-08.org.nvmexpress:peerbuf:0000');
  });
});

/** Writes and reads one region again and again, with data of its own. */
function* submitter(io: QueuePair, data: QueueMemory, lba: number): Task {
  for (let round = 0; round < 3; round += 1) {
    const back = yield* throughTheDrive(io, data, lba + 8 * round);
    if (!sameBytes(back, pattern(PAGE_SIZE, lba + 8 * round))) throw new WrongResult(`${lba}`);
  }
  expect((yield* io.execute(flush({ cid: 99 }))).status).toBe('success');
}

function* twoSubmitters(rig: NvmeRig): Task {
  const { driver, io } = yield* rig.bringUp('cmb', 4);
  const other = yield* driver.createQueuePair(2, yield* rig.hostQueues(3, 2));
  rig.user(submitter(io, driver.cmbMemory(CMB_BASE, 8 * PAGE_SIZE), 0), 'one');
  rig.user(submitter(other, yield* rig.hostMemory(1), 1000), 'two');
}

describe('random schedules', () => {
  test('200 of two submitters on queues of their own end with all data right', () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const rig = new NvmeRig({ iommu: 'translated' });
      rig.user(twoSubmitters(rig));
      const outcome = rig.run(new RandomStrategy(seed));
      expect(outcome, `seed ${seed}`).toMatchObject({ status: 'done', findings: [] });
      for (const lba of [0, 8, 16, 1000, 1008, 1016]) {
        const isRight = sameBytes(rig.blocks(lba, 8), pattern(PAGE_SIZE, lba));
        expect(isRight, `seed ${seed} lba ${lba}`).toBe(true);
      }
    }
  });
});

describe('bus mastering', () => {
  test('a drive that may not send keeps its requests until it may, and there is no fault', () => {
    const rig = new NvmeRig();
    const log: string[] = [];
    function* story(): Task<Session> {
      const session = yield* rig.bringUp();
      yield* rig.fn.writeCommand(0x2);
      yield* session.io.submit(flush({ cid: 1 }));
      yield* rig.scheduler.sleep(1000);
      log.push(`${rig.engine.step?.verb} on ${rig.engine.step?.cell.name}`);
      yield* rig.fn.writeCommand(0x6);
      expect((yield* session.io.pollCompletion()).cid).toBe(1);
      return session;
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(log).toEqual(['dma read on 0000:41:00.0 command']);
  });

  test('a second access that takes the interrupts gets them all', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const access = new DirectAccess(rig.fn);
      const { io } = yield* rig.bringUp('host', 8, access);
      expect((yield* io.execute(flush({ cid: 1 }))).cid).toBe(1);
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });
});
