/**
 * An I/O address space of user space: areas of memory at I/O addresses, and the tables of the
 * devices that use it. What is mapped is in every table; a device that comes later gets all of it.
 *
 * LOCKING: one semaphore guards areas and domains; it comes before reservations.
 *
 * @source drivers/iommu/iommufd/io_pagetable.c, ioas.c, v7.2; reference/linux-dma-buf.md F.2
 */

import { type DmaAddr, DmaBufError, dmaAddr, isPageAligned, PAGE_SIZE } from '../../base/index.ts';
import type { Kernel } from '../../framework/index.ts';
import {
  type Atomic,
  type Cell,
  type IommuDomain,
  type IovaRights,
  type PciFunction,
  RwSemaphore,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { IoptPages } from './iopt-pages.ts';

/** LIMIT: four levels of page tables translate 48 bits. */
const IOVA_END = 2 ** 48;

/** Memory to be put somewhere. */
export interface IoptMemory {
  /** Bytes. */
  readonly size: number;
  readonly pages: IoptPages;
  /** Bytes into the buffer. */
  readonly offset: number;
  readonly rights: IovaRights;
}

/** Memory at I/O addresses (`struct iopt_area`). */
export interface IoptArea extends IoptMemory {
  readonly iova: DmaAddr;
}

/** A device, and where its requests were translated before. */
interface AttachedDevice {
  readonly fn: PciFunction;
  readonly before: IommuDomain | null;
}

/** `struct iommufd_ioas`. */
export class Ioas {
  readonly id: number;
  private readonly kernel: Kernel;
  private readonly lock: RwSemaphore;
  private readonly areas: Shared<readonly IoptArea[]>;
  private readonly devices: Shared<readonly AttachedDevice[]>;
  /** The table of all its devices; null before the first. */
  private readonly domain: Shared<IommuDomain | null>;

  constructor(kernel: Kernel, id: number) {
    const { scheduler } = kernel;
    this.id = id;
    this.kernel = kernel;
    this.lock = new RwSemaphore(scheduler, 'iopt.domains_rwsem');
    this.areas = new Shared<readonly IoptArea[]>(scheduler, `areas of ioas ${id}`, []);
    this.devices = new Shared<readonly AttachedDevice[]>(scheduler, `devices of ioas ${id}`, []);
    this.domain = new Shared<IommuDomain | null>(scheduler, `domain of ioas ${id}`, null);
  }

  /**
   * Puts memory at an I/O address, in the tables of all devices.
   *
   * @param iova - Null: wherever there is room.
   * @returns Where.
   * @throws {@link DmaBufError} `EINVAL` not page aligned, or beyond what tables translate;
   *   `EEXIST` something is there; `ENOSPC` no room. The caller keeps the pages then.
   * @context May sleep; no lock held.
   * @source `iopt_map_pages()`
   */
  *map(iova: number | null, memory: IoptMemory): Task<DmaAddr> {
    yield* this.lock.downWrite();
    try {
      const areas = yield* this.areas.read();
      const at = iova === null ? findRoom(areas, memory.size) : checkRoom(areas, iova, memory.size);
      const area = { iova: at, ...memory };
      yield* this.areas.write([...areas, area].sort((one, other) => one.iova - other.iova));
      const domain = yield* this.domain.read();
      if (domain !== null) yield* fill(domain, area);
      return at;
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Takes whole areas away.
   *
   * @param size - Bytes; Infinity takes all.
   * @returns Bytes taken away.
   * @throws {@link DmaBufError} `EINVAL` an area lies in the range in part; `ENOENT` none does.
   * @context May sleep; no lock held.
   * @source `iopt_unmap_iova()`
   */
  *unmap(iova: number, size: number): Task<number> {
    const call = 'ioctl(IOMMU_IOAS_UNMAP)';
    yield* this.lock.downWrite();
    try {
      const areas = yield* this.areas.read();
      const end = iova + size;
      const hit = areas.filter((area) => area.iova < end && iova < area.iova + area.size);
      if (hit.some((area) => area.iova < iova || area.iova + area.size > end)) {
        throw new DmaBufError('EINVAL', call, 'unmap-of-a-part-of-an-area');
      }
      if (hit.length === 0 && size !== Number.POSITIVE_INFINITY) {
        throw new DmaBufError('ENOENT', call, 'nothing-is-mapped-in-the-range');
      }
      yield* this.areas.write(areas.filter((area) => !hit.includes(area)));
      for (const area of hit) yield* this.drop(area);
      return hit.reduce((sum, area) => sum + area.size, 0);
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Makes two areas of the one around an address, as VFIO's old interface asks for it.
   *
   * @throws {@link DmaBufError} `EOPNOTSUPP` the area is of a dma-buf, as all are here; `ENOENT`
   *   there is none.
   * @context May sleep; no lock held.
   * @source `iopt_area_split()`
   */
  *cut(iova: number): Task {
    yield* this.lock.downRead();
    const areas = yield* this.areas.read();
    yield* this.lock.upRead();
    const area = areas.find((one) => one.iova < iova && iova < one.iova + one.size);
    if (area === undefined) throw new DmaBufError('ENOENT', 'iopt_cut_iova', 'no-area-to-cut');
    throw new DmaBufError('EOPNOTSUPP', 'iopt_cut_iova', 'area-of-a-buffer-is-not-cut');
  }

  /**
   * Makes a device use this address space; it reaches nothing else then. What was taken back
   * meanwhile is left out.
   *
   * @throws {@link DmaBufError} `ENODEV` the machine translates no device's requests.
   * @context May sleep; no lock held. The device is idle.
   * @source `iommufd_device_attach()`, `iopt_table_add_domain()`
   */
  *attachDevice(fn: PciFunction): Task {
    const { machine } = this.kernel;
    if (machine.spec.iommu === 'off') {
      throw new DmaBufError('ENODEV', 'iommufd_device_attach', 'machine-without-an-iommu');
    }
    yield* this.lock.downWrite();
    const devices = yield* this.devices.read();
    const known = yield* this.domain.read();
    const domain = known ?? machine.newDomain(`ioas ${this.id}`);
    if (known === null) {
      yield* this.domain.write(domain);
      for (const area of yield* this.areas.read()) yield* fill(domain, area);
    }
    yield* this.devices.write([...devices, { fn, before: fn.domain.value }]);
    setDomain(fn, domain);
    yield* this.lock.upWrite();
  }

  /**
   * Gives a device back to where it was; with the last one the tables go.
   *
   * @context May sleep; no lock held. The device is idle.
   * @source `iommufd_device_detach()`
   */
  *detachDevice(fn: PciFunction): Task {
    yield* this.lock.downWrite();
    const devices = yield* this.devices.read();
    const left = devices.filter((one) => one.fn !== fn);
    yield* this.devices.write(left);
    const [gone] = devices.filter((one) => one.fn === fn);
    if (gone !== undefined) setDomain(fn, gone.before);
    const domain = yield* this.domain.read();
    if (left.length === 0 && domain !== null) {
      for (const { pages, iova } of yield* this.areas.read()) yield* pages.unmapFrom(domain, iova);
      yield* this.domain.write(null);
    }
    yield* this.lock.upWrite();
  }

  /**
   * True if a device uses it.
   *
   * @context Any.
   */
  *isInUse(): Atomic<boolean> {
    return (yield* this.devices.read()).length > 0;
  }

  /** Out of the tables, and away. */
  private *drop({ iova, pages }: IoptArea): Task {
    const domain = yield* this.domain.read();
    if (domain !== null) yield* pages.unmapFrom(domain, iova);
    yield* pages.release();
  }
}

function setDomain(fn: PciFunction, domain: IommuDomain | null): void {
  (fn.domain as Cell<IommuDomain | null>).value = domain;
}

function* fill(domain: IommuDomain, { iova, size, pages, offset, rights }: IoptArea): Task {
  yield* pages.mapInto(domain, iova, offset, size, rights);
}

/** @source `iopt_check_iova()`, `iopt_insert_area()` */
function checkRoom(areas: readonly IoptArea[], iova: number, size: number): DmaAddr {
  const call = 'ioctl(IOMMU_IOAS_MAP_FILE)';
  if (!isPageAligned(iova) || !isPageAligned(size)) {
    throw new DmaBufError('EINVAL', call, 'io-address-or-length-crooked');
  }
  if (iova + size > IOVA_END) throw new DmaBufError('EINVAL', call, 'io-address-beyond-all-tables');
  if (areas.some((area) => area.iova < iova + size && iova < area.iova + area.size)) {
    throw new DmaBufError('EEXIST', call, 'io-address-has-an-area');
  }
  return dmaAddr(iova);
}

/** The lowest room there is; the first page stays free. */
function findRoom(areas: readonly IoptArea[], size: number): DmaAddr {
  if (!isPageAligned(size)) {
    throw new DmaBufError('EINVAL', 'ioctl(IOMMU_IOAS_MAP_FILE)', 'length-is-crooked');
  }
  let at = PAGE_SIZE;
  for (const area of areas) {
    if (at + size <= area.iova) break;
    at = Math.max(at, area.iova + area.size);
  }
  if (at + size <= IOVA_END) return dmaAddr(at);
  throw new DmaBufError('ENOSPC', 'ioctl(IOMMU_IOAS_MAP_FILE)', 'no-io-addresses-for-the-area');
}
