/**
 * A PCI function owned by user space (vfio-pci): its BARs are mapped into a process, its interrupts
 * go to it, and it can be reset. BAR ranges can be exported as dma-bufs; whenever the device's
 * memory goes away, every exported buffer is revoked first.
 *
 * Not modelled: power management, hot reset of several functions, the iommufd path, unbinding while
 * buffers live.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dmabuf.c, vfio_pci_config.c, v7.2;
 *   reference/linux-dma-buf.md E.1; thread S003
 */

import { addressPlus, DmaBufError, isPageAligned } from '../../base/index.ts';
import { DmaBuf, type Kernel, type P2pdma, type Process } from '../../framework/index.ts';
import {
  type Atomic,
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  type Completion,
  type PciFunction,
  RwSemaphore,
  Shared,
  type Task,
} from '../../machine/index.ts';
import { VfioBarMapping } from './vfio-bar-mapping.ts';
import { VfioDmaBuf, type VfioExport, vfioPciDmaBufOps } from './vfio-dma-buf.ts';

/** A range of a BAR. */
export interface VfioRegionDmaRange {
  /** From the start of the BAR; page aligned. */
  readonly offset: number;
  /** Bytes; whole pages. */
  readonly length: number;
}

/** `struct vfio_device_feature_dma_buf`. */
export interface VfioDmaBufRequest {
  /** The BAR, 0 to 5. */
  readonly regionIndex: number;
  readonly ranges: readonly VfioRegionDmaRange[];
  /** Must be 0. */
  readonly flags?: number;
}

/** Sums of addresses and lengths are 64 bits wide; whole pages are exact as numbers up to here. */
const ADDRESSES_END = 2 ** 64;

/** First region that is not a BAR: the expansion ROM. */
const ROM_REGION_INDEX = 6;

/** `struct vfio_pci_core_device`. */
export class VfioPciDevice {
  readonly kernel: Kernel;
  readonly fn: PciFunction;
  /** Guards the device's memory: held for reading to map a BAR, for writing to take memory away.
   *  Also guards {@link dmabufs}. */
  readonly memoryLock: RwSemaphore;
  /** Every buffer that was exported and not yet released. Holds no references. */
  readonly dmabufs: Shared<readonly VfioDmaBuf[]>;
  private readonly p2pdma: P2pdma;
  private readonly mappings: VfioBarMapping[] = [];

  /** @context At boot: the driver binds to the function. */
  constructor(kernel: Kernel, fn: PciFunction) {
    const { scheduler } = kernel;
    this.kernel = kernel;
    this.fn = fn;
    this.memoryLock = new RwSemaphore(scheduler, 'vfio_pci.memory_lock');
    this.dmabufs = new Shared<readonly VfioDmaBuf[]>(scheduler, 'vfio_pci.dmabufs', []);
    this.p2pdma = kernel.p2pdmaOf(fn);
  }

  /**
   * Opens the device: memory decoding on, bus mastering off until the user switches it on.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pci_core_enable()`
   */
  *open(): Task {
    const command = yield* this.fn.command.read();
    yield* this.fn.writeCommand((command | COMMAND_MEMORY) & ~COMMAND_BUS_MASTER);
  }

  /**
   * Maps a BAR into the process. Page-table entries come with the first access.
   *
   * @throws {@link DmaBufError} `EINVAL` the function has no such memory BAR.
   * @context Any.
   * @source `vfio_pci_core_mmap()`
   */
  mmap(bar: number): VfioBarMapping {
    const size = this.fn.barSize(bar);
    if (size === 0) throw new DmaBufError('EINVAL', 'mmap', 'no-such-bar', { detail: { bar } });
    const mapping = new VfioBarMapping(this, bar, size);
    this.mappings.push(mapping);
    return mapping;
  }

  /**
   * Sends interrupt `vector` to `eventfd`.
   *
   * @source `VFIO_DEVICE_SET_IRQS`
   */
  setIrq(vector: number, eventfd: Completion): void {
    this.fn.onInterrupt(vector, () => signalEventfd(eventfd));
  }

  /**
   * `VFIO_DEVICE_FEATURE_DMA_BUF`: exports ranges of one BAR. While memory decoding is off the
   * buffer is made, but revoked.
   *
   * @returns The descriptor.
   * @throws {@link DmaBufError} in this order: `EINVAL` no ranges, or flags; `ENODEV` no such BAR;
   *   `EINVAL` a range that is empty or not whole pages; `EINVAL` not a memory BAR; `EOVERFLOW`;
   *   `EINVAL` beyond the BAR; `EMFILE`.
   * @context May sleep; no lock held.
   * @source `vfio_pci_core_feature_dma_buf()`
   */
  *featureDmaBuf(process: Process, request: VfioDmaBufRequest): Task<number> {
    return yield* process.syscall(this.exportBuffer(process, request));
  }

  /**
   * `VFIO_DEVICE_RESET`: takes access back from everybody, resets, gives it back. Does not return
   * before every importer has unmapped.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pci_ioctl_reset()`
   */
  *reset(process: Process): Task {
    yield* process.syscall(this.resetLocked());
  }

  /**
   * A write to the command register in configuration space. Switching memory decoding off revokes
   * every buffer, switching it on restores them.
   *
   * @context May sleep; no lock held.
   * @source `vfio_basic_config_write()`
   */
  *writeCommand(process: Process, command: number): Task {
    yield* process.syscall(this.writeCommandLocked(command));
  }

  /**
   * Closes the device: buffers are revoked for good, their descriptors stay valid but dead.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pci_dma_buf_cleanup()`, `vfio_pci_core_disable()`
   */
  *close(process: Process): Task {
    yield* process.syscall(this.cleanUp());
  }

  /**
   * The last reference of a buffer is gone: off the list, then freed.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pci_dma_buf_release()`
   */
  *releaseBuffer(buffer: VfioDmaBuf): Task {
    yield* this.memoryLock.downWrite();
    yield* this.unlink(buffer);
    yield* this.memoryLock.upWrite();
    yield* buffer.memory.free();
  }

  /**
   * True if the function answers memory requests.
   *
   * @context Any.
   * @source `__vfio_pci_memory_enabled()`
   */
  *isMemoryEnabled(): Atomic<boolean> {
    return ((yield* this.fn.command.read()) & COMMAND_MEMORY) !== 0;
  }

  /**
   * Takes access back from every exported buffer, or gives it back. Walks a list that holds no
   * references, so each buffer is taken only if it still lives: a release may have begun.
   *
   * LOCKING: the caller holds the memory lock for writing. A release needs the same lock before it
   * takes its buffer off the list, so what stands on the list is not freed while we look at it.
   *
   * @context May sleep; the memory lock is held for writing.
   * @source `vfio_pci_dma_buf_move()`
   */
  protected *moveBuffers(revoked: boolean): Task {
    for (const buffer of yield* this.dmabufs.read()) {
      const dmabuf = yield* buffer.dmabuf.read();
      if (dmabuf === null || !(yield* this.takeReference(dmabuf))) continue;
      if ((yield* buffer.revoked.read()) !== revoked) {
        if (revoked) yield* this.revoke(buffer, dmabuf);
        else yield* this.restore(buffer, dmabuf);
      }
      yield* dmabuf.put();
    }
  }

  /**
   * The reference that the walk takes on a buffer; false if it is past saving.
   *
   * @context The memory lock is held for writing.
   */
  protected *takeReference(dmabuf: DmaBuf): Atomic<boolean> {
    return yield* dmabuf.tryGet();
  }

  /** @context The caller holds the memory lock for writing. */
  protected *unlink(buffer: VfioDmaBuf): Atomic {
    const all = yield* this.dmabufs.read();
    yield* this.dmabufs.write(all.filter((other) => other !== buffer));
  }

  private *revoke(buffer: VfioDmaBuf, dmabuf: DmaBuf): Task {
    yield* dmabuf.resv.lock();
    yield* buffer.revoked.write(true);
    yield* dmabuf.invalidateMappings();
    yield* dmabuf.resv.wait('bookkeep');
    yield* dmabuf.resv.unlock();
    // Now nobody writes any more; when every mapping is gone, nobody reads either.
    yield* buffer.putMapping();
    yield* buffer.allUnmapped.wait();
    yield* buffer.kref.reset();
    yield* buffer.allUnmapped.reinit();
  }

  /** Importers are told nothing that they did not know: they learn of it when they map again. */
  private *restore(buffer: VfioDmaBuf, dmabuf: DmaBuf): Task {
    yield* dmabuf.resv.lock();
    yield* dmabuf.invalidateMappings();
    yield* dmabuf.resv.wait('bookkeep');
    yield* dmabuf.resv.unlock();
    yield* dmabuf.resv.lock();
    yield* buffer.revoked.write(false);
    yield* dmabuf.resv.unlock();
  }

  private *exportBuffer(process: Process, request: VfioDmaBufRequest): Task<number> {
    const exported = this.validate(request);
    const buffer = new VfioDmaBuf(this.kernel.scheduler, this, exported);
    const dmabuf = yield* DmaBuf.export(this.kernel, {
      exporterName: 'vfio_pci_core',
      ops: vfioPciDmaBufOps,
      size: exported.size,
      priv: buffer,
    });
    yield* buffer.dmabuf.write(dmabuf);
    yield* this.memoryLock.downWrite();
    yield* dmabuf.resv.lock();
    yield* buffer.revoked.write(!(yield* this.isMemoryEnabled()));
    yield* this.dmabufs.write([...(yield* this.dmabufs.read()), buffer]);
    yield* dmabuf.resv.unlock();
    yield* this.memoryLock.upWrite();
    try {
      return yield* dmabuf.fd(process);
    } catch (error) {
      yield* dmabuf.put();
      throw error;
    }
  }

  /** The checks, in the kernel's order. */
  private validate({ regionIndex, ranges, flags = 0 }: VfioDmaBufRequest): VfioExport {
    const fail = (code: 'EINVAL' | 'ENODEV' | 'EOVERFLOW', reason: string): DmaBufError =>
      new DmaBufError(code, 'ioctl(VFIO_DEVICE_FEATURE_DMA_BUF)', reason, {
        detail: { device: this.fn.name, regionIndex, ranges },
      });
    if (ranges.length === 0 || flags !== 0) throw fail('EINVAL', 'no-ranges-or-flags-set');
    const bar = this.fn.node.spec.bars.find(({ index }) => index === regionIndex);
    if (regionIndex >= ROM_REGION_INDEX || bar === undefined || bar.address === 0) {
      throw fail('ENODEV', 'region-is-not-an-assigned-bar');
    }
    for (const { offset, length } of ranges) {
      if (length === 0 || !isPageAligned(offset) || !isPageAligned(length)) {
        throw fail('EINVAL', 'range-is-not-whole-pages');
      }
    }
    const provider = this.p2pdma.provider(regionIndex);
    if (provider === null) throw fail('EINVAL', 'bar-is-not-memory');
    const start = this.fn.barStart(regionIndex);
    const physVec = ranges.map(({ offset, length }) => {
      if (start + offset + length >= ADDRESSES_END) throw fail('EOVERFLOW', 'range-overflows');
      if (offset + length > bar.size) throw fail('EINVAL', 'range-ends-beyond-the-bar');
      return { paddr: addressPlus(start, offset), length };
    });
    const size = ranges.reduce((sum, { length }) => sum + length, 0);
    return { size, physVec, provider };
  }

  private *resetLocked(): Task {
    yield* this.zapAndDownWrite();
    yield* this.moveBuffers(true);
    yield* this.fn.reset();
    if (yield* this.isMemoryEnabled()) yield* this.moveBuffers(false);
    yield* this.memoryLock.upWrite();
  }

  private *writeCommandLocked(command: number): Task {
    if ((command & COMMAND_MEMORY) === 0) {
      yield* this.zapAndDownWrite();
      yield* this.moveBuffers(true);
    } else {
      yield* this.memoryLock.downWrite();
    }
    yield* this.fn.writeCommand(command);
    if (yield* this.isMemoryEnabled()) yield* this.moveBuffers(false);
    yield* this.memoryLock.upWrite();
  }

  private *cleanUp(): Task {
    yield* this.memoryLock.downWrite();
    yield* this.moveBuffers(true);
    for (const buffer of yield* this.dmabufs.read()) {
      const dmabuf = yield* buffer.dmabuf.read();
      if (dmabuf === null || !(yield* this.takeReference(dmabuf))) continue;
      yield* this.unlink(buffer);
      yield* buffer.vdev.write(null);
      yield* dmabuf.put();
    }
    yield* this.memoryLock.upWrite();
    yield* this.fn.writeCommand(0);
  }

  /**
   * Takes the BARs out of every process and then nobody can map them again.
   *
   * @source `vfio_pci_zap_and_down_write_memory_lock()`
   */
  private *zapAndDownWrite(): Task {
    yield* this.memoryLock.downWrite();
    for (const mapping of this.mappings) yield* mapping.zap();
  }
}

function* signalEventfd(eventfd: Completion): Atomic {
  yield* eventfd.complete();
}
