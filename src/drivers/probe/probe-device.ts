/**
 * `/dev/peerbuf-probe`: the in-kernel API of dma-buf for programs, so that they can play exporter
 * and importer. For tests; nobody would give it to a program that he does not trust.
 *
 * @source docs/probe-abi.md
 */

import type { DeviceNode, Kernel, KernelFile, OpenMode, Process } from '../../framework/index.ts';
import { PlatformDevice, type Task } from '../../machine/index.ts';
import { ProbeFile } from './probe-file.ts';

/** Where programs find it. */
export const PROBE_PATH = '/dev/peerbuf-probe';

/** The device. */
export class ProbeDevice implements DeviceNode {
  readonly kernel: Kernel;
  /** A device that is not on PCI, for attachments. */
  readonly platformDevice: PlatformDevice;

  /** @context At boot: the module is loaded, and the file appears. */
  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.platformDevice = new PlatformDevice('probe', kernel.machine.spec.coherentDma);
    kernel.nodes.add(PROBE_PATH, this);
  }

  /** @context May sleep; no lock held. */
  *open(_process: Process, mode: OpenMode): Task<KernelFile> {
    return new ProbeFile(this.kernel, mode, this.platformDevice);
  }
}
