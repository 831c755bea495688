/** What Linux says of the way between two functions, in words and as data. */

import {
  explainRoute,
  type P2pAdvice,
  type P2pMapType,
  type P2pRoute,
  p2pDistance,
  p2pFactsAtBoot,
  p2pRoute,
} from '../framework/index.ts';
import type { MachinePlan, PciNode } from '../machine/index.ts';
import { candidatesFor } from '../scenarios/index.ts';

const WORDS: Readonly<Record<P2pMapType, string>> = {
  'bus-address': 'straight through the switch, by bus address',
  'through-host-bridge': 'through the host bridge',
  'not-supported': 'none that Linux trusts, so a mapping is refused',
  unknown: 'not known',
};

/** The verdicts as reports name them. */
export type PairVerdict = 'bus-address' | 'host-bridge' | 'not-supported' | 'unknown';

const VERDICTS: Readonly<Record<P2pMapType, PairVerdict>> = {
  'bus-address': 'bus-address',
  'through-host-bridge': 'host-bridge',
  'not-supported': 'not-supported',
  unknown: 'unknown',
};

/** One ordered pair, judged. */
export interface Pair {
  /** Address of the function whose memory is to be reached. */
  readonly provider: string;
  /** Address of the function that would do the DMA. */
  readonly client: string;
  readonly verdict: PairVerdict;
  /** The kernel's number; null where there is none. */
  readonly distance: number | null;
  readonly why: string;
  /** Empty for a pair that works. */
  readonly advice: readonly P2pAdvice[];
}

/** A route in a sentence: the verdict, and why. */
export function routeInWords(provider: PciNode, client: PciNode, route: P2pRoute): string {
  const { why } = explainRoute(provider, client, route);
  const distance = p2pDistance(route);
  const length = distance < 0 || route.mapType === 'unknown' ? '' : `, distance ${distance}`;
  return `${WORDS[route.mapType]}${length} (${why})`;
}

/** The number of pairs of a drive and a network card of a machine. */
export function pairCount(plan: MachinePlan): number {
  return candidatesFor(plan, 'nvme-drive').length * candidatesFor(plan, 'network-card').length;
}

/** The pairs of a drive and a network card of a machine, at most `countMax`. */
export function pairsOf(plan: MachinePlan, countMax: number): readonly Pair[] {
  const clients = candidatesFor(plan, 'network-card');
  const pairs: Pair[] = [];
  for (const provider of candidatesFor(plan, 'nvme-drive')) {
    for (const client of clients) {
      if (pairs.length >= countMax) return pairs;
      pairs.push(judge(plan, provider, client));
    }
  }
  return pairs;
}

function judge(plan: MachinePlan, provider: PciNode, client: PciNode): Pair {
  const route = p2pRoute(provider, client, p2pFactsAtBoot(plan.spec));
  const distance = p2pDistance(route);
  const { why, advice } = explainRoute(provider, client, route);
  return {
    provider: provider.address,
    client: client.address,
    verdict: VERDICTS[route.mapType],
    distance: distance < 0 || route.mapType === 'unknown' ? null : distance,
    why,
    advice,
  };
}
