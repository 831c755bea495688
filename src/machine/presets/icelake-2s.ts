/**
 * Two Intel Ice Lake-SP processors: every stack a root bus that starts with a device the kernel
 * lists, so pairs on different stacks and sockets are allowed.
 *
 * @source reference/p2p-topology.md 1.5
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { buildMachine, endpoint, integrated, type Plan, type RootPlan, rootPort } from './build.ts';
import { CONNECTX_6, ICE_LAKE_PORT, ICE_LAKE_STACK, NVIDIA_V100, NVME_DRIVE } from './catalogue.ts';
import { GIB, MIB } from './part.ts';

/** The root buses of a real machine, first socket and second. */
const STACKS: readonly (readonly number[])[] = [
  [0x00, 0x16, 0x30, 0x4a, 0x64],
  [0x80, 0x97, 0xb0, 0xc9, 0xe2],
];
const LOW_SIZE = 128 * MIB;
const HIGH_SIZE = 1024 * GIB;

/** What the slots hold, by root bus. */
const SLOTS: ReadonlyMap<number, readonly Plan[]> = new Map([
  [0x16, [endpoint(NVME_DRIVE)]],
  [0x30, [endpoint(CONNECTX_6)]],
  [0x4a, [endpoint(NVIDIA_V100)]],
  [0x97, [endpoint(NVME_DRIVE)]],
]);

/** Ice Lake-SP, two sockets of five stacks. */
export const ICELAKE_2S: MachineSpec = buildMachine({
  name: 'icelake-2s',
  title: 'Two-socket Intel Ice Lake-SP: drive, RDMA card and GPU on a stack each, drive far away',
  cpu: { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 106 },
  memory: [
    { node: 0, start: 0, size: 2 * GIB },
    { node: 0, start: 4 * GIB, size: 126 * GIB },
    { node: 1, start: 130 * GIB, size: 128 * GIB },
  ],
  iommu: 'translated',
  roots: STACKS.flatMap((buses, node) =>
    buses.map((bus, stack) => stackRoot(node * 5 + stack, bus, node)),
  ),
});

function stackRoot(index: number, bus: number, node: number): RootPlan {
  const below = SLOTS.get(bus);
  return {
    bus,
    node,
    peerForwarding: 'all',
    low: { base: 0x90000000 + index * LOW_SIZE, size: LOW_SIZE },
    high: { base: 0x200000000000 + index * HIGH_SIZE, size: HIGH_SIZE },
    devices: [
      integrated(ICE_LAKE_STACK, '00.0'),
      ...(below === undefined ? [] : [rootPort(ICE_LAKE_PORT, '02.0', below)]),
    ],
  };
}
