/**
 * Gives addresses out: blocks within blocks, each aligned to its own size, the largest first so
 * that alignment wastes little. Bridges need their blocks in multiples of 1 MiB.
 */

import { alignUp, assert, formatAddress } from '../../base/index.ts';

/** A piece of address space that has no address yet. */
export interface Block {
  /** Bytes. */
  readonly size: number;
  /** What its start must be a multiple of. */
  readonly align: number;
  /** Says where it is. Called once. */
  settle(start: number): void;
}

/** A range of addresses to give out. */
export interface Pool {
  /** First address. */
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

/**
 * Makes one block of `blocks`.
 *
 * @param grain - Its size and start are multiples of this many bytes.
 * @param settle - Told where the whole lies, if there is anything in it.
 */
export function pack(
  blocks: readonly Block[],
  grain: number,
  settle: (start: number, size: number) => void = () => {},
): Block {
  const sorted = blocks.toSorted((one, other) => other.align - one.align);
  const offsets: number[] = [];
  let end = 0;
  for (const block of sorted) {
    const offset = alignUp(end, block.align);
    offsets.push(offset);
    end = offset + block.size;
  }
  const size = alignUp(end, grain);
  return {
    size,
    align: Math.max(grain, sorted[0]?.align ?? grain),
    settle(start) {
      if (size === 0) return;
      for (const [index, block] of sorted.entries()) block.settle(start + (offsets[index] ?? 0));
      settle(start, size);
    },
  };
}

/** Places `block` in `pool`, which must be large enough. */
export function settleIn(block: Block, pool: Pool): void {
  const start = alignUp(pool.base, block.align);
  const end = start + block.size;
  assert(
    block.size === 0 || end <= pool.base + pool.size,
    `${formatAddress(block.size)} bytes fit into the pool at ${formatAddress(pool.base)}`,
  );
  block.settle(start);
}
