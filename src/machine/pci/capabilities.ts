/**
 * The two lists of capabilities in configuration space, walked and changed. Real devices have lists
 * that loop, that leave the space, that are garbage: walking ends in every case and says what it
 * met.
 *
 * @source reference/p2p-topology.md 3.3
 */

import {
  byteAt,
  CONVENTIONAL_SIZE,
  dwordAt,
  EXTENDED_SIZE,
  HEADER_SIZE,
  setDword,
  setWord,
  wordAt,
} from './config-bytes.ts';

/** Status register, bit 4: there is a list of capabilities. */
const STATUS = 0x06;
const STATUS_LIST = 0x10;
const LIST_POINTER = 0x34;
const CARDBUS_LIST_POINTER = 0x14;
const CARDBUS_HEADER = 2;
const HEADER_TYPE = 0x0e;
const EXTENDED_START = CONVENTIONAL_SIZE;
/** LIMIT: a header takes four bytes, so more entries than this cannot be distinct ones. */
const EXTENDED_ENTRIES_MAX = (EXTENDED_SIZE - EXTENDED_START) / 4;
/** What the header of an extended capability reads where nothing answers. */
const NOTHING = 0xffffffff;

/** Capability ids of the first list. */
export const CAPABILITY = { subsystem: 0x0d, pciExpress: 0x10 } as const;

/** Capability ids of the extended list. */
export const EXTENDED_CAPABILITY = { acs: 0x0d, srIov: 0x10, resizableBar: 0x15 } as const;

/** Bytes of a PCI Express capability of version 2. */
export const PCI_EXPRESS_SIZE: number = 0x3c;

/** One capability. */
export interface Capability {
  readonly id: number;
  /** Byte at which its header stands. */
  readonly offset: number;
  /** True for the list that starts at 0x100. */
  readonly extended: boolean;
  /** Of the header of an extended one; 0 for others. */
  readonly version: number;
}

/** What walking a list gave. */
export interface CapabilityWalk {
  /** In list order. Null capabilities, which only hold a place, are left out. */
  readonly capabilities: readonly Capability[];
  /** True if the list leads out of the bytes at hand: there may be more. */
  readonly truncated: boolean;
}

/**
 * Walks the first list.
 *
 * @param problems - Takes a sentence for whatever is wrong with the list.
 */
export function walkCapabilities(bytes: Uint8Array, problems: string[]): CapabilityWalk {
  const capabilities: Capability[] = [];
  const seen = new Set<number>();
  const end = Math.min(bytes.length, CONVENTIONAL_SIZE);
  let at = firstPointer(bytes) & 0xfc;
  while (at !== 0) {
    if (at < HEADER_SIZE) {
      problems.push(`the capability list points into the header, at ${hex(at)}`);
      break;
    }
    if (at + 2 > end) {
      problems.push(`the capability list goes on at ${hex(at)}, beyond the ${end} bytes at hand`);
      return { capabilities, truncated: true };
    }
    if (seen.has(at)) {
      problems.push(`the capability list loops back to ${hex(at)}`);
      break;
    }
    seen.add(at);
    const id = byteAt(bytes, at);
    if (id === 0xff) {
      problems.push(`the capability list ends in garbage at ${hex(at)}`);
      break;
    }
    if (id !== 0) capabilities.push({ id, offset: at, extended: false, version: 0 });
    at = byteAt(bytes, at + 1) & 0xfc;
  }
  return { capabilities, truncated: false };
}

/** Walks the extended list, which is there if the function is a PCI Express one. */
export function walkExtended(bytes: Uint8Array, problems: string[]): CapabilityWalk {
  const capabilities: Capability[] = [];
  const seen = new Set<number>();
  let at = EXTENDED_START;
  while (seen.size < EXTENDED_ENTRIES_MAX) {
    if (at + 4 > bytes.length) {
      if (at > EXTENDED_START) {
        problems.push(`the extended list goes on at ${hex(at)}, beyond the bytes at hand`);
      }
      return { capabilities, truncated: true };
    }
    seen.add(at);
    const header = dwordAt(bytes, at);
    if (header === 0 || header === NOTHING) break;
    const id = header & 0xffff;
    const version = (header >>> 16) & 0xf;
    if (id !== 0) capabilities.push({ id, offset: at, extended: true, version });
    const next = (header >>> 20) & 0xffc;
    if (next === 0) break;
    if (next < EXTENDED_START) {
      problems.push(`the extended list points out of the extended space, to ${hex(next)}`);
      break;
    }
    if (seen.has(next)) {
      problems.push(`the extended list loops back to ${hex(next)}`);
      break;
    }
    at = next;
  }
  return { capabilities, truncated: false };
}

/**
 * True if the extended space repeats the first 256 bytes all over: a bridge above ignores the upper
 * bits of the register number, so there is no extended space. @source `pci_ext_cfg_is_aliased()`
 */
export function isExtendedAliased(bytes: Uint8Array): boolean {
  if (bytes.length < EXTENDED_SIZE) return false;
  const header = dwordAt(bytes, 0);
  if (header === 0 || header === NOTHING) return false;
  for (let at = EXTENDED_START; at < EXTENDED_SIZE; at += CONVENTIONAL_SIZE) {
    if (dwordAt(bytes, at) !== header) return false;
  }
  return true;
}

/** The first capability of that id; null if there is none. */
export function findCapability(list: readonly Capability[], id: number): Capability | null {
  return list.find((capability) => capability.id === id) ?? null;
}

/** Makes every capability of that id a null one, which only holds its place in the list. */
export function removeCapability(bytes: Uint8Array, id: number, extended: boolean): void {
  const { capabilities } = extended ? walkExtended(bytes, []) : walkCapabilities(bytes, []);
  for (const capability of capabilities) {
    if (capability.id !== id) continue;
    const next = dwordAt(bytes, capability.offset) & 0xfff00000;
    if (extended) setDword(bytes, capability.offset, next >>> 0);
    else bytes[capability.offset] = 0;
  }
}

/**
 * Puts a capability of `length` zero bytes and its header at the end of the first list, into bytes
 * that are zero. Where there is no room for it, the list starts anew.
 *
 * @returns Where it stands.
 */
export function addCapability(bytes: Uint8Array, id: number, length: number): number {
  const { capabilities, truncated } = walkCapabilities(bytes, []);
  let at = truncated ? null : freeRun(bytes, capabilities, HEADER_SIZE, CONVENTIONAL_SIZE, length);
  let before = capabilities.at(-1)?.offset ?? null;
  if (at === null) {
    bytes.fill(0, HEADER_SIZE, CONVENTIONAL_SIZE);
    at = HEADER_SIZE;
    before = null;
  }
  if (before === null) bytes[LIST_POINTER] = at;
  else bytes[before + 1] = at;
  setWord(bytes, STATUS, wordAt(bytes, STATUS) | STATUS_LIST);
  bytes[at] = id;
  return at;
}

/** As {@link addCapability}, for the extended list. */
export function addExtended(bytes: Uint8Array, id: number, length: number): number {
  const { capabilities } = walkExtended(bytes, []);
  const before = capabilities.at(-1)?.offset ?? null;
  const free = freeRun(bytes, capabilities, EXTENDED_START + 4, EXTENDED_SIZE, length);
  let at = EXTENDED_START;
  if (before === null || free === null) bytes.fill(0, EXTENDED_START);
  else {
    at = free;
    setDword(bytes, before, ((dwordAt(bytes, before) & 0xfffff) | (at << 20)) >>> 0);
  }
  setDword(bytes, at, (id | (1 << 16)) >>> 0);
  return at;
}

function firstPointer(bytes: Uint8Array): number {
  if ((wordAt(bytes, STATUS) & STATUS_LIST) === 0) return 0;
  const isCardBus = (byteAt(bytes, HEADER_TYPE) & 0x7f) === CARDBUS_HEADER;
  return byteAt(bytes, isCardBus ? CARDBUS_LIST_POINTER : LIST_POINTER);
}

/**
 * The first `length` bytes, dword aligned, that are zero and no capability's; null if there are
 * none.
 */
function freeRun(
  bytes: Uint8Array,
  capabilities: readonly Capability[],
  start: number,
  end: number,
  length: number,
): number | null {
  const taken = new Set<number>();
  for (const capability of capabilities) {
    const first = capability.offset & ~3;
    for (let at = first; at < first + roomOf(capability); at += 4) taken.add(at);
  }
  let from = start;
  for (let at = start; at + 4 <= end; at += 4) {
    if (dwordAt(bytes, at) !== 0 || taken.has(at)) from = at + 4;
    else if (at + 4 - from >= length) return from;
  }
  return null;
}

/** Bytes that belong to a capability though they be zero; a guess for all but PCI Express. */
function roomOf(capability: Capability): number {
  if (capability.extended) return 0x40;
  return capability.id === CAPABILITY.pciExpress ? PCI_EXPRESS_SIZE : 0x10;
}

function hex(at: number): string {
  return `0x${at.toString(16)}`;
}
