/**
 * Handles of GEM objects: made, looked up, closed.
 *
 * @source drivers/gpu/drm/drm_gem.c, v7.2; reference/linux-dma-buf.md E.5, G.3
 */

import { DmaBufError } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmFile } from './drm-file.ts';
import type { GemObject } from './gem-object.ts';

/**
 * Gives an object a handle. The caller's reference stays the caller's.
 *
 * @throws {@link DmaBufError} `ENOMEM`.
 * @context May sleep; takes the device's `objectNameLock`.
 * @source `drm_gem_handle_create()`
 */
export function* gemHandleCreate(file: DrmFile, object: GemObject): Task<number> {
  yield* object.dev.objectNameLock.lock();
  return yield* gemHandleCreateTail(file, object);
}

/**
 * As {@link gemHandleCreate}, for who holds the lock already; it is given back, whatever happens.
 *
 * @context May sleep; the device's `objectNameLock` is held, and not any more afterwards.
 * @source `drm_gem_handle_create_tail()`
 */
export function* gemHandleCreateTail(file: DrmFile, object: GemObject): Task<number> {
  const { objectNameLock } = object.dev;
  const count = yield* object.handleCount.read();
  if (count === 0) yield* object.get();
  yield* object.handleCount.write(count + 1);
  const handle = yield* file.objects.reserve();
  yield* objectNameLock.unlock();
  if (handle === null) {
    yield* object.putHandle();
    throw new DmaBufError('ENOMEM', 'handle', 'no-memory-for-gem-handle');
  }
  yield* object.allow(file);
  yield* file.objects.publish(handle, object);
  return handle;
}

/**
 * The object of a handle, with a reference for the caller.
 *
 * @param call - For the error: which call named the handle.
 * @throws {@link DmaBufError} `ENOENT` there is no such handle.
 * @context Any.
 * @source `drm_gem_object_lookup()`
 */
export function* gemObjectLookup(file: DrmFile, handle: number, call: string): Task<GemObject> {
  const object = yield* file.objects.lookup(handle);
  if (object !== null) return object;
  throw new DmaBufError('ENOENT', call, 'no-such-gem-handle', { detail: { handle } });
}

/**
 * Closes a handle. Its number is free again only when everything is done.
 *
 * @throws {@link DmaBufError} `EINVAL` there is no such handle.
 * @context May sleep; no lock held.
 * @source `drm_gem_handle_delete()`
 */
export function* gemHandleDelete(file: DrmFile, handle: number): Task {
  const object = yield* file.objects.withdraw(handle);
  if (object === null) {
    const detail = { handle };
    throw new DmaBufError('EINVAL', 'GEM_CLOSE', 'no-gem-handle-to-close', { detail });
  }
  yield* releaseHandle(file, handle, object);
  yield* file.objects.free(handle);
}

/**
 * Closes all handles of a file at its end.
 *
 * @context May sleep; nobody else uses the file.
 * @source `drm_gem_release()`
 */
export function* gemRelease(file: DrmFile): Task {
  for (const handle of [...file.objects.value.keys()].sort((one, other) => one - other)) {
    const object = yield* file.objects.withdraw(handle);
    if (object !== null) yield* releaseHandle(file, handle, object);
  }
}

function* releaseHandle(file: DrmFile, handle: number, object: GemObject): Task {
  yield* file.prime.remove(handle);
  yield* object.revoke(file);
  yield* object.putHandle();
}
