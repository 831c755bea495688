import { describe, expect, test } from 'vitest';
import {
  COMMAND_SIZE,
  COMPLETION_SIZE,
  createIoCompletionQueue,
  createIoSubmissionQueue,
  decodeCommand,
  decodeCompletion,
  deleteIoCompletionQueue,
  deleteIoSubmissionQueue,
  encodeCommand,
  encodeCompletion,
  flush,
  identifyController,
  ioRead,
  ioWrite,
  type NvmeCommand,
  transferRange,
} from '../../src/drivers/nvme/commands.ts';
import { isFinal, STATUS, type StatusName, statusName } from '../../src/drivers/nvme/status.ts';

/** Bytes from hex in groups, as a bus analyser shows them: one line for each 16 bytes. */
function bytesOf(...lines: readonly string[]): Uint8Array {
  return Uint8Array.from(lines.join(' ').trim().split(/\s+/), (byte) => Number.parseInt(byte, 16));
}

const ZEROS = '00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00';

describe('submission queue entry', () => {
  test('a write is the 64 bytes that the specification draws', () => {
    const command = ioWrite({
      cid: 0x1234,
      lba: 0x1_0000_0203,
      blocks: 16,
      prp1: 0x7_1234_5040,
      prp2: 0x38_0010_3000,
    });
    expect(encodeCommand(command)).toEqual(
      bytesOf(
        '01 00 34 12 01 00 00 00 00 00 00 00 00 00 00 00',
        '00 00 00 00 00 00 00 00 40 50 34 12 07 00 00 00',
        '00 30 10 00 38 00 00 00 03 02 00 00 01 00 00 00',
        '0f 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
      ),
    );
    expect(transferRange(command)).toEqual({ lba: 0x1_0000_0203, blocks: 16 });
  });

  test('a completion queue with interrupts, and a submission queue on it', () => {
    const queue = { cid: 2, qid: 3, entries: 64, address: 0x10_2000 };
    expect(encodeCommand(createIoCompletionQueue({ ...queue, vector: 0x8005 }))).toEqual(
      bytesOf(
        '05 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00',
        '00 00 00 00 00 00 00 00 00 20 10 00 00 00 00 00',
        '00 00 00 00 00 00 00 00 03 00 3f 00 03 00 05 80',
        ZEROS,
      ),
    );
    expect(encodeCommand(createIoSubmissionQueue({ ...queue, completionQueue: 5 }))).toEqual(
      bytesOf(
        '01 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00',
        '00 00 00 00 00 00 00 00 00 20 10 00 00 00 00 00',
        '00 00 00 00 00 00 00 00 03 00 3f 00 01 00 05 00',
        ZEROS,
      ),
    );
  });

  test('a completion queue without interrupts does not ask for any', () => {
    const { cdw11 } = createIoCompletionQueue({
      cid: 1,
      qid: 1,
      entries: 2,
      address: 0,
      vector: null,
    });
    expect(cdw11).toBe(0x1);
  });

  test('the other commands have their opcodes and fields', () => {
    expect(ioRead({ cid: 7, lba: 1, blocks: 1, prp1: 0x1000 })).toMatchObject({
      opcode: 0x02,
      nsid: 1,
      cdw12: 0,
    });
    expect(flush({ cid: 7 })).toMatchObject({ opcode: 0x00, nsid: 1, cid: 7 });
    expect(deleteIoSubmissionQueue({ cid: 1, qid: 4 })).toMatchObject({ opcode: 0x00, cdw10: 4 });
    expect(deleteIoCompletionQueue({ cid: 1, qid: 4 })).toMatchObject({ opcode: 0x04, cdw10: 4 });
    expect(identifyController({ cid: 1, prp1: 0x2000 })).toMatchObject({
      opcode: 0x06,
      cdw10: 1,
      prp1: 0x2000,
    });
  });

  test('decoding undoes encoding, every field by itself', () => {
    const command: NvmeCommand = {
      opcode: 0x81,
      flags: 0x42,
      cid: 0xfffe,
      nsid: 0xffff_ffff,
      prp1: 2 ** 52 - 4096,
      prp2: 0x1_0000_0000,
      cdw10: 0xa,
      cdw11: 0xb,
      cdw12: 0xc,
      cdw13: 0xd,
      cdw14: 0xe,
      cdw15: 0xffff_ffff,
    };
    const bytes = encodeCommand(command);
    expect(bytes.length).toBe(COMMAND_SIZE);
    expect(decodeCommand(bytes)).toEqual(command);
  });

  test('any 64 bytes are a command, wherever they lie', () => {
    const around = new Uint8Array(80).fill(0xff);
    expect(decodeCommand(around.subarray(8, 72))).toMatchObject({
      opcode: 0xff,
      cid: 0xffff,
      cdw15: 0xffff_ffff,
    });
  });
});

describe('completion queue entry', () => {
  test('an error is the 16 bytes that the specification draws', () => {
    const bytes = encodeCompletion({
      sqHead: 0x0102,
      sqId: 0x0304,
      cid: 0x0506,
      phase: 1,
      status: 'invalid-queue-size',
      doNotRetry: true,
    });
    // Status field: do not retry, type 1, code 2, phase 1.
    expect(bytes).toEqual(bytesOf('00 00 00 00 00 00 00 00 02 01 04 03 06 05 05 82'));
    expect(bytes.length).toBe(COMPLETION_SIZE);
  });

  test('every status survives the way through the bytes, in both phases', () => {
    for (const status of Object.keys(STATUS) as StatusName[]) {
      for (const phase of [0, 1] as const) {
        const fields = { sqHead: 5, sqId: 1, cid: 9, phase, status, doNotRetry: isFinal(status) };
        expect(decodeCompletion(encodeCompletion(fields))).toEqual({
          ...fields,
          result: 0,
          statusType: STATUS[status].type,
          statusCode: STATUS[status].code,
        });
      }
    }
  });

  test('a status that nobody knows has no name', () => {
    expect(statusName(0x7, 0x01)).toBeNull();
    expect(decodeCompletion(bytesOf('00 '.repeat(14), 'ff ff'))).toMatchObject({
      statusType: 7,
      statusCode: 255,
      status: null,
      doNotRetry: true,
    });
  });
});
