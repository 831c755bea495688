/**
 * A PCI function owned by user space (vfio-pci): its BARs are mapped into a process, its interrupts
 * go to it, and it can be reset. BAR ranges can be exported as dma-bufs; whenever the device's
 * memory goes away, every exported buffer is revoked first.
 *
 * What the ioctls of its file hand it is in `vfio-device-file.ts`. Not modelled: unbinding while
 * buffers live.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dmabuf.c, vfio_pci_config.c, v7.2;
 *   reference/linux-dma-buf.md E.1; thread S003
 */

import { DmaBufError, O } from '../../base/index.ts';
import type { DmaBuf, Kernel, P2pdma, Process } from '../../framework/index.ts';
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
import { exportVfioBuffer, type VfioDmaBuf } from './vfio-dma-buf.ts';
import { checkExport, type VfioDmaBufRequest } from './vfio-export-request.ts';
import { VfioRegionMaps } from './vfio-region-map.ts';
import { VfioSleep } from './vfio-sleep.ts';

/** What a device can do, and what its driver offers. */
export interface VfioPciOptions {
  /** False: the function can be reset in no way. Default true. */
  readonly resetWorks?: boolean;
  /** False: the kernel is built without `CONFIG_VFIO_PCI_DMABUF`. Default true. */
  readonly hasDmaBuf?: boolean;
  /** False for a variant driver without `get_dmabuf_phys`. Default true. */
  readonly hasGetDmabufPhys?: boolean;
}

/** `PCI_D0` and `PCI_D3hot`: awake, and asleep with its configuration space still there. */
export type VfioPowerState = 'd0' | 'd3hot';

/** `struct vfio_pci_core_device`. */
export class VfioPciDevice {
  readonly kernel: Kernel;
  readonly fn: PciFunction;
  /** Guards the device's memory: held for reading to map a BAR, for writing to take memory away.
   *  Also guards {@link dmabufs}. */
  readonly memoryLock: RwSemaphore;
  /** Every buffer that was exported and not yet released. Holds no references. */
  readonly dmabufs: Shared<readonly VfioDmaBuf[]>;
  readonly options: VfioPciOptions;
  private readonly p2pdma: P2pdma;
  private readonly mappings: VfioBarMapping[] = [];
  /** What processes mapped through the device's file. Guarded by {@link memoryLock}. */
  readonly maps: VfioRegionMaps;
  private readonly sleep: VfioSleep;

  /** @context At boot: the driver binds to the function. */
  constructor(kernel: Kernel, fn: PciFunction, options: VfioPciOptions = {}) {
    const { scheduler } = kernel;
    this.kernel = kernel;
    this.fn = fn;
    this.options = options;
    this.maps = new VfioRegionMaps(scheduler);
    this.sleep = new VfioSleep(fn);
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
   * before every importer has unmapped. A device that is asleep is woken.
   *
   * @throws {@link DmaBufError} `EINVAL` it can be reset in no way.
   * @context May sleep; no lock held.
   * @source `vfio_pci_ioctl_reset()`
   */
  *reset(process: Process): Task {
    yield* process.syscall(this.ioctlReset());
  }

  /**
   * As {@link reset}, inside a system call.
   *
   * @throws {@link DmaBufError} as there.
   * @context May sleep; no lock held.
   */
  *ioctlReset(): Task {
    if (this.options.resetWorks === false) {
      throw new DmaBufError('EINVAL', 'ioctl(VFIO_DEVICE_RESET)', 'device-has-no-reset');
    }
    yield* this.resetLocked();
  }

  /**
   * A write to configuration space that starts a function-level reset, by the PCI Express or the
   * Advanced Features capability. Nothing happens if the function has none.
   *
   * @context May sleep; no lock held.
   * @source `vfio_exp_config_write()`, `vfio_af_config_write()`
   */
  *functionLevelReset(process: Process): Task {
    if (this.options.resetWorks !== false) yield* process.syscall(this.resetLocked());
  }

  /**
   * A write to the power management register. Falling asleep revokes every buffer; waking up
   * restores them if memory decoding is on.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pm_config_write()`, `vfio_lock_and_set_power_state()`
   */
  *setPowerState(process: Process, state: VfioPowerState): Task {
    yield* process.syscall(this.setPowerStateLocked(state));
  }

  /**
   * `VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY`: the kernel may switch the device off.
   *
   * @throws {@link DmaBufError} `EINVAL` it may already; buffers are revoked all the same, as in
   *   Linux.
   * @context May sleep; no lock held.
   * @source `vfio_pci_runtime_pm_entry()`
   */
  *lowPowerEntry(): Task {
    yield* this.zapAndDownWrite();
    yield* this.moveBuffers(true);
    const isEngaged = this.sleep.isFor('low-power');
    if (!isEngaged) yield* this.sleep.begin('low-power');
    yield* this.memoryLock.upWrite();
    if (!isEngaged) return;
    throw new DmaBufError('EINVAL', 'ioctl(VFIO_DEVICE_FEATURE)', 'low-power-is-engaged-already');
  }

  /**
   * `VFIO_DEVICE_FEATURE_LOW_POWER_EXIT`. Nothing but the buffers changes if it was not engaged.
   *
   * @context May sleep; no lock held.
   * @source `vfio_pci_runtime_pm_exit()`
   */
  *lowPowerExit(): Task {
    yield* this.memoryLock.downWrite();
    yield* this.sleep.end('low-power');
    yield* this.giveBack();
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
        if (revoked) yield* buffer.revoke(dmabuf);
        else yield* buffer.restore(dmabuf);
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

  /**
   * As {@link featureDmaBuf}, inside a system call.
   *
   * @throws {@link DmaBufError} as there.
   * @context May sleep; no lock held.
   */
  *exportBuffer(process: Process, request: VfioDmaBufRequest): Task<number> {
    const { openFlags = O.RDWR } = request;
    const exported = checkExport(this.fn, this.p2pdma, request);
    const [buffer, dmabuf] = yield* exportVfioBuffer(this, exported, openFlags);
    yield* this.memoryLock.downWrite();
    yield* dmabuf.resv.lock();
    yield* buffer.revoked.write(!(yield* this.isMemoryEnabled()));
    yield* this.dmabufs.write([...(yield* this.dmabufs.read()), buffer]);
    yield* dmabuf.resv.unlock();
    yield* this.memoryLock.upWrite();
    try {
      return yield* dmabuf.fd(process, openFlags);
    } catch (error) {
      yield* dmabuf.put();
      throw error;
    }
  }

  private *resetLocked(): Task {
    yield* this.zapAndDownWrite();
    yield* this.prepareReset();
    yield* this.fn.reset();
    yield* this.giveBack();
  }

  private *setPowerStateLocked(state: VfioPowerState): Task {
    if (state === 'd3hot') {
      yield* this.zapAndDownWrite();
      yield* this.moveBuffers(true);
      yield* this.sleep.begin('d3hot');
    } else {
      yield* this.memoryLock.downWrite();
      yield* this.sleep.end('d3hot');
    }
    yield* this.giveBack();
  }

  private *writeCommandLocked(command: number): Task {
    if ((command & COMMAND_MEMORY) === 0) {
      yield* this.zapAndDownWrite();
      yield* this.moveBuffers(true);
    } else {
      yield* this.memoryLock.downWrite();
    }
    yield* this.sleep.writeCommand(command);
    yield* this.giveBack();
  }

  /**
   * As {@link close}, inside a system call.
   *
   * @context May sleep; no lock held.
   */
  *cleanUp(): Task {
    yield* this.memoryLock.downWrite();
    yield* this.moveBuffers(true);
    for (const buffer of yield* this.dmabufs.read()) {
      const dmabuf = yield* buffer.dmabuf.read();
      if (dmabuf === null || !(yield* this.takeReference(dmabuf))) continue;
      yield* this.unlink(buffer);
      yield* buffer.vdev.write(null);
      yield* dmabuf.put();
    }
    this.sleep.clear();
    yield* this.memoryLock.upWrite();
    yield* this.fn.writeCommand(0);
  }

  /**
   * Takes the BARs out of every process and then nobody can map them again.
   *
   * @context May sleep; no lock held. The memory lock is held for writing then.
   * @source `vfio_pci_zap_and_down_write_memory_lock()`
   */
  *zapAndDownWrite(): Task {
    yield* this.memoryLock.downWrite();
    for (const mapping of this.mappings) yield* mapping.zap();
    yield* this.maps.zap();
  }

  /**
   * Wakes the device up, and takes access back from every exported buffer.
   *
   * @context May sleep; the memory lock is held for writing.
   */
  *prepareReset(): Task {
    yield* this.sleep.end('d3hot');
    yield* this.moveBuffers(true);
  }

  /**
   * The end of what {@link zapAndDownWrite} began: buffers come back if the memory does.
   *
   * @context The memory lock is held for writing, and given back.
   */
  *giveBack(): Task {
    if (yield* this.isMemoryEnabled()) yield* this.moveBuffers(false);
    yield* this.memoryLock.upWrite();
  }
}

function* signalEventfd(eventfd: Completion): Atomic {
  yield* eventfd.complete();
}
