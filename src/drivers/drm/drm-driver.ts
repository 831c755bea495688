/**
 * What a DRM driver brings to the core.
 *
 * @source `struct drm_driver`, include/drm/drm_drv.h, v7.2
 */

import type { Struct } from '../../base/index.ts';
import type { Attachment, DmaBuf, Process, SgTable } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { DrmFile } from './drm-file.ts';
import type { GemObject } from './gem-object.ts';

/** `DRIVER_RENDER`, `DRIVER_MODESET`, `DRIVER_SYNCOBJ`. All drivers here have `DRIVER_GEM`. */
export type DrmFeature = 'render' | 'modeset' | 'syncobj';

/** What a dumb buffer is to hold; checked for overflow. */
export interface DumbRequest {
  readonly width: number;
  readonly height: number;
  /** Bits per pixel. */
  readonly bpp: number;
}

/** What came of it. */
export interface DumbBuffer {
  readonly handle: number;
  /** Bytes from line to line. */
  readonly pitch: number;
  /** Bytes in all. */
  readonly size: number;
}

/** One ioctl: its number, who may call it, what it does with its argument. */
export interface DrmIoctl {
  /** As user space's headers have it. The kernel looks only at the eight bits of `nr`. */
  readonly request: number;
  /** `DRM_RENDER_ALLOW`. */
  readonly isForRender: boolean;
  /** Changes `data` in place; user space gets it back also if the call fails. */
  run(file: DrmFile, data: Uint8Array, process: Process): Task;
}

/** What an ioctl does: takes the argument, gives the fields that change. */
export type IoctlHandler<V> = (file: DrmFile, args: V, process: Process) => Task<Partial<V>>;

/**
 * An ioctl with a struct for its argument.
 *
 * @param onError - Fields that a failed call leaves behind.
 */
export function drmIoctl<V extends object>(
  request: number,
  layout: Struct<V>,
  isForRender: boolean,
  handler: IoctlHandler<V>,
  onError: Partial<V> = {},
): DrmIoctl {
  return {
    request,
    isForRender,
    *run(file, data, process): Task {
      const args = layout.decode(data);
      let told = onError;
      try {
        told = yield* handler(file, args, process);
      } finally {
        data.set(layout.encode({ ...args, ...told }));
      }
    },
  };
}

/** `struct drm_driver`. */
export interface DrmDriver {
  readonly name: string;
  readonly description: string;
  /** Major, minor, patch level. */
  readonly version: readonly [number, number, number];
  readonly features: readonly DrmFeature[];
  /** Those of its own: numbers 0x40 to 0x9f. */
  readonly ioctls: readonly DrmIoctl[];
  /**
   * Optional. A file was opened.
   *
   * @context May sleep.
   */
  open?(file: DrmFile): Task;
  /**
   * Optional. A file was closed; its handles are gone.
   *
   * @context May sleep.
   */
  postclose?(file: DrmFile): Task;
  /**
   * Optional; absent: `ENOSYS`.
   *
   * @context May sleep.
   */
  dumbCreate?(file: DrmFile, request: DumbRequest): Task<DumbBuffer>;
  /**
   * Optional; absent: attach, map for good, and then {@link gemPrimeImportSgTable}.
   *
   * @context May sleep. The device's `objectNameLock` is held.
   */
  gemPrimeImport?(dev: DrmDevice, buf: DmaBuf): Task<GemObject>;
  /**
   * Optional; absent: foreign buffers are refused with `EINVAL`. Makes an object of a mapped
   * buffer.
   *
   * @context As {@link gemPrimeImport}.
   */
  gemPrimeImportSgTable?(dev: DrmDevice, attachment: Attachment, table: SgTable): Task<GemObject>;
}
