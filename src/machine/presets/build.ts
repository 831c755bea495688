/**
 * Makes a `MachineSpec` of a blueprint that says what is plugged in where: numbers the buses
 * depth-first, places BARs and windows, negotiates links, and leaves ACS and IOMMU groups as Linux
 * does after boot. The result always is a valid machine.
 */

import { alignUp, assert, present } from '../../base/index.ts';
import { formatBdf, parseBdf } from '../pci/bdf.ts';
import { WINDOW_GRAIN } from '../pci/bridge-registers.ts';
import { bridgeRule } from '../pci/pcie-type.ts';
import {
  type BarSpec,
  type CpuSpec,
  type FunctionSpec,
  type HostBridgeSpec,
  type IommuMode,
  type LinkSpec,
  MACHINE_SCHEMA,
  type MachineSpec,
  type MemorySpec,
  type PciType,
  type PeerForwarding,
  type WindowSpec,
} from '../spec/machine-spec.ts';
import { groupNumbers } from './groups.ts';
import { type Block, type Pool, pack, settleIn } from './layout.ts';
import type { Part, PartBar } from './part.ts';

/** What Linux switches on where an IOMMU driver runs: SV, RR, CR, UF. */
const ACS_OF_LINUX = 0x1d;
/** Nothing below 64 KiB of I/O space is ours: the board's own devices are there. */
const IO_POOL: Pool = { base: 0x3000, size: 0xc000 };
const LAST_BUS = 0xff;

/** A function and what is below it. */
export interface Plan {
  readonly part: Part;
  readonly type: PciType;
  /** Device and function on its bus, as in `1f.3`; null: the next free device. */
  readonly at: string | null;
  /** For a bridge: what is on the bus below. */
  readonly below: readonly Plan[] | null;
  /** ACS control; null: as Linux leaves it. */
  readonly acsControl: number | null;
  /** How many virtual functions are switched on. */
  readonly virtualCount: number;
}

/** What a plan may say beyond its part. */
export type PlanOptions = Partial<Omit<Plan, 'part' | 'below'>>;

/** A root bus and what is on it. */
export interface RootPlan {
  readonly domain?: number;
  readonly bus: number;
  readonly node: number | null;
  readonly busOffset?: number;
  readonly dmaOffset?: number;
  readonly peerForwarding: PeerForwarding;
  /** CPU addresses for what must lie below 4 GiB on the bus. */
  readonly low: Pool;
  /** CPU addresses for 64-bit prefetchable BARs. */
  readonly high: Pool;
  readonly devices: readonly Plan[];
}

/** A machine to be built. */
export interface Blueprint {
  readonly name: string;
  readonly title: string;
  readonly cpu: CpuSpec;
  readonly coherentDma?: boolean;
  readonly memory: readonly MemorySpec[];
  readonly iommu: IommuMode;
  readonly roots: readonly RootPlan[];
}

/** The two kinds of port of a switch. */
export interface SwitchParts {
  readonly upstream: Part;
  readonly downstream: Part;
}

/** A function that is an end of the tree, by default a PCI Express endpoint. */
export function endpoint(part: Part, options: PlanOptions = {}): Plan {
  const plain = { type: 'endpoint', at: null, acsControl: null, virtualCount: 0 } as const;
  return { ...plain, ...options, part, below: null };
}

/** A function built into the root complex. */
export function integrated(part: Part, at: string): Plan {
  return endpoint(part, { type: 'root-complex-endpoint', at });
}

/** A function without a PCI Express capability, as host bridges are. */
export function conventional(part: Part, at: string): Plan {
  return endpoint(part, { type: 'conventional', at });
}

/** A root port at `at`, and what is plugged into it. */
export function rootPort(
  part: Part,
  at: string | null,
  below: readonly Plan[],
  options: PlanOptions = {},
): Plan {
  return { ...endpoint(part, { type: 'root-port', at, ...options }), below };
}

/**
 * A switch: one upstream port, and a downstream port for each of `slots`.
 *
 * @param slots - The functions plugged into each downstream port; none: an empty slot.
 * @param options - Of the downstream ports.
 */
export function switchWith(
  parts: SwitchParts,
  slots: readonly (readonly Plan[])[],
  options: PlanOptions = {},
): Plan {
  const ports = slots.map((below) => ({
    ...endpoint(parts.downstream, { type: 'downstream-port', ...options }),
    below,
  }));
  return { ...endpoint(parts.upstream, { type: 'upstream-port' }), below: ports };
}

/** Builds the machine. Throws an `AssertionError` if buses or addresses do not suffice. */
export function buildMachine(plan: Blueprint): MachineSpec {
  const { name, title, cpu, coherentDma = true, memory, iommu } = plan;
  const roots = plan.roots.toSorted(
    (one, other) => (one.domain ?? 0) - (other.domain ?? 0) || one.bus - other.bus,
  );
  const ioBlocks: Block[] = [];
  const placed = roots.flatMap((root, index) => placeRoot(root, roots[index + 1], ioBlocks));
  settleIn(pack(ioBlocks, 1), IO_POOL);
  placed.sort((one, other) => one.routingId - other.routingId);
  for (const fn of placed) fn.acsControl = controlOf(fn.plan, iommu);
  const groups = iommu === 'off' ? null : groupNumbers(placed);
  const functions = placed.map((fn) => specOf(fn, groups?.get(fn) ?? null));
  const hostBridges = roots.map(hostBridgeOf);
  return {
    schema: MACHINE_SCHEMA,
    name,
    title,
    cpu,
    coherentDma,
    memory,
    iommu,
    hostBridges,
    functions,
    notes: [],
  };
}

/** A function that has its place. */
export interface Placed {
  readonly plan: Plan;
  readonly root: RootPlan;
  readonly parent: Placed | null;
  /** The physical function of a virtual one. */
  readonly physical: Placed | null;
  readonly bus: number;
  /** Device times eight plus function. */
  readonly slot: number;
  /** Orders all functions of a machine. */
  readonly routingId: number;
  readonly children: Placed[];
  secondary: number;
  subordinate: number;
  readonly bars: BarSpec[];
  memory: WindowSpec | null;
  prefetch: WindowSpec | null;
  acsControl: number | null;
}

/** Numbers the buses below `root` and gives addresses to all that is there. */
function placeRoot(root: RootPlan, next: RootPlan | undefined, ioBlocks: Block[]): Placed[] {
  const isNextNear = next !== undefined && (next.domain ?? 0) === (root.domain ?? 0);
  const numbering = new Numbering(root, isNextNear ? next.bus - 1 : LAST_BUS);
  const children = numbering.placeBus(root.devices, root.bus, null);
  settleIn(packBus(children, false), root.low);
  settleIn(packBus(children, true), root.high);
  for (const fn of numbering.placed) {
    for (const bar of barsOf(fn)) {
      if (bar.kind === 'io') ioBlocks.push(barBlock(fn, bar));
    }
  }
  return numbering.placed;
}

class Numbering {
  readonly placed: Placed[] = [];
  readonly #root: RootPlan;
  readonly #lastBus: number;
  #bus: number;

  constructor(root: RootPlan, lastBus: number) {
    this.#root = root;
    this.#lastBus = lastBus;
    this.#bus = root.bus;
  }

  /** Places functions on a bus, then their virtual functions, then what is below them. */
  placeBus(plans: readonly Plan[], bus: number, parent: Placed | null): Placed[] {
    const children: Placed[] = [];
    let slot = 0;
    for (const plan of plans) {
      if (plan.at !== null) slot = slotOf(plan.at);
      children.push(this.#place(plan, bus, slot, parent, null));
      slot = alignUp(slot + 1, 8);
    }
    const physical = [...children];
    slot = Math.max(0, ...physical.map((fn) => fn.slot)) + 1;
    for (const fn of physical) {
      for (let number = 0; number < fn.plan.virtualCount; number += 1) {
        children.push(this.#place(fn.plan, bus, slot, parent, fn));
        slot += 1;
      }
    }
    for (const fn of physical) this.#placeBelow(fn);
    return children;
  }

  #placeBelow(fn: Placed): void {
    if (fn.plan.below === null) return;
    this.#bus += 1;
    assert(this.#bus <= this.#lastBus, `buses suffice below root bus ${this.#root.bus}`);
    fn.secondary = this.#bus;
    fn.children.push(...this.placeBus(fn.plan.below, fn.secondary, fn));
    fn.subordinate = this.#bus;
  }

  #place(
    plan: Plan,
    bus: number,
    slot: number,
    parent: Placed | null,
    physical: Placed | null,
  ): Placed {
    assert(slot < 256, `there is room on bus ${bus}`);
    const routingId = ((this.#root.domain ?? 0) * 256 + bus) * 256 + slot;
    const fn: Placed = {
      plan,
      root: this.#root,
      parent,
      physical,
      bus,
      slot,
      routingId,
      children: [],
      secondary: 0,
      subordinate: 0,
      bars: [],
      memory: null,
      prefetch: null,
      acsControl: null,
    };
    this.placed.push(fn);
    return fn;
  }
}

function slotOf(at: string): number {
  const { device, function: fn } = present(parseBdf(`00:${at}`), `device and function of ${at}`);
  return device * 8 + fn;
}

/** All memory on a bus that lies on one side of 4 GiB. */
function packBus(functions: readonly Placed[], isHigh: boolean): Block {
  const blocks: Block[] = [];
  for (const fn of functions) {
    for (const bar of barsOf(fn)) {
      if (bar.kind === 'memory' && isHighBar(bar) === isHigh) blocks.push(barBlock(fn, bar));
    }
    if (fn.children.length > 0) blocks.push(packBridge(fn, isHigh));
  }
  return pack(blocks, 1);
}

function packBridge(fn: Placed, isHigh: boolean): Block {
  return pack([packBus(fn.children, isHigh)], WINDOW_GRAIN, (start, size) => {
    const base = start + (fn.root.busOffset ?? 0);
    const window = { base, limit: base + size - 1 };
    if (isHigh) fn.prefetch = window;
    else fn.memory = window;
  });
}

function barBlock(fn: Placed, bar: PartBar): Block {
  const { size } = bar;
  return { size, align: size, settle: (address) => void fn.bars.push({ ...bar, address }) };
}

function barsOf({ plan, physical }: Placed): readonly PartBar[] {
  return physical === null ? plan.part.bars : plan.part.virtualBars;
}

function isHighBar(bar: PartBar): boolean {
  return bar.prefetchable && bar.is64;
}

function controlOf({ part, acsControl }: Plan, iommu: IommuMode): number | null {
  if (part.acs === null) return null;
  return acsControl ?? (iommu === 'off' ? 0 : part.acs & ACS_OF_LINUX);
}

function specOf(fn: Placed, iommuGroup: number | null): FunctionSpec {
  const { part, type } = fn.plan;
  const isVirtual = fn.physical !== null;
  const { acsControl, secondary, subordinate, memory, prefetch } = fn;
  const isBridge = fn.plan.below !== null;
  assert(isBridge || bridgeRule(type) !== 'always', `${addressOf(fn)} is a bridge`);
  return {
    address: addressOf(fn),
    parent: fn.parent && addressOf(fn.parent),
    vendor: part.vendor,
    device: isVirtual ? part.virtualDevice : part.device,
    subsystemVendor: part.subsystemVendor,
    subsystemDevice: part.subsystemDevice,
    classCode: part.classCode,
    revision: part.revision,
    type,
    command: part.bars.some((bar) => bar.kind === 'io') ? 0x7 : 0x6,
    bars: fn.bars.toSorted((one, other) => one.index - other.index),
    bridge: isBridge ? { secondary, subordinate, memory, prefetch } : null,
    acs:
      part.acs === null || acsControl === null || isVirtual
        ? null
        : { capability: part.acs, control: acsControl },
    link: isVirtual ? null : linkOf(fn),
    node: fn.root.node,
    iommuGroup,
    driver: part.driver,
    physicalFunction: fn.physical && addressOf(fn.physical),
    config: null,
  };
}

/** A link is as good as the worse of its ends. A port without anything below has none. */
function linkOf(fn: Placed): LinkSpec | null {
  const { type, part } = fn.plan;
  if (part.link === null) return null;
  const isAbove = type === 'root-port' || type === 'downstream-port';
  const other = isAbove ? fn.children[0] : fn.parent;
  const most = { maxSpeed: part.link.speed, maxWidth: part.link.width };
  const far = other?.plan.part.link ?? null;
  if (far === null) return { speed: 2.5, width: 0, ...most };
  const speed = Math.min(part.link.speed, far.speed);
  return { speed, width: Math.min(part.link.width, far.width), ...most };
}

function addressOf({ root, bus, slot }: Placed): string {
  const domain = root.domain ?? 0;
  return formatBdf({ domain, bus, device: slot >> 3, function: slot & 7 });
}

function hostBridgeOf(root: RootPlan): HostBridgeSpec {
  const { domain = 0, bus, node, busOffset = 0, dmaOffset = 0, peerForwarding } = root;
  return { domain, bus, node, busOffset, dmaOffset, peerForwarding };
}
