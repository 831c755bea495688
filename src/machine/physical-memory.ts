/**
 * RAM: real bytes at CPU physical addresses, by NUMA node, and the allocator that hands out pages.
 */

import { assert, DmaBufError, PAGE_SIZE, type PhysAddr, physAddr } from '../base/index.ts';
import { type AccessClass, Cell } from './cell.ts';
import type { Scheduler } from './scheduler.ts';
import { SparseBytes } from './sparse-bytes.ts';
import type { MemorySpec } from './spec/machine-spec.ts';
import { type Access, PreemptStep, wholeCell } from './task.ts';

/** LIMIT: pages in one allocation, 4 GiB. */
export const ALLOCATION_PAGES_MAX: number = 2 ** 20;

/** One range of RAM. The cell stands for its bytes; accesses name a range of addresses. */
export class MemoryBank extends Cell<null> {
  readonly spec: MemorySpec;
  readonly bytes: SparseBytes;

  constructor(scheduler: Scheduler, spec: MemorySpec) {
    super(scheduler, `node${spec.node} RAM`, null);
    this.spec = spec;
    this.bytes = new SparseBytes(spec.size);
  }

  /** True if the address lies in this bank. */
  holds(phys: number): boolean {
    return phys >= this.spec.start && phys < this.spec.start + this.spec.size;
  }

  /** What an access to `length` bytes at `phys` touches. */
  access(phys: number, length: number, accessClass: AccessClass): Access {
    return { cell: this, class: accessClass, from: phys, to: phys + length };
  }
}

/** All RAM of a machine. */
export class PhysicalMemory {
  readonly banks: readonly MemoryBank[];
  private readonly allocators: readonly PageAllocator[];

  constructor(scheduler: Scheduler, memory: readonly MemorySpec[]) {
    this.banks = memory.map((spec) => new MemoryBank(scheduler, spec));
    this.allocators = this.banks.map((bank) => new PageAllocator(scheduler, bank));
  }

  /** The bank that holds `phys`; null if no RAM is there. */
  bankAt(phys: number): MemoryBank | null {
    for (const bank of this.banks) {
      if (bank.holds(phys)) return bank;
    }
    return null;
  }

  /** A step that allocates contiguous pages, on `node` if it has RAM. Their bytes are 0. */
  allocate(pages: number, node = 0): PreemptStep<PhysAddr | null> {
    assert(pages > 0 && pages <= ALLOCATION_PAGES_MAX, `1 to 2^20 pages, not ${pages}`);
    const at = this.banks.findIndex((bank) => bank.spec.node === node);
    const allocator = this.allocators[Math.max(at, 0)];
    if (allocator === undefined) throw new DmaBufError('ENOMEM', 'alloc_pages', 'no-memory-at-all');
    return new AllocatePages(allocator, pages);
  }

  /** A step that gives pages back. */
  free(phys: PhysAddr, pages: number): PreemptStep<void> {
    const at = this.banks.findIndex((bank) => bank.holds(phys));
    const allocator = this.allocators[at];
    assert(allocator !== undefined, 'freed pages are RAM');
    return new FreePages(allocator, phys, pages);
  }

  /** Pages handed out and not given back. */
  get pagesInUse(): number {
    return this.allocators.reduce((sum, allocator) => sum + allocator.inUse, 0);
  }
}

/** LIMIT: the first MiB of a bank is left alone, as firmware keeps it. */
const RESERVED_SIZE = 2 ** 20;

/** Hands out the pages of one bank: first those given back, then fresh ones upwards. */
class PageAllocator extends Cell<null> {
  readonly bank: MemoryBank;
  inUse = 0;
  private next: number;
  private readonly freed = new Map<number, number[]>();

  constructor(scheduler: Scheduler, bank: MemoryBank) {
    super(scheduler, `${bank.name} allocator`, null);
    this.bank = bank;
    this.next = bank.spec.start + RESERVED_SIZE;
  }

  take(pages: number): number | null {
    const again = this.freed.get(pages)?.pop();
    const start = again ?? this.next;
    if (again === undefined) {
      const { start: bankStart, size } = this.bank.spec;
      if (start + pages * PAGE_SIZE > bankStart + size) return null;
      this.next = start + pages * PAGE_SIZE;
    } else {
      this.bank.bytes.write(start - this.bank.spec.start, new Uint8Array(pages * PAGE_SIZE));
    }
    this.inUse += pages;
    return start;
  }

  give(start: number, pages: number): void {
    this.inUse -= pages;
    const same = this.freed.get(pages);
    if (same === undefined) this.freed.set(pages, [start]);
    else same.push(start);
  }
}

class AllocatePages extends PreemptStep<PhysAddr | null> {
  readonly cell: PageAllocator;
  private readonly pages: number;

  constructor(cell: PageAllocator, pages: number) {
    super();
    this.cell = cell;
    this.pages = pages;
  }

  get verb(): string {
    return 'allocate pages';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): PhysAddr | null {
    const start = this.cell.take(this.pages);
    return start === null ? null : physAddr(start);
  }
}

class FreePages extends PreemptStep<void> {
  readonly cell: PageAllocator;
  private readonly phys: PhysAddr;
  private readonly pages: number;

  constructor(cell: PageAllocator, phys: PhysAddr, pages: number) {
    super();
    this.cell = cell;
    this.phys = phys;
    this.pages = pages;
  }

  get verb(): string {
    return 'free pages';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.give(this.phys, this.pages);
  }
}
