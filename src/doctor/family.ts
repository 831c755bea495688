/**
 * Who belongs to whom in a capture: the bridge above each function and the physical function of
 * each virtual one. What no bus leads to is left out, for no machine can have it.
 *
 * @source reference/p2p-topology.md 1.8, 3.5
 */

import { type Bdf, type BridgeSpec, formatBdf } from '../machine/index.ts';
import { BusTree, soundBridges } from './bus-tree.ts';
import type { FunctionDraft } from './capture.ts';
import type { NoteTally } from './note-tally.ts';

/** LIMIT: virtual functions of one physical one; routing ids have 16 bits. */
const VIRTUAL_MAX = 65_536;
const BUS_MAX = 0xff;
/** What the id registers of a virtual function read. */
const NO_ID = 0xffff;
const COMMAND_MEMORY = 0x2;

/** A function that has its place. */
export interface Member {
  readonly address: string;
  readonly draft: FunctionDraft;
  readonly parent: string | null;
  readonly physicalFunction: string | null;
  readonly bridge: BridgeSpec | null;
}

/**
 * Finds the place of each function.
 *
 * @param drafts - By ascending address, each address once.
 * @returns The functions that have a place, in the same order. A parent is among them, is a bridge,
 *   and its secondary bus is the function's own, except for a virtual one.
 */
export function findFamily(drafts: readonly FunctionDraft[], tally: NoteTally): Member[] {
  const byAddress = new Map(drafts.map((draft) => [formatBdf(draft.bdf), draft]));
  const bridges = soundBridges(bridgesOf(byAddress, tally), tally);
  const tree = new BusTree(bridges);
  const physical = physicalFunctions(byAddress);
  const members = new Map<string, Member>();
  for (const [address, seen] of byAddress) {
    const physicalFunction = physical.get(address) ?? null;
    const shown = byAddress.get(physicalFunction ?? address) ?? seen;
    const isShown = shown.parent === null || bridges.has(shown.parent);
    const parent = isShown && shown.parent !== 'unknown' ? shown.parent : tree.parentOf(shown.bdf);
    const bridge = physicalFunction === null ? (bridges.get(address) ?? null) : null;
    const draft = physicalFunction === null ? seen : asVirtual(seen, shown);
    if (draft.vendor === 0 && draft.device === 0) {
      tally.add(address, 'vendor and device are not in the source and taken as 0');
    }
    members.set(address, { address, draft, parent, physicalFunction, bridge });
  }
  const kept = reachable(members, tally);
  const clipped = kept.map((member) => clippedTo(member, members, tally));
  return reachable(new Map(clipped.map((member) => [member.address, member])), tally);
}

/** No bridge leads further than those above it. */
function clippedTo(member: Member, members: ReadonlyMap<string, Member>, tally: NoteTally): Member {
  const { address, bridge } = member;
  if (bridge === null || bridge.secondary === 0) return member;
  let subordinate = bridge.subordinate;
  let above = members.get(member.parent ?? '');
  while (above !== undefined) {
    subordinate = Math.min(subordinate, above.bridge?.subordinate ?? BUS_MAX);
    above = members.get(above.parent ?? '');
  }
  if (subordinate === bridge.subordinate) return member;
  tally.add(address, 'it claims more buses than the bridges above it have; those are left out');
  const isLeft = subordinate >= bridge.secondary;
  const buses = { secondary: isLeft ? bridge.secondary : 0, subordinate: isLeft ? subordinate : 0 };
  return { ...member, bridge: { ...bridge, ...buses } };
}

/** What hardware does not show of a virtual function itself. */
function asVirtual(draft: FunctionDraft, physical: FunctionDraft): FunctionDraft {
  const { virtualFunctions } = physical;
  const hasIds = draft.vendor !== 0 && draft.vendor !== NO_ID;
  const { vendor, device } = hasIds ? draft : (virtualFunctions ?? draft);
  // Its own bit reads 0; the physical function decodes addresses for it.
  return { ...draft, vendor, device, command: draft.command | COMMAND_MEMORY };
}

/** The bridges; where the source shows functions below and no bus number, it is theirs. */
function bridgesOf(
  byAddress: ReadonlyMap<string, FunctionDraft>,
  tally: NoteTally,
): ReadonlyMap<string, BridgeSpec> {
  const bridges = new Map<string, BridgeSpec>();
  const nearest = new Map<string, number>();
  const highest = new Map<string, number>();
  for (const { parent, bdf, bridge, physicalFunction } of byAddress.values()) {
    if (physicalFunction !== null) continue;
    if (parent !== null) nearest.set(parent, Math.max(bdf.bus, nearest.get(parent) ?? 0));
    const last = Math.max(bdf.bus, bridge?.subordinate ?? 0);
    for (const above of chainAbove(parent, byAddress)) {
      highest.set(above, Math.max(last, highest.get(above) ?? 0));
    }
  }
  for (const [address, { bridge, bdf }] of byAddress) {
    const secondary = nearest.get(address);
    const isSilent = bridge === null || bridge.secondary === 0;
    if (secondary !== undefined && isSilent && secondary > bdf.bus) {
      tally.add(address, 'the numbers of the buses below are told from the functions there');
      const subordinate = highest.get(address) ?? secondary;
      bridges.set(address, { memory: null, prefetch: null, ...bridge, secondary, subordinate });
    } else if (bridge !== null) bridges.set(address, bridge);
  }
  return bridges;
}

/** The addresses above, nearest first, as far as the source shows them. */
function* chainAbove(
  parent: FunctionDraft['parent'],
  byAddress: ReadonlyMap<string, FunctionDraft>,
): Generator<string> {
  let above = parent;
  for (let steps = 0; above !== null && above !== 'unknown' && steps <= BUS_MAX; steps += 1) {
    yield above;
    above = byAddress.get(above)?.parent ?? null;
  }
}

/** Physical function by virtual one: as the source links them, else by the routing ids. */
function physicalFunctions(
  byAddress: ReadonlyMap<string, FunctionDraft>,
): ReadonlyMap<string, string> {
  const physical = new Map<string, string>();
  for (const [address, { bdf, virtualFunctions }] of byAddress) {
    const { count = 0, offset = 0, stride = 0 } = virtualFunctions ?? {};
    for (let number = 0; number < Math.min(count, VIRTUAL_MAX); number += 1) {
      const virtual = formatBdf(atRoutingId(bdf, offset + number * stride));
      if (byAddress.has(virtual) && virtual !== address) physical.set(virtual, address);
    }
  }
  for (const [address, { physicalFunction }] of byAddress) {
    if (physicalFunction !== null && byAddress.has(physicalFunction)) {
      physical.set(address, physicalFunction);
    }
  }
  for (const [address, owner] of physical) {
    if (physical.has(owner) || domainOf(address) !== domainOf(owner)) physical.delete(address);
  }
  return physical;
}

/** The function whose routing id is `steps` above that of `bdf`; it may be on a later bus. */
function atRoutingId(bdf: Bdf, steps: number): Bdf {
  const id = bdf.bus * 256 + bdf.device * 8 + bdf.function + steps;
  return {
    domain: bdf.domain,
    bus: (id >>> 8) & BUS_MAX,
    device: (id >>> 3) & 0x1f,
    function: id & 0x7,
  };
}

function domainOf(address: string): string {
  return address.slice(0, -'00:00.0'.length);
}

/** Those with an unbroken chain of bridges above them. */
function reachable(members: ReadonlyMap<string, Member>, tally: NoteTally): Member[] {
  const placed = new Map<string, boolean>();
  const isPlaced = (start: Member): boolean => {
    const chain: Member[] = [];
    let at: Member | undefined = start;
    while (at !== undefined && !placed.has(at.address) && !chain.includes(at)) {
      chain.push(at);
      at = at.parent === null ? undefined : members.get(at.parent);
    }
    let isAbove = at === undefined ? true : placed.get(at.address) === true;
    for (const member of chain.toReversed()) {
      isAbove = isAbove && fitsBelow(member, members);
      placed.set(member.address, isAbove);
    }
    return isAbove;
  };
  return [...members.values()].filter((member) => {
    const physical = members.get(member.physicalFunction ?? '');
    const isKept = isPlaced(member) && (physical === undefined || isPlaced(physical));
    if (!isKept) tally.add(member.address, 'no bridge leads to its bus; it is left out');
    return isKept;
  });
}

/** True if the function can be below its parent. */
function fitsBelow(member: Member, members: ReadonlyMap<string, Member>): boolean {
  const { parent, physicalFunction, draft } = member;
  if (parent === null) return true;
  const above = members.get(parent);
  const bridge = above?.bridge ?? null;
  if (bridge === null || above?.draft.bdf.domain !== draft.bdf.domain) return false;
  if (physicalFunction === null) return bridge.secondary === draft.bdf.bus;
  return draft.bdf.bus >= bridge.secondary && draft.bdf.bus <= bridge.subordinate;
}
