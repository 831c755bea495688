/**
 * The registers of Access Control Services: what a port can do to requests between the devices
 * below it, and what it does.
 *
 * @source reference/p2p-topology.md 1.3, 1.7, 3.3
 */

import type { AcsSpec } from '../spec/machine-spec.ts';
import { byteAt, setWord, wordAt } from './config-bytes.ts';

const ACS_CAPABILITY = 0x04;
const ACS_CONTROL = 0x06;
const ACS_VECTOR = 0x08;
const EGRESS_CONTROL = 0x20;
const INTEL = 0x8086;
/** Bits of a vector that a fresh capability with egress control gets. */
const VECTOR_BITS = 8;

/** The bits that a `MachineSpec` knows, SV to DT. */
export const ACS_BITS: number = 0x7f;

/** Root ports of Intel's chipsets of the Sunrise Point era, first and last id of each range. */
const WIDE_LAYOUT_IDS: readonly (readonly [number, number])[] = [
  [0xa110, 0xa11f],
  [0xa167, 0xa16a],
  [0xa290, 0xa29f],
  [0xa2e7, 0xa2ee],
  [0x9d10, 0x9d1b],
];

/**
 * True for the ports whose ACS registers are 32 bits wide each, so that control stands at 8.
 *
 * DIFFERS: the kernel's peer-to-peer rule reads these ports at 6 and finds zero; this reads what
 * the hardware does. @source `pci_quirk_intel_spt_pch_acs_match()`, drivers/pci/quirks.c
 */
export function hasWideAcs(vendor: number, device: number): boolean {
  if (vendor !== INTEL) return false;
  return WIDE_LAYOUT_IDS.some(([first, last]) => device >= first && device <= last);
}

/** Bytes of the capability up to the end of its control register. */
export function acsSize(isWide: boolean): number {
  return controlOffset(isWide) + 2;
}

/** Reads the capability at `at`; bits that a `MachineSpec` does not know are left out. */
export function readAcs(bytes: Uint8Array, at: number, isWide: boolean): AcsSpec {
  return {
    capability: wordAt(bytes, at + ACS_CAPABILITY) & ACS_BITS,
    control: wordAt(bytes, at + controlOffset(isWide)) & ACS_BITS,
  };
}

/** Writes the bits that a `MachineSpec` knows; others stay. */
export function writeAcs(bytes: Uint8Array, at: number, isWide: boolean, acs: AcsSpec): void {
  const capabilityAt = at + ACS_CAPABILITY;
  setWord(bytes, capabilityAt, (wordAt(bytes, capabilityAt) & ~ACS_BITS) | acs.capability);
  const controlAt = at + controlOffset(isWide);
  setWord(bytes, controlAt, (wordAt(bytes, controlAt) & ~ACS_BITS) | acs.control);
}

/** Gives a fresh capability, of which `acs` is written, a vector if it can do egress control. */
export function writeVectorSize(bytes: Uint8Array, at: number): void {
  const word = wordAt(bytes, at + ACS_CAPABILITY);
  if ((word & EGRESS_CONTROL) !== 0) setWord(bytes, at + ACS_CAPABILITY, word | (VECTOR_BITS << 8));
}

/**
 * The egress control vector: a bit for each port, set if requests to it must not go straight.
 *
 * @returns Null without egress control, and if the vector lies beyond the bytes at hand.
 */
export function readEgressVector(
  bytes: Uint8Array,
  at: number,
  isWide: boolean,
): Uint8Array | null {
  const word = wordAt(bytes, at + ACS_CAPABILITY);
  if (isWide || (word & EGRESS_CONTROL) === 0) return null;
  const bits = byteAt(bytes, at + ACS_CAPABILITY + 1) || 256;
  const end = at + ACS_VECTOR + Math.ceil(bits / 8);
  return end <= bytes.length ? bytes.slice(at + ACS_VECTOR, end) : null;
}

function controlOffset(isWide: boolean): number {
  return isWide ? ACS_VECTOR : ACS_CONTROL;
}
