/**
 * What a data sheet says of a PCI function, wherever it is plugged in. `catalogue.ts` lists those
 * that the presets are made of.
 */

/** A kind of function. */
export interface Part {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly classCode: number;
  readonly revision: number;
  readonly bars: readonly PartBar[];
  /** Device id of its virtual functions; 0 if it cannot have any. */
  readonly virtualDevice: number;
  /** BARs of each of them. */
  readonly virtualBars: readonly PartBar[];
  /** The ACS capability; null if it has none. */
  readonly acs: number | null;
  /** The best link that it can make; null for what has no link. */
  readonly link: PartLink | null;
  /** The Linux driver that binds to it; null if none does. */
  readonly driver: string | null;
}

/** A BAR before it has an address. */
export interface PartBar {
  readonly index: number;
  readonly kind: 'memory' | 'io';
  /** Bytes; a power of two. */
  readonly size: number;
  readonly prefetchable: boolean;
  readonly is64: boolean;
}

/** The best that one side of a link can do. */
export interface PartLink {
  /** GT/s a lane. */
  readonly speed: number;
  readonly width: number;
}

/** Bytes in a kibibyte. */
export const KIB: number = 2 ** 10;
/** Bytes in a mebibyte. */
export const MIB: number = 2 ** 20;
/** Bytes in a gibibyte. */
export const GIB: number = 2 ** 30;

/** What most parts have; spread into one and changed. */
export const PLAIN_PART: Part = {
  vendor: 0,
  device: 0,
  subsystemVendor: 0,
  subsystemDevice: 0,
  classCode: 0,
  revision: 0,
  bars: [],
  virtualDevice: 0,
  virtualBars: [],
  acs: null,
  link: null,
  driver: null,
};

/** A 64-bit prefetchable BAR: memory of the device, placed above 4 GiB. */
export function prefetchBar(index: number, size: number): PartBar {
  return { index, kind: 'memory', size, prefetchable: true, is64: true };
}

/** A 64-bit BAR of registers. Bridges pass such only below 4 GiB. */
export function registerBar(index: number, size: number): PartBar {
  return { index, kind: 'memory', size, prefetchable: false, is64: true };
}

/** A 32-bit BAR of registers. */
export function shortBar(index: number, size: number): PartBar {
  return { index, kind: 'memory', size, prefetchable: false, is64: false };
}

/** I/O ports. */
export function ioBar(index: number, size: number): PartBar {
  return { index, kind: 'io', size, prefetchable: false, is64: false };
}
