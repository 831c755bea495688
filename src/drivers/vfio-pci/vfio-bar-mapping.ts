/**
 * A BAR that a process has mapped through VFIO. The first access, and the first after a reset,
 * faults; the fault waits until the device's memory is back.
 *
 * @source `vfio_pci_mmap_fault()`, drivers/vfio/pci/vfio_pci_core.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import { MmioMapping, type Task } from '../../machine/index.ts';
import type { VfioPciDevice } from './vfio-pci-device.ts';

/** A mapped BAR. */
export class VfioBarMapping {
  readonly bar: number;
  /** Bytes. */
  readonly size: number;
  private readonly vdev: VfioPciDevice;
  private readonly mapping: MmioMapping;

  constructor(vdev: VfioPciDevice, bar: number, size: number) {
    const { fn } = vdev;
    this.vdev = vdev;
    this.bar = bar;
    this.size = size;
    this.mapping = new MmioMapping(fn.machine, `${fn.name} BAR${bar}`, fn.barStart(bar), size);
  }

  /**
   * Loads from the BAR.
   *
   * @throws {@link DmaBufError} `EFAULT`: memory decoding is off, which is a `SIGBUS`; beyond the
   *   end, which is a `SIGSEGV`.
   * @context User mode; may sleep in the page fault.
   */
  *read(offset: number, length: number): Task<Uint8Array> {
    this.check(offset, length);
    for (;;) {
      const bytes = yield* this.mapping.read(offset, length);
      if (bytes !== null) return bytes;
      yield* this.fault();
    }
  }

  /**
   * Stores to the BAR.
   *
   * @throws {@link DmaBufError} as {@link read}.
   * @context User mode; may sleep in the page fault.
   */
  *write(offset: number, bytes: Uint8Array): Task {
    this.check(offset, bytes.length);
    while ((yield* this.mapping.write(offset, bytes)) === null) yield* this.fault();
  }

  /**
   * Takes the page-table entries away.
   *
   * @context The caller holds the device's memory lock for writing.
   */
  *zap(): Task {
    yield* this.mapping.setPresent(false);
  }

  private check(offset: number, length: number): void {
    if (this.mapping.holds(offset, length)) return;
    throw new DmaBufError('EFAULT', 'access', 'beyond-the-mapped-bar', {
      detail: { mapping: this.mapping.name, size: this.size, offset, length },
    });
  }

  private *fault(): Task {
    const { vdev } = this;
    yield* vdev.memoryLock.downRead();
    const enabled = yield* vdev.isMemoryEnabled();
    if (enabled) yield* this.mapping.setPresent(true);
    yield* vdev.memoryLock.upRead();
    if (!enabled) throw new DmaBufError('EFAULT', 'page fault', 'bus-error-on-disabled-memory');
  }
}
