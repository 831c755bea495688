/**
 * RAM: real bytes at CPU physical addresses, by NUMA node, and the allocator that hands out pages.
 */

import { assert, DmaBufError, PAGE_SIZE, type PhysAddr } from '../base/index.ts';
import { type AccessClass, Cell } from './cell.ts';
import { AllocatePages, type CacheOfBanks, FreePages, PageAllocator } from './page-allocator.ts';
import type { Scheduler } from './scheduler.ts';
import { SparseBytes } from './sparse-bytes.ts';
import type { MemorySpec } from './spec/machine-spec.ts';
import type { Access, PreemptStep } from './task.ts';

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
  private readonly allocator: PageAllocator;

  constructor(scheduler: Scheduler, memory: readonly MemorySpec[], caches: CacheOfBanks) {
    this.banks = memory.map((spec) => new MemoryBank(scheduler, spec));
    this.allocator = new PageAllocator(scheduler, this.banks, caches);
  }

  /** The bank that holds `phys`; null if no RAM is there. */
  bankAt(phys: number): MemoryBank | null {
    for (const bank of this.banks) {
      if (bank.holds(phys)) return bank;
    }
    return null;
  }

  /**
   * A step that allocates contiguous pages: on `node` if it has room, else on another. Their bytes
   * are 0, for the CPU and for devices.
   *
   * @throws {@link DmaBufError} `ENOMEM` the machine has no RAM.
   * @returns Null if no range of so many pages is free.
   */
  allocate(pages: number, node = 0): PreemptStep<PhysAddr | null> {
    assert(pages > 0 && pages <= ALLOCATION_PAGES_MAX, `1 to 2^20 pages, not ${pages}`);
    if (this.banks.length === 0) throw new DmaBufError('ENOMEM', 'alloc_pages', 'no-memory-at-all');
    return new AllocatePages(this.allocator, pages, node);
  }

  /** A step that gives pages back. */
  free(phys: PhysAddr, pages: number): PreemptStep<void> {
    assert(this.bankAt(phys) !== null, 'freed pages are RAM');
    return new FreePages(this.allocator, phys, pages);
  }

  /**
   * Takes contiguous pages out of the allocator for good, for who hands them out by rules of its
   * own. At boot only: the allocator's cell is changed without a step.
   *
   * @param alignment - Of the address; a multiple of the page size.
   * @returns Null if no range of so many pages is free.
   * @source `memblock_reserve()`
   */
  reserve(pages: number, alignment: number): PhysAddr | null {
    assert(pages > 0 && pages <= ALLOCATION_PAGES_MAX, `1 to 2^20 pages, not ${pages}`);
    return this.allocator.reserve(pages * PAGE_SIZE, alignment);
  }

  /** Pages handed out and not given back; those that were reserved at boot do not count. */
  get pagesInUse(): number {
    return this.allocator.pagesInUse;
  }
}
