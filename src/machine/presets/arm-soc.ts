/**
 * A small Arm board on which nothing is where it seems: the CPU finds BARs at other addresses than
 * the bus does, devices find RAM at other addresses than the CPU does, and caches see nothing of
 * either. Code that mixes up addresses or forgets a bracket breaks here.
 *
 * @source Raspberry Pi Compute Module 4: `ranges` and `dma-ranges` of its device tree
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, endpoint, rootPort, switchWith } from './build.ts';
import { ASM2824, BCM2711_PORT, CONNECTX_4, NVME_DRIVE_SMALL } from './catalogue.ts';
import { MIB } from './part.ts';

/** Where the CPU finds the only window to the bus, and where that is on the bus. */
const WINDOW_CPU = 0x600000000;
const WINDOW_BUS = 0xc0000000;
const WINDOW_SIZE = 1024 * MIB;
/** Where devices find the first byte of RAM. */
const RAM_SEEN_BY_DEVICES = 0x400000000;

/** BCM2711 with 4 GiB and a switch behind its only lane. */
export const ARM_SOC: MachineSpec = buildMachine({
  name: 'arm-soc',
  title:
    'Arm board: drive and RDMA card below a small switch, three kinds of address, no coherence',
  cpu: { arch: 'arm64', vendor: 'ARM', family: 0, model: 0xd08 },
  coherentDma: false,
  memory: [{ node: 0, start: 0, size: 0xfc000000 }],
  iommu: 'off',
  roots: [
    {
      bus: 0x00,
      node: null,
      busOffset: WINDOW_BUS - WINDOW_CPU,
      dmaOffset: RAM_SEEN_BY_DEVICES,
      peerForwarding: 'none',
      low: { base: WINDOW_CPU, size: WINDOW_SIZE / 2 },
      high: { base: WINDOW_CPU + WINDOW_SIZE / 2, size: WINDOW_SIZE / 2 },
      devices: [
        rootPort(BCM2711_PORT, '00.0', [
          switchWith(ASM2824, [[endpoint(NVME_DRIVE_SMALL)], [endpoint(CONNECTX_4)]]),
        ]),
      ],
    },
  ],
});
