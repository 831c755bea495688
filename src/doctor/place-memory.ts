/**
 * Where RAM lies, from what a capture tells of it. Sizes by node are easy to come by; places are
 * for root alone, and then without nodes. What is missing is made up so that nothing overlaps.
 */

import { ADDRESS_LIMIT, alignDown, alignUp, InputError, PAGE_SIZE } from '../base/index.ts';
import type { MemorySpec } from '../machine/index.ts';
import type { MemoryEvidence, MemorySize } from './capture.ts';

/** Bytes of RAM of a machine that does not say; enough for every story. */
const SIZE_ASSUMED = 4 * 2 ** 30;
/** Below it, PCs have holes and firmware. */
const FIRST_ADDRESS = 2 ** 20;
/** From 3 GiB or earlier PCs have 32-bit BARs, interrupt controllers and configuration space. */
const HOLE_START_MAX = 3 * 2 ** 30;
const HOLE_END = 4 * 2 ** 30;

/** Addresses that are no RAM; `end` is the first byte behind. */
export interface BusyRange {
  readonly start: number;
  readonly end: number;
}

/** What RAM must not overlap, and what it had better not: an unused bridge may claim anything. */
export interface BusyAddresses {
  readonly bars: readonly BusyRange[];
  readonly windows: readonly BusyRange[];
}

/**
 * Lays out RAM.
 *
 * @param busy - In any order.
 * @param notes - Takes what had to be assumed.
 * @returns By ascending address, page aligned, at least one range.
 * @throws {@link InputError} if the sizes do not fit below 2^52 beside what is busy.
 */
export function placeMemory(
  evidence: MemoryEvidence,
  busy: BusyAddresses,
  source: string,
  notes: string[],
): MemorySpec[] {
  const sizes = evidence.sizes
    .map(({ node, size }) => ({ node, size: alignDown(size, PAGE_SIZE) }))
    .filter(({ size }) => size > 0);
  const { ranges } = evidence;
  if (ranges.length > 0 && !overlap(ranges, busy.bars)) return nodesForRanges(ranges, sizes, notes);
  if (sizes.length > 0) {
    notes.push(
      'The place of RAM is not in the source; its size is true, its addresses are made up.',
    );
    return placeAnywhere(sizes, busy, source);
  }
  notes.push('The source does not tell of RAM; 4 GiB on one node are assumed.');
  return placeAnywhere([{ node: 0, size: SIZE_ASSUMED }], busy, source);
}

function placeAnywhere(
  sizes: readonly MemorySize[],
  { bars, windows }: BusyAddresses,
  source: string,
): MemorySpec[] {
  const memory = placeSizes(sizes, [...bars, ...windows]) ?? placeSizes(sizes, bars);
  if (memory !== null) return memory;
  const total = sum(sizes.map(({ size }) => size));
  throw new InputError(source, 'RAM', `expected room for ${total} bytes of RAM below 2^52`);
}

/** True if RAM as reported lies where a BAR is. */
function overlap(ranges: MemoryEvidence['ranges'], bars: readonly BusyRange[]): boolean {
  const walls = merged(bars);
  return ranges.some(({ start, size }) =>
    walls.some((wall) => wall.start < start + size && start < wall.end),
  );
}

/**
 * Gives each node its share of the ranges, in order: firmware lays nodes out one after the other.
 */
function nodesForRanges(
  ranges: MemoryEvidence['ranges'],
  sizes: readonly MemorySize[],
  notes: string[],
): MemorySpec[] {
  if (sizes.length > 1) {
    notes.push('Which RAM is on which node is not in the source; it is told from the sizes.');
  }
  const total = sum(ranges.map(({ size }) => size));
  const known = sum(sizes.map(({ size }) => size));
  const nodes = sizes.length > 0 ? sizes : [{ node: 0, size: total }];
  const memory: MemorySpec[] = [];
  let at = 0;
  let left =
    nodes.length > 1 ? alignDown(total * ((nodes[0]?.size ?? 0) / known), PAGE_SIZE) : total;
  for (const range of ranges) {
    let { start, size } = range;
    while (size > 0) {
      const isLast = at >= nodes.length - 1;
      const taken = isLast ? size : Math.min(size, left);
      if (taken > 0) memory.push({ node: nodes[at]?.node ?? 0, start, size: taken });
      start += taken;
      size -= taken;
      left -= taken;
      if (left > 0 || isLast) continue;
      at += 1;
      left = alignDown(total * ((nodes[at]?.size ?? 0) / known), PAGE_SIZE);
    }
  }
  return memory;
}

/** One node after the other into the gaps, upwards; null if there is not enough room. */
function placeSizes(sizes: readonly MemorySize[], busy: readonly BusyRange[]): MemorySpec[] | null {
  const low = busy.map(({ start }) => start).filter((start) => start > FIRST_ADDRESS);
  const hole = {
    start: low.reduce((one, two) => Math.min(one, two), HOLE_START_MAX),
    end: HOLE_END,
  };
  const walls = merged([...busy, hole, { start: ADDRESS_LIMIT, end: ADDRESS_LIMIT }]);
  const memory: MemorySpec[] = [];
  let from = FIRST_ADDRESS;
  let wall = 0;
  for (const { node, size } of sizes) {
    let left = size;
    while (left > 0) {
      const next = walls[wall];
      if (next === undefined) return null;
      const taken = Math.min(left, alignDown(Math.max(next.start - from, 0), PAGE_SIZE));
      if (taken > 0) memory.push({ node, start: from, size: taken });
      from += taken;
      left -= taken;
      if (left === 0) break;
      from = Math.max(from, alignUp(next.end, PAGE_SIZE));
      wall += 1;
    }
  }
  return memory;
}

/** The ranges by ascending address, those that touch made one. */
function merged(ranges: readonly BusyRange[]): BusyRange[] {
  const result: BusyRange[] = [];
  for (const { start, end } of ranges.toSorted((one, other) => one.start - other.start)) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) {
      result[result.length - 1] = { start: last.start, end: Math.max(last.end, end) };
    } else result.push({ start, end });
  }
  return result;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
