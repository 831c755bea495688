/**
 * Base address registers as they stand in configuration space: bus addresses, and no sizes, which a
 * register only tells while somebody probes it.
 *
 * @source reference/p2p-topology.md 3.3
 */

import { ADDRESS_LIMIT } from '../../base/index.ts';
import { dwordAt, setDword } from './config-bytes.ts';

const FIRST_BAR = 0x10;
const IO_BIT = 0x1;
const TYPE_BITS = 0x6;
const TYPE_64 = 0x4;
const PREFETCH_BIT = 0x8;
const IO_ADDRESS_BITS = 0xfffffffc;
const MEMORY_ADDRESS_BITS = 0xfffffff0;

/** One register, or two that form a 64-bit one. */
export interface BarRegister {
  /** 0 to 5; of a pair, the lower. */
  readonly index: number;
  readonly kind: 'memory' | 'io';
  /** Bus address; 0 if nothing is assigned. */
  readonly address: number;
  readonly prefetchable: boolean;
  readonly is64: boolean;
}

/**
 * Reads the registers that hold something. A 32-bit one that is neither prefetchable nor assigned
 * reads zero, as an unused one does, and is left out.
 *
 * @param count - How many the header has: 6, a bridge 2.
 * @param problems - Takes a sentence for each register that makes no sense.
 */
export function readBars(bytes: Uint8Array, count: number, problems: string[]): BarRegister[] {
  const bars: BarRegister[] = [];
  for (let index = 0; index < count; index += 1) {
    const low = dwordAt(bytes, FIRST_BAR + 4 * index);
    if (low === 0) continue;
    const bar = (low & IO_BIT) !== 0 ? ioBar(index, low) : memoryBar(bytes, index, count, problems);
    bars.push(bar);
    if (bar.is64) index += 1;
  }
  return bars;
}

/** Writes `bars`, and zero into the registers that none of them uses. */
export function writeBars(bytes: Uint8Array, count: number, bars: readonly BarRegister[]): void {
  for (let index = 0; index < count; index += 1) setDword(bytes, FIRST_BAR + 4 * index, 0);
  for (const bar of bars) {
    if (bar.index >= count) continue;
    const at = FIRST_BAR + 4 * bar.index;
    if (bar.kind === 'io') {
      setDword(bytes, at, ((bar.address & IO_ADDRESS_BITS) | IO_BIT) >>> 0);
      continue;
    }
    const flags = (bar.is64 ? TYPE_64 : 0) | (bar.prefetchable ? PREFETCH_BIT : 0);
    setDword(bytes, at, ((bar.address % 2 ** 32) | flags) >>> 0);
    if (bar.is64) setDword(bytes, at + 4, Math.floor(bar.address / 2 ** 32));
  }
}

function ioBar(index: number, low: number): BarRegister {
  const address = (low & IO_ADDRESS_BITS) >>> 0;
  return { index, kind: 'io', address, prefetchable: false, is64: false };
}

function memoryBar(
  bytes: Uint8Array,
  index: number,
  count: number,
  problems: string[],
): BarRegister {
  const low = dwordAt(bytes, FIRST_BAR + 4 * index);
  const prefetchable = (low & PREFETCH_BIT) !== 0;
  const saysPair = (low & TYPE_BITS) === TYPE_64;
  if ((low & TYPE_BITS) === TYPE_BITS) problems.push(`BAR ${index} is of a reserved type`);
  const is64 = saysPair && index + 1 < count;
  if (saysPair && !is64) problems.push(`BAR ${index} is 64-bit and has no register after it`);
  const high = is64 ? dwordAt(bytes, FIRST_BAR + 4 * index + 4) : 0;
  let address = high * 2 ** 32 + ((low & MEMORY_ADDRESS_BITS) >>> 0);
  if (address >= ADDRESS_LIMIT) {
    problems.push(`BAR ${index} holds an address of 2^52 or more`);
    address = 0;
  }
  return { index, kind: 'memory', address, prefetchable, is64 };
}
