/**
 * 64-bit fields as numbers. From 2^53 on the lowest bits are lost, which does not matter: every
 * address here is below 2^52, and what is not is refused.
 *
 * @context Any: everything here is pure.
 */

const WORD = 2 ** 32;

/** Two 32-bit halves as one number. */
export function joinHalves(low: number, high: number): number {
  return high * WORD + low;
}

/** The lower 32 bits. */
export function lowHalf(value: number): number {
  return value % WORD;
}

/** The upper 32 bits. */
export function highHalf(value: number): number {
  return Math.floor(value / WORD);
}

/** Reads 8 bytes, little-endian. */
export function readUint64(view: DataView, offset: number): number {
  return joinHalves(view.getUint32(offset, true), view.getUint32(offset + 4, true));
}

/** Writes 8 bytes, little-endian. */
export function writeUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, lowHalf(value), true);
  view.setUint32(offset + 4, highHalf(value), true);
}
