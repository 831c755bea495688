/**
 * What the controller says of itself: the 4096 bytes of Identify Controller.
 *
 * @source NVM Express Base Specification 1.4, section 5.15.2.2
 */

import { PAGE_SIZE } from '../../base/index.ts';
import type { PciFunction } from '../../machine/index.ts';
import { VERSION_1_4 } from './registers.ts';

/** LIMIT: data of one command is at most 2^5 pages, 128 KiB: so its steps are few. */
export const TRANSFER_PAGES_POWER = 5;

/** LIMIT: bytes of data of one command. */
export const TRANSFER_SIZE_MAX: number = PAGE_SIZE * 2 ** TRANSFER_PAGES_POWER;

/** Blocks that are always written all or none, counted from 0: a whole command's. */
const ATOMIC_WRITE_BLOCKS = 255;

/** Controller type: it does I/O. */
const TYPE_IO = 1;

/**
 * The Identify Controller data structure.
 *
 * @context Any; pure.
 * @source NVMe 1.4, figure "Identify Controller data structure"
 */
export function identifyData(fn: PciFunction): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const { vendor, subsystemVendor } = fn.node.spec;
  view.setUint16(0, vendor, true);
  view.setUint16(2, subsystemVendor, true);
  putText(bytes, 4, 20, fn.name);
  putText(bytes, 24, 40, 'peerbuf modelled NVMe drive');
  putText(bytes, 64, 8, '1.0');
  view.setUint8(77, TRANSFER_PAGES_POWER);
  view.setUint32(80, VERSION_1_4, true);
  view.setUint8(111, TYPE_IO);
  // Entry sizes, required and largest: 64 and 16 bytes.
  view.setUint8(512, 0x66);
  view.setUint8(513, 0x44);
  // One namespace, no volatile write cache.
  view.setUint32(516, 1, true);
  view.setUint16(526, ATOMIC_WRITE_BLOCKS, true);
  view.setUint16(528, ATOMIC_WRITE_BLOCKS, true);
  bytes.set(ascii(`nqn.2014-08.org.nvmexpress:peerbuf:${fn.name}`), 768);
  return bytes;
}

/** Text fields are filled up with blanks. */
function putText(bytes: Uint8Array, offset: number, length: number, text: string): void {
  bytes.set(ascii(text.padEnd(length).slice(0, length)), offset);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}
