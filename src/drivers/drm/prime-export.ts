/**
 * A GEM object as a dma-buf: the exporter's operations that DRM drivers share. Attaching pins the
 * object, so it is a static exporter; its CPU maps bypass the caches, so nothing is synced.
 *
 * @source drivers/gpu/drm/drm_prime.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { DmaBufError, type DmaDirection } from '../../base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  dmaMapSgtable,
  dmaUnmapSgtable,
  type IosysMap,
  type SgTable,
  type Vma,
} from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import { gemMmap } from './gem-mmap.ts';
import type { GemObject } from './gem-object.ts';

/** `drm_gem_prime_dmabuf_ops`. */
export const drmGemPrimeDmabufOps: DmaBufOps<GemObject> = {
  *attach({ priv: object, resv }: DmaBuf<GemObject>): Task {
    if (object.getSgTable === undefined) {
      throw new DmaBufError('ENOSYS', 'drm_gem_map_attach', 'object-has-no-sg-table');
    }
    if (object.pin === undefined) return;
    yield* resv.lock();
    try {
      yield* object.pin();
    } finally {
      yield* resv.unlock();
    }
  },

  *detach({ priv: object, resv }: DmaBuf<GemObject>): Task {
    if (object.unpin === undefined) return;
    yield* resv.lock();
    yield* object.unpin();
    yield* resv.unlock();
  },

  *mapDmaBuf({ buf, device }: Attachment<GemObject>, direction: DmaDirection): Task<SgTable> {
    const { kernel, priv: object } = buf;
    if (object.getSgTable === undefined) {
      kernel.scheduler.warn('drm_gem_map_dma_buf', 'the object has no table');
      throw new DmaBufError('ENOSYS', 'drm_gem_map_dma_buf', 'object-lost-its-sg-table');
    }
    const pages = yield* object.getSgTable();
    const attrs = { skipCpuSync: true };
    return yield* dmaMapSgtable(kernel.machine, device, pages, direction, attrs);
  },

  *unmapDmaBuf(
    { buf, device }: Attachment<GemObject>,
    table: SgTable,
    direction: DmaDirection,
  ): Task {
    const attrs = { skipCpuSync: true };
    yield* dmaUnmapSgtable(buf.kernel.machine, device, table, direction, attrs);
  },

  *mmap({ priv: object }: DmaBuf<GemObject>, vma: Vma): Task {
    yield* gemMmap(object, vma);
  },

  *vmap({ priv: object }: DmaBuf<GemObject>): Task<IosysMap> {
    if (object.vmap === undefined) {
      throw new DmaBufError('EOPNOTSUPP', 'drm_gem_vmap', 'object-has-no-vmap');
    }
    return yield* object.vmap();
  },

  *vunmap({ priv: object }: DmaBuf<GemObject>, map: IosysMap): Task {
    if (object.vunmap !== undefined) yield* object.vunmap(map);
  },

  *release({ priv: object }: DmaBuf<GemObject>): Task {
    const { dev } = object;
    yield* object.put();
    yield* dev.put();
  },
};

/**
 * Exports an object: the buffer holds a reference on it and on its device, and shares its
 * reservation.
 *
 * @param flags - Access mode of the file, as for open(2).
 * @throws {@link DmaBufError} what the core says.
 * @context May sleep; the device's `objectNameLock` is held.
 * @source `drm_gem_prime_export()`
 */
export function* gemPrimeExport(object: GemObject, flags: number): Task<DmaBuf> {
  const { dev } = object;
  const buf = yield* DmaBuf.export(dev.kernel, {
    exporterName: 'drm',
    ops: drmGemPrimeDmabufOps,
    size: object.size,
    priv: object,
    resv: object.resv,
    flags,
  });
  yield* dev.get();
  yield* object.get();
  return buf as DmaBuf;
}

/**
 * The object behind a buffer that this very device exported; null for all others.
 *
 * @source `drm_gem_is_prime_exported_dma_buf()`
 */
export function ownObjectOf(dev: DrmDevice, buf: DmaBuf): GemObject | null {
  if ((buf.ops as unknown) !== drmGemPrimeDmabufOps) return null;
  const object = buf.priv as GemObject;
  return object.dev === dev ? object : null;
}
