/** `peerbuf/doctor`: what a real machine is, read from what it shows of itself. */

export { assumeForwarding } from './assume-forwarding.ts';
export type { CaptureFacts } from './capture.ts';
export { parseCpuText } from './cpu-text.ts';
export { type CaptureFormat, detectFormat } from './detect.ts';
export { LSPCI_TEXT_MAX } from './lspci-text.ts';
export { oneLine, oneLinePath } from './one-line.ts';
export { machineFromLspci } from './read-lspci.ts';
export { machineFromSysfs } from './read-sysfs.ts';
export { asciiText, MapTree, type SysTree, type TreeEntry } from './sys-tree.ts';
