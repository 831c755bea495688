/**
 * GEM objects made of ordinary pages, each where it happens to be: the helper of drivers whose
 * device needs no memory of a special kind. Pages are allocated when somebody first needs them and
 * stay until the object goes.
 *
 * @source drivers/gpu/drm/drm_gem_shmem_helper.c, v7.2; reference/linux-dma-buf.md E.4, E.5
 */

import { alignUp, DmaBufError, PAGE_SIZE, type PhysAddr, present } from '../../base/index.ts';
import {
  IosysMap,
  type PageList,
  pagesOf,
  sgAllocTableFromPages,
  type SgTable,
  type Vma,
  type VmOperations,
} from '../../framework/index.ts';
import { Shared, type Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { DumbBuffer, DumbRequest } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { dumbCreateWith } from './dumb-buffers.ts';
import { gemVmClose, gemVmOpen } from './gem-mmap.ts';
import { GemObject } from './gem-object.ts';
import { primeGemDestroy } from './prime-import.ts';

/** `struct drm_gem_shmem_object`. */
export class GemShmemObject extends GemObject {
  /** The table of an import that is mapped; null: it is not. */
  readonly table: SgTable | null;
  /** What the shmem file holds. Guarded by the reservation, as the counts below. */
  private readonly backing: Shared<PageList | null>;
  /** Maps and pins that need the pages. */
  private readonly pagesUse: Shared<number>;
  private readonly pins: Shared<number>;
  private readonly kernelMap: Shared<IosysMap | null>;

  constructor(dev: DrmDevice, size: number, table: SgTable | null) {
    const name = dev.nextObjectName();
    const { scheduler } = dev.kernel;
    super(dev, name, alignUp(size, PAGE_SIZE));
    this.table = table;
    this.backing = new Shared<PageList | null>(scheduler, `${name} backing`, null);
    this.pagesUse = new Shared<number>(scheduler, `${name} pages_use_count`, 0);
    this.pins = new Shared<number>(scheduler, `${name} pages_pin_count`, 0);
    this.kernelMap = new Shared<IosysMap | null>(scheduler, `${name} vaddr`, null);
  }

  /** The pages; they are pinned. */
  override *getSgTable(): Task<PageList> {
    const { scheduler } = this.dev.kernel;
    if (this.isImported) scheduler.warn('drm_gem_shmem_get_sg_table', 'the object is imported');
    return yield* this.pages();
  }

  override *pin(): Task {
    const pins = yield* this.pins.read();
    if (pins === 0) yield* this.getPages();
    yield* this.pins.write(pins + 1);
  }

  override *unpin(): Task {
    const pins = yield* this.pins.read();
    yield* this.pins.write(pins - 1);
    if (pins === 1) yield* this.putPages();
  }

  /** Shared maps only. A map of an imported object becomes one of the buffer itself. */
  override *mmap(vma: Vma): Task {
    const { importAttach } = this;
    if (importAttach !== null) {
      vma.priv = null;
      vma.operations = {};
      yield* importAttach.buf.mmapBuffer(vma, 0);
      yield* this.put();
      return;
    }
    if (!vma.isShared) throw new DmaBufError('EINVAL', 'mmap', 'shmem-object-mapped-private');
    yield* this.resv.lock();
    try {
      yield* this.getPages();
    } finally {
      yield* this.resv.unlock();
    }
    vma.operations = SHMEM_VM_OPERATIONS;
  }

  override *vmap(): Task<IosysMap> {
    const { importAttach } = this;
    if (importAttach !== null) return yield* importAttach.buf.vmap();
    const known = yield* this.kernelMap.read();
    if (known !== null) return known;
    yield* this.pin();
    const { ranges } = yield* this.pages();
    const { machine } = this.dev.kernel;
    const map = new IosysMap(machine, ranges, false, !machine.spec.coherentDma);
    yield* this.kernelMap.write(map);
    return map;
  }

  override *vunmap(map: IosysMap): Task {
    const { importAttach } = this;
    if (importAttach !== null) {
      yield* importAttach.buf.vunmap(map);
      return;
    }
    yield* this.kernelMap.write(null);
    yield* this.unpin();
  }

  /**
   * Makes sure that there are pages, and keeps them.
   *
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep; the reservation is locked.
   * @source `drm_gem_shmem_get_pages_locked()`
   */
  *getPages(): Task {
    if ((yield* this.backing.read()) === null) {
      yield* this.backing.write(yield* this.allocatePages());
    }
    yield* this.pagesUse.write((yield* this.pagesUse.read()) + 1);
  }

  /**
   * Gives up one {@link getPages}. The bytes stay: they are in the shmem file.
   *
   * @context May sleep; the reservation is locked.
   * @source `drm_gem_shmem_put_pages_locked()`
   */
  *putPages(): Task {
    yield* this.pagesUse.write((yield* this.pagesUse.read()) - 1);
  }

  /**
   * Fills one page of a map in.
   *
   * @throws {@link DmaBufError} `EFAULT`, a bus error: beyond the object.
   * @context May sleep; the mmap lock is held for reading.
   * @source `drm_gem_shmem_fault()`
   */
  *fault(vma: Vma, page: number): Task {
    yield* this.resv.lock();
    try {
      // The page of the map, whatever offset the map began with: Linux does the same.
      const phys = pagesOf(yield* this.pages())[page];
      if (phys === undefined) throw new DmaBufError('EFAULT', 'fault', 'beyond-the-shmem-object');
      // Write-combined (`map_wc`): past the cache where devices do not see it.
      const { coherentDma } = this.dev.kernel.machine.spec;
      yield* vma.insertPages(page, [{ phys, kind: coherentDma ? 'ram' : 'uncached' }]);
    } finally {
      yield* this.resv.unlock();
    }
  }

  /** @context May sleep; the last reference is gone. */
  protected override *free(): Task {
    const { importAttach, dev } = this;
    if (importAttach !== null) {
      yield* primeGemDestroy(importAttach, this.table);
      return;
    }
    yield* this.resv.lock();
    const left = (yield* this.pagesUse.read()) + (yield* this.pins.read());
    if (left !== 0) dev.kernel.scheduler.warn('drm_gem_shmem_free', 'pages are still in use');
    const backing = yield* this.backing.read();
    yield* this.backing.write(null);
    yield* this.resv.unlock();
    for (const phys of backing === null ? [] : pagesOf(backing)) {
      yield* dev.kernel.machine.memory.free(phys, 1);
    }
  }

  /** Who asks has a pin or a map, so they are there. */
  private *pages(): Task<PageList> {
    return present(yield* this.backing.read(), 'the pages of a shmem object in use');
  }

  private *allocatePages(): Task<PageList> {
    const { memory } = this.dev.kernel.machine;
    const pages: PhysAddr[] = [];
    while (pages.length < this.size / PAGE_SIZE) {
      const phys = yield* memory.allocate(1);
      if (phys === null) {
        for (const page of pages) yield* memory.free(page, 1);
        throw new DmaBufError('ENOMEM', 'drm_gem_get_pages', 'no-page-for-shmem-object');
      }
      pages.push(phys);
    }
    return sgAllocTableFromPages(pages);
  }
}

const SHMEM_VM_OPERATIONS: VmOperations = {
  *open(vma: Vma): Task {
    const object = vma.priv as GemShmemObject;
    yield* object.resv.lock();
    yield* object.getPages();
    yield* object.resv.unlock();
    yield* gemVmOpen(vma);
  },

  *close(vma: Vma): Task {
    const object = vma.priv as GemShmemObject;
    yield* object.resv.lock();
    yield* object.putPages();
    yield* object.resv.unlock();
    yield* gemVmClose(vma);
  },

  *fault(vma: Vma, page: number): Task {
    yield* (vma.priv as GemShmemObject).fault(vma, page);
  },
};

/**
 * Makes an object of `size` bytes, rounded up to pages.
 *
 * @param table - Of an import that is mapped; else null.
 * @param isImport - The pages are another buffer's.
 * @returns With the caller's reference.
 * @throws {@link DmaBufError} `ENOMEM`; `ENOSPC` no fake offset left.
 * @context May sleep.
 * @source `drm_gem_shmem_create()`
 */
export function* gemShmemCreate(
  dev: DrmDevice,
  size: number,
  table: SgTable | null = null,
): Task<GemShmemObject> {
  if (!(yield* dev.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'drm_gem_shmem_create', 'no-memory-for-shmem-object');
  }
  const object = new GemShmemObject(dev, size, table);
  try {
    yield* dev.offsets.create(object);
    return object;
  } catch (error) {
    yield* object.put();
    throw error;
  }
}

/**
 * A dumb buffer of such pages.
 *
 * @throws {@link DmaBufError} `EINVAL` too large; `ENOMEM`; `ENOSPC`.
 * @context May sleep.
 * @source `drm_gem_shmem_dumb_create()`
 */
export function* gemShmemDumbCreate(file: DrmFile, request: DumbRequest): Task<DumbBuffer> {
  return yield* dumbCreateWith(file, request, gemShmemCreate);
}
