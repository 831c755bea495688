/**
 * Mapping a GEM object into a process.
 *
 * @source `drm_gem_mmap_obj()`, `drm_gem_prime_mmap()`, v7.2
 */

import type { Vma } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { GemObject } from './gem-object.ts';

/**
 * Maps an object; the map holds a reference on it, which {@link gemVmClose} drops.
 *
 * @throws {@link DmaBufError} what the object says.
 * @context May sleep; the mmap lock is held for writing.
 */
export function* gemMmap(object: GemObject, vma: Vma): Task {
  yield* object.get();
  try {
    vma.priv = object;
    yield* object.mmap(vma);
  } catch (error) {
    yield* object.put();
    throw error;
  }
}

/**
 * A copy of the map was made.
 *
 * @context May sleep.
 * @source `drm_gem_vm_open()`
 */
export function* gemVmOpen(vma: Vma): Task {
  yield* (vma.priv as GemObject).get();
}

/**
 * The map goes away.
 *
 * @context May sleep; the reservation is not locked.
 * @source `drm_gem_vm_close()`
 */
export function* gemVmClose(vma: Vma): Task {
  yield* (vma.priv as GemObject).put();
}
