/**
 * Linux's rule for peer-to-peer: can a client device reach the memory of a provider device, and is
 * the way straight through a switch or through the root complex? This is the only implementation of
 * the rule; the simulated kernel and the doctor both call it.
 *
 * The rule looks at the tree, at ACS control, at the CPU and at a list. It does not look at what
 * the hardware does; that is `machine/pci/fabric`.
 *
 * @source `calc_map_type_and_dist()`, drivers/pci/p2pdma.c, v7.2; reference/linux-dma-buf.md D.3
 */

import type { CpuSpec, MachineSpec, PciNode } from '../../machine/index.ts';
import { type BridgeVerdict, cpuSupportsP2pdma, hostBridgesAllow } from './p2pdma-host-bridges.ts';

/** ACS control bits that make a port send peer requests up: redirect of requests and completions,
 *  and egress control. */
export const ACS_REDIRECT_MASK: number = 0x04 | 0x08 | 0x20;

/**
 * How the client may address the provider's memory (`enum pci_p2pdma_map_type`). `unknown` if a
 * fact that decides it is missing; a running kernel never says so.
 */
export type P2pMapType = 'bus-address' | 'through-host-bridge' | 'not-supported' | 'unknown';

/** What decided. */
export type P2pReason =
  /** Nothing redirects between the two. */
  | 'common-bridge'
  /** The CPU rule accepts the root complex. */
  | 'cpu'
  /** The list accepts the host bridges. */
  | 'host-bridge-listed'
  /** Neither does. */
  | 'host-bridge-not-listed'
  /** The list accepts them for a pair below one host bridge only. */
  | 'host-bridges-differ'
  /** The ACS control of a port that matters could not be seen. */
  | 'acs-unknown'
  /** Which CPU it is could not be seen. */
  | 'cpu-unknown';

/** The verdict for one ordered pair. */
export interface P2pRoute {
  readonly mapType: P2pMapType;
  readonly reason: P2pReason;
  /**
   * The kernel's number: steps from both to the common bridge, or to the top. Also counted where
   * the pair is not supported; {@link p2pDistance} then says -1. Distance 4 is both "one switch"
   * and "two root ports": it is no measure of a route's quality.
   */
  readonly distance: number;
  /** The bridge (or the function itself) at which the two paths meet; null if they do not. */
  readonly common: PciNode | null;
  /** Ports and functions whose ACS control redirects, in the kernel's order. Empty without a common
   *  bridge: ACS then does not matter. */
  readonly redirects: readonly PciNode[];
}

/** The facts beside the tree. */
export interface P2pFacts {
  /** ACS control of a function: null without the capability, `unknown` if it could not be seen. */
  acsControl(node: PciNode): number | null | 'unknown';
  /** Null if it could not be seen. */
  readonly cpu: CpuSpec | null;
}

/** The facts as a machine's spec has them, before anybody wrote a register. */
export function p2pFactsAtBoot({ cpu }: MachineSpec): P2pFacts {
  return {
    cpu,
    acsControl: ({ spec: { acs } }) => (acs === null || acs === 'unknown' ? acs : acs.control),
  };
}

/**
 * Judges one ordered pair.
 *
 * @param provider - The function whose memory is to be reached.
 * @param client - The function that would do the DMA.
 */
export function p2pRoute(provider: PciNode, client: PciNode, facts: P2pFacts): P2pRoute {
  let steps = 0;
  for (let a: PciNode | null = provider; a !== null; a = a.upstream) {
    const below = stepsUpTo(client, a);
    if (below >= 0) return meeting(provider, client, a, steps + below, facts);
    steps += 1;
  }
  // Nothing in common: the distance is both depths, and ACS does not matter.
  const distance = steps + depthOf(client);
  return throughHostBridge(provider, client, facts, { distance, common: null, redirects: [] });
}

/** What `pci_p2pdma_distance()` returns for a verdict: -1 if the pair is not supported. */
export function p2pDistance(route: P2pRoute): number {
  return route.mapType === 'not-supported' ? -1 : route.distance;
}

/** The two paths meet at `common`; does anything on them redirect? */
function meeting(
  provider: PciNode,
  client: PciNode,
  common: PciNode,
  distance: number,
  facts: P2pFacts,
): P2pRoute {
  const redirects: PciNode[] = [];
  let unknown = false;
  const look = (node: PciNode): void => {
    const control = facts.acsControl(node);
    if (control === 'unknown') unknown = true;
    else if (control !== null && (control & ACS_REDIRECT_MASK) !== 0) redirects.push(node);
  };
  // The provider's side includes the common bridge, the client's does not.
  for (let a: PciNode | null = provider; a !== null; a = a === common ? null : a.upstream) look(a);
  for (let b: PciNode = client; b !== common; b = b.upstream ?? common) look(b);
  const found = { distance, common, redirects };
  if (redirects.length > 0) return throughHostBridge(provider, client, facts, found);
  if (unknown) return { mapType: 'unknown', reason: 'acs-unknown', ...found };
  return { mapType: 'bus-address', reason: 'common-bridge', ...found };
}

const BRIDGE_REASONS: Readonly<Record<BridgeVerdict, P2pReason>> = {
  allowed: 'host-bridge-listed',
  'not-listed': 'host-bridge-not-listed',
  'only-same-host-bridge': 'host-bridges-differ',
};

function throughHostBridge(
  provider: PciNode,
  client: PciNode,
  { cpu }: P2pFacts,
  found: Pick<P2pRoute, 'distance' | 'common' | 'redirects'>,
): P2pRoute {
  if (cpu !== null && cpuSupportsP2pdma(cpu)) {
    return { mapType: 'through-host-bridge', reason: 'cpu', ...found };
  }
  const verdict = hostBridgesAllow(provider.hostBridge, client.hostBridge);
  const reason = BRIDGE_REASONS[verdict];
  if (verdict === 'allowed') return { mapType: 'through-host-bridge', reason, ...found };
  if (cpu === null) return { mapType: 'unknown', reason: 'cpu-unknown', ...found };
  return { mapType: 'not-supported', reason, ...found };
}

/** Steps from `node` up to `ancestor`; -1 if it is not above. */
function stepsUpTo(node: PciNode, ancestor: PciNode): number {
  let steps = 0;
  for (let b: PciNode | null = node; b !== null; b = b.upstream) {
    if (b === ancestor) return steps;
    steps += 1;
  }
  return -1;
}

function depthOf(node: PciNode): number {
  let depth = 0;
  for (let b: PciNode | null = node; b !== null; b = b.upstream) depth += 1;
  return depth;
}
