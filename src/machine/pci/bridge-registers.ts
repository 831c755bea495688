/**
 * What the header of a bridge says: the buses below it, and the addresses that it passes downwards.
 *
 * @source reference/p2p-topology.md 3.3
 */

import { ADDRESS_LIMIT } from '../../base/index.ts';
import type { BridgeSpec, WindowSpec } from '../spec/machine-spec.ts';
import { byteAt, dwordAt, setDword, setWord, wordAt } from './config-bytes.ts';

/** Windows start and end at multiples of this many bytes. */
export const WINDOW_GRAIN: number = 2 ** 20;

const BUS_NUMBERS = 0x18;
const IO_WINDOW = 0x1c;
const MEMORY_WINDOW = 0x20;
const PREFETCH_WINDOW = 0x24;
const PREFETCH_UPPER_BASE = 0x28;
const PREFETCH_UPPER_LIMIT = 0x2c;
const ADDRESS_BITS = 0xfff0;
const WINDOW_TYPE_BITS = 0xf;
const WINDOW_TYPE_64 = 0x1;
const IO_CLOSED = 0x00f0;

/** Bus numbers and windows as the registers have them. */
export interface BridgeRegisters extends BridgeSpec {
  /** The bus that the bridge itself is on. */
  readonly primary: number;
}

/** Reads bus numbers and windows of a PCI-to-PCI bridge. `problems` takes what makes no sense. */
export function readBridge(bytes: Uint8Array, problems: string[]): BridgeRegisters {
  return {
    ...readBuses(bytes),
    memory: readWindow(wordAt(bytes, MEMORY_WINDOW), wordAt(bytes, MEMORY_WINDOW + 2), 0, 0),
    prefetch: readPrefetch(bytes, problems),
  };
}

/** Reads the bus numbers alone: a CardBus bridge has them at the same place, and other windows. */
export function readBuses(bytes: Uint8Array): BridgeRegisters {
  return {
    primary: byteAt(bytes, BUS_NUMBERS),
    secondary: byteAt(bytes, BUS_NUMBERS + 1),
    subordinate: byteAt(bytes, BUS_NUMBERS + 2),
    memory: null,
    prefetch: null,
  };
}

/** Writes bus numbers and windows; a window that is null is closed, and so is the one for I/O. */
export function writeBridge(bytes: Uint8Array, bridge: BridgeRegisters): void {
  bytes[BUS_NUMBERS] = bridge.primary;
  bytes[BUS_NUMBERS + 1] = bridge.secondary;
  bytes[BUS_NUMBERS + 2] = bridge.subordinate;
  setWord(bytes, IO_WINDOW, IO_CLOSED);
  const memory = bridge.memory ?? { base: 0xfff00000, limit: 0x000fffff };
  setWord(bytes, MEMORY_WINDOW, registerOf(memory.base));
  setWord(bytes, MEMORY_WINDOW + 2, registerOf(memory.limit));
  const prefetch = bridge.prefetch ?? { base: 0xfff00000, limit: 0x000fffff };
  setWord(bytes, PREFETCH_WINDOW, registerOf(prefetch.base) | WINDOW_TYPE_64);
  setWord(bytes, PREFETCH_WINDOW + 2, registerOf(prefetch.limit) | WINDOW_TYPE_64);
  setDword(bytes, PREFETCH_UPPER_BASE, Math.floor(prefetch.base / 2 ** 32));
  setDword(bytes, PREFETCH_UPPER_LIMIT, Math.floor(prefetch.limit / 2 ** 32));
}

/**
 * Upper halves count only if the window says that it is 64-bit. A bridge without one reads zero.
 */
function readPrefetch(bytes: Uint8Array, problems: string[]): WindowSpec | null {
  const base = wordAt(bytes, PREFETCH_WINDOW);
  const limit = wordAt(bytes, PREFETCH_WINDOW + 2);
  if (base === 0 && limit === 0) return null;
  const is64 = (base & WINDOW_TYPE_BITS) === WINDOW_TYPE_64;
  const upperBase = is64 ? dwordAt(bytes, PREFETCH_UPPER_BASE) : 0;
  const upperLimit = is64 ? dwordAt(bytes, PREFETCH_UPPER_LIMIT) : 0;
  const window = readWindow(base, limit, upperBase, upperLimit);
  if (window !== null && window.limit >= ADDRESS_LIMIT) {
    problems.push('the prefetchable window reaches 2^52 or more');
    return null;
  }
  return window;
}

function readWindow(
  base: number,
  limit: number,
  upperBase: number,
  upperLimit: number,
): WindowSpec | null {
  const first = upperBase * 2 ** 32 + (base & ADDRESS_BITS) * 2 ** 16;
  const last = upperLimit * 2 ** 32 + (limit & ADDRESS_BITS) * 2 ** 16 + WINDOW_GRAIN - 1;
  return first <= last ? { base: first, limit: last } : null;
}

function registerOf(address: number): number {
  return Math.floor((address % 2 ** 32) / 2 ** 16) & ADDRESS_BITS;
}
