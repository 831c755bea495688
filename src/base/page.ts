/** Pages: the grain in which buffers are shared. Modelled machines use 4 KiB pages. */

/** Bytes in a page. */
export const PAGE_SIZE: number = 4096;

/** True if `value`, an address or a size in bytes, is a multiple of the page size. */
export function isPageAligned(value: number): boolean {
  return value % PAGE_SIZE === 0;
}

/** `value` rounded down to a multiple of `unit`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. */
export function alignUp(value: number, unit: number): number {
  return alignDown(value + unit - 1, unit);
}
