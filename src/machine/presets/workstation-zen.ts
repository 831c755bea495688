/**
 * An AMD workstation: one socket, every slot a root bus of its own, and an IOMMU that passes
 * addresses through. What a device sends is then a physical address, and still goes through the
 * root complex.
 *
 * @source reference/p2p-topology.md 1.4, 1.6, 6
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, endpoint } from './build.ts';
import { CONNECTX_6_DX, NVME_DRIVE, RADEON_SMALL_BAR } from './catalogue.ts';
import { GIB } from './part.ts';
import { zenRoot } from './zen-root.ts';

/** Threadripper Pro with a GPU of a small BAR, an RDMA card and a drive. */
export const WORKSTATION_ZEN: MachineSpec = buildMachine({
  name: 'workstation-zen',
  title: 'AMD workstation: GPU, RDMA card and drive on a root bus each, IOMMU passes through',
  cpu: { arch: 'x86_64', vendor: 'AuthenticAMD', family: 0x19, model: 8 },
  memory: [
    { node: 0, start: 0, size: 2 * GIB },
    { node: 0, start: 4 * GIB, size: 62 * GIB },
  ],
  iommu: 'passthrough',
  roots: [
    zenRoot(0, 0x00, 0, []),
    zenRoot(1, 0x20, 0, [[endpoint(NVME_DRIVE)]]),
    zenRoot(2, 0x40, 0, [[endpoint(RADEON_SMALL_BAR)]]),
    zenRoot(3, 0x60, 0, [[endpoint(CONNECTX_6_DX)]]),
  ],
});
