/**
 * What to take for the root complex of a captured machine. Whether it carries requests between
 * devices cannot be seen, so hardware is assumed to do what Linux believes of it (decision 7).
 */

import { cpuSupportsP2pdma, hostBridgesAllow } from '../framework/index.ts';
import {
  type HostBridge,
  MachinePlan,
  type MachineSpec,
  type PeerForwarding,
} from '../machine/index.ts';

const NOTE =
  'Whether the root complex carries requests between devices cannot be seen; it is assumed to do ' +
  'what Linux believes.';

/** The machine with `peerForwarding` of every host bridge as Linux believes, and a note. */
export function assumeForwarding(spec: MachineSpec): MachineSpec {
  const isTrusted = spec.cpu !== null && cpuSupportsP2pdma(spec.cpu);
  // A second tree, so that every bridge has a twin that Linux's rule takes for another bridge.
  const twins = new MachinePlan(spec).tree.hostBridges;
  const believed = new MachinePlan(spec).tree.hostBridges.map((bridge, at) =>
    isTrusted ? 'all' : believedOf(bridge, twins[at] ?? bridge),
  );
  const hostBridges = spec.hostBridges.map((bridge, at) => ({
    ...bridge,
    peerForwarding: believed[at] ?? 'none',
  }));
  return { ...spec, hostBridges, notes: [...spec.notes, NOTE] };
}

function believedOf(bridge: HostBridge, twin: HostBridge): PeerForwarding {
  if (hostBridgesAllow(bridge, bridge) !== 'allowed') return 'none';
  return hostBridgesAllow(bridge, twin) === 'allowed' ? 'all' : 'same-host-bridge';
}
