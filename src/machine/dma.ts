/**
 * Devices moving bytes. Writes are posted, so the device is not told of a fault; reads come back
 * all ones.
 */

import { assert, type DmaAddr } from '../base/index.ts';
import type { Cell } from './cell.ts';
import type { Device } from './device.ts';
import type { Machine } from './machine.ts';
import type { Landing, WalkNotes } from './pci/fabric.ts';
import type { PciFunction } from './pci/function.ts';
import type { Look, PreemptStep } from './task.ts';
import { describeLanding, type PieceNote, Transfer, whyNot } from './transfer.ts';

/** What a device got for a read. */
export interface DmaReadResult {
  readonly bytes: Uint8Array;
  /** False if the request was not answered; the bytes in question are then 0xff. */
  readonly ok: boolean;
}

/** The engine through which all device-made requests go. */
export class DmaEngine {
  private readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** A step in which `device` writes `bytes` to its DMA address `address`. */
  write(device: Device, address: DmaAddr, bytes: Uint8Array): PreemptStep<void> {
    return new DmaWrite(this.machine, pciOf(device), address, bytes);
  }

  /** A step in which `device` reads `length` bytes from its DMA address `address`. */
  read(device: Device, address: DmaAddr, length: number): PreemptStep<DmaReadResult> {
    return new DmaRead(this.machine, pciOf(device), address, length);
  }
}

function pciOf(device: Device): PciFunction {
  assert(device.pci !== null, `${device.name} is on PCI: other buses are not modelled`);
  return device.pci;
}

abstract class DmaTransfer<R> extends Transfer<R> {
  private readonly requester: PciFunction;
  private readonly address: DmaAddr;

  constructor(machine: Machine, requester: PciFunction, address: DmaAddr, length: number) {
    super(machine, length);
    this.requester = requester;
    this.address = address;
  }

  get cell(): Cell {
    return this.requester.command;
  }

  protected get reader(): string {
    return this.requester.name;
  }

  get verb(): string {
    return this.isWrite ? 'dma write' : 'dma read';
  }

  protected resolve(done: number, look: Look, notes: WalkNotes): Landing {
    const { requester, isWrite: write } = this;
    const request = { requester, address: this.address + done, write };
    return this.machine.fabric.resolve(request, look, notes);
  }

  protected note({ done, length, landing, route, ok }: PieceNote): void {
    const { machine } = this;
    const from = { device: this.requester.name, address: this.address + done };
    machine.scheduler.record?.({
      kind: this.isWrite ? 'dma.write' : 'dma.read',
      ...from,
      length,
      target: describeLanding(landing),
      route,
      result: ok ? 'done' : 'fault',
    });
    if (ok) return;
    const access = this.isWrite ? 'write' : 'read';
    const { at, why } = whyNot(landing);
    if (landing.kind === 'fault' && landing.iommu) {
      machine.fault({ kind: 'iommu.fault', ...from, access, why });
    } else {
      machine.fault({ kind: 'pci.fault', ...from, access, at, why });
    }
  }
}

class DmaWrite extends DmaTransfer<void> {
  private readonly bytes: Uint8Array;

  constructor(machine: Machine, requester: PciFunction, address: DmaAddr, bytes: Uint8Array) {
    super(machine, requester, address, bytes.length);
    this.bytes = bytes;
  }

  protected get isWrite(): boolean {
    return true;
  }

  apply(): void {
    this.writeAll(this.bytes);
  }
}

class DmaRead extends DmaTransfer<DmaReadResult> {
  protected get isWrite(): boolean {
    return false;
  }

  apply(): DmaReadResult {
    return this.readAll();
  }
}
