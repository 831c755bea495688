/** Goal: no kind of address can stand in the place of another, nor can a number. */

import { addressPlus, type BusAddr, type DmaAddr, type PhysAddr } from '../../src/base/index.ts';
import type { UserPages } from '../../src/framework/index.ts';
import {
  type DmaIova,
  type P2pProvider,
  type PhysVec,
  pciP2pdmaBusAddrMap,
  type SgEntry,
} from '../../src/framework/index.ts';
import type { Device, IommuDomain, Machine, PhysRange } from '../../src/machine/index.ts';

declare const phys: PhysAddr;
declare const bus: BusAddr;
declare const dma: DmaAddr;
declare const machine: Machine;
declare const device: Device;
declare const domain: IommuDomain;
declare const provider: P2pProvider;
declare const range: PhysRange;
declare const pages: UserPages;

const bytes = new Uint8Array(1);
const rights = { readable: true, writable: true };

/** Right as it is: each in its own place, and all of them numbers to look at. */
export const right = [
  machine.cpu.load(phys, 1),
  machine.cpu.mmioWrite(phys, bytes),
  machine.dma.write(device, dma, bytes),
  domain.mapAt(dma, range, rights),
  domain.unmap(dma, 4096),
  pciP2pdmaBusAddrMap(provider, phys),
  addressPlus(phys, 1),
  phys % 4096,
  machine.cpu.load(pages.phys, 1),
];

/** Each in the place of each other. */
// @ts-expect-error A CPU address is no bus address.
export const busOfPhys: BusAddr = phys;
// @ts-expect-error A CPU address is no device address.
export const dmaOfPhys: DmaAddr = phys;
// @ts-expect-error A bus address is no CPU address.
export const physOfBus: PhysAddr = bus;
// @ts-expect-error A bus address is no device address until the core says so.
export const dmaOfBus: DmaAddr = bus;
// @ts-expect-error A device address is no CPU address.
export const physOfDma: PhysAddr = dma;
// @ts-expect-error A device address is no bus address.
export const busOfDma: BusAddr = dma;

/** Numbers, and what arithmetic makes of addresses. */
// @ts-expect-error A number is no CPU address.
export const physOfNumber: PhysAddr = 0x1000;
// @ts-expect-error A number is no bus address.
export const busOfNumber: BusAddr = 0x1000;
// @ts-expect-error A number is no device address.
export const dmaOfNumber: DmaAddr = 0x1000;
// @ts-expect-error A sum is a number: addressPlus keeps the kind.
export const sum: PhysAddr = phys + 4096;
// @ts-expect-error addressPlus keeps the kind.
export const plus: DmaAddr = addressPlus(phys, 4096);

/** As arguments. */
// @ts-expect-error The CPU loads from CPU addresses.
export const loadBus = machine.cpu.load(bus, 1);
// @ts-expect-error The CPU loads from CPU addresses.
export const loadDma = machine.cpu.load(dma, 1);
// @ts-expect-error The CPU reaches a BAR by its CPU address.
export const mmioOfBus = machine.cpu.mmioRead(bus, 1);
// @ts-expect-error A device sends its own addresses.
export const writeToPhys = machine.dma.write(device, phys, bytes);
// @ts-expect-error A device sends its own addresses.
export const readFromBus = machine.dma.read(device, bus, 1);
// @ts-expect-error A device sends its own addresses.
export const readFromNumber = machine.dma.read(device, 0x1000, 1);
// @ts-expect-error An I/O address is a device's.
export const mapAtPhys = domain.mapAt(phys, range, rights);
// @ts-expect-error A domain maps CPU addresses.
export const rangeOfBus: PhysRange = { phys: bus, size: 4096 };
// @ts-expect-error A provider is given CPU addresses.
export const mappedTwice = pciP2pdmaBusAddrMap(provider, bus);
// @ts-expect-error An exporter describes its memory by CPU addresses.
export const vecOfBus: PhysVec = { paddr: bus, length: 4096 };
// @ts-expect-error An importer gets device addresses.
export const entryOfPhys: SgEntry = { address: phys, length: 4096 };
// @ts-expect-error An importer gets device addresses.
export const entryOfBus: SgEntry = { address: bus, length: 4096 };
// @ts-expect-error A block of I/O addresses begins at a device address.
export const blockAtPhys: DmaIova = { domain, address: phys, size: 4096 };
