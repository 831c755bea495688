/** What both readers of captures make of registers: BARs without sizes, and virtual functions. */

import { PAGE_SIZE } from '../base/index.ts';
import type { BarSpec, ConfigFacts } from '../machine/index.ts';
import type { VirtualFunctions } from './capture.ts';

/** Size assumed for an I/O BAR; the smallest there is. */
const IO_SIZE_ASSUMED = 4;

/**
 * The BARs of the registers, for sources that do not show sizes: what the resizable BAR capability
 * says, else one page, or less if the address demands it.
 */
export function barsOfRegisters(facts: ConfigFacts): BarSpec[] {
  return facts.bars.map(({ index, kind, address, prefetchable, is64 }) => {
    const resizable = facts.resizableBars.find((bar) => bar.index === index);
    const assumed = kind === 'io' ? IO_SIZE_ASSUMED : pageAt(address);
    return { index, kind, address, size: resizable?.size ?? assumed, prefetchable, is64 };
  });
}

/** Bus addresses of memory BARs by index, where one is assigned. */
export function busAddressesOf(facts: ConfigFacts): ReadonlyMap<number, number> {
  const bars = facts.bars.filter(({ kind, address }) => kind === 'memory' && address !== 0);
  return new Map(bars.map(({ index, address }) => [index, address]));
}

/** The virtual functions that the registers say are switched on; null if none. */
export function virtualFunctionsOf(facts: ConfigFacts): VirtualFunctions | null {
  const { srIov, vendor } = facts;
  if (srIov === null || srIov.numVfs === 0 || srIov.offset === 0) return null;
  const { numVfs, offset, stride, vfDevice } = srIov;
  return { count: numVfs, offset, stride, vendor, device: vfDevice };
}

/** Bytes of a BAR at `address` that is at most a page: BARs are aligned to their size. */
function pageAt(address: number): number {
  let size = PAGE_SIZE;
  while (address % size !== 0) size /= 2;
  return size;
}
