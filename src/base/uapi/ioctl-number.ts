/**
 * How the number of an ioctl is put together: which way its argument goes, how long that is, whose
 * it is and which.
 *
 * @source include/uapi/asm-generic/ioctl.h, v7.2; reference/linux-dma-buf.md G.1
 */

import { assert } from '../assert.ts';

/** Which way the argument goes, seen from user space: `w` is `_IOW`, data for the kernel. */
export type IoctlDirection = 'none' | 'w' | 'r' | 'rw';

/** The parts of a number. */
export interface IoctlParts {
  readonly direction: IoctlDirection;
  /** Code of the character: `'b'` is 0x62. */
  readonly magic: number;
  /** From 0 to 255. */
  readonly nr: number;
  /** Bytes of the argument. */
  readonly size: number;
}

const DIRECTIONS: readonly IoctlDirection[] = ['none', 'w', 'r', 'rw'];

/** LIMIT: the size has 14 bits. */
const SIZE_LIMIT = 2 ** 14;

/**
 * The number of an ioctl, unsigned, 32 bits (`_IOC()`).
 *
 * @param magic - One character.
 * @param size - Bytes of the argument, below 2^14.
 */
export function ioctlNumber(
  direction: IoctlDirection,
  magic: string,
  nr: number,
  size: number,
): number {
  assert(magic.length === 1 && magic.charCodeAt(0) < 0x80, 'a magic is one ASCII character');
  assert(Number.isInteger(nr) && nr >= 0 && nr < 0x100, `the number has 8 bits, not ${nr}`);
  assert(Number.isInteger(size) && size >= 0 && size < SIZE_LIMIT, `14 bits of size, not ${size}`);
  const low = size * 0x1_0000 + magic.charCodeAt(0) * 0x100 + nr;
  return DIRECTIONS.indexOf(direction) * 0x4000_0000 + low;
}

/** The parts of an ioctl's number, of any 32 bits. */
export function ioctlParts(request: number): IoctlParts {
  return {
    direction: DIRECTIONS[request >>> 30] ?? 'none',
    magic: (request >>> 8) & 0xff,
    nr: request & 0xff,
    size: (request >>> 16) & (SIZE_LIMIT - 1),
  };
}
