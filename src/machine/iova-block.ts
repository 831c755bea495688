/**
 * I/O addresses that are taken first and filled later, piece by piece. While a part is held and not
 * filled, a request for it finds nothing.
 *
 * @source `alloc_iova_fast()`, drivers/iommu/iova.c, v7.2: the allocator is apart from the table
 */

import { type DmaAddr, dmaAddr, type PhysAddr } from '../base/index.ts';
import { findFreeIova, findMapping, type IommuDomain, type IovaMapping, isHeld } from './iommu.ts';
import { type Access, PreemptStep, wholeCell } from './task.ts';

abstract class BlockStep<R> extends PreemptStep<R> {
  readonly cell: IommuDomain;

  constructor(cell: IommuDomain) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  /** Replaces what of the table lies in a range: `cut` says what becomes of a part of an entry. */
  protected replace(
    iova: number,
    size: number,
    cut: (entry: IovaMapping) => boolean,
    put: readonly IovaMapping[],
  ): readonly IovaMapping[] {
    const end = iova + size;
    const removed: IovaMapping[] = [];
    const kept = this.cell.value.flatMap((entry) => {
      const from = Math.max(entry.iova, iova);
      const to = Math.min(entry.iova + entry.size, end);
      if (from >= to || !cut(entry)) return [entry];
      removed.push(part(entry, from, to));
      return [part(entry, entry.iova, from), part(entry, to, entry.iova + entry.size)].filter(
        (one) => one.size > 0,
      );
    });
    this.cell.value = [...kept, ...put].sort((one, other) => one.iova - other.iova);
    return removed;
  }
}

function part(entry: IovaMapping, from: number, to: number): IovaMapping {
  const phys = isHeld(entry) ? 0 : entry.phys + from - entry.iova;
  return { ...entry, iova: from, phys, size: to - from };
}

function held(iova: number, size: number): IovaMapping {
  return { iova, size, phys: 0, readable: false, writable: false };
}

/** A step that takes `size` bytes of addresses below `limit`. Null: there is no room. */
export class HoldIova extends BlockStep<DmaAddr | null> {
  private readonly size: number;
  private readonly limit: number;

  constructor(cell: IommuDomain, size: number, limit: number) {
    super(cell);
    this.size = size;
    this.limit = limit;
  }

  get verb(): string {
    return 'hold addresses';
  }

  override failure(): null {
    return null;
  }

  apply(): DmaAddr | null {
    const iova = findFreeIova(this.cell, this.size, this.limit);
    if (iova === null) return null;
    this.replace(iova, this.size, () => false, [held(iova, this.size)]);
    return dmaAddr(iova);
  }
}

/** A step that fills a part of what is held. False: the part is not held, or filled already. */
export class LinkIova extends BlockStep<boolean> {
  private readonly entry: IovaMapping;

  constructor(cell: IommuDomain, entry: IovaMapping) {
    super(cell);
    this.entry = entry;
  }

  get verb(): string {
    return 'link';
  }

  apply(): boolean {
    const { cell, entry } = this;
    const { iova, size, phys } = entry;
    const free = cell.value.some(
      (one) => isHeld(one) && one.iova <= iova && one.iova + one.size >= iova + size,
    );
    if (!free) return false;
    this.replace(iova, size, isHeld, [entry]);
    cell.scheduler.record?.({ kind: 'iommu.map', domain: cell.name, iova, phys, size });
    return true;
  }
}

/** A step that empties a part again, which stays held. Returns what was there. */
export class UnlinkIova extends BlockStep<readonly IovaMapping[]> {
  private readonly iova: number;
  private readonly size: number;

  constructor(cell: IommuDomain, iova: number, size: number) {
    super(cell);
    this.iova = iova;
    this.size = size;
  }

  get verb(): string {
    return 'unlink';
  }

  apply(): readonly IovaMapping[] {
    const { cell } = this;
    const removed = this.replace(this.iova, this.size, (entry) => !isHeld(entry), []);
    for (const { iova, phys, size } of removed) {
      cell.scheduler.record?.({ kind: 'iommu.unmap', domain: cell.name, iova, phys, size });
    }
    const back = removed.map(({ iova, size }) => held(iova, size));
    this.replace(this.iova, this.size, () => false, back);
    return removed;
  }
}

/** A step that lets go of what is held. */
export class ReleaseIova extends BlockStep<void> {
  private readonly iova: number;
  private readonly size: number;

  constructor(cell: IommuDomain, iova: number, size: number) {
    super(cell);
    this.iova = iova;
    this.size = size;
  }

  get verb(): string {
    return 'release addresses';
  }

  apply(): void {
    this.replace(this.iova, this.size, isHeld, []);
  }
}

/** A step that says where an I/O address leads (`iommu_iova_to_phys()`). Null: nowhere. */
export class TranslateIova extends PreemptStep<PhysAddr | null> {
  readonly cell: IommuDomain;
  private readonly iova: number;

  constructor(cell: IommuDomain, iova: number) {
    super();
    this.cell = cell;
    this.iova = iova;
  }

  get verb(): string {
    return 'translate';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): PhysAddr | null {
    const entry = findMapping(this.cell.value, this.iova);
    if (entry === null || isHeld(entry)) return null;
    return (entry.phys + this.iova - entry.iova) as PhysAddr;
  }
}
