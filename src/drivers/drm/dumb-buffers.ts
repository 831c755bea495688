/**
 * Dumb buffers: memory for a picture that any program can ask of any display driver, draw into with
 * the CPU and show.
 *
 * @source drivers/gpu/drm/drm_dumb_buffers.c, v7.2; reference/linux-dma-buf.md E.4, G.3
 */

import {
  alignUp,
  DmaBufError,
  type DrmModeCreateDumb,
  type DrmModeDestroyDumb,
  type DrmModeMapDumb,
  PAGE_SIZE,
} from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { DumbBuffer, DumbRequest } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { gemHandleCreate, gemHandleDelete, gemObjectLookup } from './gem-handles.ts';
import type { GemObject } from './gem-object.ts';

const U32_MAX = 2 ** 32 - 1;

/** Lines begin at multiples of this many bytes. */
const PITCH_ALIGN = 8;

/**
 * `DRM_IOCTL_MODE_CREATE_DUMB`.
 *
 * @throws {@link DmaBufError} `ENOSYS` the driver has none; `EINVAL` no size, or too much;
 *   `ENOMEM`.
 * @context May sleep; no lock held.
 * @source `drm_mode_create_dumb()`
 */
export function* createDumb(
  file: DrmFile,
  { width, height, bpp }: DrmModeCreateDumb,
): Task<Partial<DrmModeCreateDumb>> {
  const { driver } = file.dev;
  if (driver.dumbCreate === undefined) throw noDumbBuffers('CREATE_DUMB');
  const bytes = Math.ceil(bpp / 8);
  const total = bytes * width * height;
  if (total === 0 || bpp > U32_MAX - 8 || total > U32_MAX - (PAGE_SIZE - 1)) {
    const detail = { width, height, bpp };
    throw new DmaBufError('EINVAL', 'CREATE_DUMB', 'dumb-buffer-of-bad-size', { detail });
  }
  const { handle, pitch, size } = yield* driver.dumbCreate(file, { width, height, bpp });
  return { handle, pitch, size: BigInt(size) };
}

/**
 * `DRM_IOCTL_MODE_MAP_DUMB`: the offset at which the node's file shows the object.
 *
 * @throws {@link DmaBufError} `ENOSYS` the driver has no dumb buffers; `ENOENT` no such handle;
 *   `EINVAL` the object was imported: map its dma-buf; `ENOSPC`.
 * @context May sleep; no lock held.
 * @source `drm_gem_dumb_map_offset()`
 */
export function* mapDumb(file: DrmFile, { handle }: DrmModeMapDumb): Task<Partial<DrmModeMapDumb>> {
  if (file.dev.driver.dumbCreate === undefined) throw noDumbBuffers('MAP_DUMB');
  const object = yield* gemObjectLookup(file, handle, 'MAP_DUMB');
  try {
    if (object.isImported) {
      throw new DmaBufError('EINVAL', 'MAP_DUMB', 'imported-object-has-no-offset');
    }
    return { offset: BigInt(yield* file.dev.offsets.create(object)) };
  } finally {
    yield* object.put();
  }
}

/**
 * `DRM_IOCTL_MODE_DESTROY_DUMB`: closes the handle.
 *
 * @throws {@link DmaBufError} `ENOSYS` the driver has no dumb buffers; `EINVAL` no such handle.
 * @context May sleep; no lock held.
 * @source `drm_mode_destroy_dumb()`
 */
export function* destroyDumb(
  file: DrmFile,
  { handle }: DrmModeDestroyDumb,
): Task<Partial<DrmModeDestroyDumb>> {
  if (file.dev.driver.dumbCreate === undefined) throw noDumbBuffers('DESTROY_DUMB');
  yield* gemHandleDelete(file, handle);
  return {};
}

/**
 * A driver's own `dumbCreate`: an object as large as the picture, and a handle for it.
 *
 * @param create - Makes the object; its first reference is ours.
 * @throws {@link DmaBufError} `EINVAL` too large; what `create` says; `ENOMEM`, `ENOSPC` no handle.
 * @context May sleep.
 */
export function* dumbCreateWith(
  file: DrmFile,
  request: DumbRequest,
  create: (dev: DrmDevice, size: number) => Task<GemObject>,
): Task<DumbBuffer> {
  const { pitch, size } = dumbSize(request);
  const object = yield* create(file.dev, size);
  try {
    return { handle: yield* gemHandleCreate(file, object), pitch, size };
  } finally {
    yield* object.put();
  }
}

/**
 * How long a line is and how many bytes it takes in all.
 *
 * @throws {@link DmaBufError} `EINVAL` aligned, it is too much for 32 bits.
 * @source `drm_mode_size_dumb()`
 */
function dumbSize({ width, height, bpp }: DumbRequest): {
  readonly pitch: number;
  readonly size: number;
} {
  const line = bpp < 8 ? Math.ceil((width * bpp) / 8) : width * Math.ceil(bpp / 8);
  const pitch = alignUp(line, PITCH_ALIGN);
  const size = alignUp(pitch * height, PAGE_SIZE);
  if (pitch > U32_MAX || size > U32_MAX) {
    throw new DmaBufError('EINVAL', 'CREATE_DUMB', 'aligned-dumb-buffer-too-large');
  }
  return { pitch, size };
}

function noDumbBuffers(call: string): DmaBufError {
  return new DmaBufError('ENOSYS', call, 'driver-has-no-dumb-buffers');
}
