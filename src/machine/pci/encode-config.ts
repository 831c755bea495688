/**
 * The configuration space that a function of a `MachineSpec` shows: the inverse of
 * `config-space.ts`. Evidence of a real device is kept where the spec does not say otherwise.
 *
 * Not written: what a `FunctionSpec` does not have, such as the multi-function bit, interrupts,
 * sizes, and the SR-IOV capability.
 *
 * @source reference/p2p-topology.md 3.3
 */

import { present } from '../../base/index.ts';
import type { FunctionSpec } from '../spec/machine-spec.ts';
import { hasWideAcs, writeAcs, writeVectorSize } from './acs-registers.ts';
import { writeBars } from './bar-registers.ts';
import { parseBdf } from './bdf.ts';
import { writeBridge } from './bridge-registers.ts';
import {
  addCapability,
  addExtended,
  CAPABILITY,
  EXTENDED_CAPABILITY,
  findCapability,
  isExtendedAliased,
  PCI_EXPRESS_SIZE,
  removeCapability,
  walkCapabilities,
  walkExtended,
} from './capabilities.ts';
import {
  byteAt,
  bytesOfHex,
  CONVENTIONAL_SIZE,
  EXTENDED_SIZE,
  setWord,
  wordAt,
} from './config-bytes.ts';
import { writeLink, writeLink2 } from './link-registers.ts';
import { codeOfType, hasLink } from './pcie-type.ts';

const NO_ID = 0xffff;
const COMMAND_BUS_MASTER = 0x4;
const SUBSYSTEM_SIZE = 8;
/** Bytes for a new ACS capability: its registers, in either layout, and a short vector. */
const ACS_ROOM = 12;
const TYPE_BITS = 0xf0;
const TYPE_SHIFT = 4;
const EXPRESS_VERSION = 2;

/**
 * Makes the bytes that software finds in a function's configuration space.
 *
 * A virtual function shows what hardware shows: no ids, no BARs, of the command register the bus
 * master bit alone. ACS that is `unknown` stays as the evidence has it, which is "none" without
 * evidence; so does a link that is null.
 *
 * @param spec - A function of a valid machine.
 * @param busOffset - Of its host bridge: registers hold bus addresses, the spec CPU addresses.
 * @returns 4096 bytes; 256 for a conventional function.
 */
export function encodeConfig(spec: FunctionSpec, busOffset = 0): Uint8Array {
  const bytes = startingBytes(spec);
  const isVirtual = spec.physicalFunction !== null;
  setWord(bytes, 0x00, isVirtual ? NO_ID : spec.vendor);
  setWord(bytes, 0x02, isVirtual ? NO_ID : spec.device);
  setWord(bytes, 0x04, isVirtual ? spec.command & COMMAND_BUS_MASTER : spec.command);
  bytes[0x08] = spec.revision;
  bytes[0x09] = spec.classCode & 0xff;
  setWord(bytes, 0x0a, spec.classCode >>> 8);
  bytes[0x0e] = (byteAt(bytes, 0x0e) & 0x80) | (spec.bridge === null ? 0 : 1);
  const bars = isVirtual ? [] : spec.bars;
  const registers = bars.map(({ index, kind, address, prefetchable, is64 }) => {
    const bus = address === 0 || kind === 'io' ? address : address + busOffset;
    return { index, kind, address: bus, prefetchable, is64 };
  });
  writeBars(bytes, spec.bridge === null ? 6 : 2, registers);
  encodeExpress(bytes, spec);
  if (spec.bridge === null) {
    setWord(bytes, 0x2c, spec.subsystemVendor);
    setWord(bytes, 0x2e, spec.subsystemDevice);
  } else {
    const primary = present(parseBdf(spec.address), `address ${spec.address}`).bus;
    writeBridge(bytes, { ...spec.bridge, primary });
    encodeSubsystem(bytes, spec);
  }
  if (spec.type !== 'conventional') encodeAcs(bytes, spec);
  return bytes;
}

/** Evidence counts only if its header is of the kind that the spec says; the rest is zero. */
function startingBytes(spec: FunctionSpec): Uint8Array {
  const size = spec.type === 'conventional' ? CONVENTIONAL_SIZE : EXTENDED_SIZE;
  const bytes = new Uint8Array(size);
  if (spec.config === null) return bytes;
  const evidence = bytesOfHex(spec.config);
  const isBridge = (byteAt(evidence, 0x0e) & 0x7f) === 1;
  if (isBridge !== (spec.bridge !== null)) return bytes;
  bytes.set(evidence.subarray(0, size));
  if (isExtendedAliased(bytes)) bytes.fill(0, CONVENTIONAL_SIZE);
  return bytes;
}

function encodeExpress(bytes: Uint8Array, spec: FunctionSpec): void {
  const code = codeOfType(spec.type);
  const found = capabilityAt(bytes, CAPABILITY.pciExpress);
  const fits = found !== null && found + PCI_EXPRESS_SIZE <= CONVENTIONAL_SIZE;
  if (code === null || !fits) removeCapability(bytes, CAPABILITY.pciExpress, false);
  if (code === null) return;
  const isFresh = found === null || !fits;
  const at = isFresh ? addCapability(bytes, CAPABILITY.pciExpress, PCI_EXPRESS_SIZE) : found;
  if (isFresh) setWord(bytes, at + 2, EXPRESS_VERSION);
  setWord(bytes, at + 2, (wordAt(bytes, at + 2) & ~TYPE_BITS) | (code << TYPE_SHIFT));
  if (spec.link === null || !hasLink(spec.type)) return;
  writeLink(bytes, at, spec.link);
  if (isFresh) writeLink2(bytes, at);
}

/** A bridge has no room for the subsystem in its header. */
function encodeSubsystem(bytes: Uint8Array, spec: FunctionSpec): void {
  let at = capabilityAt(bytes, CAPABILITY.subsystem);
  if (at === null) {
    if (spec.subsystemVendor === 0 && spec.subsystemDevice === 0) return;
    at = addCapability(bytes, CAPABILITY.subsystem, SUBSYSTEM_SIZE);
  }
  setWord(bytes, at + 4, spec.subsystemVendor);
  setWord(bytes, at + 6, spec.subsystemDevice);
}

function encodeAcs(bytes: Uint8Array, spec: FunctionSpec): void {
  const { acs } = spec;
  if (acs === 'unknown') return;
  const id = EXTENDED_CAPABILITY.acs;
  if (acs === null) {
    removeCapability(bytes, id, true);
    return;
  }
  const isWide = hasWideAcs(spec.vendor, spec.device) && spec.type === 'root-port';
  const found = findCapability(walkExtended(bytes, []).capabilities, id);
  const at = found?.offset ?? addExtended(bytes, id, ACS_ROOM);
  writeAcs(bytes, at, isWide, acs);
  if (found === null && !isWide) writeVectorSize(bytes, at);
}

function capabilityAt(bytes: Uint8Array, id: number): number | null {
  return findCapability(walkCapabilities(bytes, []).capabilities, id)?.offset ?? null;
}
