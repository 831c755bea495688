/**
 * A piece of a process's address map, and its page table. Who maps something fills pages in at mmap
 * or when they are first touched, and may take them away again.
 *
 * @source `struct vm_area_struct`, include/linux/mm_types.h, v7.2
 */

import { assert, PAGE_SIZE, type PhysAddr, type UserAddr } from '../../base/index.ts';
import {
  type Access,
  type Actor,
  type Atomic,
  Cell,
  type Look,
  lookAtCell,
  type Machine,
  PreemptStep,
  type Task,
  wholeCell,
} from '../../machine/index.ts';
import type { KernelFile } from '../vfs/file.ts';

/** What a page of a map stands for. */
export interface PageEntry {
  /** Start of the page. */
  readonly phys: PhysAddr;
  /** RAM goes through the CPU's cache unless it is mapped past it; device memory never does. */
  readonly kind: 'ram' | 'uncached' | 'mmio';
  /** The first store makes a copy. {@link Vma.insertPages} sees to it in private maps. */
  readonly isReadOnly?: boolean;
  /** The page is the map's alone, RAM, and goes back with it: anonymous memory, private copies. */
  readonly isOwn?: boolean;
}

/** What the owner of a map does (`struct vm_operations_struct`). */
export interface VmOperations {
  /** Optional. The map was copied by a fork. */
  open?(vma: Vma): Task;
  /** Optional. The map goes away. */
  close?(vma: Vma): Task;
  /**
   * Optional; absent: a page that is not there is a bus error. Fills the page in with
   * {@link Vma.insertPage}, or throws.
   *
   * @param page - Number of the page in the map, from 0.
   * @throws {@link DmaBufError} `EFAULT`: a bus error.
   * @context May sleep. The process's mmap lock is held for reading.
   */
  fault?(vma: Vma, page: number, isWrite: boolean): Task;
}

/** What was asked of mmap(2). */
export interface VmaRequest {
  readonly start: UserAddr;
  /** Bytes; a multiple of the page size. */
  readonly size: number;
  /** Pages into the file. */
  readonly pgoff: number;
  readonly read: boolean;
  readonly write: boolean;
  /** False: `MAP_PRIVATE`. */
  readonly isShared: boolean;
  /** The map holds a reference; null for anonymous memory. */
  readonly file: KernelFile | null;
}

/** What is present in a map, by number of the page. */
export type PageMap = ReadonlyMap<number, PageEntry>;

/** A mapped range. Its value is the page table: what is present, by number of the page. */
export class Vma extends Cell<PageMap> {
  readonly machine: Machine;
  readonly start: UserAddr;
  readonly size: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly isShared: boolean;
  /** Replaced by who forwards a map to another file. */
  file: KernelFile | null;
  /** As {@link VmaRequest.pgoff}; replaced with {@link file}. */
  pgoff: number;
  /** Set by who maps. */
  operations: VmOperations = {};
  /** The mapper's own. */
  priv: unknown = null;

  constructor(machine: Machine, name: string, request: VmaRequest) {
    super(machine.scheduler, name, new Map());
    assert(request.size > 0 && request.size % PAGE_SIZE === 0, 'a map is whole pages');
    this.machine = machine;
    this.start = request.start;
    this.size = request.size;
    this.read = request.read;
    this.write = request.write;
    this.isShared = request.isShared;
    this.file = request.file;
    this.pgoff = request.pgoff;
  }

  /** First address after it. */
  get end(): number {
    return this.start + this.size;
  }

  /** Pages in it. */
  get pages(): number {
    return this.size / PAGE_SIZE;
  }

  /**
   * Fills pages in, from page number `page` on. In a private map they are only to be read; the
   * first store to one makes a copy.
   *
   * @context The mmap lock is held, as in mmap and fault.
   * @source `vmf_insert_pfn()`, `remap_pfn_range()`
   */
  *insertPages(page: number, entries: readonly PageEntry[]): Atomic {
    assert(page >= 0 && page + entries.length <= this.pages, 'pages lie in the map');
    yield* new InsertPages(this, page, entries);
  }

  /** A step that says what stands in the table for a page; null if nothing does. */
  entryAt(page: number): PreemptStep<PageEntry | null> {
    return lookAtCell(this, 'walk page table', (table) => table.get(page) ?? null);
  }

  /** A step that gives the whole table: what is present, by number of the page. */
  entries(): PreemptStep<PageMap> {
    return lookAtCell(this, 'walk page table', (table) => table);
  }

  /**
   * A step that puts a page where `expected` stands; false if another thread was faster.
   *
   * @param expected - Null: no page.
   * @source `pte_same()`, `set_pte_at()`
   */
  replacePage(page: number, expected: PageEntry | null, entry: PageEntry): PreemptStep<boolean> {
    return new ReplacePage(this, page, expected, entry);
  }

  /**
   * Takes pages away; touching one faults again. The map's own pages go back.
   *
   * @context Any lock the owner needs.
   * @source `unmap_mapping_range()`
   */
  *zapPages(page = 0, count: number = this.pages): Atomic {
    for (const { phys, isOwn } of yield* new ZapPages(this, page, count)) {
      if (isOwn === true) yield* this.machine.memory.free(phys, 1);
    }
  }

  /** A step that loads from one page. Null: it is not present. */
  loadPage(offset: number, length: number): PreemptStep<Uint8Array | null> {
    return new PageLoad(this, offset, length);
  }

  /** A step that stores to one page. Null: it is not present, or only to be read. */
  storePage(offset: number, bytes: Uint8Array): PreemptStep<true | null> {
    return new PageStore(this, offset, bytes);
  }
}

abstract class TableStep<R> extends PreemptStep<R> {
  readonly cell: Vma;

  constructor(cell: Vma) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class InsertPages extends TableStep<void> {
  private readonly page: number;
  private readonly entries: readonly PageEntry[];

  constructor(cell: Vma, page: number, entries: readonly PageEntry[]) {
    super(cell);
    this.page = page;
    this.entries = entries;
  }

  get verb(): string {
    return 'insert pages';
  }

  apply(): void {
    const changed = new Map(this.cell.value);
    for (const [i, entry] of this.entries.entries()) {
      const isReadOnly = !this.cell.isShared && entry.isOwn !== true;
      changed.set(this.page + i, isReadOnly ? { ...entry, isReadOnly } : entry);
    }
    this.cell.value = changed;
  }
}

class ReplacePage extends TableStep<boolean> {
  private readonly page: number;
  private readonly expected: PageEntry | null;
  private readonly entry: PageEntry;

  constructor(cell: Vma, page: number, expected: PageEntry | null, entry: PageEntry) {
    super(cell);
    this.page = page;
    this.expected = expected;
    this.entry = entry;
  }

  get verb(): string {
    return 'replace page';
  }

  apply(): boolean {
    const table = this.cell.value;
    if ((table.get(this.page) ?? null) !== this.expected) return false;
    this.cell.value = new Map([...table, [this.page, this.entry]]);
    return true;
  }
}

class ZapPages extends TableStep<readonly PageEntry[]> {
  private readonly page: number;
  private readonly count: number;

  constructor(cell: Vma, page: number, count: number) {
    super(cell);
    this.page = page;
    this.count = count;
  }

  get verb(): string {
    return 'zap pages';
  }

  apply(): readonly PageEntry[] {
    const table = [...this.cell.value];
    const isGone = (at: number): boolean => at >= this.page && at < this.page + this.count;
    this.cell.value = new Map(table.filter(([at]) => !isGone(at)));
    return table.filter(([at]) => isGone(at)).map(([, entry]) => entry);
  }
}

/** An access within one page, through the table as it is at that moment. */
abstract class PageAccess<R> extends PreemptStep<R | null> {
  readonly cell: Vma;
  private readonly offset: number;

  constructor(cell: Vma, offset: number, length: number) {
    super();
    const inPage = offset % PAGE_SIZE;
    assert(inPage + length <= PAGE_SIZE, 'an access stays in its page');
    this.cell = cell;
    this.offset = offset;
  }

  /** Null: not allowed so. */
  protected abstract through(entry: PageEntry, phys: PhysAddr): PreemptStep<R> | null;

  private stepAt(look: Look): PreemptStep<R> | null {
    const inPage = this.offset % PAGE_SIZE;
    const entry = look(this.cell).get((this.offset - inPage) / PAGE_SIZE);
    return entry === undefined ? null : this.through(entry, (entry.phys + inPage) as PhysAddr);
  }

  override accesses(look: Look, actor: Actor): readonly Access[] {
    const own = wholeCell(this.cell, 'R');
    const step = this.stepAt(look);
    return step === null ? [own] : [own, ...step.accesses(look, actor)];
  }

  apply(actor: Actor): R | null {
    const step = this.stepAt((cell) => cell.value);
    return step === null ? null : step.apply(actor);
  }
}

class PageLoad extends PageAccess<Uint8Array> {
  private readonly length: number;

  constructor(cell: Vma, offset: number, length: number) {
    super(cell, offset, length);
    this.length = length;
  }

  get verb(): string {
    return 'load';
  }

  protected through(entry: PageEntry, phys: PhysAddr): PreemptStep<Uint8Array> {
    const { cpu } = this.cell.machine;
    if (entry.kind === 'uncached') return cpu.loadUncached(phys, this.length);
    return entry.kind === 'ram' ? cpu.load(phys, this.length) : cpu.mmioRead(phys, this.length);
  }
}

class PageStore extends PageAccess<true> {
  private readonly bytes: Uint8Array;

  constructor(cell: Vma, offset: number, bytes: Uint8Array) {
    super(cell, offset, bytes.length);
    this.bytes = bytes;
  }

  get verb(): string {
    return 'store';
  }

  protected through(entry: PageEntry, phys: PhysAddr): PreemptStep<true> | null {
    if (entry.isReadOnly === true) return null;
    const { cpu } = this.cell.machine;
    const { bytes } = this;
    if (entry.kind === 'uncached') return new Stored(cpu.storeUncached(phys, bytes));
    return new Stored(entry.kind === 'ram' ? cpu.store(phys, bytes) : cpu.mmioWrite(phys, bytes));
  }
}

/** A store that says that it happened. */
class Stored extends PreemptStep<true> {
  private readonly inner: PreemptStep<void>;

  constructor(inner: PreemptStep<void>) {
    super();
    this.inner = inner;
  }

  get cell(): Cell {
    return this.inner.cell;
  }

  get verb(): string {
    return this.inner.verb;
  }

  override accesses(look: Look, actor: Actor): readonly Access[] {
    return this.inner.accesses(look, actor);
  }

  apply(actor: Actor): true {
    this.inner.apply(actor);
    return true;
  }
}
