/** What the two programs of the SPDK stories tell each other, as numbers in a message. */

import { WrongResult } from '../../machine/index.ts';

/** What the peer must know to use the drive. */
export interface Hello {
  /** Keys of the two regions; both 0 if the drive's memory could not be registered. */
  readonly memoryKey: number;
  readonly doorbellKey: number;
  /** Where the regions begin, in their own addresses. */
  readonly memoryAddress: number;
  readonly doorbellAddress: number;
  /** In the memory region: the submission queue, and a page for data. */
  readonly queueOffset: number;
  readonly dataOffset: number;
  /** What the drive calls the data page. */
  readonly dataForDrive: number;
  /** Entries of the submission queue. */
  readonly queueEntries: number;
  /** In the doorbell region: the queue's tail doorbell. */
  readonly tailDoorbell: number;
}

const HELLO_FIELDS = [
  'memoryKey',
  'doorbellKey',
  'memoryAddress',
  'doorbellAddress',
  'queueOffset',
  'dataOffset',
  'dataForDrive',
  'queueEntries',
  'tailDoorbell',
] as const satisfies readonly (keyof Hello)[];

/** Says nothing but that something is so: `traffic has begun`, `bye`. */
export const SIGNAL: Uint8Array = new Uint8Array(1);

/** Writes a greeting. */
export function encodeHello(hello: Hello): Uint8Array {
  return encodeNumbers(HELLO_FIELDS.map((field) => hello[field]));
}

/** Reads a greeting. */
export function decodeHello(bytes: Uint8Array): Hello {
  const numbers = decodeNumbers(bytes, HELLO_FIELDS.length);
  const entries = HELLO_FIELDS.map((field, i) => [field, numbers[i] ?? 0] as const);
  return Object.fromEntries(entries) as unknown as Hello;
}

/** A command is done. */
export interface Done {
  /** The command's identifier. */
  readonly cid: number;
  readonly isSuccess: boolean;
}

/** Writes the news of a command. */
export function encodeDone({ cid, isSuccess }: Done): Uint8Array {
  return encodeNumbers([cid, isSuccess ? 1 : 0]);
}

/** Reads the news of a command. */
export function decodeDone(bytes: Uint8Array): Done {
  const [cid = 0, success = 0] = decodeNumbers(bytes, 2);
  return { cid, isSuccess: success === 1 };
}

/** Numbers below 2^53, eight bytes each. */
function encodeNumbers(numbers: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of numbers.entries()) {
    view.setUint32(i * 8, value % 2 ** 32, true);
    view.setUint32(i * 8 + 4, Math.floor(value / 2 ** 32), true);
  }
  return bytes;
}

function decodeNumbers(bytes: Uint8Array, count: number): readonly number[] {
  if (bytes.length !== count * 8) {
    throw new WrongResult(`a message of ${count} numbers has ${bytes.length} bytes`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from(
    { length: count },
    (_, i) => view.getUint32(i * 8, true) + view.getUint32(i * 8 + 4, true) * 2 ** 32,
  );
}
