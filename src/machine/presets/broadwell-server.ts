/**
 * The server that `server-switch` and `server-switch-acs` are: all devices below one switch, and
 * above it a root complex that the kernel does not list. It is no preset itself.
 *
 * @source reference/p2p-topology.md 1.5, 1.7, 6
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, conventional, endpoint, rootPort, switchWith } from './build.ts';
import {
  BROADWELL_HOST,
  BROADWELL_PORT,
  CONNECTX_7,
  NVIDIA_V100,
  NVME_DRIVE,
  PEX890,
} from './catalogue.ts';
import { GIB } from './part.ts';

/**
 * Builds the server.
 *
 * @param acsControl - Of the downstream ports; null: as Linux leaves it, redirecting.
 */
export function broadwellServer(
  name: string,
  title: string,
  acsControl: number | null,
): MachineSpec {
  const slots = [
    [endpoint(NVIDIA_V100)],
    [endpoint(CONNECTX_7)],
    [endpoint(NVME_DRIVE)],
    [endpoint(NVME_DRIVE)],
  ];
  return buildMachine({
    name,
    title,
    cpu: { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 79 },
    memory: [
      { node: 0, start: 0, size: 2 * GIB },
      { node: 0, start: 4 * GIB, size: 62 * GIB },
    ],
    iommu: 'translated',
    roots: [
      {
        bus: 0x00,
        node: 0,
        peerForwarding: 'same-host-bridge',
        low: { base: 0x90000000, size: 0x6c000000 },
        high: { base: 0x38000000000, size: 1024 * GIB },
        devices: [
          conventional(BROADWELL_HOST, '00.0'),
          rootPort(BROADWELL_PORT, '02.0', [switchWith(PEX890, slots, { acsControl })]),
        ],
      },
    ],
  });
}
