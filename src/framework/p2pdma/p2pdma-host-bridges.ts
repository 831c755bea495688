/**
 * Which root complexes Linux trusts to carry requests from one device to another: a rule about CPUs
 * and a list of host bridges. Both are what Linux 7.2 believes, not what hardware does.
 *
 * @source drivers/pci/p2pdma.c, v7.2; reference/linux-dma-buf.md D.4
 */

import type { CpuSpec, HostBridge, PciNode } from '../../machine/index.ts';

/** An entry of the list. */
interface ListedBridge {
  readonly vendor: number;
  /** Null: any. */
  readonly device: number | null;
  /** Both devices must be below the same host bridge. */
  readonly sameHostBridge: boolean;
}

function listed(
  vendor: number,
  devices: readonly number[],
  sameHostBridge: boolean,
): readonly ListedBridge[] {
  return devices.map((device) => ({ vendor, device, sameHostBridge }));
}

const INTEL = 0x8086;
const GOOGLE = 0x1ae0;

const HOST_BRIDGES: readonly ListedBridge[] = [
  // Xeon E5 and Core i7; Xeon E5 and E7 v3.
  ...listed(INTEL, [0x3c00, 0x3c01, 0x2f00, 0x2f01], true),
  // Skylake-E root ports.
  ...listed(INTEL, [0x2030, 0x2031, 0x2032, 0x2033, 0x2020], false),
  // Ice Lake-SP and later: the first function of each stack.
  ...listed(INTEL, [0x09a2], false),
  // Accelerators that stand first on a root bus of their own: DSA, IAX, QAT.
  ...listed(INTEL, [0x0b25, 0x0cfe, 0x11fb, 0x1212, 0x1216], false),
  ...listed(INTEL, [0x4940, 0x4942, 0x4944, 0x4946, 0x4948], false),
  { vendor: GOOGLE, device: null, sameHostBridge: false },
];

/** First AMD family whose root complex is trusted: Zen. */
const ZEN_FAMILY = 0x17;

/**
 * The CPU rule: every AMD processor from Zen on carries peer requests, whatever the bridges. Hygon
 * is another vendor and is not meant.
 *
 * @source `cpu_supports_p2pdma()`
 */
export function cpuSupportsP2pdma(cpu: CpuSpec): boolean {
  return cpu.arch === 'x86_64' && cpu.vendor === 'AuthenticAMD' && cpu.family >= ZEN_FAMILY;
}

/** What the list says of a pair: allowed, not, or only if both were below one host bridge. */
export type BridgeVerdict = 'allowed' | 'not-listed' | 'only-same-host-bridge';

/**
 * Looks the host bridges of a pair up. Two different ones must both be listed without the
 * restriction.
 *
 * @source `host_bridge_whitelist()`
 */
export function hostBridgesAllow(provider: HostBridge, client: HostBridge): BridgeVerdict {
  if (provider === client) return lookUp(provider, true);
  const first = lookUp(provider, false);
  return first === 'allowed' ? lookUp(client, false) : first;
}

/**
 * The function that stands for a host bridge: the first one on its root bus, if it is at 00.0 or a
 * root port; else null, and the bridge counts as not listed.
 *
 * @source `pci_host_bridge_dev()`
 */
export function hostBridgeDevice(bridge: HostBridge): PciNode | null {
  const first = bridge.children[0];
  if (first === undefined) return null;
  const atZero = first.bdf.device === 0 && first.bdf.function === 0;
  return atZero || first.spec.type === 'root-port' ? first : null;
}

function lookUp(bridge: HostBridge, same: boolean): BridgeVerdict {
  const device = hostBridgeDevice(bridge);
  if (device === null) return 'not-listed';
  for (const entry of HOST_BRIDGES) {
    if (entry.vendor !== device.spec.vendor) continue;
    if (entry.device !== null && entry.device !== device.spec.device) continue;
    return entry.sameHostBridge && !same ? 'only-same-host-bridge' : 'allowed';
  }
  return 'not-listed';
}
