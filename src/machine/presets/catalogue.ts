/**
 * The parts that the presets are made of, with the ids of real ones.
 *
 * DIFFERS: BARs are those that the modelled drivers need. Real cards have more of them, and drives
 * with a controller memory buffer are rarer than here.
 *
 * @source reference/p2p-topology.md 1.5, 6; pci.ids
 */

import {
  GIB,
  ioBar,
  KIB,
  MIB,
  type Part,
  type PartBar,
  type PartLink,
  PLAIN_PART,
  prefetchBar,
  registerBar,
  shortBar,
} from './part.ts';

/** SV, TB, RR, CR, UF: Intel's ports. */
const ACS_INTEL = 0x1f;
/** The same and DT: AMD's and Broadcom's ports. */
const ACS_DIRECT = 0x5f;

const GEN2_X1: PartLink = { speed: 5, width: 1 };
const GEN3_X4: PartLink = { speed: 8, width: 4 };
const GEN3_X8: PartLink = { speed: 8, width: 8 };
const GEN3_X16: PartLink = { speed: 8, width: 16 };
const GEN4_X4: PartLink = { speed: 16, width: 4 };
const GEN4_X16: PartLink = { speed: 16, width: 16 };
const GEN5_X16: PartLink = { speed: 32, width: 16 };

const HOST_BRIDGE: Part = { ...PLAIN_PART, classCode: 0x060000 };
const PORT: Part = { ...PLAIN_PART, classCode: 0x060400, driver: 'pcieport' };

/** Rocket Lake, the client part: the first device of its root bus, on nobody's list. */
export const ROCKET_LAKE_HOST: Part = hostBridge(0x8086, 0x4c43, 0x8086, 0x7270, 0x01);
/** Rocket Lake: the x16 slot. */
export const ROCKET_LAKE_PORT: Part = port(0x8086, 0x4c01, null, GEN4_X16);
/** A root port of the chipset. */
export const CHIPSET_PORT: Part = port(0x8086, 0x43b8, ACS_INTEL, GEN3_X4);
/** Rocket Lake: the GPU in the processor. */
export const ROCKET_LAKE_GPU: Part = {
  ...PLAIN_PART,
  vendor: 0x8086,
  device: 0x4c8a,
  subsystemVendor: 0x8086,
  subsystemDevice: 0x2212,
  classCode: 0x030000,
  revision: 0x04,
  bars: [registerBar(0, 16 * MIB), prefetchBar(2, 256 * MIB), ioBar(4, 64)],
  driver: 'i915',
};

/** Broadwell-EP: first device of its root bus, on nobody's list. */
export const BROADWELL_HOST: Part = hostBridge(0x8086, 0x6f00, 0x8086, 0x0000, 0x01);
/** Broadwell-EP: a x16 slot. */
export const BROADWELL_PORT: Part = port(0x8086, 0x6f04, ACS_INTEL, GEN3_X16);

/** Ice Lake-SP and later: first device of every stack, which the kernel knows. */
export const ICE_LAKE_STACK: Part = {
  ...PLAIN_PART,
  vendor: 0x8086,
  device: 0x09a2,
  subsystemVendor: 0x8086,
  classCode: 0x088000,
  revision: 0x20,
};
/** Ice Lake-SP: a x16 slot. */
export const ICE_LAKE_PORT: Part = port(0x8086, 0x347a, ACS_INTEL, GEN4_X16);

/** Zen 2 to 3: first device of a quadrant. */
export const ZEN_HOST: Part = hostBridge(0x1022, 0x1480, 0x1022, 0x1480, 0x00);
/** Zen 2 to 3: stands at function 0 of the device whose other functions are root ports. */
export const ZEN_DUMMY_HOST: Part = hostBridge(0x1022, 0x1482, 0, 0, 0x00);
/** Zen 2 to 3: a x16 slot. */
export const ZEN_PORT: Part = port(0x1022, 0x1483, ACS_DIRECT, GEN4_X16);

/** BCM2711, the Arm SoC of the Raspberry Pi 4: its only root port. */
export const BCM2711_PORT: Part = port(0x14e4, 0x2711, null, GEN2_X1);

/** Broadcom PEX890xx. */
export const PEX890: { upstream: Part; downstream: Part } = {
  upstream: { ...port(0x1000, 0xc030, null, GEN5_X16), subsystemVendor: 0x1000, revision: 0xb0 },
  downstream: {
    ...port(0x1000, 0xc030, ACS_DIRECT, GEN5_X16),
    subsystemVendor: 0x1000,
    revision: 0xb0,
  },
};
/** ASMedia ASM2824, a small switch without ACS. */
export const ASM2824: { upstream: Part; downstream: Part } = {
  upstream: { ...port(0x1b21, 0x2824, null, GEN3_X8), revision: 0x01 },
  downstream: { ...port(0x1b21, 0x2824, null, GEN3_X4), revision: 0x01 },
};
/** The switch that some AMD graphics cards bring along. */
export const VEGA_BRIDGES: { upstream: Part; downstream: Part } = {
  upstream: port(0x1002, 0x14a0, null, GEN4_X16),
  downstream: port(0x1002, 0x14a1, null, GEN4_X16),
};

/** An NVMe drive with a controller memory buffer of 1 MiB in BAR2. */
export const NVME_DRIVE: Part = nvmeDrive(GEN4_X4, MIB);
/** A drive of an older generation, with a buffer of 64 KiB. */
export const NVME_DRIVE_SMALL: Part = { ...nvmeDrive(GEN3_X4, 64 * KIB), device: 0xa804 };

/** ConnectX-4 Lx: RDMA over Ethernet. */
export const CONNECTX_4: Part = connectX(0x1015, 0x020000, GEN3_X8);
/** ConnectX-6: InfiniBand. */
export const CONNECTX_6: Part = connectX(0x101b, 0x020700, GEN4_X16);
/** ConnectX-6 Dx: RDMA over Ethernet. */
export const CONNECTX_6_DX: Part = connectX(0x101d, 0x020000, GEN4_X16);
/** ConnectX-7: InfiniBand. */
export const CONNECTX_7: Part = connectX(0x1021, 0x020700, GEN5_X16);

/** NVIDIA V100 with 16 GiB, all in its BAR. */
export const NVIDIA_V100: Part = {
  ...PLAIN_PART,
  vendor: 0x10de,
  device: 0x1db4,
  subsystemVendor: 0x10de,
  subsystemDevice: 0x1214,
  classCode: 0x030200,
  revision: 0xa1,
  bars: [shortBar(0, 16 * MIB), prefetchBar(1, 16 * GIB), prefetchBar(3, 32 * MIB)],
  link: GEN3_X16,
  driver: 'nvidia',
};
/** AMD Radeon VII with 16 GiB, all in its BAR. */
export const RADEON_VII: Part = {
  ...PLAIN_PART,
  vendor: 0x1002,
  device: 0x66af,
  subsystemVendor: 0x1002,
  subsystemDevice: 0x081e,
  classCode: 0x030000,
  revision: 0xc1,
  bars: [prefetchBar(0, 16 * GIB), prefetchBar(2, 2 * MIB), shortBar(5, 512 * KIB)],
  link: GEN4_X16,
  driver: 'amdgpu',
};
/** AMD Radeon Pro W5500: of its 8 GiB the BAR shows 256 MiB. */
export const RADEON_SMALL_BAR: Part = {
  ...PLAIN_PART,
  vendor: 0x1002,
  device: 0x7341,
  subsystemVendor: 0x1002,
  subsystemDevice: 0x0b0c,
  classCode: 0x030000,
  bars: [prefetchBar(0, 256 * MIB), prefetchBar(2, 2 * MIB), shortBar(5, 512 * KIB)],
  link: { speed: 16, width: 8 },
  driver: 'amdgpu',
};

function hostBridge(
  vendor: number,
  device: number,
  subsystemVendor: number,
  subsystemDevice: number,
  revision: number,
): Part {
  return { ...HOST_BRIDGE, vendor, device, subsystemVendor, subsystemDevice, revision };
}

function port(vendor: number, device: number, acs: number | null, link: PartLink): Part {
  return { ...PORT, vendor, device, acs, link };
}

function nvmeDrive(link: PartLink, bufferSize: number): Part {
  return {
    ...PLAIN_PART,
    vendor: 0x144d,
    device: 0xa80a,
    subsystemVendor: 0x144d,
    subsystemDevice: 0xa801,
    classCode: 0x010802,
    bars: [registerBar(0, 16 * KIB), prefetchBar(2, bufferSize)],
    link,
    driver: 'nvme',
  };
}

function connectX(device: number, classCode: number, link: PartLink): Part {
  const bars: readonly PartBar[] = [prefetchBar(0, MIB)];
  return {
    ...PLAIN_PART,
    vendor: 0x15b3,
    device,
    subsystemVendor: 0x15b3,
    subsystemDevice: 0x0008,
    classCode,
    bars,
    virtualDevice: 0x101e,
    virtualBars: bars,
    link,
    driver: 'mlx5_core',
  };
}
