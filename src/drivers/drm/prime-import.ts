/**
 * A foreign dma-buf as a GEM object: attached as a static importer and, in the generic way, mapped
 * at once and for as long as the object lives.
 *
 * @source drivers/gpu/drm/drm_prime.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { DmaBufError } from '../../base/index.ts';
import type { Attachment, DmaBuf, SgTable } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { GemObject } from './gem-object.ts';
import { ownObjectOf } from './prime-export.ts';

/** Both ways: nobody knows yet what the device will do with it. */
const DIRECTION = 'bidirectional';

/**
 * Imports a buffer. One that this device exported gives its object again; there is no attachment
 * then.
 *
 * @returns With a reference for the caller.
 * @throws {@link DmaBufError} `EINVAL` the driver does not import; what the exporter and the driver
 *   say.
 * @context May sleep; the device's `objectNameLock` is held, the reservation is not.
 * @source `drm_gem_prime_import()`
 */
export function* gemPrimeImport(dev: DrmDevice, buf: DmaBuf): Task<GemObject> {
  const own = ownObjectOf(dev, buf);
  if (own !== null) {
    yield* own.get();
    return own;
  }
  const { driver, device } = dev;
  if (driver.gemPrimeImportSgTable === undefined) {
    throw new DmaBufError('EINVAL', 'PRIME_FD_TO_HANDLE', 'driver-does-not-import');
  }
  const attachment = yield* buf.attach(device);
  yield* buf.getDmaBuf();
  let table: SgTable | null = null;
  try {
    table = yield* mapUnlocked(attachment);
    const object = yield* driver.gemPrimeImportSgTable(dev, attachment, table);
    object.importAttach = attachment;
    object.resv = buf.resv;
    return object;
  } catch (error) {
    yield* primeGemDestroy(attachment, table);
    throw error;
  }
}

/**
 * Imports a buffer without mapping it: for a device that does no DMA.
 *
 * @param make - Makes the object.
 * @returns With a reference for the caller.
 * @throws {@link DmaBufError} what the exporter says; `ENOMEM`.
 * @context As {@link gemPrimeImport}.
 * @source `drm_gem_shmem_prime_import_no_map()`
 */
export function* gemPrimeImportNoMap(
  dev: DrmDevice,
  buf: DmaBuf,
  make: (dev: DrmDevice, size: number) => Task<GemObject>,
): Task<GemObject> {
  const own = ownObjectOf(dev, buf);
  if (own !== null) {
    yield* own.get();
    return own;
  }
  const attachment = yield* buf.attach(dev.device);
  yield* buf.getDmaBuf();
  try {
    const object = yield* make(dev, buf.size);
    object.importAttach = attachment;
    object.resv = buf.resv;
    return object;
  } catch (error) {
    yield* primeGemDestroy(attachment, null);
    throw error;
  }
}

/**
 * Gives an imported buffer back.
 *
 * @param table - Null: it was not mapped.
 * @context May sleep; the reservation is not locked.
 * @source `drm_prime_gem_destroy()`
 */
export function* primeGemDestroy(attachment: Attachment, table: SgTable | null): Task {
  const { buf } = attachment;
  if (table !== null) {
    yield* buf.resv.lock();
    yield* attachment.unmapAttachment(table, DIRECTION);
    yield* buf.resv.unlock();
  }
  yield* buf.detach(attachment);
  yield* buf.put();
}

/**
 * How many bytes from the start of a mapped buffer the device finds one behind the other.
 *
 * @source `drm_prime_get_contiguous_size()`
 */
export function primeContiguousSize({ entries }: SgTable): number {
  const [first] = entries;
  let size = 0;
  for (const { address, length } of entries) {
    if (first === undefined || address !== first.address + size) break;
    size += length;
  }
  return size;
}

function* mapUnlocked(attachment: Attachment): Task<SgTable> {
  const { resv } = attachment.buf;
  yield* resv.lock();
  try {
    return yield* attachment.mapAttachment(DIRECTION);
  } finally {
    yield* resv.unlock();
  }
}
