/**
 * Commands as bytes: 64 in a submission queue, and 16 for their completion. Whoever can write these
 * bytes into a queue and ring its doorbell drives the controller, a peer beyond a wire included.
 *
 * @context Any: everything here is pure.
 * @source NVM Express Base Specification 1.4, sections 4.2 and 4.6
 */

import { STATUS, type StatusName, statusName } from './status.ts';
import { highHalf, joinHalves, lowHalf, readUint64, writeUint64 } from './uint64.ts';

/** Bytes of a submission queue entry. */
export const COMMAND_SIZE = 64;
/** Bytes of a completion queue entry. */
export const COMPLETION_SIZE = 16;
/** Bytes in a logical block. */
export const BLOCK_SIZE = 512;

/** Opcodes in the admin queue. @source NVMe 1.4, section 5 */
export const ADMIN_OPCODE = {
  deleteIoSubmissionQueue: 0x00,
  createIoSubmissionQueue: 0x01,
  deleteIoCompletionQueue: 0x04,
  createIoCompletionQueue: 0x05,
  identify: 0x06,
} as const;

/** Opcodes in I/O queues. @source NVMe 1.4, section 6 */
export const IO_OPCODE = { flush: 0x00, write: 0x01, read: 0x02 } as const;

/** Identify: the data structure of the controller. @source NVMe 1.4, 5.15.1 */
export const CNS_CONTROLLER = 0x01;

/** The one namespace of the drive. */
export const NAMESPACE_ID = 1;

/** A command. Fields that it does not use are 0. */
export interface NvmeCommand {
  readonly opcode: number;
  /** Byte 1: fused operation and the choice between PRPs and SGLs; 0 is neither fused nor SGL. */
  readonly flags: number;
  /** Chosen by who submits; the completion carries it. 0 to 65535. */
  readonly cid: number;
  readonly nsid: number;
  /** First page of the data, or of a queue; a device address. */
  readonly prp1: number;
  /** Second page, or the list of the others. */
  readonly prp2: number;
  readonly cdw10: number;
  readonly cdw11: number;
  readonly cdw12: number;
  readonly cdw13: number;
  readonly cdw14: number;
  readonly cdw15: number;
}

/** How a command ended. */
export interface CommandCompletion {
  /** Dword 0, specific to the command. */
  readonly result: number;
  /** Entries of the submission queue up to here may be used again. */
  readonly sqHead: number;
  readonly sqId: number;
  readonly cid: number;
  /** Flips each time the queue wraps: tells a new entry from an old one. */
  readonly phase: 0 | 1;
  readonly statusType: number;
  readonly statusCode: number;
  /** The status by name; null for one that {@link STATUS} does not have. */
  readonly status: StatusName | null;
  /** The same command would fail again. */
  readonly doNotRetry: boolean;
}

/** The 64 bytes of a command. @source NVMe 1.4, 4.2 */
export function encodeCommand(command: NvmeCommand): Uint8Array {
  const bytes = new Uint8Array(COMMAND_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, command.opcode);
  view.setUint8(1, command.flags);
  view.setUint16(2, command.cid, true);
  view.setUint32(4, command.nsid, true);
  writeUint64(view, 24, command.prp1);
  writeUint64(view, 32, command.prp2);
  const { cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 } = command;
  [cdw10, cdw11, cdw12, cdw13, cdw14, cdw15].forEach((word, index) => {
    view.setUint32(40 + 4 * index, word, true);
  });
  return bytes;
}

/** Reads the 64 bytes of a command. Any bytes are one. @source NVMe 1.4, 4.2 */
export function decodeCommand(bytes: Uint8Array): NvmeCommand {
  const view = new DataView(bytes.buffer, bytes.byteOffset, COMMAND_SIZE);
  return {
    opcode: view.getUint8(0),
    flags: view.getUint8(1),
    cid: view.getUint16(2, true),
    nsid: view.getUint32(4, true),
    prp1: readUint64(view, 24),
    prp2: readUint64(view, 32),
    cdw10: view.getUint32(40, true),
    cdw11: view.getUint32(44, true),
    cdw12: view.getUint32(48, true),
    cdw13: view.getUint32(52, true),
    cdw14: view.getUint32(56, true),
    cdw15: view.getUint32(60, true),
  };
}

/** What the controller knows when it posts a completion. */
export interface CompletionFields {
  readonly sqHead: number;
  readonly sqId: number;
  readonly cid: number;
  readonly phase: 0 | 1;
  readonly status: StatusName;
  readonly doNotRetry: boolean;
}

/** The 16 bytes of a completion; dword 0 stays 0, as nobody uses it. @source NVMe 1.4, 4.6 */
export function encodeCompletion(completion: CompletionFields): Uint8Array {
  const bytes = new Uint8Array(COMPLETION_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(8, completion.sqHead, true);
  view.setUint16(10, completion.sqId, true);
  view.setUint16(12, completion.cid, true);
  const { type, code } = STATUS[completion.status];
  const final = completion.doNotRetry ? 0x8000 : 0;
  view.setUint16(14, completion.phase | (code << 1) | (type << 9) | final, true);
  return bytes;
}

/** Reads the 16 bytes of a completion. Any bytes are one. @source NVMe 1.4, 4.6 */
export function decodeCompletion(bytes: Uint8Array): CommandCompletion {
  const view = new DataView(bytes.buffer, bytes.byteOffset, COMPLETION_SIZE);
  const field = view.getUint16(14, true);
  const statusType = (field >>> 9) & 0x7;
  const statusCode = (field >>> 1) & 0xff;
  return {
    result: view.getUint32(0, true),
    sqHead: view.getUint16(8, true),
    sqId: view.getUint16(10, true),
    cid: view.getUint16(12, true),
    phase: (field & 1) === 0 ? 0 : 1,
    statusType,
    statusCode,
    status: statusName(statusType, statusCode),
    doNotRetry: (field & 0x8000) !== 0,
  };
}

const EMPTY: NvmeCommand = {
  opcode: 0,
  flags: 0,
  cid: 0,
  nsid: 0,
  prp1: 0,
  prp2: 0,
  cdw10: 0,
  cdw11: 0,
  cdw12: 0,
  cdw13: 0,
  cdw14: 0,
  cdw15: 0,
};

/** What a read or a write needs. */
export interface TransferFields {
  readonly cid: number;
  /** First block. */
  readonly lba: number;
  /** Blocks, 1 to 65536. */
  readonly blocks: number;
  readonly prp1: number;
  readonly prp2?: number;
}

/** Write: memory to drive. @source NVMe 1.4, 6.15 */
export function ioWrite(fields: TransferFields): NvmeCommand {
  return transfer(IO_OPCODE.write, fields);
}

/** Read: drive to memory. @source NVMe 1.4, 6.9 */
export function ioRead(fields: TransferFields): NvmeCommand {
  return transfer(IO_OPCODE.read, fields);
}

/** First block and number of blocks of a read or write. @source NVMe 1.4, 6.9 */
export function transferRange(command: NvmeCommand): { lba: number; blocks: number } {
  return {
    lba: joinHalves(command.cdw10, command.cdw11),
    blocks: (command.cdw12 & 0xffff) + 1,
  };
}

/** Flush: what was written is on the media afterwards. @source NVMe 1.4, 6.8 */
export function flush({ cid }: { readonly cid: number }): NvmeCommand {
  return { ...EMPTY, opcode: IO_OPCODE.flush, cid, nsid: NAMESPACE_ID };
}

/** What a new queue needs. */
export interface QueueFields {
  readonly cid: number;
  /** Number of the queue, 1 upwards. */
  readonly qid: number;
  /** 2 to 64. */
  readonly entries: number;
  /** Device address of its first entry; page aligned. */
  readonly address: number;
}

/** Create I/O Completion Queue; `vector` null: no interrupts. @source NVMe 1.4, 5.3 */
export function createIoCompletionQueue(
  fields: QueueFields & { readonly vector: number | null },
): NvmeCommand {
  const { vector } = fields;
  const interrupts = vector === null ? 0 : (vector << 16) | QUEUE_INTERRUPTS;
  const cdw11 = (interrupts | QUEUE_CONTIGUOUS) >>> 0;
  return { ...newQueue(ADMIN_OPCODE.createIoCompletionQueue, fields), cdw11 };
}

/** Create I/O Submission Queue; its completions go to `completionQueue`. @source NVMe 1.4, 5.4 */
export function createIoSubmissionQueue(
  fields: QueueFields & { readonly completionQueue: number },
): NvmeCommand {
  const cdw11 = ((fields.completionQueue << 16) | QUEUE_CONTIGUOUS) >>> 0;
  return { ...newQueue(ADMIN_OPCODE.createIoSubmissionQueue, fields), cdw11 };
}

/** Create queue, dword 11: it is contiguous. */
export const QUEUE_CONTIGUOUS = 0x1;
/** Create I/O Completion Queue, dword 11: it raises interrupts. */
export const QUEUE_INTERRUPTS = 0x2;

/** Which queue a command is about. */
export interface QueueName {
  readonly cid: number;
  readonly qid: number;
}

/** Delete I/O Completion Queue; its submission queues go first. @source NVMe 1.4, 5.5 */
export function deleteIoCompletionQueue({ cid, qid }: QueueName): NvmeCommand {
  return { ...EMPTY, opcode: ADMIN_OPCODE.deleteIoCompletionQueue, cid, cdw10: qid };
}

/** Delete I/O Submission Queue. @source NVMe 1.4, 5.6 */
export function deleteIoSubmissionQueue({ cid, qid }: QueueName): NvmeCommand {
  return { ...EMPTY, opcode: ADMIN_OPCODE.deleteIoSubmissionQueue, cid, cdw10: qid };
}

/** Identify, for the 4096 bytes about the controller. @source NVMe 1.4, 5.15 */
export function identifyController(fields: {
  readonly cid: number;
  readonly prp1: number;
  readonly prp2?: number;
}): NvmeCommand {
  const { cid, prp1, prp2 = 0 } = fields;
  return { ...EMPTY, opcode: ADMIN_OPCODE.identify, cid, prp1, prp2, cdw10: CNS_CONTROLLER };
}

function transfer(opcode: number, fields: TransferFields): NvmeCommand {
  const { cid, lba, blocks, prp1, prp2 = 0 } = fields;
  return {
    ...EMPTY,
    opcode,
    cid,
    nsid: NAMESPACE_ID,
    prp1,
    prp2,
    cdw10: lowHalf(lba),
    cdw11: highHalf(lba),
    cdw12: blocks - 1,
  };
}

function newQueue(opcode: number, { cid, qid, entries, address }: QueueFields): NvmeCommand {
  return { ...EMPTY, opcode, cid, prp1: address, cdw10: (qid | ((entries - 1) << 16)) >>> 0 };
}
