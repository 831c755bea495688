/**
 * The configuration space that a capture holds for one function, and how far it can be believed.
 */

import { type ConfigFacts, decodeConfig, hexOfBytes } from '../machine/index.ts';
import type { NoteTally } from './note-tally.ts';

/** The lengths that Linux hands out, longest first. */
const SIZES = [4096, 256, 64];
/** What an unprivileged reader gets. */
const HEADER_SIZE = 64;
const STATUS_AT = 0x06;
const STATUS_LIST = 0x10;

/** Bytes and their meaning. */
export interface ConfigEvidence {
  /** 64, 256 or 4096 bytes in hex. */
  readonly hex: string;
  /** Null if nothing answered: a device that is gone or asleep reads as ones throughout. */
  readonly facts: ConfigFacts | null;
}

/** Decodes what was captured; null if it is less than a header. */
export function configEvidence(captured: Uint8Array | null): ConfigEvidence | null {
  const size = SIZES.find((candidate) => captured !== null && captured.length >= candidate);
  if (captured === null || size === undefined) return null;
  const bytes = isPadded(captured) ? captured.subarray(0, HEADER_SIZE) : captured.subarray(0, size);
  const isGone = bytes.subarray(0, HEADER_SIZE).every((byte) => byte === 0xff);
  return { hex: hexOfBytes(bytes), facts: isGone ? null : decodeConfig(bytes) };
}

/**
 * Says what is wrong with the bytes, but not of each user's capture that it ends after the header.
 */
export function noteProblems(
  address: string,
  evidence: ConfigEvidence | null,
  tally: NoteTally,
): void {
  if (evidence === null) return;
  if (evidence.facts === null) {
    tally.add(address, 'configuration space reads as ones: the device is off or gone');
  } else if (evidence.hex.length > 2 * HEADER_SIZE) {
    for (const problem of evidence.facts.problems) tally.add(address, problem);
  }
}

/**
 * True if the bytes behind the header are not from the device. `tar` believes the size that sysfs
 * shows, gets 64 bytes as an ordinary user, and fills up with zeros.
 */
function isPadded(bytes: Uint8Array): boolean {
  const hasList = ((bytes[STATUS_AT] ?? 0) & STATUS_LIST) !== 0;
  return hasList && bytes.subarray(HEADER_SIZE).every((byte) => byte === 0);
}
