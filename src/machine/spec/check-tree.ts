/**
 * Checks that the functions of a machine form a tree of buses: every function on a bus that exists,
 * every bridge with buses of its own.
 */

import { type Bdf, formatBdf } from '../pci/bdf.ts';
import { bridgeRule } from '../pci/pcie-type.ts';
import type { BridgeSpec, FunctionSpec, MachineSpec } from './machine-spec.ts';

/** LIMIT: bridges one below another; bus numbers would allow 255, machines have up to ten. */
export const BRIDGE_DEPTH_MAX = 64;

/** Refuses the machine: where in it, and what is wrong. */
export type Refuse = (place: string, problem: string) => never;

/** A function of the machine that is checked. */
export interface ListedFunction {
  /** Its position in the list as given. */
  readonly index: number;
  readonly spec: FunctionSpec;
  /** Its address in numbers. */
  readonly bdf: Bdf;
}

/** Checks that the `functions` of `machine` form a tree, and refuses the first problem found. */
export function checkTree(
  machine: MachineSpec,
  functions: readonly ListedFunction[],
  refuse: Refuse,
): void {
  const tree = new TreeCheck(machine, functions, refuse);
  tree.checkHostBridges();
  tree.checkFunctions();
  tree.checkDepths();
  tree.checkBuses();
}

/** Bus numbers that something owns. */
interface BusRange {
  readonly first: number;
  readonly last: number;
  /** Field to blame. */
  readonly place: string;
  readonly owner: string;
}

class TreeCheck {
  readonly #machine: MachineSpec;
  readonly #refuse: Refuse;
  readonly #entries: readonly ListedFunction[];
  readonly #byAddress = new Map<string, ListedFunction>();
  readonly #rootBuses = new Set<string>();

  constructor(machine: MachineSpec, entries: readonly ListedFunction[], refuse: Refuse) {
    this.#machine = machine;
    this.#entries = entries;
    this.#refuse = refuse;
  }

  checkHostBridges(): void {
    for (const [index, { domain, bus }] of this.#machine.hostBridges.entries()) {
      const name = busName(domain, bus);
      if (this.#rootBuses.has(name)) {
        this.#refuse(`hostBridges[${index}].bus`, `there is a host bridge of bus ${name} already`);
      }
      this.#rootBuses.add(name);
    }
  }

  checkFunctions(): void {
    for (const entry of this.#entries) {
      const other = this.#byAddress.get(entry.spec.address);
      if (other !== undefined) {
        const problem = `functions[${other.index}] has the address ${entry.spec.address} already`;
        this.#refuse(placeOf(entry, 'address'), problem);
      }
      this.#byAddress.set(entry.spec.address, entry);
    }
    for (const entry of this.#entries) {
      this.#checkKind(entry);
      if (entry.spec.physicalFunction !== null) this.#checkVirtual(entry);
      const parent = this.#parentOf(entry);
      if (entry.spec.physicalFunction === null) this.#checkBus(entry, parent);
    }
  }

  #checkKind({ index, spec }: ListedFunction): void {
    const place = `functions[${index}].bridge`;
    const rule = bridgeRule(spec.type);
    if (rule === 'always' && spec.bridge === null) {
      this.#refuse(place, `expected the buses below a function of type ${spec.type}, got null`);
    }
    if (rule === 'never' && spec.bridge !== null) {
      this.#refuse(place, `expected null for a function of type ${spec.type}, got an object`);
    }
  }

  #checkVirtual(entry: ListedFunction): void {
    const { physicalFunction, parent, bridge } = entry.spec;
    const place = placeOf(entry, 'physicalFunction');
    const physical = this.#byAddress.get(physicalFunction ?? '');
    if (physical === undefined) this.#refuse(place, `there is no function ${physicalFunction}`);
    if (physical.spec.physicalFunction !== null) {
      this.#refuse(place, `expected a physical function, and ${physicalFunction} is virtual`);
    }
    if (physical.bdf.domain !== entry.bdf.domain) {
      this.#refuse(place, `expected a function of the same domain, got ${physicalFunction}`);
    }
    if (bridge !== null) this.#refuse(placeOf(entry, 'bridge'), 'a virtual function is no bridge');
    if (parent !== physical.spec.parent) {
      const expected = `expected ${physical.spec.parent}, as for its physical function`;
      this.#refuse(placeOf(entry, 'parent'), `${expected}, got ${parent}`);
    }
  }

  #parentOf(entry: ListedFunction): ListedFunction | null {
    const { parent } = entry.spec;
    if (parent === null) return null;
    const above = this.#byAddress.get(parent);
    const place = placeOf(entry, 'parent');
    if (above === undefined) this.#refuse(place, `there is no function ${parent}`);
    if (above.spec.bridge === null) this.#refuse(place, `${parent} is no bridge`);
    if (above.bdf.domain !== entry.bdf.domain) {
      this.#refuse(place, `expected a bridge of the same domain, got ${parent}`);
    }
    return above;
  }

  #checkBus(entry: ListedFunction, parent: ListedFunction | null): void {
    const { domain, bus } = entry.bdf;
    if (parent === null) {
      const name = busName(domain, bus);
      if (this.#rootBuses.has(name)) return;
      const problem = `expected the bridge above, for no host bridge has bus ${name}, got null`;
      this.#refuse(placeOf(entry, 'parent'), problem);
    }
    const secondary = bridgeOf(parent).secondary;
    if (secondary !== bus) {
      const problem = `the bus below ${parent.spec.address} is ${hex(secondary)}, not ${hex(bus)}`;
      this.#refuse(placeOf(entry, 'parent'), problem);
    }
  }

  /** Walks every chain upwards once: what is known to end is not walked again. */
  checkDepths(): void {
    const depths = new Map<ListedFunction, number>();
    for (const start of this.#entries) {
      const chain: ListedFunction[] = [];
      let at: ListedFunction | null = start;
      while (at !== null && !depths.has(at)) {
        if (chain.length > BRIDGE_DEPTH_MAX) this.#refuseChain(start);
        chain.push(at);
        at = this.#byAddress.get(at.spec.parent ?? '') ?? null;
      }
      let depth = at === null ? -1 : (depths.get(at) ?? 0);
      for (const entry of chain.toReversed()) {
        depth += 1;
        if (depth > BRIDGE_DEPTH_MAX) this.#refuseChain(entry);
        depths.set(entry, depth);
      }
    }
  }

  /** The chain above `start` is too long, perhaps endless. */
  #refuseChain(start: ListedFunction): never {
    const seen = new Set<ListedFunction>();
    let at: ListedFunction | undefined = start;
    while (at !== undefined && !seen.has(at)) {
      seen.add(at);
      at = this.#byAddress.get(at.spec.parent ?? '');
    }
    const place = placeOf(at ?? start, 'parent');
    if (at !== undefined) this.#refuse(place, 'the bridges above this function form a circle');
    this.#refuse(place, `expected at most ${BRIDGE_DEPTH_MAX} bridges above, got ${seen.size - 1}`);
  }

  /** Bus ranges lie within those of the bridge above, and apart from their siblings'. */
  checkBuses(): void {
    const siblings = new Map<string, BusRange[]>();
    for (const [index, { domain, bus }] of this.#machine.hostBridges.entries()) {
      const place = `hostBridges[${index}].bus`;
      const range = { first: bus, last: bus, place, owner: `root bus ${busName(domain, bus)}` };
      listIn(siblings, `domain ${domain}`).push(range);
    }
    for (const entry of this.#entries) {
      const parent = this.#byAddress.get(entry.spec.parent ?? '') ?? null;
      if (entry.spec.physicalFunction !== null) this.#checkVirtualBus(entry, parent);
      const { bridge } = entry.spec;
      if (bridge === null) continue;
      this.#checkRange(entry, bridge, parent);
      if (bridge.secondary === 0) continue;
      const group = parent?.spec.address ?? `domain ${entry.bdf.domain}`;
      listIn(siblings, group).push({
        first: bridge.secondary,
        last: bridge.subordinate,
        place: placeOf(entry, 'bridge.secondary'),
        owner: entry.spec.address,
      });
    }
    for (const ranges of siblings.values()) this.#checkApart(ranges);
  }

  #checkVirtualBus(entry: ListedFunction, parent: ListedFunction | null): void {
    if (parent === null) return;
    const { secondary, subordinate } = bridgeOf(parent);
    const { bus } = entry.bdf;
    if (bus >= secondary && bus <= subordinate) return;
    const range = `${hex(secondary)} to ${hex(subordinate)}`;
    const problem = `expected a bus of ${range}, below ${parent.spec.address}, got ${hex(bus)}`;
    this.#refuse(placeOf(entry, 'address'), problem);
  }

  #checkRange(entry: ListedFunction, bridge: BridgeSpec, parent: ListedFunction | null): void {
    const { secondary, subordinate } = bridge;
    if (secondary === 0) {
      if (subordinate === 0) return;
      const problem = `expected 0 for a bridge that is not configured, got ${hex(subordinate)}`;
      this.#refuse(placeOf(entry, 'bridge.subordinate'), problem);
    }
    if (secondary <= entry.bdf.bus) {
      const problem = `expected a bus above the bridge's own, ${hex(entry.bdf.bus)}, got `;
      this.#refuse(placeOf(entry, 'bridge.secondary'), problem + hex(secondary));
    }
    const most = parent === null ? 0xff : bridgeOf(parent).subordinate;
    if (subordinate < secondary || subordinate > most) {
      const problem = `expected ${hex(secondary)} to ${hex(most)}, got ${hex(subordinate)}`;
      this.#refuse(placeOf(entry, 'bridge.subordinate'), problem);
    }
  }

  #checkApart(ranges: BusRange[]): void {
    ranges.sort((one, other) => one.first - other.first || one.last - other.last);
    let before: BusRange | null = null;
    for (const range of ranges) {
      if (before !== null && range.first <= before.last) {
        const problem = `bus ${hex(range.first)} is one of ${before.owner} already`;
        this.#refuse(range.place, problem);
      }
      before = range;
    }
  }
}

function placeOf(entry: ListedFunction, field: string): string {
  return `functions[${entry.index}].${field}`;
}

function bridgeOf(entry: ListedFunction): BridgeSpec {
  return entry.spec.bridge ?? { secondary: 0, subordinate: 0, memory: null, prefetch: null };
}

function busName(domain: number, bus: number): string {
  return formatBdf({ domain, bus, device: 0, function: 0 }).slice(0, -5);
}

function hex(bus: number): string {
  return `0x${bus.toString(16)}`;
}

function listIn<T>(lists: Map<string, T[]>, key: string): T[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
