/**
 * The fences in a reservation, and the steps on the list of them. Who holds the reservation's lock
 * changes it; anybody reads it.
 *
 * @source drivers/dma-buf/dma-resv.c, v7.2; reference/linux-dma-buf.md B.2
 */

import {
  type Access,
  type Atomic,
  type Cell,
  type Look,
  PreemptStep,
  wholeCell,
} from '../../machine/index.ts';
import type { DmaFence } from './dma-fence.ts';

/**
 * What a fence stands for. A query for one usage finds it and all before it: `kernel`, memory being
 * moved or cleared; `write` and `read`, implicit synchronisation; `bookkeep`, everything else that
 * uses the memory.
 */
export type DmaResvUsage = 'kernel' | 'write' | 'read' | 'bookkeep';

const RANK: Readonly<Record<DmaResvUsage, number>> = { kernel: 0, write: 1, read: 2, bookkeep: 3 };

/** True if a query for `asked` finds fences of `usage`. */
export function isFoundBy(asked: DmaResvUsage, usage: DmaResvUsage): boolean {
  return RANK[usage] <= RANK[asked];
}

/**
 * What somebody who is about to write, or to read, has to wait for.
 *
 * @source `dma_resv_usage_rw()`
 */
export function dmaResvUsageRw(isWrite: boolean): DmaResvUsage {
  return isWrite ? 'read' : 'write';
}

/** A fence and what it stands for. */
export interface ResvEntry {
  readonly fence: DmaFence;
  readonly usage: DmaResvUsage;
}

/** What a reservation points to. */
export interface FenceTable {
  /** Another number, another table: who walks without the lock begins anew then. */
  readonly table: number;
  readonly entries: readonly ResvEntry[];
}

/** The pointer to the table. */
export type FenceList = Cell<FenceTable>;

abstract class ListStep<R> extends PreemptStep<R> {
  readonly cell: FenceList;

  constructor(cell: FenceList) {
    super();
    this.cell = cell;
  }

  override accesses(look: Look): readonly Access[] {
    const list = wholeCell(this.cell, 'W');
    return [list, ...look(this.cell).entries.map(({ fence }) => wholeCell(fence, 'R'))];
  }
}

/** What became of a fence that was added. */
export interface Added {
  /** The fence whose place it took; its reference is the caller's to drop. Null: a new place. */
  readonly replaced: DmaFence | null;
}

/** Puts a fence into the place of the first that it makes needless, or behind all. */
export class AddFence extends ListStep<Added> {
  private readonly entry: ResvEntry;
  private readonly slots: number;

  constructor(cell: FenceList, entry: ResvEntry, slots: number) {
    super(cell);
    this.entry = entry;
    this.slots = slots;
  }

  get verb(): string {
    return 'add fence';
  }

  override accesses(look: Look): readonly Access[] {
    return [...super.accesses(look), wholeCell(this.entry.fence.refs, 'G')];
  }

  apply(): Added {
    const { table, entries } = this.cell.value;
    const { entry } = this;
    const at = entries.findIndex((old) => replaces(entry, old));
    if (at < 0 && entries.length >= this.slots) {
      const { scheduler } = entry.fence.kernel;
      scheduler.oops('dma_resv_add_fence: no slot was reserved for the fence');
    }
    entry.fence.hold();
    const changed = at < 0 ? [...entries, entry] : entries.with(at, entry);
    this.cell.value = { table, entries: changed };
    return { replaced: entries[at]?.fence ?? null };
  }
}

/** True if nobody needs `old` any more once `added` is there. */
export function replaces(added: ResvEntry, old: ResvEntry): boolean {
  return isSuperseded(added, old) || old.fence.value.signaled;
}

function isSuperseded(added: ResvEntry, old: ResvEntry): boolean {
  return (
    old.fence.origin.context === added.fence.origin.context &&
    isFoundBy(old.usage, added.usage) &&
    added.fence.isLaterOrSame(old.fence)
  );
}

/** Makes a new table without the signaled fences, and gives those back. */
export class Reallocate extends ListStep<readonly DmaFence[]> {
  get verb(): string {
    return 'reserve';
  }

  apply(): readonly DmaFence[] {
    const { table, entries } = this.cell.value;
    const kept = entries.filter(({ fence }) => !fence.value.signaled);
    this.cell.value = { table: table + 1, entries: kept };
    return entries.map(({ fence }) => fence).filter((fence) => fence.value.signaled);
  }
}

/** Puts one fence in the place of every one of a context, and gives those back. */
export class ReplaceFences extends ListStep<readonly DmaFence[]> {
  private readonly context: number;
  private readonly entry: ResvEntry;

  constructor(cell: FenceList, context: number, entry: ResvEntry) {
    super(cell);
    this.context = context;
    this.entry = entry;
  }

  get verb(): string {
    return 'replace fences';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, this.matches(look(this.cell)).length === 0 ? 'R' : 'W')];
  }

  apply(): readonly DmaFence[] {
    const { table, entries } = this.cell.value;
    const old = this.matches(this.cell.value);
    if (old.length === 0) return [];
    const changed = entries.map((one) => {
      if (!old.includes(one)) return one;
      this.entry.fence.hold();
      return this.entry;
    });
    this.cell.value = { table, entries: changed };
    return old.map(({ fence }) => fence);
  }

  private matches({ entries }: FenceTable): readonly ResvEntry[] {
    return entries.filter(({ fence }) => fence.origin.context === this.context);
  }
}

/** Puts another table in the place of the whole, and gives its fences back. */
export class ExchangeTable extends ListStep<readonly DmaFence[]> {
  private readonly entries: readonly ResvEntry[];

  /** @param entries - With references, which are the table's then. */
  constructor(cell: FenceList, entries: readonly ResvEntry[]) {
    super(cell);
    this.entries = entries;
  }

  get verb(): string {
    return 'exchange fences';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): readonly DmaFence[] {
    const { table, entries } = this.cell.value;
    this.cell.value = { table: table + 1, entries: this.entries };
    return entries.map(({ fence }) => fence);
  }
}

/** Bytes of a table before its slots, and of each slot. */
const HEADER_SIZE = 24;
const SLOT_SIZE = 8;

/** Slots of a first table, at least. */
const SLOTS_MIN = 4;

/** Sizes that the kernel's allocator has, up to two pages; above, whole pages by powers of two. */
const BUCKETS: readonly number[] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];

/**
 * How many slots a table gets on x86-64.
 *
 * @param used - Fences in the old one.
 * @param slots - Slots of the old one; 0: there is none.
 * @param count - How many more fences there shall be room for.
 * @source `dma_resv_reserve_fences()`, `dma_resv_list_alloc()`
 */
export function slotsFor(used: number, slots: number, count: number): number {
  const wanted = slots > 0 ? Math.max(used + count, 2 * slots) : Math.max(SLOTS_MIN, pow2(count));
  const size = HEADER_SIZE + wanted * SLOT_SIZE;
  const bucket = BUCKETS.find((one) => one >= size) ?? pow2(size);
  return Math.floor((bucket - HEADER_SIZE) / SLOT_SIZE);
}

/** The least power of two that is not below `value`. */
function pow2(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}

/**
 * Lets a driver that knows more than the flag signal its fence. True if it is signaled.
 *
 * @context Any.
 */
export function* askDriver(fence: DmaFence): Atomic<boolean> {
  if (fence.ops.signaled === undefined || fence.value.signaled) return fence.value.signaled;
  return yield* fence.isSignaled();
}

/**
 * Drops references.
 *
 * @context Any.
 */
export function* putAll(fences: readonly DmaFence[]): Atomic {
  for (const fence of fences) yield* fence.put();
}
