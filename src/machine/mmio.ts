/** CPUs reaching into BARs: never cached, routed down from the root complex. */

import type { PhysAddr } from '../base/index.ts';
import type { Cell } from './cell.ts';
import type { Machine } from './machine.ts';
import type { Landing, WalkNotes } from './pci/fabric.ts';
import type { Look } from './task.ts';
import { describeLanding, type PieceNote, Transfer, whyNot } from './transfer.ts';

abstract class MmioTransfer<R> extends Transfer<R> {
  private readonly phys: PhysAddr;

  constructor(machine: Machine, phys: PhysAddr, length: number) {
    super(machine, length);
    this.phys = phys;
  }

  get cell(): Cell {
    return this.machine.mmio;
  }

  get verb(): string {
    return this.isWrite ? 'mmio write' : 'mmio read';
  }

  protected resolve(done: number, look: Look, notes: WalkNotes): Landing {
    return this.machine.fabric.resolveMmio(this.phys + done, this.isWrite, look, notes);
  }

  protected get reader(): string {
    return 'cpu';
  }

  protected note({ done, length, landing, ok }: PieceNote): void {
    this.machine.scheduler.record?.({
      kind: this.isWrite ? 'mmio.write' : 'mmio.read',
      target: describeLanding(landing),
      length,
      result: ok ? 'done' : 'fault',
    });
    if (ok) return;
    this.machine.fault({
      kind: 'pci.fault',
      device: 'cpu',
      address: this.phys + done,
      access: this.isWrite ? 'write' : 'read',
      ...whyNot(landing),
    });
  }
}

/** A step in which the CPU reads from a BAR. Nobody answers: all ones. */
export class MmioRead extends MmioTransfer<Uint8Array> {
  protected get isWrite(): boolean {
    return false;
  }

  apply(): Uint8Array {
    return this.readAll().bytes;
  }
}

/** A step in which the CPU writes to a BAR. Nobody answers: the bytes are lost. */
export class MmioWrite extends MmioTransfer<void> {
  private readonly bytes: Uint8Array;

  constructor(machine: Machine, phys: PhysAddr, bytes: Uint8Array) {
    super(machine, phys, bytes.length);
    this.bytes = bytes;
  }

  protected get isWrite(): boolean {
    return true;
  }

  apply(): void {
    this.writeAll(this.bytes);
  }
}
