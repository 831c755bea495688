/**
 * Polling a buffer: readable when nobody writes it any more, writable when nobody uses it. There is
 * one callback slot for each direction, whoever polls; a callback in its slot keeps the buffer
 * alive.
 *
 * It tells of the end of DMA only; caches still need the bracket of `cpu-access.ts`.
 *
 * @source `dma_buf_poll()`, drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.9
 */

import { type Access, Cell, PreemptStep, type Scheduler, wholeCell } from '../../machine/index.ts';

/** The two slots (`cb_in`, `cb_out`). Its value is the events whose slot is taken. */
export class PollSlots extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }

  /** A step that says which slots are taken. */
  read(): PreemptStep<number> {
    return new ReadSlots(this);
  }

  /** A step that takes the slot of `event`. False: it is taken. */
  take(event: number): PreemptStep<boolean> {
    return new ChangeSlot(this, event, true);
  }

  /** A step that gives the slot of `event` back. False: it was free. */
  clear(event: number): PreemptStep<boolean> {
    return new ChangeSlot(this, event, false);
  }
}

class ReadSlots extends PreemptStep<number> {
  readonly cell: PollSlots;

  constructor(cell: PollSlots) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'look at poll slots';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): number {
    return this.cell.value;
  }
}

class ChangeSlot extends PreemptStep<boolean> {
  readonly cell: PollSlots;
  private readonly event: number;
  private readonly isTaken: boolean;

  constructor(cell: PollSlots, event: number, isTaken: boolean) {
    super();
    this.cell = cell;
    this.event = event;
    this.isTaken = isTaken;
  }

  get verb(): string {
    return this.isTaken ? 'take poll slot' : 'clear poll slot';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): boolean {
    const { cell, event, isTaken } = this;
    if (((cell.value & event) !== 0) === isTaken) return false;
    cell.value ^= event;
    return true;
  }
}
