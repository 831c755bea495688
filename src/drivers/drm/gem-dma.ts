/**
 * GEM objects in one piece, as the device finds them: the helper of simple displays, which are told
 * one address and read on from there. Memory of its own is coherent; an imported buffer must lie in
 * one piece, too, and is mapped as long as the object lives.
 *
 * @source drivers/gpu/drm/drm_gem_dma_helper.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { alignUp, type DmaAddr, DmaBufError, PAGE_SIZE } from '../../base/index.ts';
import {
  type Attachment,
  CoherentMemory,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMmapCoherent,
  IosysMap,
  type PageList,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { DumbBuffer, DumbRequest } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { dumbCreateWith } from './dumb-buffers.ts';
import { gemVmClose, gemVmOpen } from './gem-mmap.ts';
import { GemObject } from './gem-object.ts';
import { primeContiguousSize, primeGemDestroy } from './prime-import.ts';

/** What an object is made of: memory of its own, or a buffer that is mapped. */
type Backing =
  | { readonly kind: 'own'; readonly memory: CoherentMemory }
  | { readonly kind: 'import'; readonly table: SgTable; readonly address: DmaAddr };

/** `struct drm_gem_dma_object`. */
export class GemDmaObject extends GemObject {
  private readonly backing: Backing;

  constructor(dev: DrmDevice, size: number, backing: Backing) {
    super(dev, dev.nextObjectName(), size);
    this.backing = backing;
  }

  /** Where the device finds its first byte (`dma_addr`); the others follow. */
  get address(): DmaAddr {
    const { backing } = this;
    return backing.kind === 'own' ? backing.memory.address : backing.address;
  }

  /** Refused with `ENXIO` where Linux makes a table of pages that do not exist. */
  override *getSgTable(): Task<PageList> {
    return dmaGetSgtable(this.ownMemory('drm_gem_dma_get_sg_table'));
  }

  override *mmap(vma: Vma): Task {
    yield* dmaMmapCoherent(this.ownMemory('drm_gem_dma_mmap'), vma);
    vma.operations = { open: gemVmOpen, close: gemVmClose };
  }

  /** An imported object's map is the buffer's own. */
  override *vmap(): Task<IosysMap> {
    const { importAttach } = this;
    if (importAttach !== null) return yield* importAttach.buf.vmap();
    const memory = this.ownMemory('drm_gem_dma_vmap');
    const { machine } = memory;
    // The kernel needs no pages to use what it allocated.
    const range = CoherentMemory.rangeOf(memory);
    return new IosysMap(machine, [range], false, !machine.spec.coherentDma);
  }

  override *vunmap(map: IosysMap): Task {
    const { importAttach } = this;
    if (importAttach !== null) yield* importAttach.buf.vunmap(map);
  }

  /** @context May sleep; the last reference is gone. */
  protected override *free(): Task {
    const { backing, importAttach } = this;
    if (backing.kind === 'own') yield* dmaFreeCoherent(backing.memory);
    else if (importAttach !== null) yield* primeGemDestroy(importAttach, backing.table);
  }

  private ownMemory(call: string): CoherentMemory {
    const { backing } = this;
    if (backing.kind === 'own') return backing.memory;
    throw new DmaBufError('EINVAL', call, 'imported-object-has-no-memory-of-its-own');
  }
}

/**
 * Makes an object with memory of its own; the bytes are zero.
 *
 * @returns With the caller's reference.
 * @throws {@link DmaBufError} `ENOMEM`; `ENOSPC` no fake offset left.
 * @context May sleep.
 * @source `drm_gem_dma_create()`
 */
function* gemDmaCreate(dev: DrmDevice, size: number): Task<GemDmaObject> {
  const { machine } = dev.kernel;
  const whole = alignUp(size, PAGE_SIZE);
  yield* allocateObject(dev);
  const memory = yield* dmaAllocCoherent(machine, dev.device, whole);
  const object = new GemDmaObject(dev, whole, { kind: 'own', memory });
  try {
    yield* dev.offsets.create(object);
    return object;
  } catch (error) {
    yield* object.put();
    throw error;
  }
}

/**
 * A dumb buffer in one piece.
 *
 * @throws {@link DmaBufError} `EINVAL` too large; `ENOMEM`; `ENOSPC`.
 * @context May sleep.
 * @source `drm_gem_dma_dumb_create()`
 */
export function* gemDmaDumbCreate(file: DrmFile, request: DumbRequest): Task<DumbBuffer> {
  return yield* dumbCreateWith(file, request, gemDmaCreate);
}

/**
 * Makes an object of a buffer that is mapped.
 *
 * @throws {@link DmaBufError} `EINVAL` the device does not find it in one piece; `ENOMEM`.
 * @context May sleep.
 * @source `drm_gem_dma_prime_import_sg_table()`
 */
export function* gemDmaPrimeImportSgTable(
  dev: DrmDevice,
  { buf }: Attachment,
  table: SgTable,
): Task<GemDmaObject> {
  const [first] = table.entries;
  const contiguous = primeContiguousSize(table);
  if (first === undefined || contiguous < buf.size) {
    throw new DmaBufError('EINVAL', 'PRIME_FD_TO_HANDLE', 'import-is-not-contiguous', {
      detail: {
        refusedBy: 'importer',
        device: dev.device.name,
        size: buf.size,
        contiguous,
        advice: [{ change: 'iommu', value: '', text: 'behind an IOMMU the pieces are joined' }],
      },
    });
  }
  yield* allocateObject(dev);
  const backing = { kind: 'import', table, address: first.address } as const;
  return new GemDmaObject(dev, buf.size, backing);
}

function* allocateObject(dev: DrmDevice): Task {
  if (yield* dev.kernel.slab.alloc()) return;
  throw new DmaBufError('ENOMEM', 'drm_gem_dma_create', 'no-memory-for-dma-object');
}
