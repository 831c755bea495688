/**
 * What guests of one Xen host lend each other: a guest writes a page of its own and another guest's
 * number into its table, and that guest may map the page by the number of the entry.
 *
 * DIFFERS: guests share one simulated machine here, and a guest that is not ours is only its table
 * and its pages.
 *
 * @source drivers/xen/grant-table.c, v7.2; Xen's public grant table interface
 */

import type { PhysAddr } from '../../base/index.ts';
import { Cell, changeCell, type PreemptStep, type Scheduler } from '../../machine/index.ts';

/** LIMIT: entries of one guest's table. */
export const GRANTS_MAX = 2048;

/** One entry. */
interface Grant {
  /** Who lends. */
  readonly from: number;
  /** Who may map. */
  readonly to: number;
  readonly phys: PhysAddr;
  /** How often it is mapped. */
  readonly mapped: number;
}

type Entries = ReadonlyMap<string, Grant>;

/** The tables of all guests. Its value holds every entry in use. */
export class GrantTables extends Cell<Entries> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'grant tables', new Map());
  }

  /**
   * A step in which guest `from` lends a page to guest `to`.
   *
   * @returns Number of the entry; null: the guest's table is full.
   * @source `gnttab_grant_foreign_access()`
   */
  grant(from: number, to: number, phys: PhysAddr): PreemptStep<number | null> {
    return changeCell(this, 'grant', (entries) => {
      for (let ref = 1; ref <= GRANTS_MAX; ref += 1) {
        if (entries.has(keyOf(from, ref))) continue;
        return [replaced(entries, keyOf(from, ref), { from, to, phys, mapped: 0 }), ref];
      }
      return [entries, null];
    });
  }

  /**
   * A step in which a guest takes a page back.
   *
   * @returns False: somebody maps it, and it stays lent.
   * @source `gnttab_end_foreign_access_ref()`
   */
  end(from: number, ref: number): PreemptStep<boolean> {
    return changeCell(this, 'end grant', (entries) => {
      const grant = entries.get(keyOf(from, ref));
      if (grant === undefined || grant.mapped > 0) return [entries, false];
      return [new Map([...entries].filter(([key]) => key !== keyOf(from, ref))), true];
    });
  }

  /**
   * A step in which guest `by` maps what `from` lent.
   *
   * @returns The page; null: there is no such entry, or it is for another guest.
   * @source `GNTTABOP_map_grant_ref`
   */
  map(from: number, ref: number, by: number): PreemptStep<PhysAddr | null> {
    return changeCell(this, 'map grant', (entries) => {
      const grant = entries.get(keyOf(from, ref));
      if (grant?.to !== by) return [entries, null];
      const mapped = { ...grant, mapped: grant.mapped + 1 };
      return [replaced(entries, keyOf(from, ref), mapped), grant.phys];
    });
  }

  /**
   * A step in which it unmaps it.
   *
   * @source `GNTTABOP_unmap_grant_ref`
   */
  unmap(from: number, ref: number): PreemptStep<void> {
    return changeCell(this, 'unmap grant', (entries) => {
      const grant = entries.get(keyOf(from, ref));
      if (grant === undefined) return [entries, undefined];
      const left = { ...grant, mapped: grant.mapped - 1 };
      return [replaced(entries, keyOf(from, ref), left), undefined];
    });
  }

  /** How many entries a guest has in use. */
  lentBy(from: number): number {
    return [...this.value.values()].filter((grant) => grant.from === from).length;
  }
}

function keyOf(from: number, ref: number): string {
  return `${from}/${ref}`;
}

function replaced(entries: Entries, key: string, grant: Grant): Entries {
  return new Map([...entries, [key, grant]]);
}
