/**
 * Random machines: many domains, cascaded switches, multi-function devices, virtual functions, ACS
 * in every state. For benchmarks and property tests; no such machine was ever built.
 */

import { InputError, Prng } from '../../base/index.ts';
import type { IommuMode, MachineSpec, PeerForwarding } from '../spec/machine-spec.ts';
import {
  buildMachine,
  conventional,
  endpoint,
  integrated,
  type Plan,
  type RootPlan,
  rootPort,
  switchWith,
} from './build.ts';
import {
  ASM2824,
  BROADWELL_HOST,
  CONNECTX_6,
  CONNECTX_7,
  ICE_LAKE_PORT,
  ICE_LAKE_STACK,
  NVIDIA_V100,
  NVME_DRIVE,
  NVME_DRIVE_SMALL,
  PEX890,
  RADEON_SMALL_BAR,
  ZEN_HOST,
} from './catalogue.ts';
import { GIB, MIB, type Part, prefetchBar, shortBar } from './part.ts';

/** LIMIT: with more, root buses would run out of the addresses that each gets. */
export const GENERATED_ENDPOINTS_MAX: number = 20_000;

/** LIMIT: switches one below another, as deep as machines are built. */
const SWITCH_DEPTH_MAX = 3;
const ROOTS_PER_DOMAIN_MAX = 4;
const BUSES_PER_ROOT = 256 / ROOTS_PER_DOMAIN_MAX;
const ENDPOINTS_PER_ROOT_MIN = 8;
const ENDPOINTS_PER_ROOT_MAX = 64;
/** Every root bus has this much of the CPU's address map, and sees it from bus address 0 on. */
const REGION_SIZE = 2 ** 40;
const LOW_BASE = 0x80000000;
const LOW_SIZE = 0x7ec00000;
const HIGH_BASE = REGION_SIZE / 2;
const HIGH_SIZE = REGION_SIZE / 2;
/** Where devices find RAM below some root buses: apart from all BARs. */
const DMA_OFFSET = REGION_SIZE / 4;
const NODE_COUNT = 4;

/** A GPU whose BAR fits sixty times below one root. */
const GPU: Part = { ...NVIDIA_V100, bars: [shortBar(0, 16 * MIB), prefetchBar(1, 4 * GIB)] };
const DEVICES = [NVME_DRIVE, NVME_DRIVE_SMALL, CONNECTX_6, CONNECTX_7, GPU, RADEON_SMALL_BAR];
const SWITCHES = [PEX890, ASM2824];
const HOSTS: readonly Plan[] = [
  conventional(ZEN_HOST, '00.0'),
  conventional(BROADWELL_HOST, '00.0'),
  integrated(ICE_LAKE_STACK, '00.0'),
];
const CPUS = [
  { arch: 'x86_64', vendor: 'AuthenticAMD', family: 0x19, model: 1 },
  { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 106 },
] as const;
const IOMMU_MODES: readonly IommuMode[] = ['off', 'passthrough', 'translated'];
const FORWARDING: readonly PeerForwarding[] = ['none', 'same-host-bridge', 'all'];
/** ACS capabilities of ports: none, small, all but and with egress control. */
const PORT_ACS: readonly (number | null)[] = [null, 0x1d, 0x5f, 0x7f];
/** ACS control of ports: as Linux leaves it, off, without redirect, and redirects of each kind. */
const PORT_CONTROL: readonly (number | null)[] = [null, null, 0x00, 0x11, 0x04, 0x20, 0x1d];
/** ACS of a function among others in one device: RR, CR, DT, or none. */
const FUNCTION_ACS: readonly (number | null)[] = [null, null, null, 0x4c];

/** What the machine is made from. */
export interface FabricOptions {
  /** Names the machine: the same seed and count give the same one. */
  readonly seed: number;
  /** Functions that are endpoints, virtual ones included: 1 to {@link GENERATED_ENDPOINTS_MAX}. */
  readonly endpoints: number;
}

/**
 * Generates a machine.
 *
 * @returns A valid machine with exactly as many endpoints; some slots are empty.
 * @throws {@link InputError} If `endpoints` is out of range.
 */
export function generateFabric(options: FabricOptions): MachineSpec {
  const { seed, endpoints } = options;
  if (!Number.isInteger(endpoints) || endpoints < 1 || endpoints > GENERATED_ENDPOINTS_MAX) {
    const expected = `expected an integer of 1 to ${GENERATED_ENDPOINTS_MAX}`;
    throw new InputError('generated fabric', 'endpoints', `${expected}, got ${endpoints}`);
  }
  const prng = new Prng(seed);
  const cpu = pick(prng, CPUS);
  const iommu = pick(prng, IOMMU_MODES);
  return buildMachine({
    name: `generated-${seed}-${endpoints}`,
    title: `Generated machine of ${endpoints} endpoints, seed ${seed}`,
    cpu,
    memory: [
      { node: 0, start: 0, size: 2 * GIB },
      ...Array.from({ length: NODE_COUNT }, (_, node) => {
        return { node, start: (4 + 16 * node) * GIB, size: 16 * GIB };
      }),
    ],
    iommu,
    roots: new Grower(prng, endpoints).roots(),
  });
}

/** Grows trees until there are enough endpoints. */
class Grower {
  readonly #prng: Prng;
  /** Endpoints that the machine still lacks. */
  #missing: number;
  /** What may still be used below the root bus at hand. */
  #busesLeft = 0;
  #endpointsLeft = 0;

  constructor(prng: Prng, endpoints: number) {
    this.#prng = prng;
    this.#missing = endpoints;
  }

  roots(): RootPlan[] {
    const roots: RootPlan[] = [];
    for (let domain = 0; this.#missing > 0; domain += 1) {
      const count = 1 + this.#prng.below(ROOTS_PER_DOMAIN_MAX);
      for (let index = 0; index < count && this.#missing > 0; index += 1) {
        roots.push(this.#root(roots.length, domain, index * BUSES_PER_ROOT));
      }
    }
    return roots;
  }

  #root(index: number, domain: number, bus: number): RootPlan {
    const prng = this.#prng;
    const region = index * REGION_SIZE;
    const spread = ENDPOINTS_PER_ROOT_MAX - ENDPOINTS_PER_ROOT_MIN + 1;
    const wanted = Math.min(ENDPOINTS_PER_ROOT_MIN + prng.below(spread), this.#missing);
    this.#endpointsLeft = wanted;
    this.#busesLeft = BUSES_PER_ROOT - 1;
    const ports: Plan[] = [];
    while (this.#endpointsLeft > 0 && this.#busesLeft > 0) ports.push(this.#rootPort(ports.length));
    this.#missing -= wanted - this.#endpointsLeft;
    return {
      domain,
      bus,
      node: index % NODE_COUNT,
      busOffset: 0 - region,
      dmaOffset: prng.below(8) === 0 ? DMA_OFFSET : 0,
      peerForwarding: pick(prng, FORWARDING),
      low: { base: region + LOW_BASE, size: LOW_SIZE },
      high: { base: region + HIGH_BASE, size: HIGH_SIZE },
      devices: [pick(prng, HOSTS), ...ports],
    };
  }

  /** Root ports are functions 0 to 7 of device 1, then of device 2, and so on. */
  #rootPort(number: number): Plan {
    const device = (1 + (number >> 3)).toString(16).padStart(2, '0');
    this.#busesLeft -= 1;
    const below = this.#below(0);
    return this.#withAcs(rootPort(ICE_LAKE_PORT, `${device}.${number & 7}`, below));
  }

  /** What is on the bus below a port; the port has paid for the bus. */
  #below(depth: number): Plan[] {
    const prng = this.#prng;
    if (this.#endpointsLeft === 0) return [];
    if (depth === SWITCH_DEPTH_MAX || this.#busesLeft < 4 || prng.below(10) < 5) {
      return this.#device();
    }
    const count = 2 + prng.below(Math.min(7, this.#busesLeft - 2));
    this.#busesLeft -= 1 + count;
    const slots = Array.from({ length: count }, () => this.#below(depth + 1));
    const plan = switchWith(pick(prng, SWITCHES), slots);
    return [{ ...plan, below: (plan.below ?? []).map((port) => this.#withAcs(port)) }];
  }

  /** A device of one to four functions, now and then with virtual ones. */
  #device(): Plan[] {
    const prng = this.#prng;
    const isMulti = prng.below(5) === 0;
    const count = Math.min(isMulti ? 2 + prng.below(3) : 1, this.#endpointsLeft);
    this.#endpointsLeft -= count;
    const part = pick(prng, DEVICES);
    return Array.from({ length: count }, (_, fn) => {
      const acs = count > 1 ? pick(prng, FUNCTION_ACS) : null;
      const wanted = part.virtualBars.length > 0 ? Math.max(0, prng.below(8) - 4) : 0;
      const virtualCount = Math.min(wanted, this.#endpointsLeft);
      this.#endpointsLeft -= virtualCount;
      return endpoint({ ...part, acs }, { at: `00.${fn}`, virtualCount });
    });
  }

  #withAcs(port: Plan): Plan {
    const acs = pick(this.#prng, PORT_ACS);
    const control = pick(this.#prng, PORT_CONTROL);
    const acsControl = acs === null || control === null ? null : control & acs;
    return { ...port, part: { ...port.part, acs }, acsControl };
  }
}

function pick<T>(prng: Prng, choices: readonly T[]): T {
  return choices[prng.below(choices.length)] as T;
}
