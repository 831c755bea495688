/**
 * BARs in the address maps of processes, by mmap(2) of the device's file. Pages come with the first
 * touch and go when memory is taken away; touching one then is a bus error, or waits for the end of
 * a reset.
 *
 * @source `vfio_pci_core_mmap()`, `vfio_pci_mmap_fault()`, drivers/vfio/pci/vfio_pci_core.c, v7.2
 */

import { DmaBufError, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import type { Vma, VmOperations } from '../../framework/index.ts';
import { Mutex, type PciFunction, type Scheduler, Shared, type Task } from '../../machine/index.ts';
import type { VfioPciDevice } from './vfio-pci-device.ts';

/** Pages of the file that each region has: `VFIO_PCI_OFFSET_SHIFT` is 40. */
export const VFIO_PAGES_PER_REGION: number = 2 ** 40 / PAGE_SIZE;

/** First region that is not a BAR: the expansion ROM. */
const ROM_REGION_INDEX = 6;

/** Every map of one device, so that they can be emptied. */
export class VfioRegionMaps {
  /** `i_mmap_rwsem`. A leaf: whoever has it waits for nothing. */
  private readonly lock: Mutex;
  private readonly all: Shared<readonly Vma[]>;

  constructor(scheduler: Scheduler) {
    this.lock = new Mutex(scheduler, 'vfio i_mmap');
    this.all = new Shared<readonly Vma[]>(scheduler, 'vfio maps', []);
  }

  /** @context May sleep; the process's mmap lock is held. */
  *add(vma: Vma): Task {
    yield* this.lock.lock();
    yield* this.all.write([...(yield* this.all.read()), vma]);
    yield* this.lock.unlock();
  }

  /** @context May sleep; the process's mmap lock is held. */
  *remove(vma: Vma): Task {
    yield* this.lock.lock();
    yield* this.all.write((yield* this.all.read()).filter((other) => other !== vma));
    yield* this.lock.unlock();
  }

  /**
   * Empties all maps.
   *
   * LOCKING: a map that is added now has no pages, and gets none while the memory lock is held.
   *
   * @context The memory lock is held for writing.
   * @source `unmap_mapping_range()`
   */
  *zap(): Task {
    if (this.all.value.length === 0) return;
    yield* this.lock.lock();
    for (const vma of yield* this.all.read()) yield* vma.zapPages();
    yield* this.lock.unlock();
  }
}

/**
 * mmap(2) of the device's file. The offset says which BAR and where.
 *
 * @throws {@link DmaBufError} `EINVAL`, in this order: the map is private; not a BAR; no memory BAR
 *   of a page or more; beyond its end.
 * @context May sleep. The process's mmap lock is held for writing.
 */
export function* mapRegion(vdev: VfioPciDevice, vma: Vma): Task {
  const region = Math.floor(vma.pgoff / VFIO_PAGES_PER_REGION);
  const from = vma.pgoff % VFIO_PAGES_PER_REGION;
  if (!vma.isShared) throw refusal('region-is-mapped-privately', vdev.fn);
  if (region >= ROM_REGION_INDEX) throw refusal('mapped-region-is-no-bar', vdev.fn);
  const pages = Math.floor(vdev.fn.barSize(region) / PAGE_SIZE);
  if (pages === 0) throw refusal('bar-cannot-be-mapped', vdev.fn);
  if (from + vma.pages > pages) throw refusal('map-ends-beyond-the-bar', vdev.fn);
  vma.priv = new RegionMap(vdev, region, from);
  vma.operations = REGION_OPERATIONS;
  yield* vdev.maps.add(vma);
}

/** What a map shows. */
class RegionMap {
  readonly vdev: VfioPciDevice;
  private readonly bar: number;
  private readonly from: number;

  constructor(vdev: VfioPciDevice, bar: number, from: number) {
    this.vdev = vdev;
    this.bar = bar;
    this.from = from;
  }

  /** Where a page of the map is. */
  physOf(page: number): PhysAddr {
    return (this.vdev.fn.barStart(this.bar) + (this.from + page) * PAGE_SIZE) as PhysAddr;
  }
}

const REGION_OPERATIONS: VmOperations = {
  *open(vma: Vma): Task {
    yield* (vma.priv as RegionMap).vdev.maps.add(vma);
  },

  *close(vma: Vma): Task {
    yield* (vma.priv as RegionMap).vdev.maps.remove(vma);
  },

  *fault(vma: Vma, page: number): Task {
    const map = vma.priv as RegionMap;
    const { vdev } = map;
    yield* vdev.memoryLock.downRead();
    const isEnabled = yield* vdev.isMemoryEnabled();
    if (isEnabled) yield* vma.insertPages(page, [{ phys: map.physOf(page), kind: 'mmio' }]);
    yield* vdev.memoryLock.upRead();
    if (isEnabled) return;
    throw new DmaBufError('EFAULT', 'page fault', 'bus-error-on-sleeping-memory');
  },
};

function refusal(reason: string, { name }: PciFunction): DmaBufError {
  return new DmaBufError('EINVAL', 'mmap', reason, { detail: { device: name } });
}
