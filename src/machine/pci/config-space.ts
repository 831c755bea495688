/**
 * What the bytes of a configuration space say. Captures are cut short, come from broken devices or
 * are no configuration space at all; decoding takes any bytes, always ends, and notes what made no
 * sense.
 *
 * It tells what stands in the registers, in bus addresses. A `FunctionSpec` needs more than that:
 * sizes of BARs, the place in the tree.
 *
 * @source reference/p2p-topology.md 3.3
 */

import type { AcsSpec, LinkSpec, PciType } from '../spec/machine-spec.ts';
import { acsSize, hasWideAcs, readAcs, readEgressVector } from './acs-registers.ts';
import { type BarRegister, readBars } from './bar-registers.ts';
import { type BridgeRegisters, readBridge, readBuses } from './bridge-registers.ts';
import {
  CAPABILITY,
  type Capability,
  EXTENDED_CAPABILITY,
  findCapability,
  isExtendedAliased,
  walkCapabilities,
  walkExtended,
} from './capabilities.ts';
import {
  byteAt,
  CONVENTIONAL_SIZE,
  dwordAt,
  EXTENDED_SIZE,
  HEADER_SIZE,
  wordAt,
} from './config-bytes.ts';
import { readLink } from './link-registers.ts';
import { bridgeRule, hasLink, typeOfCode } from './pcie-type.ts';

/** Offsets from the start of the PCI Express capability. */
const LINK_REGISTERS_END = 0x14;
const TYPE_SHIFT = 4;
const SR_IOV_SIZE = 0x1c;
const MEBIBYTE = 2 ** 20;

/** Which of the layouts the header has. */
export type HeaderKind = 'endpoint' | 'bridge' | 'cardbus' | 'unknown';

/** What the registers say. */
export interface ConfigFacts {
  readonly vendor: number;
  readonly device: number;
  /** Of a bridge: from its subsystem capability; 0 without one. */
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly classCode: number;
  readonly revision: number;
  readonly header: HeaderKind;
  /** True if the slot holds more than one function. */
  readonly isMultiFunction: boolean;
  readonly command: number;
  /** Registers that hold something, by index. */
  readonly bars: readonly BarRegister[];
  /** Null for anything but a bridge. Windows of a CardBus bridge are not read. */
  readonly bridge: BridgeRegisters | null;
  /** `unknown`: the capability list leads beyond the bytes at hand. */
  readonly type: PciType | 'unknown';
  /** Null: no link, or not at hand. */
  readonly link: LinkSpec | null;
  /** Null: no such capability. `unknown`: the extended space is not at hand. */
  readonly acs: AcsSpec | null | 'unknown';
  /** One bit a port, set where requests must not go straight; null without egress control. */
  readonly egressVector: Uint8Array | null;
  /** Null for a function without virtual functions. */
  readonly srIov: SrIovFacts | null;
  /** BARs whose size can be changed; empty without the capability. */
  readonly resizableBars: readonly ResizableBar[];
  /** All capabilities in the order of the lists, extended ones last. */
  readonly capabilities: readonly Capability[];
  /** What made no sense, a sentence each. */
  readonly problems: readonly string[];
}

/** Virtual functions: number n, from 0, has routing id `own + offset + n * stride`. */
export interface SrIovFacts {
  readonly offset: number;
  readonly stride: number;
  /** How many there are now. */
  readonly numVfs: number;
  /** How many there can be. */
  readonly totalVfs: number;
  /** Device id of each. */
  readonly vfDevice: number;
}

/** A BAR whose size software may choose. */
export interface ResizableBar {
  readonly index: number;
  /** Bytes, now. */
  readonly size: number;
  /** Bytes, ascending. */
  readonly supported: readonly number[];
}

/**
 * Decodes configuration space.
 *
 * @param bytes - 64, 256 or 4096 bytes as read; other lengths are taken as they come, bytes that
 *   are missing as zero, and bytes beyond 4096 are not looked at.
 */
export function decodeConfig(bytes: Uint8Array): ConfigFacts {
  const problems: string[] = [];
  const space = bytes.subarray(0, EXTENDED_SIZE);
  if (space.length < HEADER_SIZE) {
    problems.push(`expected at least ${HEADER_SIZE} bytes, got ${space.length}`);
  }
  const header = headerOf(space);
  if (header === 'unknown') problems.push(`header type ${byteAt(space, 0x0e) & 0x7f} is reserved`);
  const listed = walkCapabilities(space, problems);
  const express = findCapability(listed.capabilities, CAPABILITY.pciExpress);
  const seesType = express !== null || !listed.truncated;
  const type = seesType ? typeAt(space, express, header, problems) : 'unknown';
  const extended = extendedOf(space, express, problems);
  const vendor = wordAt(space, 0x00);
  const device = wordAt(space, 0x02);
  const reading: Reading = {
    space,
    isWideAcs: hasWideAcs(vendor, device) && type === 'root-port',
    extended: extended.capabilities,
    seesAll: seesType && (express === null || !extended.truncated),
    problems,
  };
  return {
    vendor,
    device,
    ...subsystemOf(space, header, listed.capabilities),
    classCode: dwordAt(space, 0x08) >>> 8,
    revision: byteAt(space, 0x08),
    header,
    isMultiFunction: (byteAt(space, 0x0e) & 0x80) !== 0,
    command: wordAt(space, 0x04),
    bars: isGone(space) ? [] : readBars(space, barCount(header), problems),
    bridge: bridgeOf(space, header, problems),
    type,
    link: linkOf(space, express, type, problems),
    ...acsOf(reading),
    srIov: srIovOf(reading),
    resizableBars: resizableBarsOf(reading),
    capabilities: [...listed.capabilities, ...extended.capabilities],
    problems,
  };
}

/** What the readers of extended capabilities share. */
interface Reading {
  readonly space: Uint8Array;
  readonly isWideAcs: boolean;
  readonly extended: readonly Capability[];
  /** True if a capability that is not listed is not there. */
  readonly seesAll: boolean;
  readonly problems: string[];
}

function headerOf(space: Uint8Array): HeaderKind {
  const kinds: readonly HeaderKind[] = ['endpoint', 'bridge', 'cardbus'];
  return kinds[byteAt(space, 0x0e) & 0x7f] ?? 'unknown';
}

/** True if nothing answered: every register then reads as ones. */
function isGone(space: Uint8Array): boolean {
  return dwordAt(space, 0) === 0xffffffff && dwordAt(space, 0x0c) === 0xffffffff;
}

function barCount(header: HeaderKind): number {
  if (header === 'endpoint') return 6;
  return header === 'bridge' ? 2 : 0;
}

function subsystemOf(
  space: Uint8Array,
  header: HeaderKind,
  list: readonly Capability[],
): { subsystemVendor: number; subsystemDevice: number } {
  let at: number | null = null;
  if (header === 'endpoint') at = 0x2c;
  if (header === 'cardbus') at = 0x40;
  const capability = findCapability(list, CAPABILITY.subsystem);
  if (header === 'bridge' && capability !== null) at = capability.offset + 4;
  return {
    subsystemVendor: at === null ? 0 : wordAt(space, at),
    subsystemDevice: at === null ? 0 : wordAt(space, at + 2),
  };
}

function bridgeOf(
  space: Uint8Array,
  header: HeaderKind,
  problems: string[],
): BridgeRegisters | null {
  if (header === 'bridge') return readBridge(space, problems);
  return header === 'cardbus' ? readBuses(space) : null;
}

/** A type that the header contradicts is not believed, for a port without buses below is none. */
function typeAt(
  space: Uint8Array,
  express: Capability | null,
  header: HeaderKind,
  problems: string[],
): PciType {
  if (express === null) return 'conventional';
  const isBridge = header === 'bridge' || header === 'cardbus';
  const code = (byteAt(space, express.offset + 2) >>> TYPE_SHIFT) & 0xf;
  const type = typeOfCode(code);
  if (type === null) problems.push(`the PCI Express type ${code} is reserved`);
  else if (bridgeRule(type) !== (isBridge ? 'never' : 'always')) return type;
  else problems.push(`the PCI Express type says ${type}, and the header says ${header}`);
  return isBridge ? 'conventional' : 'endpoint';
}

/** Only PCI Express functions have an extended space. */
function extendedOf(
  space: Uint8Array,
  express: Capability | null,
  problems: string[],
): { capabilities: readonly Capability[]; truncated: boolean } {
  if (express === null) return { capabilities: [], truncated: false };
  if (isExtendedAliased(space)) {
    problems.push('the extended space repeats the first 256 bytes: it is not accessible');
    return { capabilities: [], truncated: false };
  }
  const walk = walkExtended(space, problems);
  return { ...walk, truncated: walk.truncated || space.length < EXTENDED_SIZE };
}

function linkOf(
  space: Uint8Array,
  express: Capability | null,
  type: PciType | 'unknown',
  problems: string[],
): LinkSpec | null {
  if (express === null || type === 'unknown' || !hasLink(type)) return null;
  const end = Math.min(space.length, CONVENTIONAL_SIZE);
  if (express.offset + LINK_REGISTERS_END <= end) return readLink(space, express.offset);
  problems.push(`the PCI Express capability goes beyond the ${end} bytes at hand`);
  return null;
}

function acsOf(reading: Reading): Pick<ConfigFacts, 'acs' | 'egressVector'> {
  const { space, isWideAcs } = reading;
  const at = extendedAt(reading, EXTENDED_CAPABILITY.acs, 'ACS', acsSize(isWideAcs));
  if (at === null) {
    const isListed = findCapability(reading.extended, EXTENDED_CAPABILITY.acs) !== null;
    return { acs: reading.seesAll && !isListed ? null : 'unknown', egressVector: null };
  }
  return {
    acs: readAcs(space, at, isWideAcs),
    egressVector: readEgressVector(space, at, isWideAcs),
  };
}

function srIovOf(reading: Reading): SrIovFacts | null {
  const { space } = reading;
  const at = extendedAt(reading, EXTENDED_CAPABILITY.srIov, 'SR-IOV', SR_IOV_SIZE);
  if (at === null) return null;
  return {
    offset: wordAt(space, at + 0x14),
    stride: wordAt(space, at + 0x16),
    numVfs: wordAt(space, at + 0x10),
    totalVfs: wordAt(space, at + 0x0e),
    vfDevice: wordAt(space, at + 0x1a),
  };
}

/** The first entry says how many there are; there are at most six BARs. */
function resizableBarsOf(reading: Reading): ResizableBar[] {
  const { space } = reading;
  const start = extendedAt(reading, EXTENDED_CAPABILITY.resizableBar, 'resizable BAR', 12);
  if (start === null) return [];
  const count = Math.min((dwordAt(space, start + 8) >>> 5) & 0x7, 6);
  const bars: ResizableBar[] = [];
  for (let entry = 0; entry < count; entry += 1) {
    const at = start + 4 + 8 * entry;
    if (at + 8 > space.length) break;
    const control = dwordAt(space, at + 4);
    bars.push({
      index: control & 0x7,
      size: 2 ** ((control >>> 8) & 0x3f) * MEBIBYTE,
      supported: supportedSizes(dwordAt(space, at), control),
    });
  }
  return bars;
}

/** Bits 31:4 of the capability are 1 MiB to 128 TiB; bits 31:16 of control go on from there. */
function supportedSizes(capability: number, control: number): number[] {
  const sizes: number[] = [];
  for (let bit = 4; bit < 32; bit += 1) {
    if ((capability & (1 << bit)) !== 0) sizes.push(2 ** (bit - 4) * MEBIBYTE);
  }
  for (let bit = 16; bit < 32; bit += 1) {
    if ((control & (1 << bit)) !== 0) sizes.push(2 ** (bit + 12) * MEBIBYTE);
  }
  return sizes;
}

/** Where the capability stands; null if it is not there or not wholly at hand. */
function extendedAt(reading: Reading, id: number, name: string, size: number): number | null {
  const capability = findCapability(reading.extended, id);
  if (capability === null) return null;
  if (capability.offset + size <= reading.space.length) return capability.offset;
  reading.problems.push(`the ${name} capability goes beyond the bytes at hand`);
  return null;
}
