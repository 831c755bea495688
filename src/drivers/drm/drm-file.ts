/**
 * An open DRM node: its handles, what it knows of dma-bufs, and the way from system calls to the
 * device.
 *
 * @source drivers/gpu/drm/drm_file.c, drm_gem.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type FileOperations,
  KernelFile,
  type OpenMode,
  type Process,
  type Vma,
} from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import { drmIoctlCall } from './drm-ioctl.ts';
import { gemRelease } from './gem-handles.ts';
import { gemMmap } from './gem-mmap.ts';
import type { GemObject } from './gem-object.ts';
import { HandleTable } from './handle-table.ts';
import { PrimeCache } from './prime-cache.ts';
import { type Syncobj, syncobjRelease } from './syncobj.ts';

/** `struct drm_file`, and the `struct file` that it hangs on. */
export class DrmFile extends KernelFile {
  readonly dev: DrmDevice;
  /** Opened through the render node: only what `DRM_RENDER_ALLOW` permits. */
  readonly isRender: boolean;
  readonly objects: HandleTable<GemObject>;
  readonly syncobjs: HandleTable<Syncobj>;
  readonly prime: PrimeCache;
  /** The driver's own. */
  driverPriv: unknown = null;

  /** @context The device's reference is handed over: the release drops it. */
  constructor(dev: DrmDevice, path: string, isRender: boolean, mode: OpenMode) {
    const { kernel } = dev;
    super(kernel, path, DRM_FILE_OPERATIONS, mode);
    this.dev = dev;
    this.isRender = isRender;
    this.objects = new HandleTable<GemObject>(kernel.scheduler, `${path} objects`);
    this.syncobjs = new HandleTable<Syncobj>(kernel.scheduler, `${path} syncobjs`);
    this.prime = new PrimeCache(kernel, path);
  }
}

/**
 * What the DRM core makes of system calls. Reading, which gives events of a display, is not
 * modelled.
 */
const DRM_FILE_OPERATIONS: FileOperations = {
  /** `drm_release()`. */
  *release(file: KernelFile): Task {
    if (!(file instanceof DrmFile)) return;
    const { dev } = file;
    if (dev.has('syncobj')) yield* syncobjRelease(file);
    yield* gemRelease(file);
    if (dev.driver.postclose !== undefined) yield* dev.driver.postclose(file);
    yield* file.prime.destroy();
    yield* dev.put();
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof DrmFile)) return 0;
    yield* drmIoctlCall(file, request, arg, process);
    return 0;
  },

  /** `drm_gem_mmap()`: the offset says which object. */
  *mmap(file: KernelFile, vma: Vma): Task {
    if (!(file instanceof DrmFile)) return;
    const { dev } = file;
    if (yield* dev.isUnplugged()) {
      throw new DmaBufError('ENODEV', 'mmap', 'map-of-unplugged-drm-device');
    }
    const object = yield* dev.offsets.lookup(vma.pgoff, vma.pages);
    if (object === null) throw new DmaBufError('EINVAL', 'mmap', 'no-object-at-fake-offset');
    try {
      if (!(yield* object.isAllowed(file))) {
        throw new DmaBufError('EACCES', 'mmap', 'file-has-no-handle-of-object');
      }
      // From here on pages count from the start of the object.
      vma.pgoff = 0;
      yield* gemMmap(object, vma);
    } finally {
      yield* object.put();
    }
  },
};
