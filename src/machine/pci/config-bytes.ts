/**
 * Little-endian numbers in configuration space. Reading beyond the end gives zero, so that a
 * decoder of foreign bytes needs no guard at every step; what must know whether it saw something
 * asks `length`.
 */

/** The header that every reader may see; all that an unprivileged reader of Linux gets. */
export const HEADER_SIZE: number = 64;

/** All of configuration space before PCI Express. */
export const CONVENTIONAL_SIZE: number = 256;

/** All of configuration space with the extended part. */
export const EXTENDED_SIZE: number = 4096;

/** The byte at `at`. */
export function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

/** The 16 bits at `at`. */
export function wordAt(bytes: Uint8Array, at: number): number {
  return byteAt(bytes, at) | (byteAt(bytes, at + 1) << 8);
}

/** The 32 bits at `at`, not negative. */
export function dwordAt(bytes: Uint8Array, at: number): number {
  return (wordAt(bytes, at) | (wordAt(bytes, at + 2) << 16)) >>> 0;
}

/** Writes 16 bits. */
export function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = (value >>> 8) & 0xff;
}

/** Writes 32 bits. */
export function setDword(bytes: Uint8Array, at: number, value: number): void {
  setWord(bytes, at, value & 0xffff);
  setWord(bytes, at + 2, value >>> 16);
}

/** The bytes that `hex`, two digits for each, spells. Digits that are none count as zero. */
export function bytesOfHex(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length >> 1);
  for (let at = 0; at < bytes.length; at += 1) {
    bytes[at] = Number.parseInt(hex.slice(at * 2, at * 2 + 2), 16);
  }
  return bytes;
}

/** Two lower-case hexadecimal digits a byte, as `FunctionSpec.config` has them. */
export function hexOfBytes(bytes: Uint8Array): string {
  let hex = '';
  for (const byte of bytes) hex += HEX_OF_BYTE[byte];
  return hex;
}

/** Two digits for each byte. */
const HEX_OF_BYTE: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
);
