/**
 * The hardware of the card: takes requests off the wire one after the other, checks them, moves the
 * bytes and answers. It knows nothing of buffers and reservations.
 *
 * LOCKING: the engine takes no lock. It waits for the driver only before an access has begun; an
 * access that has begun waits for nothing, so whoever waits for its end waits a bounded time,
 * whatever locks he holds.
 *
 * DIFFERS: the connection outlives a refused request; on InfiniBand it breaks and is set up anew.
 *
 * @source InfiniBand Architecture Specification, volume 1, chapter 9; reference/linux-dma-buf.md
 *   B.1.1
 */

import type { DmaFence } from '../../framework/index.ts';
import type { Atomic, PciFunction, Task, WirePort } from '../../machine/index.ts';
import type { KeyTable } from './key-table.ts';
import { isWellFormed, lengthOf, type MemoryRegion, piecesOf } from './memory-region.ts';
import type { MessageQueue } from './message-queue.ts';
import {
  type NakStatus,
  NO_PAYLOAD,
  PSN_COUNT,
  type RdmaAnswer,
  type RdmaPacket,
  type RdmaRead,
  type RdmaRequest,
  type RdmaWrite,
} from './packets.ts';
import type { Translation } from './region-gate.ts';

/** What the hardware tells the driver. */
export interface EngineEvents {
  /**
   * An access found the region's translation gone: bring it in.
   *
   * @returns True if it was; false if that cannot be done now.
   * @context May sleep.
   */
  pageFault(region: MemoryRegion): Task<boolean>;
  /**
   * The last access of a closed region is over.
   *
   * @param fence - To be signaled.
   * @context Any: the hardware's interrupt.
   */
  drained(region: MemoryRegion, fence: DmaFence): Atomic;
}

/** What an engine is wired to. */
export interface EngineParts {
  readonly fn: PciFunction;
  readonly port: WirePort<RdmaPacket>;
  readonly keys: KeyTable;
  readonly inbox: MessageQueue;
  /** Bytes in one request on the bus at most. */
  readonly pathMtu: number;
}

/** The engine of one connection. */
export class RdmaEngine {
  private readonly parts: EngineParts;
  private readonly events: EngineEvents;
  /** The sequence number that the next request must have. The engine's alone. */
  private expectedPsn = 0;

  constructor(parts: EngineParts, events: EngineEvents) {
    this.parts = parts;
    this.events = events;
  }

  /**
   * The engine's life: one packet after the other.
   *
   * @context A device's actor; sleeps.
   */
  *run(): Task {
    const { port, inbox } = this.parts;
    for (;;) {
      const packet = yield* port.receive();
      switch (packet.kind) {
        case 'rdma-write':
        case 'rdma-read':
          yield* port.send(yield* this.answer(packet));
          break;
        case 'send':
          yield* inbox.push(packet.payload);
          break;
        case 'ack':
        case 'nak':
        case 'read-response':
          // The card asked for nothing, so an answer belongs to nobody: dropped, as hardware does.
          break;
      }
    }
  }

  private *answer(request: RdmaRequest): Task<RdmaAnswer> {
    if (request.psn !== this.expectedPsn) return nak(request, 'psn-sequence-error');
    this.expectedPsn = (this.expectedPsn + 1) % PSN_COUNT;
    if (!isWellFormed(request)) return nak(request, 'invalid-request');
    // InfiniBand does not look at the key of a request that moves nothing.
    if (lengthOf(request) === 0) return done(request, NO_PAYLOAD);
    for (;;) {
      const entry = yield* this.parts.keys.enter(request);
      if (entry.kind === 'refused') return nak(request, entry.status);
      if (entry.kind === 'granted') {
        return yield* this.access(request, entry.region, entry.translation);
      }
      if (!(yield* this.events.pageFault(entry.region))) {
        return nak(request, 'remote-operational-error');
      }
    }
  }

  /** One access, from the moment it was counted in. Atomic: it waits for nothing. */
  private *access(
    request: RdmaRequest,
    region: MemoryRegion,
    translation: Translation,
  ): Atomic<RdmaAnswer> {
    const answer =
      request.kind === 'rdma-write'
        ? yield* this.write(request, translation)
        : yield* this.read(request, translation);
    const fence = yield* region.gate.leave();
    if (fence !== null) yield* this.events.drained(region, fence);
    return answer;
  }

  private *write(request: RdmaWrite, translation: Translation): Atomic<RdmaAnswer> {
    const { fn, pathMtu } = this.parts;
    const { payload, va } = request;
    for (const { at, address, length } of piecesOf(translation, va, payload.length, pathMtu)) {
      yield* fn.machine.dma.write(fn, address, payload.subarray(at, at + length));
    }
    return done(request, NO_PAYLOAD);
  }

  private *read(request: RdmaRead, translation: Translation): Atomic<RdmaAnswer> {
    const { fn, pathMtu } = this.parts;
    const payload = new Uint8Array(request.length);
    for (const { at, address, length } of piecesOf(
      translation,
      request.va,
      request.length,
      pathMtu,
    )) {
      const { bytes, ok } = yield* fn.machine.dma.read(fn, address, length);
      if (!ok) return nak(request, 'remote-operational-error');
      payload.set(bytes, at);
    }
    return done(request, payload);
  }
}

function done({ kind, psn }: RdmaRequest, payload: Uint8Array): RdmaAnswer {
  return { kind: kind === 'rdma-write' ? 'ack' : 'read-response', psn, payload };
}

function nak({ psn }: RdmaRequest, status: NakStatus): RdmaAnswer {
  return { kind: 'nak', psn, status, payload: NO_PAYLOAD };
}
