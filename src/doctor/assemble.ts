/**
 * Fits what a capture shows together into a machine, with the least assumed and all of that said.
 */

import {
  type BarSpec,
  type BridgeSpec,
  compareBdf,
  type FunctionSpec,
  type HostBridgeSpec,
  MACHINE_SCHEMA,
  type MachineSpec,
  type WindowSpec,
} from '../machine/index.ts';
import type { Capture } from './capture.ts';
import { findFamily, type Member } from './family.ts';
import { guessTypes } from './guess-type.ts';
import { NoteTally } from './note-tally.ts';
import { oneLine } from './one-line.ts';
import { type BusyRange, placeMemory } from './place-memory.ts';
import { settleBars } from './settle-bars.ts';

/** LIMIT: characters of a name or title. */
const NAME_MAX = 64;
const TITLE_MAX = 200;
const WINDOW_GRAIN = 2 ** 20;
const LIMIT_32 = 2 ** 32;

/** A root bus and what is below it. */
interface Root {
  readonly domain: number;
  readonly bus: number;
  readonly members: Member[];
}

/**
 * Makes the machine that a capture shows. `peerForwarding`, which no capture shows, is `none`.
 *
 * @returns A machine for `readMachineSpec` to check; functions by ascending address.
 * @throws {@link InputError} if its RAM does not fit into its addresses.
 */
export function assembleMachine(capture: Capture): MachineSpec {
  const notes = [...capture.notes];
  const tally = new NoteTally();
  const drafts = capture.functions.toSorted((one, other) => compareBdf(one.bdf, other.bdf));
  const members = findFamily(drafts, tally);
  const roots = rootsOf(members);
  const hostBridges = roots.map((root) => hostBridgeOf(root, tally));
  const shiftOf = new Map(
    roots.flatMap((root, at) =>
      root.members.map((member) => [member, hostBridges[at]?.busOffset ?? 0] as const),
    ),
  );
  const shifts = members.map((member) => shiftOf.get(member) ?? 0);
  const functions = functionsOf(members, shifts, tally);
  const busy = {
    bars: functions.flatMap(barRanges),
    windows: functions.flatMap((fn, at) => windowRanges(fn, shifts[at] ?? 0)),
  };
  const memory = placeMemory(capture.memory, busy, capture.source, notes);
  notes.push(...tally.notes(), ...cpuNotes(capture));
  const title = capture.title ?? `${functions.length} PCI functions read from ${capture.source}`;
  return {
    schema: MACHINE_SCHEMA,
    name: kebabName(capture.facts.name ?? baseName(capture.source)),
    title: oneLine(title, TITLE_MAX),
    cpu: capture.cpu,
    coherentDma: true,
    memory,
    iommu: capture.iommu,
    hostBridges,
    functions,
    notes,
  };
}

/** By ascending bus, for members are in order of address. */
function rootsOf(members: readonly Member[]): Root[] {
  const byAddress = new Map(members.map((member) => [member.address, member]));
  const roots = new Map<string, Root>();
  for (const member of members) {
    let top = byAddress.get(member.physicalFunction ?? '') ?? member;
    while (top.parent !== null) {
      const above = byAddress.get(top.parent);
      if (above === undefined) break;
      top = above;
    }
    const { domain, bus } = top.draft.bdf;
    const key = `${domain}:${bus}`;
    const root = roots.get(key) ?? { domain, bus, members: [] };
    roots.set(key, root);
    root.members.push(member);
  }
  return [...roots.values()];
}

function hostBridgeOf({ domain, bus, members }: Root, tally: NoteTally): HostBridgeSpec {
  const onRoot = members.filter(({ parent }) => parent === null);
  const withNode = [...onRoot, ...members].find(({ draft }) => draft.node !== null);
  return {
    domain,
    bus,
    node: withNode?.draft.node ?? null,
    busOffset: busOffsetOf(members, tally),
    dmaOffset: 0,
    peerForwarding: 'none',
  };
}

/**
 * Bus address minus CPU address, if all BARs agree. Virtual functions have nothing in registers.
 */
function busOffsetOf(members: readonly Member[], tally: NoteTally): number {
  let offset: number | null = null;
  for (const { address, draft } of members) {
    for (const { index, kind, address: cpuAddress } of draft.bars) {
      const busAddress = draft.busAddresses.get(index);
      if (busAddress === undefined || kind === 'io' || cpuAddress === 0) continue;
      const difference = busAddress - cpuAddress;
      if (offset !== null && difference !== offset) {
        tally.add(address, 'its host bridge shifts addresses in more than one way; none is taken');
        return 0;
      }
      offset = difference;
    }
  }
  return offset ?? 0;
}

function functionsOf(
  members: readonly Member[],
  busOffsets: readonly number[],
  tally: NoteTally,
): FunctionSpec[] {
  const types = guessTypes(
    members.map(({ address, parent, bridge, draft }) => {
      if (draft.type === null)
        tally.add(address, 'its PCI Express type is not in the source; told from its place');
      if (draft.acs === 'unknown')
        tally.add(address, 'ACS is not in the source; it takes root to read');
      const { classCode, type, isExpress } = draft;
      return { address, parent, isBridge: bridge !== null, classCode, type, isExpress };
    }),
  );
  const holders = members.map(({ address, bridge, draft }, at) => {
    const { command, bars } = draft;
    return { address, command, isBridge: bridge !== null, busOffset: busOffsets[at] ?? 0, bars };
  });
  const bars = settleBars(holders, tally);
  return members.map((member, at) => {
    const { address, parent, bridge, physicalFunction } = member;
    const type = types.get(address) ?? 'conventional';
    const settled = bridge === null ? null : settleBridge(bridge, address, tally);
    return functionOf(
      member,
      { address, parent, bridge: settled, physicalFunction, type },
      bars[at],
    );
  });
}

function functionOf(
  { draft }: Member,
  found: Pick<FunctionSpec, 'address' | 'parent' | 'bridge' | 'physicalFunction' | 'type'>,
  bars: readonly BarSpec[] = [],
): FunctionSpec {
  const { vendor, device, subsystemVendor, subsystemDevice, classCode, revision } = draft;
  const { command, acs, link, node, iommuGroup, driver, config } = draft;
  return {
    address: found.address,
    parent: found.parent,
    vendor,
    device,
    subsystemVendor,
    subsystemDevice,
    classCode,
    revision,
    type: found.type,
    command,
    bars,
    bridge: found.bridge,
    acs,
    link,
    node,
    iommuGroup,
    driver,
    physicalFunction: found.physicalFunction,
    config,
  };
}

/** Windows that no bridge can have are taken as not seen. */
function settleBridge(bridge: BridgeSpec, address: string, tally: NoteTally): BridgeSpec {
  const settle = (window: WindowSpec | null, isLow: boolean): WindowSpec | null => {
    if (window === null) return null;
    const isGrain = window.base % WINDOW_GRAIN === 0 && (window.limit + 1) % WINDOW_GRAIN === 0;
    if (isGrain && (!isLow || window.limit < LIMIT_32)) return window;
    tally.add(address, 'a window is none that a bridge can have and is left out');
    return null;
  };
  const { secondary, subordinate } = bridge;
  return {
    secondary,
    subordinate: secondary === 0 ? 0 : subordinate,
    memory: settle(bridge.memory, true),
    prefetch: settle(bridge.prefetch, false),
  };
}

function barRanges({ bars }: FunctionSpec): BusyRange[] {
  return bars
    .filter(({ kind, address }) => kind === 'memory' && address !== 0)
    .map(({ address, size }) => ({ start: address, end: address + size }));
}

/** A bridge's windows, in CPU addresses. */
function windowRanges({ bridge }: FunctionSpec, busOffset: number): BusyRange[] {
  return [bridge?.memory ?? null, bridge?.prefetch ?? null]
    .filter((window) => window !== null)
    .map(({ base, limit }) => ({ start: base - busOffset, end: limit + 1 - busOffset }));
}

function cpuNotes({ cpu }: Capture): string[] {
  if (cpu === null) return ['The CPU is not in the source; DMA is assumed to be coherent.'];
  const isX86 = cpu.arch === 'x86_64' || cpu.arch === 'i686';
  return isX86 ? [] : [`Whether DMA on ${cpu.arch} is coherent is not in the source; assumed so.`];
}

function baseName(path: string): string {
  const name = path.split(/[/\\]/).findLast((part) => part !== '') ?? '';
  return name.replace(/(?:\.(?:tar|tgz|gz|txt|log|json))+$/i, '');
}

function kebabName(text: string): string {
  const words = text
    .slice(0, NAME_MAX)
    .toLowerCase()
    .match(/[a-z0-9]+/g);
  return words?.join('-') ?? 'machine';
}
