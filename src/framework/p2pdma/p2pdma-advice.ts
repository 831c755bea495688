/**
 * A refused route in words: why, and what would make it work. The kernel has an error number and a
 * line in its log; people need the change that helps.
 *
 * @source reference/p2p-topology.md 1.7, 5.2, 5.3
 */

import type { PciNode } from '../../machine/index.ts';
import type { P2pReason, P2pRoute } from './p2pdma.ts';
import { hostBridgeDevice } from './p2pdma-host-bridges.ts';

/** One change that would help, the one that gives up the least isolation first. */
export interface P2pAdvice {
  /** What to change. */
  readonly change: 'kernel-parameter' | 'slot' | 'machine' | 'capture';
  /** The value, where there is one to type: `pci=disable_acs_redir=0000:02:03.0`. */
  readonly value: string;
  /** A sentence. */
  readonly text: string;
}

/** Why a pair is judged as it is, and what would change that. */
export interface P2pExplanation {
  readonly why: string;
  /** Empty for a pair that works. */
  readonly advice: readonly P2pAdvice[];
}

/** Puts a verdict into words. */
export function explainRoute(provider: PciNode, client: PciNode, route: P2pRoute): P2pExplanation {
  const why = [meetingPoint(provider, client, route), WHY[route.reason](provider, client)].join(
    '; ',
  );
  return { why, advice: adviceFor(route) };
}

function meetingPoint(provider: PciNode, client: PciNode, route: P2pRoute): string {
  const pair = `${client.address} and ${provider.address}`;
  if (route.common === null) return `${pair} share no bridge`;
  if (route.common === provider && provider === client) return `${client.address} is the provider`;
  const met = `${pair} meet at ${route.common.address}`;
  if (route.redirects.length === 0) return met;
  return `${met}, but ACS redirects peer requests at ${addresses(route.redirects).join(', ')}`;
}

const WHY: Readonly<Record<P2pReason, (provider: PciNode, client: PciNode) => string>> = {
  'common-bridge': () => 'no ACS control on the way redirects',
  cpu: () => 'Linux trusts the root complex of AMD CPUs from Zen on',
  'host-bridge-listed': (provider, client) => `${bridges(provider, client)} in Linux's list`,
  'host-bridge-not-listed': (provider, client) =>
    `${bridges(provider, client)} not in Linux's list of trusted root complexes`,
  'host-bridges-differ': (provider, client) =>
    `${bridges(provider, client)} listed for pairs below one host bridge only`,
  'acs-unknown': () => 'the ACS control of a port between them was not captured',
  'cpu-unknown': () => 'the CPU was not captured, and the host bridges are not listed',
};

function bridges(provider: PciNode, client: PciNode): string {
  const names = [...new Set([provider.hostBridge, client.hostBridge])].map((bridge) => {
    const device = hostBridgeDevice(bridge);
    if (device === null) return `${bridge.name} (no device stands for it)`;
    const { vendor, device: id } = device.spec;
    return `${bridge.name} (${hex4(vendor)}:${hex4(id)})`;
  });
  const [one, other] = names;
  if (other === undefined) return `host bridge ${one} is`;
  return `host bridges ${one} and ${other} are`;
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function adviceFor({ mapType, reason, redirects, common }: P2pRoute): readonly P2pAdvice[] {
  if (mapType === 'unknown') return [reason === 'cpu-unknown' ? CAPTURE_CPU : CAPTURE_ACS];
  if (mapType !== 'not-supported') return [];
  if (common !== null) {
    const ports = addresses(redirects);
    return [
      {
        change: 'kernel-parameter',
        value: `pci=disable_acs_redir=${ports.join(';')}`,
        text:
          `boot with pci=disable_acs_redir=${ports.join(';')}: the switch then carries the` +
          ' requests itself. It weakens the isolation between the devices below these ports',
      },
      TRUSTED_MACHINE,
    ];
  }
  return [ONE_SWITCH, reason === 'host-bridges-differ' ? ONE_HOST_BRIDGE : TRUSTED_MACHINE];
}

const ONE_SWITCH: P2pAdvice = {
  change: 'slot',
  value: '',
  text: 'put both devices below one PCIe switch: its ports then carry the requests',
};

const ONE_HOST_BRIDGE: P2pAdvice = {
  change: 'slot',
  value: '',
  text: 'put both devices into slots of one host bridge',
};

const TRUSTED_MACHINE: P2pAdvice = {
  change: 'machine',
  value: '',
  text:
    'use a machine whose root complex Linux trusts: AMD Zen or later, or an Intel Xeon from' +
    ' Skylake-SP on; otherwise copy through RAM',
};

const CAPTURE_ACS: P2pAdvice = {
  change: 'capture',
  value: '',
  text: 'capture the machine again as root: only root sees ACS',
};

const CAPTURE_CPU: P2pAdvice = {
  change: 'capture',
  value: '',
  text: 'say which CPU it is with --cpu',
};

function addresses(nodes: readonly PciNode[]): readonly string[] {
  return nodes.map((node) => node.address);
}
