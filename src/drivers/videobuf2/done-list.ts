/** The buffers that the hardware is done with and the program has not taken yet. */

import { type Access, Cell, PreemptStep, wholeCell } from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';

/** `vb2_queue.done_list` under its spinlock. Oldest first. */
export class DoneList extends Cell<readonly Vb2Buffer[]> {
  /** A step that adds one. */
  add(buffer: Vb2Buffer): PreemptStep<void> {
    return new AddDone(this, buffer);
  }

  /** A step that takes the oldest; null if there is none. */
  take(): PreemptStep<Vb2Buffer | null> {
    return new TakeDone(this);
  }

  /** A step that says whether there is none. */
  isEmpty(): PreemptStep<boolean> {
    return new IsEmpty(this);
  }

  /** A step that forgets all. */
  clear(): PreemptStep<void> {
    return new ClearDone(this);
  }
}

abstract class DoneStep<R> extends PreemptStep<R> {
  readonly cell: DoneList;

  constructor(cell: DoneList) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class AddDone extends DoneStep<void> {
  private readonly buffer: Vb2Buffer;

  constructor(cell: DoneList, buffer: Vb2Buffer) {
    super(cell);
    this.buffer = buffer;
  }

  get verb(): string {
    return 'buffer done';
  }

  apply(): void {
    this.cell.value = [...this.cell.value, this.buffer];
  }
}

class TakeDone extends DoneStep<Vb2Buffer | null> {
  get verb(): string {
    return 'take a buffer';
  }

  apply(): Vb2Buffer | null {
    const [first = null, ...rest] = this.cell.value;
    this.cell.value = rest;
    return first;
  }
}

class IsEmpty extends DoneStep<boolean> {
  get verb(): string {
    return 'look for done buffers';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): boolean {
    return this.cell.value.length === 0;
  }
}

class ClearDone extends DoneStep<void> {
  get verb(): string {
    return 'forget done buffers';
  }

  apply(): void {
    this.cell.value = [];
  }
}
