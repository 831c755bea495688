/** The route rule for every ordered pair of a large fabric. */

import { type P2pMapType, p2pFactsAtBoot, p2pRoute } from '../src/framework/index.ts';
import { generateFabric, PciTree } from '../src/machine/index.ts';

/** What all pairs came to. */
export interface VerdictCounts {
  readonly seed: number;
  /** Endpoints that were asked for; the root buses' own functions come along. */
  readonly asked: number;
  readonly endpoints: number;
  readonly pairs: number;
  readonly byType: Readonly<Record<P2pMapType, number>>;
  /** Sum of all distances: a check that nothing was skipped. */
  readonly distances: number;
}

/** Judges every ordered pair of endpoints; nothing is kept of a pair but its count. */
export function allPairs(asked: number, seed: number): VerdictCounts {
  const spec = generateFabric({ seed, endpoints: asked });
  const tree = new PciTree(spec);
  const facts = p2pFactsAtBoot(spec);
  const byType = { 'bus-address': 0, 'through-host-bridge': 0, 'not-supported': 0, unknown: 0 };
  const ends = tree.nodes.filter((node) => !node.isBridge);
  let pairs = 0;
  let distances = 0;
  for (const provider of ends) {
    for (const client of ends) {
      const { mapType, distance } = p2pRoute(provider, client, facts);
      byType[mapType] += 1;
      distances += distance;
      pairs += 1;
    }
  }
  return { seed, asked, endpoints: ends.length, pairs, byType, distances };
}
