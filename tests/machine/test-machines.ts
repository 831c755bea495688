/** Machines for tests of routes, each as small as shows what it is for. */

import type { CpuSpec, IommuMode, MachineSpec, PeerForwarding } from '../../src/machine/index.ts';
import {
  buildMachine,
  conventional,
  endpoint,
  type Plan,
  rootPort,
  switchWith,
} from '../../src/machine/presets/build.ts';
import {
  GIB,
  KIB,
  MIB,
  type Part,
  PLAIN_PART,
  prefetchBar,
  shortBar,
} from '../../src/machine/presets/part.ts';

/** On nobody's list. */
export const UNLISTED: Part = {
  ...PLAIN_PART,
  vendor: 0x8086,
  device: 0x6f00,
  classCode: 0x060000,
};
/** On the list, for pairs of any host bridges. */
export const LISTED: Part = { ...PLAIN_PART, vendor: 0x8086, device: 0x09a2, classCode: 0x088000 };

/** Zen 3. */
export const ZEN: CpuSpec = { arch: 'x86_64', vendor: 'AuthenticAMD', family: 0x19, model: 1 };
/** Broadwell. */
export const INTEL: CpuSpec = { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 79 };

/** A port or bridge that can do ACS, and does not. */
export const PORT: Part = {
  ...PLAIN_PART,
  vendor: 0x1000,
  device: 0xc030,
  classCode: 0x060400,
  acs: 0x7f,
};
/** 64 KiB of registers in BAR0 below 4 GiB, and 1 MiB of memory in BAR2 above. */
export const CARD: Part = {
  ...PLAIN_PART,
  vendor: 0x1234,
  device: 0x0001,
  classCode: 0x120000,
  bars: [shortBar(0, 64 * KIB), prefetchBar(2, MIB)],
  virtualDevice: 0x0002,
  virtualBars: [prefetchBar(0, MIB)],
};

/** What a test may change of a machine. */
export interface MachineOptions {
  readonly cpu?: CpuSpec;
  readonly iommu?: IommuMode;
  readonly peerForwarding?: PeerForwarding;
  /** The function at 00.0 of each root bus. */
  readonly host?: Part;
  readonly coherentDma?: boolean;
}

/** A root port, ACS off. */
export function port(at: string, below: readonly Plan[]): Plan {
  return rootPort(PORT, at, below, { acsControl: 0 });
}

/** A switch, ACS off. Its upstream port can do ACS, too. */
export function switchOf(...slots: readonly (readonly Plan[])[]): Plan {
  const made = switchWith({ upstream: PORT, downstream: PORT }, slots, { acsControl: 0 });
  return { ...made, acsControl: 0 };
}

/** A card. */
export function card(at: string | null = null, virtualCount = 0): Plan {
  return endpoint(CARD, { at, virtualCount });
}

/** A machine of root buses, each with a host bridge device and what is given. */
export function machineOf(
  buses: Readonly<Record<number, readonly Plan[]>>,
  options: MachineOptions = {},
): MachineSpec {
  const { cpu = INTEL, iommu = 'off', peerForwarding = 'none', host = UNLISTED } = options;
  return buildMachine({
    name: 'test',
    title: 'A machine for tests',
    cpu,
    coherentDma: options.coherentDma ?? true,
    memory: [
      { node: 0, start: 0, size: GIB },
      { node: 1, start: 4 * GIB, size: GIB },
    ],
    iommu,
    roots: Object.entries(buses).map(([bus, devices], index) => ({
      bus: Number(bus),
      node: index,
      peerForwarding,
      low: { base: 0x80000000 + index * 0x10000000, size: 0x10000000 },
      high: { base: 0x4000000000 * (index + 1), size: 64 * GIB },
      devices: [conventional(host, '00.0'), ...devices],
    })),
  });
}

/**
 * The machine of most tests; ACS is off, but can be switched on everywhere.
 *
 * ```
 * bus 00: 00:01.0 ─ 01:00.0 ┬ 02:00.0 ─ 03:00.0
 *                           ├ 02:01.0 ─ 04:00.0, 04:00.1
 *                           └ 02:02.0 ─ 05:00.0 ┬ 06:00.0 ─ 07:00.0
 *                                               └ 06:01.0 ─ 08:00.0
 *         00:02.0 ─ 09:00.0, 09:00.1
 *         00:03.0 ─ 0a:00.0
 * bus 40: 40:01.0 ─ 41:00.0
 * ```
 */
export function wideMachine(options: MachineOptions = {}): MachineSpec {
  const lower = switchOf([card()], [card()]);
  const upper = switchOf([card()], [card('00.0'), card('00.1')], [lower]);
  return machineOf(
    {
      0: [
        port('01.0', [upper]),
        port('02.0', [card('00.0'), card('00.1')]),
        port('03.0', [card()]),
      ],
      64: [port('01.0', [card()])],
    },
    options,
  );
}
