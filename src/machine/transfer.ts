/**
 * Bytes on their way, whoever sent them: a transfer is one step, routed piece by piece. A piece
 * lands in RAM or in a region of a BAR; the first one that does not arrive ends the transfer with a
 * fault.
 */

import type { TraceBody } from '../base/index.ts';
import type { AccessClass } from './cell.ts';
import type { Machine } from './machine.ts';
import type { Landing, WalkNotes } from './pci/fabric.ts';
import type { RegionPlace } from './pci/function.ts';
import { type Access, type Look, NOW, PreemptStep } from './task.ts';

/** A fault event: what the IOMMU or the fabric reports. */
export type FaultEvent = Extract<TraceBody, { kind: 'iommu.fault' | 'pci.fault' }>;

/** One piece of a transfer, as the trace tells it. */
export interface PieceNote {
  /** Bytes before this piece. */
  readonly done: number;
  readonly length: number;
  readonly landing: Landing;
  readonly route: readonly string[];
  readonly ok: boolean;
}

/** A step that moves bytes. */
export abstract class Transfer<R> extends PreemptStep<R> {
  protected readonly machine: Machine;
  protected readonly length: number;

  constructor(machine: Machine, length: number) {
    super();
    this.machine = machine;
    this.length = length;
  }

  protected abstract get isWrite(): boolean;

  /** Who reads, for reports. */
  protected abstract get reader(): string;

  /** Where the byte after the first `done` ones arrives. */
  protected abstract resolve(done: number, look: Look, notes: WalkNotes): Landing;

  /** Records a piece; called while somebody listens, and for every fault. */
  protected abstract note(piece: PieceNote): void;

  override accesses(look: Look): readonly Access[] {
    const touched: Access[] = [];
    const accessClass: AccessClass = this.isWrite ? 'W' : 'R';
    for (let done = 0; done < this.length;) {
      const landing = this.resolve(done, look, { touched, route: null });
      const place = placeOf(this.machine, landing);
      if (place === null) break;
      const length = Math.min(place.length, this.length - done);
      touched.push(...accessesAt(this.machine, place, length, accessClass));
      done += length;
    }
    return touched;
  }

  /** Writes all bytes that arrive. */
  protected writeAll(bytes: Uint8Array): void {
    this.move((place, done, length) => {
      const piece = length === bytes.length ? bytes : bytes.subarray(done, done + length);
      if (place.kind === 'region') return place.region.write(place.offset, piece);
      place.bank.bytes.write(place.offset, piece);
      return true;
    });
  }

  /** Reads; what did not arrive is all ones. */
  protected readAll(): { readonly bytes: Uint8Array; readonly ok: boolean } {
    const bytes = new Uint8Array(this.length);
    const arrived = this.move((place, done, length) => {
      const piece = bytes.subarray(done, done + length);
      if (place.kind === 'region') return place.region.read(place.offset, piece);
      const unwritten = this.machine.cpu.countUnwritten(place.bank, place.phys, length);
      if (unwritten > 0) this.machine.stale(this.reader, place.phys, unwritten);
      place.bank.bytes.read(place.offset, piece);
      return true;
    });
    bytes.fill(0xff, arrived);
    return { bytes, ok: arrived === this.length };
  }

  /** Moves piece after piece; returns how many bytes arrived. */
  private move(movePiece: (place: Place, done: number, length: number) => boolean): number {
    const listening = this.machine.scheduler.record !== undefined;
    let done = 0;
    while (done < this.length) {
      const route: string[] | null = listening ? [] : null;
      const landing = this.resolve(done, NOW, { touched: null, route });
      const place = placeOf(this.machine, landing);
      const left = this.length - done;
      const length = place === null ? left : Math.min(place.length, left);
      const ok = place !== null && movePiece(place, done, length);
      if (listening || !ok) this.note({ done, length, landing, route: route ?? [], ok });
      if (!ok) return done;
      done += length;
    }
    return done;
  }
}

/** Where a piece is, and how many bytes from there on are in the same place. */
type Place =
  | ({ readonly kind: 'region' } & RegionPlace)
  | (Extract<Landing, { kind: 'ram' }> & { readonly offset: number });

function placeOf(machine: Machine, landing: Landing): Place | null {
  if (landing.kind === 'fault') return null;
  if (landing.kind === 'ram') {
    return { ...landing, offset: landing.phys - landing.bank.spec.start };
  }
  const fn = machine.functionOf(landing.node);
  const inBar = fn?.regionAt(landing.bar, landing.offset) ?? null;
  if (inBar === null) return null;
  return { kind: 'region', ...inBar, length: Math.min(landing.length, inBar.length) };
}

function accessesAt(
  machine: Machine,
  place: Place,
  length: number,
  accessClass: AccessClass,
): readonly Access[] {
  if (place.kind === 'ram') {
    const bytes = place.bank.access(place.phys, length, accessClass);
    const cache = machine.cpu.cellOf(place.bank);
    // What a device reads is looked at against the CPU's cache.
    return cache === null || accessClass === 'W' ? [bytes] : [bytes, { ...bytes, cell: cache }];
  }
  return place.region.accesses(place.offset, length, accessClass);
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

/** Who refused a piece, and why. */
export function whyNot(landing: Landing): { readonly at: string; readonly why: string } {
  if (landing.kind === 'fault') return { at: landing.at, why: landing.why };
  return { at: describeLanding(landing), why: 'the device does not answer such an access' };
}
