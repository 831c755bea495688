/**
 * A card beyond the wire, and its program: reads and writes the memory that this machine
 * registered. Somebody else's machine, so nothing of it is modelled but what it says.
 */

import {
  type Access,
  type Actor,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  SleepStep,
  type Task,
  type WirePort,
  wholeCell,
} from '../../machine/index.ts';
import { MessageQueue } from './message-queue.ts';
import {
  type NakStatus,
  NO_PAYLOAD,
  PSN_COUNT,
  type RdmaAnswer,
  type RdmaPacket,
  type RdmaRead,
  type RdmaWrite,
} from './packets.ts';

/** How a request ended. */
export interface RdmaResult {
  readonly status: 'success' | NakStatus;
  /** What was read; empty for a write and for a request that was refused. */
  readonly bytes: Uint8Array;
}

/** A request that has no number yet. */
type Unnumbered = Omit<RdmaWrite, 'psn'> | Omit<RdmaRead, 'psn'>;

/** The other end of a connection. */
export class RemotePeer {
  private readonly port: WirePort<RdmaPacket>;
  private readonly psns: PsnCounter;
  private readonly results: Results;
  private readonly inbox: MessageQueue;

  /** @context At boot: spawns the card beyond the wire. */
  constructor(port: WirePort<RdmaPacket>) {
    const { scheduler, name } = port;
    this.port = port;
    this.psns = new PsnCounter(scheduler, `${name} psn`);
    this.results = new Results(scheduler, `${name} completions`);
    this.inbox = new MessageQueue(scheduler, `${name} inbox`, []);
    scheduler.spawn(this.card(), { name: `${name} card`, role: 'remote', daemon: true });
  }

  /**
   * Writes to remote memory and waits for the answer.
   *
   * @param rkey - The region's key.
   * @param va - First byte, in the region's own addresses.
   * @returns How it ended; nothing is thrown.
   * @context A task of role `remote`; sleeps.
   */
  *write(rkey: number, va: number, bytes: Uint8Array): Task<RdmaResult> {
    return yield* this.completion(yield* this.postWrite(rkey, va, bytes));
  }

  /**
   * Reads remote memory and waits for the answer.
   *
   * @param rkey - The region's key.
   * @param va - First byte, in the region's own addresses.
   * @param length - Bytes.
   * @returns How it ended, with the bytes; nothing is thrown.
   * @context A task of role `remote`; sleeps.
   */
  *read(rkey: number, va: number, length: number): Task<RdmaResult> {
    return yield* this.completion(yield* this.postRead(rkey, va, length));
  }

  /**
   * A step that sends a write and does not wait. Requests are carried out in the order of posting.
   *
   * @returns The number to ask {@link completion} for.
   * @context A task of role `remote`.
   */
  postWrite(rkey: number, va: number, bytes: Uint8Array): PreemptStep<number> {
    const request = { kind: 'rdma-write', rkey, va, payload: bytes.slice() } as const;
    return new Post(this.psns, this.port, request);
  }

  /**
   * A step that sends a read and does not wait.
   *
   * @returns The number to ask {@link completion} for.
   * @context A task of role `remote`.
   */
  postRead(rkey: number, va: number, length: number): PreemptStep<number> {
    const request = { kind: 'rdma-read', rkey, va, length, payload: NO_PAYLOAD } as const;
    return new Post(this.psns, this.port, request);
  }

  /**
   * A step that waits for the end of a posted request and takes its result; each can be taken once.
   *
   * @context A task of role `remote`; sleeps.
   */
  completion(psn: number): SleepStep<RdmaResult> {
    return new TakeResult(this.results, psn);
  }

  /**
   * A step that sends a message to the program at the other end.
   *
   * @context A task of role `remote`.
   */
  send(bytes: Uint8Array): PreemptStep<void> {
    return this.port.send({ kind: 'send', payload: bytes.slice() });
  }

  /**
   * A step that waits for a message of the program at the other end.
   *
   * @context A task of role `remote`; sleeps.
   */
  receive(): SleepStep<Uint8Array> {
    return this.inbox.take();
  }

  private *card(): Task {
    for (;;) yield* new Deliver(this.port, this.results, this.inbox);
  }
}

/** Sequence numbers handed out; its value is the next. */
class PsnCounter extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }
}

/** Results that nobody has taken, by sequence number. */
class Results extends Cell<ReadonlyMap<number, RdmaResult>> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, new Map());
  }
}

/** Numbering and sending are one step: packets leave in the order of their numbers. */
class Post extends PreemptStep<number> {
  readonly cell: PsnCounter;
  private readonly port: WirePort<RdmaPacket>;
  private readonly request: Unnumbered;

  constructor(cell: PsnCounter, port: WirePort<RdmaPacket>, request: Unnumbered) {
    super();
    this.cell = cell;
    this.port = port;
    this.request = request;
  }

  get verb(): string {
    return 'post';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W'), wholeCell(this.port.peer ?? this.port, 'W')];
  }

  apply(actor: Actor): number {
    const psn = this.cell.value;
    this.cell.value = (psn + 1) % PSN_COUNT;
    this.port.send({ ...this.request, psn }).apply(actor);
    return psn;
  }
}

/** Takes the next packet off the wire and puts it where it belongs. */
class Deliver extends SleepStep<void> {
  readonly cell: WirePort<RdmaPacket>;
  private readonly results: Results;
  private readonly inbox: MessageQueue;

  constructor(cell: WirePort<RdmaPacket>, results: Results, inbox: MessageQueue) {
    super();
    this.cell = cell;
    this.results = results;
    this.inbox = inbox;
  }

  get verb(): string {
    return 'receive';
  }

  override guard(look: Look): boolean {
    return look(this.cell).length > 0;
  }

  override accesses(look: Look): readonly Access[] {
    const isMessage = look(this.cell)[0]?.kind === 'send';
    return [wholeCell(this.cell, 'W'), wholeCell(isMessage ? this.inbox : this.results, 'W')];
  }

  apply(actor: Actor): void {
    const packet = this.cell.receive().apply(actor);
    switch (packet.kind) {
      case 'send':
        this.inbox.push(packet.payload).apply(actor);
        break;
      case 'ack':
      case 'read-response':
      case 'nak':
        this.results.value = new Map([...this.results.value, [packet.psn, resultOf(packet)]]);
        break;
      case 'rdma-write':
      case 'rdma-read':
        // This machine registered nothing for the other one to use; the card there never asks.
        break;
    }
  }
}

function resultOf(answer: RdmaAnswer): RdmaResult {
  const status = answer.kind === 'nak' ? answer.status : 'success';
  return { status, bytes: answer.payload };
}

class TakeResult extends SleepStep<RdmaResult> {
  readonly cell: Results;
  private readonly psn: number;

  constructor(cell: Results, psn: number) {
    super();
    this.cell = cell;
    this.psn = psn;
  }

  get verb(): string {
    return 'wait for completion of';
  }

  override guard(look: Look): boolean {
    return look(this.cell).has(this.psn);
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): RdmaResult {
    const results = new Map(this.cell.value);
    const result = results.get(this.psn) as RdmaResult;
    results.delete(this.psn);
    this.cell.value = results;
    return result;
  }
}
