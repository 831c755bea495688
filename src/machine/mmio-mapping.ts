/**
 * A BAR in a process's address space. While it is not present, an access is a page fault: the
 * kernel decides then. Drivers that must stop a process from touching a device take it away (zap).
 */

import { addressPlus, assert, type PhysAddr } from '../base/index.ts';
import type { Actor } from './actor.ts';
import { Cell } from './cell.ts';
import type { Machine } from './machine.ts';
import { type Access, type Look, PreemptStep, wholeCell } from './task.ts';

/** A mapped BAR. Its value says whether the page-table entries are there. */
export class MmioMapping extends Cell<boolean> {
  readonly machine: Machine;
  /** CPU physical address of the first byte. */
  readonly phys: PhysAddr;
  readonly size: number;

  constructor(machine: Machine, name: string, phys: PhysAddr, size: number) {
    super(machine.scheduler, name, false);
    this.machine = machine;
    this.phys = phys;
    this.size = size;
  }

  /**
   * True if the mapping holds all of these bytes. Beyond its end is no page of it: an access there
   * is a segmentation fault, not a page fault, and the caller's to report.
   */
  holds(offset: number, length: number): boolean {
    return offset >= 0 && length >= 0 && offset + length <= this.size;
  }

  /** A step that reads, inside the mapping. Null: page fault, nothing was read. */
  read(offset: number, length: number): PreemptStep<Uint8Array | null> {
    assert(this.holds(offset, length), `an access stays inside ${this.name}`);
    return new Guarded(this, this.machine.cpu.mmioRead(addressPlus(this.phys, offset), length));
  }

  /** A step that writes, inside the mapping. Null: page fault, nothing was written. */
  write(offset: number, bytes: Uint8Array): PreemptStep<true | null> {
    assert(this.holds(offset, bytes.length), `an access stays inside ${this.name}`);
    const write = this.machine.cpu.mmioWrite(addressPlus(this.phys, offset), bytes);
    return new Guarded(this, write, true);
  }

  /** A step that fills the page-table entries in, or takes them away. */
  setPresent(isPresent: boolean): PreemptStep<void> {
    return new SetPresent(this, isPresent);
  }
}

/** An access that happens only if the mapping is present at that moment. */
class Guarded<R> extends PreemptStep<R | null> {
  readonly cell: MmioMapping;
  private readonly access: PreemptStep<unknown>;
  private readonly instead: R | undefined;

  constructor(cell: MmioMapping, access: PreemptStep<unknown>, instead?: R) {
    super();
    this.cell = cell;
    this.access = access;
    this.instead = instead;
  }

  get verb(): string {
    return this.access.verb;
  }

  override accesses(look: Look, actor: Actor): readonly Access[] {
    const own = wholeCell(this.cell, 'R');
    return look(this.cell) ? [own, ...this.access.accesses(look, actor)] : [own];
  }

  apply(actor: Actor): R | null {
    if (!this.cell.value) return null;
    const result = this.access.apply(actor);
    return this.instead ?? (result as R);
  }
}

class SetPresent extends PreemptStep<void> {
  readonly cell: MmioMapping;
  private readonly isPresent: boolean;

  constructor(cell: MmioMapping, isPresent: boolean) {
    super();
    this.cell = cell;
    this.isPresent = isPresent;
  }

  get verb(): string {
    return this.isPresent ? 'insert mapping' : 'zap mapping';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = this.isPresent;
  }
}
