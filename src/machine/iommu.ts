/**
 * The IOMMU: each device has a domain, each domain a table from I/O virtual addresses to physical
 * ones. A request that finds no entry, or not the right to write, goes nowhere and leaves a fault
 * that names device and address.
 *
 * DIFFERS: a removed entry is gone at once; Linux may batch the invalidation of the IOMMU's cache
 * (`DMA-FQ` domains) and leave it reachable for some milliseconds.
 */

import { assert, type DmaAddr, dmaAddr, PAGE_SIZE, type PhysAddr } from '../base/index.ts';
import { Cell } from './cell.ts';
import type { Scheduler } from './scheduler.ts';
import { type Access, PreemptStep, wholeCell } from './task.ts';

/** One entry: `size` bytes at `iova` are `size` bytes at `phys`. */
export interface IovaMapping {
  readonly iova: number;
  readonly phys: number;
  /** Bytes; a multiple of the page size. */
  readonly size: number;
  readonly writable: boolean;
  readonly readable: boolean;
}

/** What a device may do with what it is given. */
export interface IovaRights {
  readonly readable: boolean;
  readonly writable: boolean;
}

/** A piece to be mapped. */
export interface PhysRange {
  readonly phys: PhysAddr;
  /** Bytes; a multiple of the page size. */
  readonly size: number;
}

/** Addresses that are not handed out, `limit` included. */
export interface IovaRange {
  readonly base: number;
  readonly limit: number;
}

/**
 * Addresses are handed out downwards from here while there is room, as Linux does for PCI devices.
 */
const IOVA_LIMIT = 2 ** 32;

/** LIMIT: four levels of page tables translate 48 bits. */
const IOVA_LIMIT_WIDE = 2 ** 48;

/** A table of translations. Its value is the list of mappings, by ascending I/O address. */
export class IommuDomain extends Cell<readonly IovaMapping[]> {
  readonly scheduler: Scheduler;
  /** Never handed out; ascending and apart. */
  readonly reserved: readonly IovaRange[];

  constructor(scheduler: Scheduler, name: string, reserved: readonly IovaRange[] = []) {
    super(scheduler, name, []);
    this.scheduler = scheduler;
    this.reserved = reserved;
  }

  /**
   * A step that maps the ranges one behind the other at a fresh address: below 4 GiB, or above when
   * there is no room below.
   *
   * @param limit - First address that the device cannot send.
   * @returns The address; null if there is no room.
   * @source `iommu_dma_alloc_iova()`, drivers/iommu/dma-iommu.c, v7.2
   */
  mapAnywhere(
    ranges: readonly PhysRange[],
    rights: IovaRights,
    limit: number = IOVA_LIMIT_WIDE,
  ): PreemptStep<DmaAddr | null> {
    return new MapAnywhere(this, ranges, rights, limit);
  }

  /** A step that maps a range at an address of the caller's choice. False if something is there. */
  mapAt(iova: DmaAddr, range: PhysRange, rights: IovaRights): PreemptStep<boolean> {
    return new MapAt(this, iova, range, rights);
  }

  /** A step that removes every mapping in `size` bytes from `iova`. Returns the bytes removed. */
  unmap(iova: DmaAddr, size: number): PreemptStep<number> {
    return new Unmap(this, iova, size);
  }
}

/** True for addresses that are taken but lead nowhere yet: see `iova-block.ts`. */
export function isHeld({ readable, writable }: IovaMapping): boolean {
  return !readable && !writable;
}

/** Where `size` bytes are free below `limit`: below 4 GiB if there is room; null if nowhere. */
export function findFreeIova(
  domain: IommuDomain,
  size: number,
  limit: number = IOVA_LIMIT_WIDE,
): number | null {
  const low = findRoom(domain, size, Math.min(limit, IOVA_LIMIT));
  return low ?? findRoom(domain, size, Math.min(limit, IOVA_LIMIT_WIDE));
}

/** The mapping that holds `iova`; null if none does. */
export function findMapping(table: readonly IovaMapping[], iova: number): IovaMapping | null {
  let low = 0;
  let high = table.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = table[middle] as IovaMapping;
    if (entry.iova + entry.size <= iova) low = middle + 1;
    else high = middle;
  }
  const entry = table[low];
  return entry !== undefined && entry.iova <= iova ? entry : null;
}

/**
 * Where `size` bytes, aligned to the power of two that holds them, are free below `top`; null if
 * nowhere.
 */
function findRoom({ value: table, reserved }: IommuDomain, size: number, top: number) {
  const align = 2 ** Math.ceil(Math.log2(size));
  let end = top;
  let mapped = table.length - 1;
  let kept = reserved.length - 1;
  for (;;) {
    const mapping = table[mapped];
    const range = reserved[kept];
    // The one of the next two obstacles that ends higher; they may overlap.
    const isMapping = endOf(mapping) > afterRange(range);
    const below = Math.max(PAGE_SIZE, endOf(mapping), afterRange(range));
    const start = Math.floor((end - size) / align) * align;
    if (start >= below) return start;
    if (mapping === undefined && range === undefined) return null;
    end = Math.min(end, (isMapping ? mapping?.iova : range?.base) ?? 0);
    if (isMapping) mapped -= 1;
    else kept -= 1;
  }
}

function endOf(mapping: IovaMapping | undefined): number {
  return mapping === undefined ? 0 : mapping.iova + mapping.size;
}

function afterRange(range: IovaRange | undefined): number {
  return range === undefined ? 0 : range.limit + 1;
}

abstract class DomainStep<R> extends PreemptStep<R> {
  readonly cell: IommuDomain;

  constructor(cell: IommuDomain) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  protected insert(iova: number, ranges: readonly PhysRange[], rights: IovaRights): void {
    const { cell } = this;
    const added: IovaMapping[] = [];
    let at = iova;
    for (const { phys, size } of ranges) {
      assert(size > 0 && size % PAGE_SIZE === 0, `a mapping is whole pages: ${size}`);
      added.push({ iova: at, phys, size, ...rights });
      cell.scheduler.record?.({ kind: 'iommu.map', domain: cell.name, iova: at, phys, size });
      at += size;
    }
    const before = cell.value;
    const index = before.findIndex((entry) => entry.iova > iova);
    const cut = index < 0 ? before.length : index;
    cell.value = [...before.slice(0, cut), ...added, ...before.slice(cut)];
  }
}

class MapAnywhere extends DomainStep<DmaAddr | null> {
  private readonly ranges: readonly PhysRange[];
  private readonly rights: IovaRights;
  private readonly limit: number;

  constructor(cell: IommuDomain, ranges: readonly PhysRange[], rights: IovaRights, limit: number) {
    super(cell);
    this.ranges = ranges;
    this.rights = rights;
    this.limit = limit;
  }

  get verb(): string {
    return 'map';
  }

  override failure(): null {
    return null;
  }

  apply(): DmaAddr | null {
    const size = this.ranges.reduce((sum, range) => sum + range.size, 0);
    const { cell } = this;
    const iova = findFreeIova(cell, size, this.limit);
    if (iova === null) return null;
    this.insert(iova, this.ranges, this.rights);
    return dmaAddr(iova);
  }
}

class MapAt extends DomainStep<boolean> {
  private readonly iova: DmaAddr;
  private readonly range: PhysRange;
  private readonly rights: IovaRights;

  constructor(cell: IommuDomain, iova: DmaAddr, range: PhysRange, rights: IovaRights) {
    super(cell);
    this.iova = iova;
    this.range = range;
    this.rights = rights;
  }

  get verb(): string {
    return 'map';
  }

  apply(): boolean {
    const end = this.iova + this.range.size;
    const taken = this.cell.value.some((m) => m.iova < end && this.iova < m.iova + m.size);
    if (taken) return false;
    this.insert(this.iova, [this.range], this.rights);
    return true;
  }
}

class Unmap extends DomainStep<number> {
  private readonly iova: DmaAddr;
  private readonly size: number;

  constructor(cell: IommuDomain, iova: DmaAddr, size: number) {
    super(cell);
    this.iova = iova;
    this.size = size;
  }

  get verb(): string {
    return 'unmap';
  }

  apply(): number {
    const { cell } = this;
    const end = this.iova + this.size;
    let removed = 0;
    cell.value = cell.value.filter((mapping) => {
      if (mapping.iova < this.iova || mapping.iova + mapping.size > end) return true;
      removed += mapping.size;
      const { iova, phys, size } = mapping;
      cell.scheduler.record?.({ kind: 'iommu.unmap', domain: cell.name, iova, phys, size });
      return false;
    });
    return removed;
  }
}
