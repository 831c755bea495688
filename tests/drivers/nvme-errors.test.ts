import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import {
  createIoCompletionQueue,
  createIoSubmissionQueue,
  deleteIoCompletionQueue,
  deleteIoSubmissionQueue,
  flush,
  identifyController,
  ioRead,
  ioWrite,
  type NvmeCommand,
} from '../../src/drivers/nvme/commands.ts';
import type { CmbOptions } from '../../src/drivers/nvme/controller-memory.ts';
import type { StatusName } from '../../src/drivers/nvme/status.ts';
import type { Task } from '../../src/machine/index.ts';
import { CMB_BASE, type HostMemory, NvmeRig } from './nvme-rig.ts';

/** A command that must fail, given a page of memory that the drive can reach. */
interface Case {
  readonly title: string;
  readonly status: StatusName;
  readonly command: (page: HostMemory) => NvmeCommand;
  /** Findings that it leaves: a request that went nowhere. */
  readonly faults?: number;
}

const CAPACITY_BLOCKS = 1024;
/** An I/O address at which nothing is mapped. */
const NOWHERE = 0x1000;

function write(changes: Partial<NvmeCommand>): Case['command'] {
  return ({ deviceAddress: prp1 }) => ({
    ...ioWrite({ cid: 1, lba: 0, blocks: 8, prp1 }),
    ...changes,
  });
}

const IO_CASES: readonly Case[] = [
  { title: 'an unknown opcode', status: 'invalid-opcode', command: write({ opcode: 0x05 }) },
  { title: 'scatter-gather lists', status: 'invalid-field', command: write({ flags: 0x40 }) },
  { title: 'a fused command', status: 'invalid-field', command: write({ flags: 0x01 }) },
  { title: 'another namespace', status: 'invalid-namespace', command: write({ nsid: 2 }) },
  {
    title: 'a flush of another namespace',
    status: 'invalid-namespace',
    command: () => ({ ...flush({ cid: 1 }), nsid: 2 }),
  },
  {
    title: 'a block behind the last',
    status: 'lba-out-of-range',
    command: write({ cdw10: CAPACITY_BLOCKS - 7 }),
  },
  {
    title: 'a block number of 64 bits',
    status: 'lba-out-of-range',
    command: write({ cdw10: 0xffff_ffff, cdw11: 0xffff_ffff }),
  },
  { title: 'more than 128 KiB', status: 'invalid-field', command: write({ cdw12: 256 }) },
  {
    title: 'a first page that is not on a dword',
    status: 'prp-offset-invalid',
    command: ({ deviceAddress }) => ioWrite({ cid: 1, lba: 0, blocks: 1, prp1: deviceAddress + 2 }),
  },
  {
    title: 'a second page with an offset',
    status: 'prp-offset-invalid',
    command: ({ deviceAddress: prp1 }) =>
      ioWrite({ cid: 1, lba: 0, blocks: 16, prp1, prp2: prp1 + 8 }),
  },
  {
    title: 'a list that is not on a qword',
    status: 'prp-offset-invalid',
    command: ({ deviceAddress: prp1 }) =>
      ioWrite({ cid: 1, lba: 0, blocks: 24, prp1, prp2: prp1 + 4 }),
  },
  {
    title: 'an address beyond all addresses',
    status: 'invalid-field',
    command: write({ prp1: 2 ** 52 }),
  },
  {
    title: 'a list beyond all addresses',
    status: 'invalid-field',
    command: ({ deviceAddress: prp1 }) =>
      ioWrite({ cid: 1, lba: 0, blocks: 24, prp1, prp2: 2 ** 63 }),
  },
  {
    title: 'data that is not mapped',
    status: 'data-transfer-error',
    command: write({ prp1: NOWHERE }),
    faults: 1,
  },
  {
    title: 'a list that is not mapped',
    status: 'data-transfer-error',
    command: ({ deviceAddress: prp1 }) =>
      ioWrite({ cid: 1, lba: 0, blocks: 24, prp1, prp2: NOWHERE }),
    faults: 1,
  },
  {
    title: 'a read into memory that is not mapped: the write is posted, nobody tells the drive',
    status: 'success',
    command: () => ioRead({ cid: 1, lba: 0, blocks: 8, prp1: NOWHERE }),
    faults: 1,
  },
];

function completionQueue(qid: number, entries: number, changes: Partial<NvmeCommand> = {}) {
  return ({ deviceAddress: address }: HostMemory): NvmeCommand => ({
    ...createIoCompletionQueue({ cid: 1, qid, entries, address, vector: 2 }),
    ...changes,
  });
}

function submissionQueue(qid: number, entries: number, target: number) {
  return ({ deviceAddress: address }: HostMemory): NvmeCommand =>
    createIoSubmissionQueue({ cid: 1, qid, entries, address, completionQueue: target });
}

/** I/O queue pair 1 exists. */
const ADMIN_CASES: readonly Case[] = [
  {
    title: 'an unknown opcode',
    status: 'invalid-opcode',
    command: () => ({ ...flush({ cid: 1 }), opcode: 0x0c }),
  },
  {
    title: 'Identify of something else',
    status: 'invalid-field',
    command: ({ deviceAddress: prp1 }) => ({
      ...identifyController({ cid: 1, prp1 }),
      cdw10: 0x02,
    }),
  },
  {
    title: 'Identify with an odd address',
    status: 'prp-offset-invalid',
    command: ({ deviceAddress }) => identifyController({ cid: 1, prp1: deviceAddress + 1 }),
  },
  { title: 'CQ 0', status: 'invalid-queue-identifier', command: completionQueue(0, 8) },
  { title: 'CQ 9', status: 'invalid-queue-identifier', command: completionQueue(9, 8) },
  { title: 'CQ 1 again', status: 'invalid-queue-identifier', command: completionQueue(1, 8) },
  { title: 'a CQ of one entry', status: 'invalid-queue-size', command: completionQueue(2, 1) },
  { title: 'a CQ of 65 entries', status: 'invalid-queue-size', command: completionQueue(2, 65) },
  {
    title: 'a CQ in pieces',
    status: 'invalid-field',
    command: completionQueue(2, 8, { cdw11: 0x0002_0002 }),
  },
  {
    title: 'a CQ with an interrupt that is none',
    status: 'invalid-interrupt-vector',
    command: completionQueue(2, 8, { cdw11: 0x0009_0003 }),
  },
  {
    title: 'a CQ inside a page',
    status: 'prp-offset-invalid',
    command: completionQueue(2, 8, { prp1: 0x1008 }),
  },
  {
    title: 'a CQ beyond all addresses',
    status: 'invalid-field',
    command: completionQueue(2, 8, { prp1: 2 ** 52 }),
  },
  { title: 'SQ 0', status: 'invalid-queue-identifier', command: submissionQueue(0, 8, 1) },
  { title: 'SQ 1 again', status: 'invalid-queue-identifier', command: submissionQueue(1, 8, 1) },
  { title: 'an SQ of one entry', status: 'invalid-queue-size', command: submissionQueue(2, 1, 1) },
  {
    title: 'an SQ on the admin CQ',
    status: 'invalid-queue-identifier',
    command: submissionQueue(2, 8, 0),
  },
  {
    title: 'an SQ on a CQ that cannot be',
    status: 'invalid-queue-identifier',
    command: submissionQueue(2, 8, 9),
  },
  {
    title: 'an SQ on a CQ that is not there',
    status: 'completion-queue-invalid',
    command: submissionQueue(2, 8, 3),
  },
  {
    title: 'deleting a CQ that has an SQ',
    status: 'invalid-queue-deletion',
    command: () => deleteIoCompletionQueue({ cid: 1, qid: 1 }),
  },
  {
    title: 'deleting the admin CQ',
    status: 'invalid-queue-identifier',
    command: () => deleteIoCompletionQueue({ cid: 1, qid: 0 }),
  },
  {
    title: 'deleting the admin SQ',
    status: 'invalid-queue-identifier',
    command: () => deleteIoSubmissionQueue({ cid: 1, qid: 0 }),
  },
  {
    title: 'deleting an SQ that is not there',
    status: 'invalid-queue-identifier',
    command: () => deleteIoSubmissionQueue({ cid: 1, qid: 2 }),
  },
];

/** Executes the command of a case, and then one that must succeed. */
function* attempt(rig: NvmeRig, { command }: Case, isAdmin: boolean): Task<StatusName | null> {
  const { driver, io } = yield* rig.bringUp();
  const page = yield* rig.hostMemory(1);
  const pair = isAdmin ? driver.admin : io;
  const { status, doNotRetry, cid } = yield* pair.execute(command(page));
  expect(doNotRetry).toBe(status !== 'success' && status !== 'data-transfer-error');
  expect(cid).toBe(1);
  expect((yield* io.execute(flush({ cid: 2 }))).status).toBe('success');
  return status;
}

describe('a command that is refused', () => {
  for (const [kind, cases] of [
    ['I/O', IO_CASES],
    ['admin', ADMIN_CASES],
  ] as const) {
    for (const one of cases) {
      test(`${kind}: ${one.title}: ${one.status}`, () => {
        const drive = { capacityBlocks: CAPACITY_BLOCKS };
        const rig = new NvmeRig({ iommu: 'translated', drive });
        const actor = rig.user(attempt(rig, one, kind === 'admin'));
        const outcome = rig.run();
        expect(actor.result).toBe(one.status);
        expect(outcome.status).toBe('done');
        expect(outcome.findings.map((finding) => finding.kind)).toEqual(
          new Array(one.faults ?? 0).fill('fault'),
        );
      });
    }
  }

  test('admin: entry sizes that the host did not set: invalid-queue-size', () => {
    const rig = new NvmeRig();
    function* story(): Task<StatusName | null> {
      const { driver } = yield* rig.bringUp();
      const page = yield* rig.hostMemory(1);
      yield* rig.access.writeRegister(0, 0x14, 0x1, 4);
      return (yield* driver.submitAdmin(completionQueue(2, 8)(page))).status;
    }
    const actor = rig.user(story());
    rig.run();
    expect(actor.result).toBe('invalid-queue-size');
  });

  test('a failed write leaves the media as it was, also if only its last page is missing', () => {
    const rig = new NvmeRig({ iommu: 'translated' });
    function* story(): Task<StatusName | null> {
      const { io } = yield* rig.bringUp();
      const page = yield* rig.hostMemory(1);
      yield* page.write(0, new Uint8Array(PAGE_SIZE).fill(7));
      const [prp1, prp2] = [page.deviceAddress, NOWHERE];
      return (yield* io.execute(ioWrite({ cid: 1, lba: 0, blocks: 16, prp1, prp2 }))).status;
    }
    const actor = rig.user(story());
    rig.run();
    expect(actor.result).toBe('data-transfer-error');
    expect(rig.blocks(0, 16).every((byte) => byte === 0)).toBe(true);
  });
});

/** Executes one command of queue pair 1 with the buffer open; queues are in host memory. */
function* withBuffer(
  rig: NvmeRig,
  command: (page: HostMemory) => NvmeCommand,
  isAdmin = false,
): Task<StatusName | null> {
  const { driver, io } = yield* rig.bringUp();
  yield* driver.openCmb(CMB_BASE);
  const page = yield* rig.hostMemory(1);
  return (yield* (isAdmin ? driver.admin : io).execute(command(page))).status;
}

describe('invalid use of the buffer', () => {
  const range = { cid: 1, lba: 0, blocks: 8 };
  const queue = { cid: 1, qid: 2, entries: 8, address: CMB_BASE };
  const cases: readonly [string, CmbOptions, boolean, (page: HostMemory) => NvmeCommand][] = [
    ['data of a write', { writeData: false }, false, () => ioWrite({ ...range, prp1: CMB_BASE })],
    ['data of a read', { readData: false }, false, () => ioRead({ ...range, prp1: CMB_BASE })],
    [
      'what Identify returns',
      { readData: false },
      true,
      () => identifyController({ cid: 1, prp1: CMB_BASE }),
    ],
    [
      'a list',
      { lists: false },
      false,
      (page) => ioWrite({ ...range, blocks: 24, prp1: page.deviceAddress, prp2: CMB_BASE }),
    ],
    [
      'data partly outside',
      { mixedData: false },
      false,
      (page) => ioWrite({ ...range, blocks: 16, prp1: page.deviceAddress, prp2: CMB_BASE }),
    ],
    [
      'a completion queue',
      { completionQueues: false },
      true,
      () => createIoCompletionQueue({ ...queue, vector: null }),
    ],
    [
      'a submission queue',
      { submissionQueues: false },
      true,
      () => createIoSubmissionQueue({ ...queue, completionQueue: 1 }),
    ],
  ];
  for (const [title, cmb, isAdmin, command] of cases) {
    test(`${title}, where the drive does not support it and only there`, () => {
      for (const [options, isRefused] of [
        [cmb, true],
        [{}, false],
      ] as const) {
        const rig = new NvmeRig({ drive: { cmb: options } });
        const actor = rig.user(withBuffer(rig, command, isAdmin));
        rig.run();
        expect(actor.result === 'invalid-use-of-cmb').toBe(isRefused);
      }
    });
  }

  for (const [title, flags] of [
    ['shut', 0],
    ['shown only', 1],
    ['enabled and not shown', 2],
  ] as const) {
    test(`a window that is ${title} is no buffer: the addresses go out on the bus`, () => {
      const rig = new NvmeRig();
      function* story(): Task<StatusName | null> {
        const { io } = yield* rig.bringUp();
        yield* rig.access.writeRegister(0, 0x50, CMB_BASE + flags, 8);
        return (yield* io.execute(ioWrite({ ...range, prp1: CMB_BASE }))).status;
      }
      const actor = rig.user(story());
      const outcome = rig.run();
      expect(actor.result).toBe('data-transfer-error');
      expect(outcome.findings).toMatchObject([{ kind: 'fault' }]);
    });
  }
});
