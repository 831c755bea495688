/**
 * The three kinds of address that meet in a peer-to-peer transfer. They are numbers of one size and
 * mean different things, so each is a brand of its own: handing one where another is due does not
 * compile. All are below 2^52, so that sums stay exact.
 *
 * @source reference/linux-dma-buf.md I.7
 */

import { assert } from './assert.ts';

declare const kind: unique symbol;

/** Where the CPU finds a byte: RAM, or a BAR in the CPU's address map (`phys_addr_t`). */
export type PhysAddr = number & { readonly [kind]: 'phys' };

/** What stands in a packet between two devices on PCI, and in a BAR register (`pci_bus_addr_t`). */
export type BusAddr = number & { readonly [kind]: 'bus' };

/** What one device must put into its request to reach the memory (`dma_addr_t`): valid for that
 *  device alone; an IOVA, a bus address or a shifted physical address. */
export type DmaAddr = number & { readonly [kind]: 'dma' };

/** Where a process finds a byte: an address in its own map, below 2^47. */
export type UserAddr = number & { readonly [kind]: 'user' };

/** Any of the three that meet on the way of a transfer. */
export type Address = PhysAddr | BusAddr | DmaAddr;

/** First number that is no address here. */
export const ADDRESS_LIMIT: number = 2 ** 52;

function checked(value: number): number {
  assert(
    Number.isInteger(value) && value >= 0 && value < ADDRESS_LIMIT,
    `an address is an integer below 2^52, not ${value}`,
  );
  return value;
}

/** States that `value` is a CPU physical address. */
export function physAddr(value: number): PhysAddr {
  return checked(value) as PhysAddr;
}

/** States that `value` is a PCI bus address. */
export function busAddr(value: number): BusAddr {
  return checked(value) as BusAddr;
}

/** States that `value` is a DMA address of some device. */
export function dmaAddr(value: number): DmaAddr {
  return checked(value) as DmaAddr;
}

/** States that `value` is an address of some process. */
export function userAddr(value: number): UserAddr {
  return checked(value) as UserAddr;
}

/** The address `bytes` further on, of the same kind. */
export function addressPlus<A extends Address | UserAddr>(address: A, bytes: number): A {
  return checked(address + bytes) as A;
}

/** Hexadecimal with `0x`, as tools print it. */
export function formatAddress(address: number): string {
  return `0x${address.toString(16)}`;
}
