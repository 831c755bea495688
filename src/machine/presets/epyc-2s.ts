/**
 * Two AMD EPYC processors: eight root buses, and all devices far from each other. Every pair goes
 * through root complexes, which the kernel's rule for this processor allows, across sockets too.
 *
 * @source reference/p2p-topology.md 1.4, 6
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, endpoint, switchWith } from './build.ts';
import { CONNECTX_6, CONNECTX_6_DX, NVME_DRIVE, RADEON_VII, VEGA_BRIDGES } from './catalogue.ts';
import { GIB } from './part.ts';
import { zenRoot } from './zen-root.ts';

/** Milan, two sockets of four quadrants; the second RDMA card has two virtual functions. */
export const EPYC_2S: MachineSpec = buildMachine({
  name: 'epyc-2s',
  title: 'Two-socket AMD EPYC: drives, GPU and RDMA card on one socket, RDMA card on the other',
  cpu: { arch: 'x86_64', vendor: 'AuthenticAMD', family: 0x19, model: 1 },
  memory: [
    { node: 0, start: 0, size: 2 * GIB },
    { node: 0, start: 4 * GIB, size: 126 * GIB },
    { node: 1, start: 130 * GIB, size: 128 * GIB },
  ],
  iommu: 'translated',
  roots: [
    zenRoot(0, 0x00, 0, [[endpoint(CONNECTX_6_DX)]]),
    zenRoot(1, 0x20, 0, [[endpoint(NVME_DRIVE)], [endpoint(NVME_DRIVE)]]),
    zenRoot(2, 0x40, 0, [[switchWith(VEGA_BRIDGES, [[endpoint(RADEON_VII)]])]]),
    zenRoot(3, 0x60, 0, []),
    zenRoot(4, 0x80, 1, [[endpoint(CONNECTX_6, { virtualCount: 2 })]]),
    zenRoot(5, 0xa0, 1, [[endpoint(NVME_DRIVE)]]),
    zenRoot(6, 0xc0, 1, []),
    zenRoot(7, 0xe0, 1, []),
  ],
});
