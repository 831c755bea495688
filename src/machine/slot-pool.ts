/**
 * A range of memory that was set aside and is handed out in slots: bounce buffers, a device's own
 * memory, RAM kept for contiguous buffers. It remembers what each allocation stands for.
 */

import { assert, type PhysAddr, physAddr } from '../base/index.ts';
import { Cell } from './cell.ts';
import { changeCell, lookAtCell } from './cell-step.ts';
import type { Scheduler } from './scheduler.ts';
import { type Access, PreemptStep, wholeCell } from './task.ts';

/** Slots in use. */
export interface SlotAllocation {
  readonly start: number;
  /** Bytes asked for; the slots may hold more. */
  readonly size: number;
  /** What the bytes are a copy of; null for memory that stands for itself. */
  readonly origin: PhysAddr | null;
}

/** The pool. Its value is what is in use, by ascending address. */
export class SlotPool extends Cell<readonly SlotAllocation[]> {
  /** CPU physical address of the first byte. */
  readonly start: PhysAddr;
  /** Bytes. */
  readonly size: number;
  /** Bytes in a slot. */
  readonly slotSize: number;

  constructor(
    scheduler: Scheduler,
    name: string,
    range: { readonly start: PhysAddr; readonly size: number; readonly slotSize: number },
  ) {
    super(scheduler, name, []);
    const { start, size, slotSize } = range;
    assert(size > 0 && size % slotSize === 0, 'a pool is whole slots');
    this.start = start;
    this.size = size;
    this.slotSize = slotSize;
  }

  /** True if the address lies in the pool. */
  holds(phys: number): boolean {
    return phys >= this.start && phys < this.start + this.size;
  }

  /** A step that takes slots, the first at a multiple of `align` in the pool. Null: no room. */
  take(size: number, align: number, origin: PhysAddr | null): PreemptStep<PhysAddr | null> {
    return new Take(this, size, align, origin);
  }

  /** A step that finds the allocation which holds an address; null if it is free. */
  find(phys: number): PreemptStep<SlotAllocation | null> {
    return lookAtCell(this, 'find slots', (taken) => {
      return taken.find(({ start, size }) => phys >= start && phys < start + size) ?? null;
    });
  }

  /** A step that gives slots back. False if none begin there. */
  give(start: PhysAddr): PreemptStep<boolean> {
    return changeCell(this, 'give slots', (taken) => {
      const left = taken.filter((one) => one.start !== start);
      return [left, left.length < taken.length];
    });
  }
}

class Take extends PreemptStep<PhysAddr | null> {
  readonly cell: SlotPool;
  private readonly size: number;
  private readonly align: number;
  private readonly origin: PhysAddr | null;

  constructor(cell: SlotPool, size: number, align: number, origin: PhysAddr | null) {
    super();
    this.cell = cell;
    this.size = size;
    this.align = align;
    this.origin = origin;
  }

  get verb(): string {
    return 'take slots';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  override failure(): null {
    return null;
  }

  apply(): PhysAddr | null {
    const { cell, size, origin } = this;
    const alignedUp = (address: number): number =>
      cell.start + roundUp(address - cell.start, this.align);
    let at: number = cell.start;
    let index = 0;
    for (const { start, size: taken } of cell.value) {
      if (at + size <= start) break;
      at = Math.max(at, alignedUp(start + roundUp(taken, cell.slotSize)));
      index += 1;
    }
    if (at + size > cell.start + cell.size) return null;
    const made = { start: at, size, origin };
    cell.value = [...cell.value.slice(0, index), made, ...cell.value.slice(index)];
    return physAddr(at);
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
