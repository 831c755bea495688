/**
 * A simple display: it is told where a picture begins, and reads it by DMA. Pictures are dumb
 * buffers of its own or buffers of others, imported in the generic way.
 *
 * Not modelled: modes, planes, page flips. {@link Display.show} stands for what a program does
 * through them.
 *
 * @source drivers/gpu/drm/tiny and drm_gem_atomic_helper.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { assert, DmaBufError } from '../../base/index.ts';
import type { Kernel } from '../../framework/index.ts';
import {
  type DmaReadResult,
  Mutex,
  type PciFunction,
  Shared,
  type Task,
} from '../../machine/index.ts';
import { DrmDevice } from './drm-device.ts';
import type { DrmFeature } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { gemDmaDumbCreate, type GemDmaObject, gemDmaPrimeImportSgTable } from './gem-dma.ts';
import { gemObjectLookup } from './gem-handles.ts';

/** What is shown, and which file asked for it. Holds a reference on the object. */
interface Framebuffer {
  readonly object: GemDmaObject;
  readonly file: DrmFile;
}

/** A display behind a PCI function. */
export class Display {
  readonly drm: DrmDevice;
  private readonly fn: PciFunction;
  /** Guards {@link framebuffer}; held while a picture is read. */
  private readonly lock: Mutex;
  private readonly framebuffer: Shared<Framebuffer | null>;

  /**
   * @param features - Besides the display itself.
   * @context At boot: the driver binds to the function.
   */
  constructor(kernel: Kernel, fn: PciFunction, features: readonly DrmFeature[] = []) {
    const { scheduler } = kernel;
    this.fn = fn;
    this.lock = new Mutex(scheduler, `display ${fn.name} modeset lock`);
    this.framebuffer = new Shared<Framebuffer | null>(scheduler, `display ${fn.name} fb`, null);
    const driver = {
      name: 'display',
      description: 'Simple display',
      version: [1, 0, 0],
      features: ['modeset', ...features],
      ioctls: [],
      dumbCreate: gemDmaDumbCreate,
      gemPrimeImportSgTable: gemDmaPrimeImportSgTable,
      postclose: (file: DrmFile): Task => this.removeOf(file),
    } as const;
    this.drm = new DrmDevice(kernel, driver, fn);
  }

  /**
   * Shows an object, until another one is shown or the file is closed.
   *
   * @throws {@link DmaBufError} `ENOENT` no such handle.
   * @context May sleep; no lock held.
   * @source `drm_mode_addfb()`, `drm_mode_setcrtc()`
   */
  *show(file: DrmFile, handle: number): Task {
    assert(file.dev === this.drm, `a file of ${this.drm.cardPath}, not ${file.name}`);
    const object = yield* gemObjectLookup(file, handle, 'SETCRTC');
    // Every object of this device is of this kind.
    yield* this.replace({ object: object as GemDmaObject, file });
  }

  /**
   * Reads the picture once, when those who write it have signaled their fences.
   *
   * @returns What the display got.
   * @throws {@link DmaBufError} `ENODEV` nothing is shown.
   * @context May sleep; no lock held.
   * @source `drm_gem_plane_helper_prepare_fb()`, `drm_atomic_helper_wait_for_fences()`
   */
  *scanOut(): Task<DmaReadResult> {
    yield* this.lock.lock();
    try {
      const shown = yield* this.framebuffer.read();
      if (shown === null) throw new DmaBufError('ENODEV', 'scanOut', 'nothing-is-shown');
      const { object } = shown;
      yield* object.resv.wait('write');
      return yield* this.fn.machine.dma.read(this.fn, object.address, object.size);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** `drm_fb_release()`: what a file showed goes with it. */
  private *removeOf(file: DrmFile): Task {
    if ((yield* this.framebuffer.read())?.file === file) yield* this.replace(null);
  }

  private *replace(next: Framebuffer | null): Task {
    yield* this.lock.lock();
    const before = yield* this.framebuffer.read();
    yield* this.framebuffer.write(next);
    yield* this.lock.unlock();
    if (before !== null) yield* before.object.put();
  }
}
