/**
 * A DRM device: what its open files, its objects and its dma-bufs have in common. It has a card
 * node and, if the driver renders, a render node.
 *
 * @source drivers/gpu/drm/drm_drv.c, v7.2; reference/linux-dma-buf.md E.4, E.5
 */

import { DmaBufError } from '../../base/index.ts';
import type { Kernel, OpenMode } from '../../framework/index.ts';
import {
  type Atomic,
  type Device,
  Mutex,
  type PreemptStep,
  RefCount,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { DrmDriver, DrmFeature } from './drm-driver.ts';
import { DrmFile } from './drm-file.ts';
import { MmapOffsets } from './gem-object.ts';
import { SpinLocked } from './spin-locked.ts';

/** First number of a render node. */
const RENDER_MINOR = 128;

/** `struct drm_device`. */
export class DrmDevice {
  readonly kernel: Kernel;
  readonly driver: DrmDriver;
  /** The one that does the DMA. */
  readonly device: Device;
  /** The driver's own reference, one for each open file, one for each exported dma-buf. */
  readonly refs: RefCount;
  /** Guards {@link GemObject.handleCount} and {@link GemObject.dmaBuf} of all its objects. */
  readonly objectNameLock: Mutex;
  readonly offsets: MmapOffsets;
  /** `/dev/dri/card0`. */
  readonly cardPath: string;
  /** `/dev/dri/renderD128`; null if it has none. */
  readonly renderPath: string | null;
  private readonly unplugged: Shared<boolean>;
  private objects = 0;

  /**
   * Registers the device; it gets the next free number.
   *
   * @context At boot.
   * @source `drm_dev_register()`
   */
  constructor(kernel: Kernel, driver: DrmDriver, device: Device) {
    const { scheduler, nodes } = kernel;
    const index = nodes.paths.filter((path) => path.startsWith('/dev/dri/card')).length;
    this.kernel = kernel;
    this.driver = driver;
    this.device = device;
    this.cardPath = `/dev/dri/card${index}`;
    this.renderPath = this.has('render') ? `/dev/dri/renderD${RENDER_MINOR + index}` : null;
    const name = `${driver.name} card${index}`;
    this.refs = new RefCount(scheduler, `${name} refs`);
    this.objectNameLock = new Mutex(scheduler, `${name} object_name_lock`);
    this.offsets = new MmapOffsets(new SpinLocked(scheduler, `${name} offsets`, []));
    this.unplugged = new Shared<boolean>(scheduler, `${name} unplugged`, false);
    this.addNode(this.cardPath, false);
    if (this.renderPath !== null) this.addNode(this.renderPath, true);
  }

  /** True if the driver has the feature. */
  has(feature: DrmFeature): boolean {
    return this.driver.features.includes(feature);
  }

  /** A name for a new object, for reports. */
  nextObjectName(): string {
    this.objects += 1;
    return `${this.driver.name} object ${this.objects}`;
  }

  /**
   * Takes a reference; the caller has one already.
   *
   * @source `drm_dev_get()`
   */
  get(): PreemptStep<void> {
    return this.refs.get();
  }

  /**
   * Drops a reference. What the last one frees is the driver's; nothing of it is modelled.
   *
   * @source `drm_dev_put()`
   */
  put(): PreemptStep<boolean> {
    return this.refs.put();
  }

  /**
   * True once the hardware is gone.
   *
   * @context Any.
   * @source `drm_dev_is_unplugged()`
   */
  *isUnplugged(): Atomic<boolean> {
    return yield* this.unplugged.read();
  }

  /**
   * The hardware is gone: from now on every open, ioctl and mmap says `ENODEV`. What was exported
   * lives on.
   *
   * @context May sleep.
   * @source `drm_dev_unplug()`
   */
  *unplug(): Task {
    yield* this.unplugged.write(true);
  }

  private addNode(path: string, isRender: boolean): void {
    this.kernel.nodes.add(path, { open: (_process, mode) => this.open(path, isRender, mode) });
  }

  private *open(path: string, isRender: boolean, mode: OpenMode): Task<DrmFile> {
    yield* this.get();
    try {
      if (yield* this.isUnplugged()) {
        throw new DmaBufError('ENODEV', 'open', 'drm-node-of-unplugged-device');
      }
      if (!(yield* this.kernel.slab.alloc())) {
        throw new DmaBufError('ENOMEM', 'open', 'no-memory-for-drm-file');
      }
      const file = new DrmFile(this, path, isRender, mode);
      if (this.driver.open !== undefined) yield* this.driver.open(file);
      return file;
    } catch (error) {
      yield* this.put();
      throw error;
    }
  }
}
