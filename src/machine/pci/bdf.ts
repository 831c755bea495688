/**
 * The address of a PCI function: domain, bus, device, function.
 *
 * @source reference/p2p-topology.md 3.4
 */

/** The four numbers. */
export interface Bdf {
  /** 0 to 0xffff, or more behind a VMD controller. */
  readonly domain: number;
  readonly bus: number;
  /** 0 to 31. */
  readonly device: number;
  /** 0 to 7. */
  readonly function: number;
}

const FORM = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i;

/** Reads `0000:41:00.0`; a missing domain is 0. Null if `text` is not of that form. */
export function parseBdf(text: string): Bdf | null {
  const match = FORM.exec(text);
  if (match === null) return null;
  const [, domain = '0', bus = '', device = '', fn = ''] = match;
  const number = Number.parseInt(device, 16);
  if (number > 31) return null;
  return {
    domain: Number.parseInt(domain, 16),
    bus: Number.parseInt(bus, 16),
    device: number,
    function: Number.parseInt(fn, 16),
  };
}

/** Writes it as Linux does: four digits of domain, or more if it needs them. */
export function formatBdf(bdf: Bdf): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  return `${hex(bdf.domain, 4)}:${hex(bdf.bus, 2)}:${hex(bdf.device, 2)}.${bdf.function}`;
}

/** Order of addresses: domain, bus, device, function. */
export function compareBdf(one: Bdf, other: Bdf): number {
  return (
    one.domain - other.domain ||
    one.bus - other.bus ||
    one.device - other.device ||
    one.function - other.function
  );
}
