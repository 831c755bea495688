/**
 * Who is above whom, from bus numbers alone: a bridge owns the buses from its secondary to its
 * subordinate, and the deepest owner of a bus is the parent of what is on it.
 *
 * @source reference/p2p-topology.md 3.5
 */

import { type Bdf, type BridgeSpec, formatBdf, parseBdf } from '../machine/index.ts';
import type { NoteTally } from './note-tally.ts';

/** Answers for one machine. */
export class BusTree {
  private readonly ranges = new Map<number, BusRange[]>();
  /** Address of the owner by bus; null: a root bus. Filled on demand. */
  private readonly owners = new Map<string, string | null>();

  /** @param bridges - By address, as {@link soundBridges} returns them. */
  constructor(bridges: ReadonlyMap<string, BridgeSpec>) {
    for (const [address, { secondary, subordinate }] of bridges) {
      const domain = parseBdf(address)?.domain;
      if (domain === undefined || secondary === 0) continue;
      const ranges = this.ranges.get(domain) ?? [];
      ranges.push({ address, secondary, subordinate });
      this.ranges.set(domain, ranges);
    }
  }

  /** Address of the bridge right above a function at `bdf`; null on a root bus. */
  parentOf({ domain, bus }: Bdf): string | null {
    const key = `${domain}:${bus}`;
    const known = this.owners.get(key);
    if (known !== undefined) return known;
    let best: BusRange | null = null;
    for (const range of this.ranges.get(domain) ?? []) {
      if (bus < range.secondary || bus > range.subordinate) continue;
      if (best === null || range.secondary > best.secondary) best = range;
    }
    const owner = best?.address ?? null;
    this.owners.set(key, owner);
    return owner;
  }
}

/**
 * The same bridges, in the same order; those whose numbers cannot be are taken as not configured.
 * Of two that claim one bus the first counts.
 */
export function soundBridges(
  bridges: ReadonlyMap<string, BridgeSpec>,
  tally: NoteTally,
): Map<string, BridgeSpec> {
  const taken = new Set<string>();
  const sound = new Map<string, BridgeSpec>();
  for (const [address, bridge] of bridges) {
    const { domain = 0, bus = 0 } = parseBdf(address) ?? {};
    const { secondary, subordinate } = bridge;
    const key = formatBdf({ domain, bus: secondary, device: 0, function: 0 });
    // Strictly upwards: this is also what keeps a bridge from being above itself.
    const isSound = secondary > bus && subordinate >= secondary && !taken.has(key);
    if (isSound) taken.add(key);
    else if (secondary !== 0) tally.add(address, 'its bus numbers cannot be; taken as not set up');
    sound.set(address, isSound ? bridge : { ...bridge, secondary: 0, subordinate: 0 });
  }
  return sound;
}

interface BusRange {
  readonly address: string;
  readonly secondary: number;
  readonly subordinate: number;
}
