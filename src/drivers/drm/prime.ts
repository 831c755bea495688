/**
 * PRIME: a handle becomes a descriptor of a dma-buf, and a descriptor becomes a handle. The same
 * object always gives the same buffer, the same buffer the same handle.
 *
 * LOCKING: the file's `prime.lock`, then the device's `objectNameLock`, then whatever the exporter
 * takes. Both are held over the whole export or import, so two of them do not cross.
 *
 * @source drivers/gpu/drm/drm_prime.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { DmaBufError, DRM_PRIME_FLAG, type DrmPrimeHandle } from '../../base/index.ts';
import { DmaBuf, type Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmFile } from './drm-file.ts';
import { gemHandleCreateTail, gemHandleDelete, gemObjectLookup } from './gem-handles.ts';
import type { GemObject } from './gem-object.ts';
import { gemPrimeExport } from './prime-export.ts';
import { gemPrimeImport } from './prime-import.ts';

const FLAGS_ALL = (DRM_PRIME_FLAG.CLOEXEC | DRM_PRIME_FLAG.RDWR) >>> 0;

/**
 * `DRM_IOCTL_PRIME_HANDLE_TO_FD`. Each call gives a new descriptor, of the same file if the object
 * was exported before; then only the descriptor's own flag counts.
 *
 * @throws {@link DmaBufError} in this order: `EINVAL` unknown flags; `EMFILE`; `ENOENT` no such
 *   handle, or its last one is just being closed; `ENOMEM`.
 * @context May sleep; no lock held.
 * @source `drm_gem_prime_handle_to_fd()`
 */
export function* primeHandleToFd(
  file: DrmFile,
  { handle, flags }: DrmPrimeHandle,
  process: Process,
): Task<Partial<DrmPrimeHandle>> {
  if ((flags & ~FLAGS_ALL) !== 0) {
    throw new DmaBufError('EINVAL', 'PRIME_HANDLE_TO_FD', 'prime-flags-unknown');
  }
  const closeOnExec = (flags & DRM_PRIME_FLAG.CLOEXEC) !== 0;
  const fd = yield* process.fds.reserve({ closeOnExec });
  if (fd === null) throw new DmaBufError('EMFILE', 'PRIME_HANDLE_TO_FD', 'no-descriptor-for-prime');
  try {
    const buf = yield* primeHandleToDmaBuf(file, handle, flags);
    // Without the core's trace of a new descriptor, as in Linux.
    yield* process.fds.fill(fd, buf.file);
    return { fd };
  } catch (error) {
    yield* process.fds.unreserve(fd);
    throw error;
  }
}

/**
 * The buffer of a handle, with a reference for the caller.
 *
 * @throws {@link DmaBufError} `ENOENT`; `ENOMEM`; what the exporter says.
 * @context May sleep; takes `prime.lock` and `objectNameLock`.
 * @source `drm_gem_prime_handle_to_dmabuf()`
 */
function* primeHandleToDmaBuf(file: DrmFile, handle: number, flags: number): Task<DmaBuf> {
  const { prime } = file;
  yield* prime.lock.lock();
  try {
    const object = yield* gemObjectLookup(file, handle, 'PRIME_HANDLE_TO_FD');
    try {
      const known = yield* prime.bufOf(handle);
      if (known === null) return yield* exportAndRemember(file, object, handle, flags);
      yield* known.getDmaBuf();
      return known;
    } finally {
      yield* object.put();
    }
  } finally {
    yield* prime.lock.unlock();
  }
}

/**
 * `DRM_IOCTL_PRIME_FD_TO_HANDLE`.
 *
 * @throws {@link DmaBufError} `EBADF` not open; `EINVAL` no dma-buf, or the driver does not import;
 *   `ENOMEM`; what the exporter says to attach and map.
 * @context May sleep; no lock held.
 * @source `drm_gem_prime_fd_to_handle()`
 */
export function* primeFdToHandle(
  file: DrmFile,
  { fd }: DrmPrimeHandle,
  process: Process,
): Task<Partial<DrmPrimeHandle>> {
  const buf = yield* DmaBuf.get(process, fd);
  try {
    return { handle: yield* primeDmaBufToHandle(file, buf) };
  } finally {
    yield* buf.put();
  }
}

function* primeDmaBufToHandle(file: DrmFile, buf: DmaBuf): Task<number> {
  const { prime } = file;
  let handle: number;
  yield* prime.lock.lock();
  try {
    const known = yield* prime.handleOf(buf);
    if (known !== null) return known;
    handle = yield* importAsHandle(file, buf);
    try {
      yield* prime.add(buf, handle);
      return handle;
    } catch (error) {
      yield* prime.lock.unlock();
      // What the driver attached goes with the object.
      yield* gemHandleDelete(file, handle);
      yield* prime.lock.lock();
      throw error;
    }
  } finally {
    yield* prime.lock.unlock();
  }
}

/** Called with `prime.lock` held. */
function* importAsHandle(file: DrmFile, buf: DmaBuf): Task<number> {
  const { dev } = file;
  yield* dev.objectNameLock.lock();
  let object: GemObject;
  try {
    object = yield* dev.driver.gemPrimeImport?.(dev, buf) ?? gemPrimeImport(dev, buf);
  } catch (error) {
    yield* dev.objectNameLock.unlock();
    throw error;
  }
  const known = yield* object.dmaBuf.read();
  if (known === null) {
    yield* buf.getDmaBuf();
    yield* object.dmaBuf.write(buf);
  } else if (known !== buf) {
    dev.kernel.scheduler.warn('drm_gem_prime_fd_to_handle', 'the object has another dma-buf');
  }
  try {
    return yield* gemHandleCreateTail(file, object);
  } finally {
    yield* object.put();
  }
}

/** Called with `prime.lock` held. */
function* exportAndRemember(
  file: DrmFile,
  object: GemObject,
  handle: number,
  flags: number,
): Task<DmaBuf> {
  const { objectNameLock } = file.dev;
  yield* objectNameLock.lock();
  try {
    const buf = yield* bufferOf(object, flags);
    try {
      yield* file.prime.add(buf, handle);
      return buf;
    } catch (error) {
      yield* buf.put();
      throw error;
    }
  } finally {
    yield* objectNameLock.unlock();
  }
}

/** The object's buffer, with a reference: the foreign one, the known one, or a new one. */
function* bufferOf(object: GemObject, flags: number): Task<DmaBuf> {
  const known = object.importAttach?.buf ?? (yield* object.dmaBuf.read());
  if (known !== null) {
    yield* known.getDmaBuf();
    return known;
  }
  if ((yield* object.handleCount.read()) === 0) {
    throw new DmaBufError('ENOENT', 'PRIME_HANDLE_TO_FD', 'last-handle-is-being-closed');
  }
  const buf = yield* gemPrimeExport(object, flags);
  yield* buf.getDmaBuf();
  yield* object.dmaBuf.write(buf);
  return buf;
}
