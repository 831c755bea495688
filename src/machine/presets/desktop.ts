/**
 * A desktop: the machine on which peer-to-peer does not work. Its root complex drops requests
 * between ports, and the kernel knows no better of it.
 *
 * @source reference/p2p-topology.md 1.5, 6
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, conventional, endpoint, integrated, rootPort } from './build.ts';
import {
  CHIPSET_PORT,
  CONNECTX_4,
  NVME_DRIVE,
  ROCKET_LAKE_GPU,
  ROCKET_LAKE_HOST,
  ROCKET_LAKE_PORT,
} from './catalogue.ts';
import { GIB } from './part.ts';

/** Rocket Lake with a drive, an RDMA card, the GPU of the processor; no IOMMU. */
export const DESKTOP: MachineSpec = buildMachine({
  name: 'desktop',
  title: 'Intel desktop: drive and RDMA card on two root ports, integrated GPU, no IOMMU',
  cpu: { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 167 },
  memory: [
    { node: 0, start: 0, size: 2 * GIB },
    { node: 0, start: 4 * GIB, size: 14 * GIB },
  ],
  iommu: 'off',
  roots: [
    {
      bus: 0x00,
      node: null,
      peerForwarding: 'none',
      low: { base: 0x80000000, size: 0x7ec00000 },
      high: { base: 0x4000000000, size: 64 * GIB },
      devices: [
        conventional(ROCKET_LAKE_HOST, '00.0'),
        rootPort(ROCKET_LAKE_PORT, '01.0', [endpoint(NVME_DRIVE)]),
        integrated(ROCKET_LAKE_GPU, '02.0'),
        rootPort(CHIPSET_PORT, '1c.0', [endpoint(CONNECTX_4)]),
      ],
    },
  ],
});
