/**
 * Who is above whom, from bus numbers alone: a bridge owns the buses from its secondary to its
 * subordinate, and the deepest owner of a bus is the parent of what is on it.
 *
 * @source reference/p2p-topology.md 3.5
 */

import { type Bdf, type BridgeSpec, compareBdf, formatBdf } from '../machine/index.ts';

/** What is needed of a function. */
export interface OnBus {
  readonly bdf: Bdf;
  /** Null for anything but a bridge. */
  readonly bridge: Pick<BridgeSpec, 'secondary' | 'subordinate'> | null;
}

/** Answers for one machine. */
export class BusTree {
  /** Address of the owner by bus; null: a root bus. Filled on demand. */
  private readonly owners = new Map<string, string | null>();
  private readonly bridges: ReadonlyMap<number, readonly BusRange[]>;

  /** @param notes - Takes a sentence for each bridge whose numbers contradict another's. */
  constructor(functions: readonly OnBus[], notes: string[]) {
    this.bridges = rangesOf(functions, notes);
  }

  /** The bridge right above a function at `bdf`; null on a root bus. */
  parentOf(bdf: Bdf): string | null {
    const key = `${bdf.domain}:${bdf.bus}`;
    const known = this.owners.get(key);
    if (known !== undefined) return known;
    let best: BusRange | null = null;
    for (const range of this.bridges.get(bdf.domain) ?? []) {
      if (bdf.bus < range.secondary || bdf.bus > range.subordinate) continue;
      if (best === null || range.secondary > best.secondary) best = range;
    }
    const owner = best === null ? null : formatBdf(best.bdf);
    this.owners.set(key, owner);
    return owner;
  }
}

interface BusRange {
  readonly bdf: Bdf;
  readonly secondary: number;
  readonly subordinate: number;
}

/** The configured bridges by domain, in order of address. Of two for one bus the first counts. */
function rangesOf(
  functions: readonly OnBus[],
  notes: string[],
): ReadonlyMap<number, readonly BusRange[]> {
  const byDomain = new Map<number, BusRange[]>();
  const taken = new Map<string, string>();
  for (const { bdf, bridge } of functions.toSorted((one, two) => compareBdf(one.bdf, two.bdf))) {
    if (bridge === null || bridge.secondary === 0) continue;
    const address = formatBdf(bdf);
    // Strictly upwards: this is also what keeps a bridge from being above itself.
    if (bridge.secondary <= bdf.bus || bridge.subordinate < bridge.secondary) {
      notes.push(`The bus numbers of ${address} make no sense; nothing is taken to be below it.`);
      continue;
    }
    const key = `${bdf.domain}:${bridge.secondary}`;
    const other = taken.get(key);
    if (other !== undefined) {
      notes.push(`${other} and ${address} claim the same bus; the first is taken at its word.`);
      continue;
    }
    taken.set(key, address);
    const ranges = byDomain.get(bdf.domain) ?? [];
    ranges.push({ bdf, secondary: bridge.secondary, subordinate: bridge.subordinate });
    byDomain.set(bdf.domain, ranges);
  }
  return byDomain;
}
