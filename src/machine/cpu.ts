/**
 * The CPU's accesses: loads and stores to RAM, through a cache where devices do not see it, and to
 * BARs, which are never cached.
 */

import type { PhysAddr } from '../base/index.ts';
import { assert } from '../base/index.ts';
import { CpuCache } from './cache.ts';
import type { AccessClass, Cell } from './cell.ts';
import type { Machine } from './machine.ts';
import { MmioRead, MmioWrite } from './mmio.ts';
import type { MemoryBank } from './physical-memory.ts';
import { type Access, PreemptStep } from './task.ts';

/** The processors of a machine, seen as one. */
export class Cpu {
  private readonly machine: Machine;
  private readonly caches = new Map<MemoryBank, CpuCache>();

  constructor(machine: Machine) {
    this.machine = machine;
    if (machine.spec.coherentDma) return;
    for (const bank of machine.memory.banks) {
      this.caches.set(bank, new CpuCache(machine.scheduler, `cache of ${bank.name}`, bank.bytes));
    }
  }

  /** The cell that stands for the cache over a bank; null where devices see the cache. */
  cellOf(bank: MemoryBank): Cell | null {
    return this.caches.get(bank) ?? null;
  }

  /** Bytes of a range that the CPU has written and a device does not see. */
  countUnwritten(bank: MemoryBank, phys: number, length: number): number {
    return this.caches.get(bank)?.countUnwritten(phys - bank.spec.start, length) ?? 0;
  }

  /** Forgets what is cached of a range: its pages have a new owner. */
  discard(bank: MemoryBank, phys: number, length: number): void {
    this.caches.get(bank)?.discard(phys - bank.spec.start, length);
  }

  /** A step that loads from RAM. */
  load(phys: PhysAddr, length: number): PreemptStep<Uint8Array> {
    return new CpuLoad(this.machine, this.placeOf(phys, length), length);
  }

  /** A step that stores to RAM. */
  store(phys: PhysAddr, bytes: Uint8Array): PreemptStep<void> {
    return new CpuStore(this.placeOf(phys, bytes.length), bytes);
  }

  /** A step that loads from RAM past the cache, through a mapping that is not cached. */
  loadUncached(phys: PhysAddr, length: number): PreemptStep<Uint8Array> {
    return new CpuLoad(this.machine, { ...this.placeOf(phys, length), cache: null }, length);
  }

  /** A step that stores to RAM past the cache. */
  storeUncached(phys: PhysAddr, bytes: Uint8Array): PreemptStep<void> {
    return new CpuStore({ ...this.placeOf(phys, bytes.length), cache: null }, bytes);
  }

  /**
   * A step that cleans the cache over a range of RAM; nothing to do where devices see the cache.
   */
  clean(phys: PhysAddr, length: number): PreemptStep<void> {
    return new Maintain(this.machine, this.placeOf(phys, length), length, 'clean');
  }

  /** A step that invalidates the cache over a range of RAM. */
  invalidate(phys: PhysAddr, length: number): PreemptStep<void> {
    return new Maintain(this.machine, this.placeOf(phys, length), length, 'invalidate');
  }

  /** A step that reads from a BAR. Nobody answers: all ones, and a fault. */
  mmioRead(phys: PhysAddr, length: number): PreemptStep<Uint8Array> {
    return new MmioRead(this.machine, phys, length);
  }

  /** A step that writes to a BAR. Nobody answers: the bytes are lost, and a fault. */
  mmioWrite(phys: PhysAddr, bytes: Uint8Array): PreemptStep<void> {
    return new MmioWrite(this.machine, phys, bytes);
  }

  private placeOf(phys: number, length: number): Place {
    const bank = this.machine.memory.bankAt(phys);
    assert(bank !== null, `RAM is at 0x${phys.toString(16)}`);
    const { start, size } = bank.spec;
    assert(phys + length <= start + size, 'an access stays in one bank');
    return { bank, cache: this.caches.get(bank) ?? null, offset: phys - start, phys };
  }
}

interface Place {
  readonly bank: MemoryBank;
  readonly cache: CpuCache | null;
  readonly offset: number;
  readonly phys: number;
}

function ramAccesses(place: Place, length: number, ram: AccessClass): readonly Access[] {
  const own = place.bank.access(place.phys, length, ram);
  if (place.cache === null) return [own];
  // Also a load changes the cache: it keeps the line.
  return [{ cell: place.cache, class: 'W', from: place.phys, to: place.phys + length }, own];
}

class CpuLoad extends PreemptStep<Uint8Array> {
  private readonly machine: Machine;
  private readonly place: Place;
  private readonly length: number;

  constructor(machine: Machine, place: Place, length: number) {
    super();
    this.machine = machine;
    this.place = place;
    this.length = length;
  }

  get cell(): Cell {
    return this.place.bank;
  }

  get verb(): string {
    return 'load';
  }

  override accesses(): readonly Access[] {
    return ramAccesses(this.place, this.length, 'R');
  }

  apply(): Uint8Array {
    const { machine, place, length } = this;
    const { bank, cache, offset, phys } = place;
    const bytes = new Uint8Array(length);
    const stale = cache?.countStale(offset, length) ?? 0;
    if (stale > 0) machine.stale('cpu', phys, stale);
    (cache ?? bank.bytes).read(offset, bytes);
    return bytes;
  }
}

class CpuStore extends PreemptStep<void> {
  private readonly place: Place;
  private readonly bytes: Uint8Array;

  constructor(place: Place, bytes: Uint8Array) {
    super();
    this.place = place;
    this.bytes = bytes;
  }

  get cell(): Cell {
    return this.place.bank;
  }

  get verb(): string {
    return 'store';
  }

  override accesses(): readonly Access[] {
    // A cached store leaves memory as it is, but reads the line it fills.
    return ramAccesses(this.place, this.bytes.length, this.place.cache === null ? 'W' : 'R');
  }

  apply(): void {
    const { bank, cache, offset } = this.place;
    (cache ?? bank.bytes).write(offset, this.bytes);
  }
}

class Maintain extends PreemptStep<void> {
  private readonly machine: Machine;
  private readonly place: Place;
  private readonly length: number;
  private readonly operation: 'clean' | 'invalidate';

  constructor(machine: Machine, place: Place, length: number, operation: 'clean' | 'invalidate') {
    super();
    this.machine = machine;
    this.place = place;
    this.length = length;
    this.operation = operation;
  }

  get cell(): Cell {
    return this.place.cache ?? this.place.bank;
  }

  get verb(): string {
    return `cache ${this.operation}`;
  }

  override accesses(): readonly Access[] {
    if (this.place.cache === null) return [this.place.bank.access(this.place.phys, 0, 'R')];
    // Cleaning writes memory; so does an invalidate, for lines at its ends that it covers in part.
    return ramAccesses(this.place, this.length, 'W');
  }

  apply(): void {
    const { cache, offset, phys } = this.place;
    if (cache === null) return;
    const kind = this.operation === 'clean' ? 'cache.clean' : 'cache.invalidate';
    this.machine.scheduler.record?.({ kind, phys, size: this.length });
    cache[this.operation](offset, this.length);
  }
}
