/**
 * Makes the BARs of a capture ones that can exist together: kernels list legacy ports as if they
 * were BARs, registers keep stale addresses, and text has no sizes. What does not fit is left out
 * or taken as not assigned, and said.
 */

import { ADDRESS_LIMIT } from '../base/index.ts';
import type { BarSpec } from '../machine/index.ts';
import type { NoteTally } from './note-tally.ts';

const MEMORY_SIZE_MIN = 16;
const IO_SIZE_MIN = 4;
const LIMIT_32 = 2 ** 32;
const COMMAND_IO = 0x1;
const COMMAND_MEMORY = 0x2;

/** A function's BARs on their way. */
export interface BarHolder {
  readonly address: string;
  readonly command: number;
  readonly isBridge: boolean;
  /** What to add to a CPU address to get a bus address. */
  readonly busOffset: number;
  readonly bars: readonly BarSpec[];
}

/** The BARs of each holder that can exist, in the order of `holders`. */
export function settleBars(holders: readonly BarHolder[], tally: NoteTally): BarSpec[][] {
  const settled = holders.map((holder) => ownBars(holder, tally));
  const claims: Claim[] = [];
  for (const [at, bars] of settled.entries()) {
    const { address, command } = holders[at] ?? { address: '', command: 0 };
    for (const [position, bar] of bars.entries()) {
      const decodes = (command & (bar.kind === 'io' ? COMMAND_IO : COMMAND_MEMORY)) !== 0;
      if (bar.address !== 0) claims.push({ at, position, bar, address, decodes });
    }
  }
  for (const { at, position, bar, address } of losers(claims)) {
    tally.add(address, 'a BAR overlaps another and is taken as not assigned');
    const bars = settled[at];
    if (bars !== undefined) bars[position] = { ...bar, address: 0 };
  }
  return settled;
}

/** What is wrong with a BAR by itself. */
function ownBars({ address, isBridge, busOffset, bars }: BarHolder, tally: NoteTally): BarSpec[] {
  const count = isBridge ? 2 : 6;
  const result: BarSpec[] = [];
  let free = 0;
  for (const bar of bars.toSorted((one, other) => one.index - other.index)) {
    const isIo = bar.kind === 'io';
    const is64 = bar.is64 && !isIo;
    const next = bar.index + (is64 ? 2 : 1);
    if (bar.index < free || next > count) {
      tally.add(address, 'a BAR has no register and is left out');
      continue;
    }
    if (bar.size < (isIo ? IO_SIZE_MIN : MEMORY_SIZE_MIN)) {
      tally.add(address, 'a range too small for a BAR is left out');
      continue;
    }
    free = next;
    const size = 2 ** Math.ceil(Math.log2(bar.size));
    if (size !== bar.size) tally.add(address, 'the size of a BAR is no power of two; rounded up');
    const fits = fitsAt(bar.address, size, isIo ? 0 : busOffset, is64 ? ADDRESS_LIMIT : LIMIT_32);
    if (!fits) tally.add(address, 'a BAR cannot be at its address and is taken as not assigned');
    const prefetchable = bar.prefetchable && !isIo;
    result.push({ ...bar, address: fits ? bar.address : 0, size, prefetchable, is64 });
  }
  return result;
}

/** True if a BAR can be there, or is nowhere. */
function fitsAt(address: number, size: number, busOffset: number, limit: number): boolean {
  if (address === 0) return true;
  if (address % size !== 0 || busOffset % size !== 0) return false;
  const start = address + busOffset;
  return start >= 0 && start + size <= limit && address + size <= ADDRESS_LIMIT;
}

/** A BAR that has an address. */
interface Claim {
  readonly at: number;
  readonly position: number;
  readonly bar: BarSpec;
  readonly address: string;
  /** True if the function answers there. */
  readonly decodes: boolean;
}

/** Those that must give way: who decodes stays, else who stands first. */
function losers(claims: readonly Claim[]): Claim[] {
  const lost: Claim[] = [];
  for (const kind of ['memory', 'io'] as const) {
    const ordered = claims
      .filter(({ bar }) => bar.kind === kind)
      .sort((one, other) => one.bar.address - other.bar.address);
    const kept: Claim[] = [];
    for (const claim of ordered) {
      let last = kept.at(-1);
      while (last !== undefined && overlaps(last, claim) && isBefore(claim, last)) {
        lost.push(last);
        kept.pop();
        last = kept.at(-1);
      }
      if (last !== undefined && overlaps(last, claim)) lost.push(claim);
      else kept.push(claim);
    }
  }
  return lost;
}

/** True if `later`, which does not start first, starts before `earlier` ends. */
function overlaps(earlier: Claim, later: Claim): boolean {
  return later.bar.address < earlier.bar.address + earlier.bar.size;
}

/**
 * True if `one` stays. The BAR of a VMD controller is a window to the domain behind it, and what is
 * in the window counts.
 */
function isBefore(one: Claim, other: Claim): boolean {
  const isWindow = domainOf(one) !== domainOf(other) && one.bar.size !== other.bar.size;
  if (isWindow) return one.bar.size < other.bar.size;
  if (one.decodes !== other.decodes) return one.decodes;
  return one.at < other.at;
}

function domainOf({ address }: Claim): string {
  return address.slice(0, -'00:00.0'.length);
}
