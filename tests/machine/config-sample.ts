/** Configuration spaces to start from. */

import { setWord } from '../../src/machine/pci/config-bytes.ts';

/** An endpoint with a PCI Express capability at 0x40, and nothing in the extended space. */
export function endpoint(size = 4096): Uint8Array {
  const bytes = new Uint8Array(size);
  setWord(bytes, 0x06, 0x10);
  bytes[0x34] = 0x40;
  setWord(bytes, 0x40, 0x0010);
  setWord(bytes, 0x42, 0x0002);
  return bytes;
}

/** A downstream port with nothing in its windows. */
export function bridge(): Uint8Array {
  const bytes = endpoint();
  bytes[0x0e] = 1;
  setWord(bytes, 0x42, 0x0062);
  return bytes;
}
