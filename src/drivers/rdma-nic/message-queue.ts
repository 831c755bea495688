/**
 * Messages that arrived and that no program has taken yet: a receive queue that never runs out of
 * buffers.
 *
 * @source `struct ib_srq`, include/rdma/ib_verbs.h, v7.2
 */

import {
  type Access,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  SleepStep,
  wholeCell,
} from '../../machine/index.ts';

/** A receive queue. Its value is the messages, oldest first. */
export class MessageQueue extends Cell<readonly Uint8Array[]> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, []);
  }

  /**
   * A step that adds a message.
   *
   * @context Any.
   */
  push(message: Uint8Array): PreemptStep<void> {
    return new Push(this, message);
  }

  /**
   * A step that waits for a message and takes it.
   *
   * @context May sleep.
   */
  take(): SleepStep<Uint8Array> {
    return new Take(this);
  }
}

class Push extends PreemptStep<void> {
  readonly cell: MessageQueue;
  private readonly message: Uint8Array;

  constructor(cell: MessageQueue, message: Uint8Array) {
    super();
    this.cell = cell;
    this.message = message;
  }

  get verb(): string {
    return 'deliver message';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = [...this.cell.value, this.message];
  }
}

class Take extends SleepStep<Uint8Array> {
  readonly cell: MessageQueue;

  constructor(cell: MessageQueue) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'wait for a message';
  }

  override guard(look: Look): boolean {
    return look(this.cell).length > 0;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): Uint8Array {
    const [message, ...rest] = this.cell.value;
    this.cell.value = rest;
    return message as Uint8Array;
  }
}
