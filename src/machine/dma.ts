/**
 * Devices moving bytes. A transfer is one step: it is routed piece by piece, lands in RAM or in another
 * device's BAR, or faults. Writes are posted, so the device is not told of a fault; reads come back all
 * ones.
 */

import { assert, type DmaAddr, type TraceBody } from '../base/index.ts';
import type { Actor } from './actor.ts';
import type { AccessClass, Cell } from './cell.ts';
import type { Device } from './device.ts';
import type { Machine } from './machine.ts';
import type { Landing } from './pci/fabric.ts';
import type { PciFunction } from './pci/function.ts';
import { type Access, type Look, NOW, PreemptStep } from './task.ts';

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

/** Moves one piece; false if the device behind the BAR does not answer such an access. */
type MovePiece = (landing: Landing, done: number, length: number) => boolean;

abstract class Transfer<R> extends PreemptStep<R> {
  protected readonly machine: Machine;
  protected readonly requester: PciFunction;
  protected readonly address: DmaAddr;
  protected readonly length: number;

  constructor(machine: Machine, requester: PciFunction, address: DmaAddr, length: number) {
    super();
    this.machine = machine;
    this.requester = requester;
    this.address = address;
    this.length = length;
  }

  protected abstract get isWrite(): boolean;

  get cell(): Cell {
    return this.requester.command;
  }

  get verb(): string {
    return this.isWrite ? 'dma write' : 'dma read';
  }

  override accesses(look: Look): readonly Access[] {
    const touched: Access[] = [];
    const accessClass: AccessClass = this.isWrite ? 'W' : 'R';
    let done = 0;
    while (done < this.length) {
      const landing = this.resolve(done, look, touched, null);
      if (landing.kind === 'fault') break;
      const length = Math.min(landing.length, this.length - done);
      touched.push(...landed(this.machine, landing, length, accessClass));
      done += length;
    }
    return touched;
  }

  protected resolve(
    done: number,
    look: Look,
    touched: Access[] | null,
    route: string[] | null,
  ): Landing {
    const { requester, isWrite: write } = this;
    const request = { requester, address: this.address + done, write };
    return this.machine.fabric.resolve(request, look, { route, touched });
  }

  /** Moves all bytes. False if some did not arrive. */
  protected move(movePiece: MovePiece): boolean {
    let done = 0;
    while (done < this.length) {
      const route: string[] | null = this.machine.scheduler.record === undefined ? null : [];
      const landing = this.resolve(done, NOW, null, route);
      const length = landing.kind === 'fault' ? 0 : Math.min(landing.length, this.length - done);
      const ok = landing.kind !== 'fault' && movePiece(landing, done, length);
      this.note(landing, done, ok ? length : this.length - done, route, ok);
      if (!ok) return false;
      done += length;
    }
    return true;
  }

  private note(
    landing: Landing,
    done: number,
    length: number,
    route: readonly string[] | null,
    ok: boolean,
  ): void {
    const device = this.requester.name;
    const address = this.address + done;
    const { machine } = this;
    machine.scheduler.record?.({
      kind: this.isWrite ? 'dma.write' : 'dma.read',
      device,
      address,
      length,
      target: describeLanding(landing),
      route: route ?? [],
      result: ok ? 'done' : 'fault',
    });
    if (ok) return;
    const access = this.isWrite ? 'write' : 'read';
    if (landing.kind === 'fault' && landing.iommu) {
      machine.fault({ kind: 'iommu.fault', device, address, access, why: landing.why });
      return;
    }
    const at = landing.kind === 'fault' ? landing.at : describeLanding(landing);
    const why =
      landing.kind === 'fault' ? landing.why : 'the device does not answer such an access';
    machine.fault({ kind: 'pci.fault', device, address, access, at, why });
  }
}

class DmaWrite extends Transfer<void> {
  private readonly bytes: Uint8Array;

  constructor(machine: Machine, requester: PciFunction, address: DmaAddr, bytes: Uint8Array) {
    super(machine, requester, address, bytes.length);
    this.bytes = bytes;
  }

  protected get isWrite(): boolean {
    return true;
  }

  apply(_actor: Actor): void {
    this.move((landing, done, length) => {
      const piece = length === this.length ? this.bytes : this.bytes.subarray(done, done + length);
      if (landing.kind === 'ram') {
        landing.bank.bytes.write(landing.phys - landing.bank.spec.start, piece);
        return true;
      }
      const place = regionOf(this.machine, landing);
      return place?.region.write(place.offset, piece) ?? false;
    });
  }
}

class DmaRead extends Transfer<DmaReadResult> {
  protected get isWrite(): boolean {
    return false;
  }

  apply(): DmaReadResult {
    const bytes = new Uint8Array(this.length);
    let arrived = 0;
    const ok = this.move((landing, done, length) => {
      const piece = bytes.subarray(done, done + length);
      if (landing.kind === 'ram') {
        landing.bank.bytes.read(landing.phys - landing.bank.spec.start, piece);
      } else {
        const place = regionOf(this.machine, landing);
        if (place === null || !place.region.read(place.offset, piece)) return false;
      }
      arrived = done + length;
      return true;
    });
    if (!ok) bytes.fill(0xff, arrived);
    return { bytes, ok };
  }
}

/** The region a BAR landing is in; null if nothing there answers. */
export function regionOf(machine: Machine, landing: Landing): ReturnType<PciFunction['regionAt']> {
  if (landing.kind !== 'bar') return null;
  return machine.functionOf(landing.node)?.regionAt(landing.bar, landing.offset) ?? null;
}

/** What an access that lands there touches. */
export function landed(
  machine: Machine,
  landing: Landing,
  length: number,
  accessClass: AccessClass,
): readonly Access[] {
  if (landing.kind === 'ram') return [landing.bank.access(landing.phys, length, accessClass)];
  const place = regionOf(machine, landing);
  return place?.region.accesses(place.offset, length, accessClass) ?? [];
}

/** Where a request arrived, for people. */
export function describeLanding(landing: Landing): string {
  const hex = (value: number): string => `0x${value.toString(16)}`;
  switch (landing.kind) {
    case 'ram':
      return `node${landing.bank.spec.node}+${hex(landing.phys)}`;
    case 'bar':
      return `${landing.node.address} BAR${landing.bar}+${hex(landing.offset)}`;
    case 'fault':
      return `nowhere: ${landing.why}`;
  }
}

/** A fault event: what the IOMMU or the fabric reports. */
export type FaultEvent = Extract<TraceBody, { kind: 'iommu.fault' | 'pci.fault' }>;
