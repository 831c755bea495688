/**
 * The PCI functions of a machine as a tree, computed once from a `MachineSpec` and shared by every
 * execution on it. It holds what does not change while a machine runs: who is below whom, windows,
 * BARs. Command registers, ACS control and contents belong to `function.ts`.
 */

import { assert, type BusAddr, busAddr, present } from '../../base/index.ts';
import type {
  BarSpec,
  FunctionSpec,
  HostBridgeSpec,
  MachineSpec,
  WindowSpec,
} from '../spec/machine-spec.ts';
import { type Bdf, compareBdf, parseBdf } from './bdf.ts';

/** One root bus. */
export class HostBridge {
  readonly spec: HostBridgeSpec;
  /** Functions on the root bus itself, by ascending address. */
  readonly children: PciNode[] = [];
  /**
   * Bus addresses that devices below may answer, ascending and apart. The spec does not have the
   * firmware's windows, so these are the windows and BARs right below.
   */
  windows: readonly WindowSpec[] = [];

  constructor(spec: HostBridgeSpec) {
    this.spec = spec;
  }

  /** `pci0000:40`, as in sysfs. */
  get name(): string {
    const { domain, bus } = this.spec;
    return `pci${domain.toString(16).padStart(4, '0')}:${bus.toString(16).padStart(2, '0')}`;
  }
}

/** A BAR in the bus addresses that requests carry. */
export interface BusBar {
  readonly spec: BarSpec;
  readonly base: BusAddr;
  /** The last byte. */
  readonly limit: BusAddr;
}

/** One PCI function and its place. */
export class PciNode {
  /** Position in {@link PciTree.nodes}. */
  readonly index: number;
  readonly spec: FunctionSpec;
  readonly bdf: Bdf;
  readonly hostBridge: HostBridge;
  /** The bridge above; for a virtual function the bridge above its physical one; null on a root
   *  bus. `pci_upstream_bridge()`. */
  readonly upstream: PciNode | null;
  /** Functions right below, for a bridge. */
  readonly children: PciNode[] = [];
  /** Memory BARs that have an address. */
  readonly memoryBars: readonly BusBar[];
  /** Bus addresses that a bridge passes downwards. Where the spec names no windows: what the BARs
   *  below need, one range each. */
  windows: readonly WindowSpec[];

  constructor(index: number, spec: FunctionSpec, bdf: Bdf, above: PciNode | HostBridge) {
    this.index = index;
    this.spec = spec;
    this.bdf = bdf;
    this.upstream = above instanceof PciNode ? above : null;
    this.hostBridge = above instanceof PciNode ? above.hostBridge : above;
    const { busOffset } = this.hostBridge.spec;
    this.memoryBars = spec.bars
      .filter((bar) => bar.kind === 'memory' && bar.address !== 0)
      .map((bar) => ({
        spec: bar,
        base: busAddr(bar.address + busOffset),
        limit: busAddr(bar.address + busOffset + bar.size - 1),
      }));
    const { memory = null, prefetch = null } = spec.bridge ?? {};
    this.windows = [memory, prefetch].filter((window) => window !== null);
  }

  /** `0000:41:00.0`. */
  get address(): string {
    return this.spec.address;
  }

  /** True for a port or bridge. */
  get isBridge(): boolean {
    return this.spec.bridge !== null;
  }

  /** The memory BAR that holds `address`; null if none does. */
  barAt(address: number): BusBar | null {
    for (const bar of this.memoryBars) {
      if (address >= bar.base && address <= bar.limit) return bar;
    }
    return null;
  }
}

/** All functions of a machine. */
export class PciTree {
  readonly nodes: readonly PciNode[];
  readonly hostBridges: readonly HostBridge[];
  private readonly byAddress: ReadonlyMap<string, PciNode>;

  constructor(spec: MachineSpec) {
    this.hostBridges = spec.hostBridges.map((bridge) => new HostBridge(bridge));
    const placing = new Placing(spec, this.hostBridges);
    for (const fn of spec.functions) placing.place(fn.address);
    this.nodes = placing.nodes;
    this.byAddress = placing.byAddress;
    for (const { children } of [...this.hostBridges, ...this.nodes]) {
      children.sort((one, other) => compareBdf(one.bdf, other.bdf));
    }
    // Children stand behind their parents, so backwards is bottom-up.
    for (const node of this.nodes.toReversed()) {
      if (node.isBridge && node.windows.length === 0) node.windows = windowsBelow(node);
    }
    for (const bridge of this.hostBridges) bridge.windows = joined(windowsBelow(bridge));
  }

  /** The function at `address`; null if there is none. */
  find(address: string): PciNode | null {
    return this.byAddress.get(address) ?? null;
  }

  /** The function at `address`, which must exist. */
  at(address: string): PciNode {
    return present(this.find(address), `function ${address}`);
  }
}

/** What a bridge must pass for everything below it to be reached. */
function windowsBelow(bridge: PciNode | HostBridge): readonly WindowSpec[] {
  return bridge.children.flatMap((child) => [
    ...child.memoryBars.map(({ base, limit }) => ({ base, limit })),
    ...child.windows,
  ]);
}

/** The same addresses as ranges that neither overlap nor touch, ascending. */
function joined(windows: readonly WindowSpec[]): readonly WindowSpec[] {
  const apart: WindowSpec[] = [];
  for (const window of [...windows].sort((one, other) => one.base - other.base)) {
    const last = apart.at(-1);
    if (last === undefined || window.base > last.limit + 1) apart.push(window);
    else apart[apart.length - 1] = { ...last, limit: Math.max(last.limit, window.limit) };
  }
  return apart;
}

/** Places every function below what is above it, whatever the order in the spec. */
class Placing {
  readonly nodes: PciNode[] = [];
  readonly byAddress = new Map<string, PciNode>();
  private readonly specs: ReadonlyMap<string, FunctionSpec>;
  private readonly roots = new Map<string, HostBridge>();

  constructor(spec: MachineSpec, hostBridges: readonly HostBridge[]) {
    this.specs = new Map(spec.functions.map((fn) => [fn.address, fn]));
    for (const bridge of hostBridges) this.roots.set(rootKey(bridge.spec), bridge);
  }

  /** Parents first; the chain is walked in a loop, for it may be long. */
  place(address: string): void {
    const chain: FunctionSpec[] = [];
    let next: string | null = address;
    while (next !== null && !this.byAddress.has(next)) {
      const spec: FunctionSpec = present(this.specs.get(next), `function ${next}`);
      chain.push(spec);
      assert(chain.length <= this.specs.size, 'a function is not above itself');
      next = spec.parent;
    }
    for (const spec of chain.reverse()) this.add(spec);
  }

  private add(spec: FunctionSpec): void {
    const bdf = present(parseBdf(spec.address), `address ${spec.address}`);
    const above = spec.parent === null ? this.rootOf(bdf) : this.byAddress.get(spec.parent);
    const node = new PciNode(this.nodes.length, spec, bdf, present(above, `above ${spec.address}`));
    this.nodes.push(node);
    this.byAddress.set(spec.address, node);
    (node.upstream ?? node.hostBridge).children.push(node);
  }

  private rootOf(bdf: Bdf): HostBridge {
    return present(this.roots.get(rootKey(bdf)), `host bridge of bus ${bdf.bus}`);
  }
}

function rootKey({ domain, bus }: { domain: number; bus: number }): string {
  return `${domain}:${bus}`;
}
