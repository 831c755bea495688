/**
 * Class codes by the names that `lspci` prints for them, for texts without numbers. Only classes
 * that occur in computers; the names are those of the public list `pci.ids`.
 */

/** Stands for a class that could not be told: `Unassigned class`. */
export const CLASS_UNKNOWN = 0xff_00_00;

/** PCI-to-PCI bridges, without the programming interface. */
export const CLASS_PCI_BRIDGE = 0x06_04;

/** Class and subclass by name in lower case, for names have changed their capitals. */
const CLASS_BY_NAME: ReadonlyMap<string, number> = new Map([
  ['non-vga unclassified device', 0x0000],
  ['vga compatible unclassified device', 0x0001],
  ['scsi storage controller', 0x0100],
  ['ide interface', 0x0101],
  ['raid bus controller', 0x0104],
  ['ata controller', 0x0105],
  ['sata controller', 0x0106],
  ['serial attached scsi controller', 0x0107],
  ['non-volatile memory controller', 0x0108],
  ['universal flash storage controller', 0x0109],
  ['mass storage controller', 0x0180],
  ['ethernet controller', 0x0200],
  ['infiniband controller', 0x0207],
  ['fabric controller', 0x0208],
  ['network controller', 0x0280],
  ['vga compatible controller', 0x0300],
  ['xga compatible controller', 0x0301],
  ['3d controller', 0x0302],
  ['display controller', 0x0380],
  ['multimedia video controller', 0x0400],
  ['multimedia audio controller', 0x0401],
  ['audio device', 0x0403],
  ['multimedia controller', 0x0480],
  ['ram memory', 0x0500],
  ['flash memory', 0x0501],
  ['cxl', 0x0502],
  ['memory controller', 0x0580],
  ['host bridge', 0x0600],
  ['isa bridge', 0x0601],
  ['pci bridge', CLASS_PCI_BRIDGE],
  ['cardbus bridge', 0x0607],
  ['semi-transparent pci-to-pci bridge', 0x0609],
  ['infiniband to pci host bridge', 0x060a],
  ['bridge', 0x0680],
  ['serial controller', 0x0700],
  ['parallel controller', 0x0701],
  ['multiport serial controller', 0x0702],
  ['modem', 0x0703],
  ['smart card controller', 0x0705],
  ['communication controller', 0x0780],
  ['pic', 0x0800],
  ['dma controller', 0x0801],
  ['timer', 0x0802],
  ['rtc', 0x0803],
  ['pci hot-plug controller', 0x0804],
  ['sd host controller', 0x0805],
  ['iommu', 0x0806],
  ['generic system peripheral', 0x0880],
  ['system peripheral', 0x0880],
  ['input device controller', 0x0980],
  ['co-processor', 0x0b40],
  ['firewire (ieee 1394)', 0x0c00],
  ['usb controller', 0x0c03],
  ['fibre channel', 0x0c04],
  ['smbus', 0x0c05],
  ['infiniband', 0x0c06],
  ['ipmi interface', 0x0c07],
  ['wireless controller', 0x0d80],
  ['network and computing encryption device', 0x1000],
  ['encryption controller', 0x1080],
  ['performance counters', 0x1101],
  ['signal processing controller', 0x1180],
  ['processing accelerators', 0x1200],
  ['non-essential instrumentation', 0x1300],
]);

/** Class and subclass of a name as `lspci` prints it; null if the name is not known. */
export function classOfName(name: string): number | null {
  return CLASS_BY_NAME.get(name.trim().toLowerCase()) ?? null;
}
