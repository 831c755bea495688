/** Hands out the pages of all banks: the lowest that are free, on the node that was asked. */

import { alignDown, assert, PAGE_SIZE, type PhysAddr, physAddr } from '../base/index.ts';
import { Cell } from './cell.ts';
import type { MemoryBank } from './physical-memory.ts';
import type { Scheduler } from './scheduler.ts';
import { type Access, type Look, PreemptStep, wholeCell } from './task.ts';

/** LIMIT: the first MiB of a bank is left alone, as firmware keeps it. */
const RESERVED_SIZE = 2 ** 20;

/** Free pages in a row: CPU physical addresses `start` up to `end`. */
interface FreeRange {
  readonly bank: MemoryBank;
  readonly start: number;
  readonly end: number;
}

/** The CPU's caches, as far as the allocator needs them. */
export interface CacheOfBanks {
  /** The cell that stands for the cache over a bank; null where devices see the cache. */
  cellOf(bank: MemoryBank): Cell | null;
  /** Forgets what is cached of a range. */
  discard(bank: MemoryBank, phys: number, length: number): void;
}

/** The allocator. Its value is what is free, in the order of banks, by ascending address. */
export class PageAllocator extends Cell<readonly FreeRange[]> {
  readonly scheduler: Scheduler;
  readonly banks: readonly MemoryBank[];
  readonly caches: CacheOfBanks;
  private pagesInAll: number;

  constructor(scheduler: Scheduler, banks: readonly MemoryBank[], caches: CacheOfBanks) {
    const free = banks
      .map((bank) => {
        const { start, size } = bank.spec;
        return { bank, start: start + RESERVED_SIZE, end: start + size };
      })
      .filter(({ start, end }) => start < end);
    super(scheduler, 'page allocator', free);
    this.scheduler = scheduler;
    this.banks = banks;
    this.caches = caches;
    this.pagesInAll = pagesOf(free);
  }

  /** Pages handed out and not given back. */
  get pagesInUse(): number {
    return this.pagesInAll - pagesOf(this.value);
  }

  /** Takes bytes out for good, at boot: the highest that are free. Null: there is no room. */
  reserve(size: number, alignment: number): PhysAddr | null {
    const startIn = ({ end }: FreeRange): number => alignDown(end - size, alignment);
    const found = this.value.find((range) => startIn(range) >= range.start);
    if (found === undefined) return null;
    const start = startIn(found);
    this.value = this.value.flatMap((range) => {
      if (range !== found) return [range];
      const { bank, end } = range;
      const around = [
        { bank, start: range.start, end: start },
        { bank, start: start + size, end },
      ];
      return around.filter((part) => part.start < part.end);
    });
    this.pagesInAll -= size / PAGE_SIZE;
    return physAddr(start);
  }
}

function pagesOf(ranges: readonly FreeRange[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start, 0) / PAGE_SIZE;
}

/** Where `size` bytes are free: on the node, or else in the first bank that has room. */
function findRoom(free: readonly FreeRange[], size: number, node: number): FreeRange | null {
  const fits = ({ start, end }: FreeRange): boolean => end - start >= size;
  const near = free.find((range) => range.bank.spec.node === node && fits(range));
  return near ?? free.find(fits) ?? null;
}

/** A step that allocates, and zeroes what it found. */
export class AllocatePages extends PreemptStep<PhysAddr | null> {
  readonly cell: PageAllocator;
  private readonly size: number;
  private readonly node: number;

  constructor(cell: PageAllocator, pages: number, node: number) {
    super();
    this.cell = cell;
    this.size = pages * PAGE_SIZE;
    this.node = node;
  }

  get verb(): string {
    return 'allocate pages';
  }

  override accesses(look: Look): readonly Access[] {
    const own = wholeCell(this.cell, 'W');
    const found = findRoom(look(this.cell), this.size, this.node);
    if (found === null) return [own];
    const { bank, start } = found;
    const bytes = bank.access(start, this.size, 'W');
    const cache = this.cell.caches.cellOf(bank);
    return cache === null ? [own, bytes] : [own, bytes, { ...bytes, cell: cache }];
  }

  override failure(): null {
    return null;
  }

  apply(): PhysAddr | null {
    const { cell, size } = this;
    const found = findRoom(cell.value, size, this.node);
    if (found === null) return null;
    const { bank, start, end } = found;
    cell.value = cell.value.flatMap((range) => {
      if (range !== found) return [range];
      return start + size === end ? [] : [{ bank, start: start + size, end }];
    });
    bank.bytes.zero(start - bank.spec.start, size);
    cell.caches.discard(bank, start, size);
    return physAddr(start);
  }
}

/**
 * A step that gives pages back. Their bytes stay until somebody gets them anew. Pages that are free
 * already stop the kernel: it cannot trust its lists any more.
 */
export class FreePages extends PreemptStep<void> {
  readonly cell: PageAllocator;
  private readonly start: number;
  private readonly end: number;

  constructor(cell: PageAllocator, phys: PhysAddr, pages: number) {
    super();
    this.cell = cell;
    this.start = phys;
    this.end = phys + pages * PAGE_SIZE;
  }

  get verb(): string {
    return 'free pages';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    const { cell } = this;
    const bank = cell.banks.find(({ spec }) => {
      return this.start >= spec.start && this.end <= spec.start + spec.size;
    });
    assert(bank !== undefined, 'freed pages are RAM of one range');
    const joined = { bank, start: this.start, end: this.end };
    const others: FreeRange[] = [];
    for (const range of cell.value) {
      if (range.start < this.end && this.start < range.end) {
        cell.scheduler.oops('free_pages: pages that are free already');
        return;
      }
      if (range.bank !== bank) others.push(range);
      else if (range.end === joined.start) joined.start = range.start;
      else if (range.start === joined.end) joined.end = range.end;
      else others.push(range);
    }
    const order = new Map(cell.banks.map((one, index) => [one, index]));
    cell.value = [...others, joined].sort(
      (one, other) =>
        (order.get(one.bank) ?? 0) - (order.get(other.bank) ?? 0) || one.start - other.start,
    );
  }
}
