/**
 * What two RDMA cards say to each other: requests that name memory by key and address, and answers.
 *
 * DIFFERS: a message is one packet with one sequence number, whatever its length; InfiniBand cuts
 * it at the path MTU. Here the cut shows where it matters: in the card's DMA.
 *
 * @source InfiniBand Architecture Specification, volume 1, chapter 9
 */

import type { Packet } from '../../machine/index.ts';

/**
 * Why a request was refused: the NAK codes of a reliable connection. `remote-access-error`, the
 * key, the range or the right is wrong; `remote-operational-error`, all of that is right, but the
 * responder could not do it.
 */
export type NakStatus =
  'psn-sequence-error' | 'invalid-request' | 'remote-access-error' | 'remote-operational-error';

/** Sequence numbers of packets count from 0 up to this, and start again. */
export const PSN_COUNT: number = 2 ** 24;

/** LIMIT: bytes in one message, as InfiniBand has it. */
export const MESSAGE_SIZE_MAX: number = 2 ** 31;

/** The payload of a packet that has none. */
export const NO_PAYLOAD: Uint8Array = new Uint8Array(0);

/** Memory at the responder. */
interface RemoteRange {
  /** The region's key. */
  readonly rkey: number;
  /** First byte, in the region's own addresses. */
  readonly va: number;
}

/** Write the payload to memory of the responder. Answered by {@link Ack} or {@link Nak}. */
export interface RdmaWrite extends Packet, RemoteRange {
  readonly kind: 'rdma-write';
  readonly psn: number;
}

/** Send me memory of the responder. Answered by {@link ReadResponse} or {@link Nak}. */
export interface RdmaRead extends Packet, RemoteRange {
  readonly kind: 'rdma-read';
  readonly psn: number;
  /** Bytes. */
  readonly length: number;
}

/** What was read. */
export interface ReadResponse extends Packet {
  readonly kind: 'read-response';
  /** That of the request; so in all answers. */
  readonly psn: number;
}

/** It is written. */
export interface Ack extends Packet {
  readonly kind: 'ack';
  readonly psn: number;
}

/** It was refused. */
export interface Nak extends Packet {
  readonly kind: 'nak';
  readonly psn: number;
  readonly status: NakStatus;
}

/** A message for the program at the other end; goes into a buffer that waits there. */
export interface SendMessage extends Packet {
  readonly kind: 'send';
}

/** A request for memory. */
export type RdmaRequest = RdmaWrite | RdmaRead;

/** An answer to a request. */
export type RdmaAnswer = ReadResponse | Ack | Nak;

/** Anything on the wire between two cards. */
export type RdmaPacket = RdmaRequest | RdmaAnswer | SendMessage;
