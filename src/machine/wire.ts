/**
 * A cable between two ports: packets arrive in order, with real bytes, and none is lost. What is
 * beyond the cable is somebody else's machine; a task of the story plays it.
 */

import { Cell } from './cell.ts';
import type { Scheduler } from './scheduler.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from './task.ts';

/** What every packet has. */
export interface Packet {
  /** What it is, for the trace: `rdma-write`. */
  readonly kind: string;
  /** Its payload; empty if it has none. */
  readonly payload: Uint8Array;
}

/**
 * One end of a wire. Its value is the queue of packets that arrived here and were not taken yet.
 */
export class WirePort<P extends Packet> extends Cell<readonly P[]> {
  readonly scheduler: Scheduler;
  /** The other end. */
  peer: WirePort<P> | null = null;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, []);
    this.scheduler = scheduler;
  }

  /** A step that sends a packet to the other end. */
  send(packet: P): PreemptStep<void> {
    return new Send(this, packet);
  }

  /** A step that waits for a packet and takes it. */
  receive(): SleepStep<P> {
    return new Receive(this);
  }
}

/** Lays a cable. Each end is named after who has it. */
export function layWire<P extends Packet>(
  scheduler: Scheduler,
  one: string,
  other: string,
): readonly [WirePort<P>, WirePort<P>] {
  const near = new WirePort<P>(scheduler, one);
  const far = new WirePort<P>(scheduler, other);
  near.peer = far;
  far.peer = near;
  return [near, far];
}

class Send<P extends Packet> extends PreemptStep<void> {
  readonly cell: WirePort<P>;
  private readonly from: WirePort<P>;
  private readonly packet: P;

  constructor(from: WirePort<P>, packet: P) {
    super();
    this.cell = from.peer ?? from;
    this.from = from;
    this.packet = packet;
  }

  get verb(): string {
    return 'send';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    const { kind, payload } = this.packet;
    this.cell.value = [...this.cell.value, this.packet];
    this.from.scheduler.record?.({
      kind: 'wire.send',
      wire: this.from.name,
      packet: kind,
      length: payload.length,
    });
  }
}

class Receive<P extends Packet> extends SleepStep<P> {
  readonly cell: WirePort<P>;

  constructor(cell: WirePort<P>) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'receive';
  }

  override guard(look: Look): boolean {
    return look(this.cell).length > 0;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): P {
    const [packet, ...rest] = this.cell.value;
    this.cell.value = rest;
    const { kind, payload } = packet as P;
    this.cell.scheduler.record?.({
      kind: 'wire.receive',
      wire: this.cell.name,
      packet: kind,
      length: payload.length,
    });
    return packet as P;
  }
}
