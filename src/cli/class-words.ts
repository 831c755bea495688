/** PCI classes in words, as `lspci` has them; the usual ones. */

const WORDS: ReadonlyMap<number, string> = new Map([
  [0x0100, 'SCSI controller'],
  [0x0101, 'IDE controller'],
  [0x0104, 'RAID controller'],
  [0x0106, 'SATA controller'],
  [0x0107, 'SAS controller'],
  [0x0108, 'NVMe drive'],
  [0x0180, 'mass storage'],
  [0x0200, 'Ethernet card'],
  [0x0207, 'InfiniBand card'],
  [0x0208, 'fabric card'],
  [0x0280, 'network card'],
  [0x0300, 'VGA controller'],
  [0x0302, '3D controller'],
  [0x0380, 'display controller'],
  [0x0401, 'audio controller'],
  [0x0403, 'audio device'],
  [0x0480, 'multimedia controller'],
  [0x0500, 'RAM'],
  [0x0501, 'flash memory'],
  [0x0502, 'CXL memory'],
  [0x0580, 'memory controller'],
  [0x0600, 'host bridge'],
  [0x0601, 'ISA bridge'],
  [0x0604, 'PCI bridge'],
  [0x0607, 'CardBus bridge'],
  [0x0680, 'bridge'],
  [0x0700, 'serial port'],
  [0x0780, 'communication controller'],
  [0x0800, 'interrupt controller'],
  [0x0801, 'DMA controller'],
  [0x0806, 'IOMMU'],
  [0x0807, 'event collector'],
  [0x0880, 'system peripheral'],
  [0x0b40, 'coprocessor'],
  [0x0c00, 'FireWire controller'],
  [0x0c03, 'USB controller'],
  [0x0c04, 'Fibre Channel card'],
  [0x0c05, 'SMBus'],
  [0x0c07, 'IPMI interface'],
  [0x1080, 'encryption controller'],
  [0x1101, 'performance counters'],
  [0x1180, 'signal processor'],
  [0x1200, 'accelerator'],
  [0x1300, 'instrumentation'],
]);

/**
 * A class in words.
 *
 * @param classCode - Class, subclass and programming interface, as in a `FunctionSpec`.
 * @returns `class 0x1234` for one that has no words here.
 */
export function classInWords(classCode: number): string {
  const code = classCode >>> 8;
  return WORDS.get(code) ?? `class 0x${code.toString(16).padStart(4, '0')}`;
}
