/**
 * The link registers of the PCI Express capability: how fast and how wide the wire upwards or
 * downwards is, and could be.
 *
 * @source reference/p2p-topology.md 3.3
 */

import type { LinkSpec } from '../spec/machine-spec.ts';
import { dwordAt, setDword, setWord, wordAt } from './config-bytes.ts';

const LINK_CAPABILITY = 0x0c;
const LINK_STATUS = 0x12;
const LINK_CAPABILITY_2 = 0x2c;
const LINK_CONTROL_2 = 0x30;
const SPEED_BITS = 0x00f;
const WIDTH_BITS = 0x3f0;
const WIDTH_SHIFT = 4;

/** Speeds by code, from code 1, in GT/s a lane. */
export const LINK_SPEEDS: readonly number[] = [2.5, 5, 8, 16, 32, 64, 128];

/** Lanes that a link can have; 0 says that there is no link. */
export const LINK_WIDTHS: readonly number[] = [0, 1, 2, 4, 8, 12, 16, 32];

/**
 * Reads the link of the PCI Express capability at `at`.
 *
 * @returns Null if the registers are all zero, as in virtual functions. A reserved code is null.
 */
export function readLink(bytes: Uint8Array, at: number): LinkSpec | null {
  const now = wordAt(bytes, at + LINK_STATUS);
  const most = dwordAt(bytes, at + LINK_CAPABILITY);
  if (((now | most) & (SPEED_BITS | WIDTH_BITS)) === 0) return null;
  return {
    speed: speedOf(now),
    width: widthOf(now),
    maxSpeed: speedOf(most),
    maxWidth: widthOf(most),
  };
}

/** Writes `link` into the capability at `at`. A field that is null leaves its bits as they are. */
export function writeLink(bytes: Uint8Array, at: number, link: LinkSpec): void {
  const now = patched(wordAt(bytes, at + LINK_STATUS), link.speed, link.width);
  setWord(bytes, at + LINK_STATUS, now);
  const most = patched(dwordAt(bytes, at + LINK_CAPABILITY), link.maxSpeed, link.maxWidth);
  setDword(bytes, at + LINK_CAPABILITY, most);
}

/** Fills in what version 2 of the capability says of the speed again: the vector and the target. */
export function writeLink2(bytes: Uint8Array, at: number): void {
  const code = dwordAt(bytes, at + LINK_CAPABILITY) & SPEED_BITS;
  setDword(bytes, at + LINK_CAPABILITY_2, (2 << code) - 2);
  setWord(bytes, at + LINK_CONTROL_2, code);
}

function speedOf(register: number): number | null {
  return LINK_SPEEDS[(register & SPEED_BITS) - 1] ?? null;
}

function widthOf(register: number): number | null {
  const width = (register & WIDTH_BITS) >>> WIDTH_SHIFT;
  return LINK_WIDTHS.includes(width) ? width : null;
}

function patched(register: number, speed: number | null, width: number | null): number {
  let value = register;
  if (speed !== null) value = (value & ~SPEED_BITS) | (LINK_SPEEDS.indexOf(speed) + 1);
  if (width !== null) value = (value & ~WIDTH_BITS) | (width << WIDTH_SHIFT);
  return value >>> 0;
}
