/**
 * The remote half of the SPDK stories: a program beyond the wire that drives somebody else's drive.
 * It writes data and commands into the drive's controller memory and rings its doorbell, all by
 * RDMA.
 */

import { Prng } from '../../base/index.ts';
import { encodeCommand, type NvmeCommand, type RemotePeer } from '../../drivers/index.ts';
import { type Task, WrongResult } from '../../machine/index.ts';
import { decodeDone, decodeHello, type Hello, SIGNAL } from './messages.ts';

/** The remote program. */
export class SpdkInitiator {
  private readonly peer: RemotePeer;
  private tail = 0;

  constructor(peer: RemotePeer) {
    this.peer = peer;
  }

  /** Waits for the greeting. Null: the drive's memory could not be lent. */
  *greet(): Task<Hello | null> {
    const hello = decodeHello(yield* this.peer.receive());
    return hello.memoryKey === 0 ? null : hello;
  }

  /** Writes to the data page; must succeed. */
  *putData(hello: Hello, bytes: Uint8Array): Task {
    const address = hello.memoryAddress + hello.dataOffset;
    const { status } = yield* this.peer.write(hello.memoryKey, address, bytes);
    expectSuccess('write of data', status);
  }

  /** Reads the data page; must succeed. */
  *getData(hello: Hello, length: number): Task<Uint8Array> {
    const address = hello.memoryAddress + hello.dataOffset;
    const { status, bytes } = yield* this.peer.read(hello.memoryKey, address, length);
    expectSuccess('read of data', status);
    return bytes;
  }

  /** Puts a command into the drive's queue, rings, and waits until it is done; must succeed. */
  *execute(hello: Hello, command: NvmeCommand): Task {
    const slot = hello.memoryAddress + hello.queueOffset + this.tail * 64;
    const queued = yield* this.peer.write(hello.memoryKey, slot, encodeCommand(command));
    expectSuccess('write of a command', queued.status);
    this.tail = (this.tail + 1) % hello.queueEntries;
    const ring = new Uint8Array(4);
    new DataView(ring.buffer).setUint32(0, this.tail, true);
    const bell = hello.doorbellAddress + hello.tailDoorbell;
    const rung = yield* this.peer.write(hello.doorbellKey, bell, ring);
    expectSuccess('doorbell', rung.status);
    const done = decodeDone(yield* this.peer.receive());
    if (done.cid !== command.cid || !done.isSuccess) {
      throw new WrongResult(`command ${command.cid} did not succeed: ${JSON.stringify(done)}`);
    }
  }

  /** The drive was reset: its queue begins anew. */
  forgetQueue(): void {
    this.tail = 0;
  }

  /**
   * Writes to the data page `count` times without waiting in between.
   *
   * @returns How many of them were refused.
   */
  *flood(hello: Hello, count: number, bytes: Uint8Array): Task<number> {
    const posted: number[] = [];
    const address = hello.memoryAddress + hello.dataOffset;
    for (let i = 0; i < count; i += 1) {
      posted.push(yield* this.peer.postWrite(hello.memoryKey, address, bytes));
    }
    let refused = 0;
    for (const psn of posted) {
      const { status } = yield* this.peer.completion(psn);
      if (status !== 'success') refused += 1;
    }
    return refused;
  }

  /** Tells the other program something that needs no words. */
  *signal(): Task {
    yield* this.peer.send(SIGNAL);
  }

  /** Waits to be told. */
  *awaitSignal(): Task {
    yield* this.peer.receive();
  }
}

/** Bytes that no memory holds by chance. */
export function payloadOf(seed: number, length: number): Uint8Array {
  const prng = new Prng(seed);
  return Uint8Array.from({ length }, () => prng.below(256));
}

/** Throws unless both are the same. */
export function expectSameBytes(what: string, got: Uint8Array, wanted: Uint8Array): void {
  const at = wanted.findIndex((byte, i) => got[i] !== byte);
  if (got.length === wanted.length && at < 0) return;
  throw new WrongResult(`${what}: byte ${at} is ${got[at]}, not ${wanted[at]}`);
}

function expectSuccess(what: string, status: string): void {
  if (status !== 'success') throw new WrongResult(`${what}: ${status}`);
}
