/**
 * vgem: a DRM device without hardware. It makes buffers of ordinary pages for programs that draw
 * with the CPU, and fences that programs signal themselves.
 *
 * @source drivers/gpu/drm/vgem/vgem_drv.c, v7.2; reference/linux-dma-buf.md E.4
 */

import type { DmaBuf, Kernel } from '../../framework/index.ts';
import { PlatformDevice, type Task } from '../../machine/index.ts';
import { DrmDevice } from './drm-device.ts';
import type { DrmDriver } from './drm-driver.ts';
import type { GemObject } from './gem-object.ts';
import { gemShmemCreate, gemShmemDumbCreate } from './gem-shmem.ts';
import { gemPrimeImportNoMap } from './prime-import.ts';
import { VGEM_IOCTLS, vgemFenceClose, vgemFenceOpen } from './vgem-fence.ts';

const VGEM_DRIVER: DrmDriver = {
  name: 'vgem',
  description: 'Virtual GEM provider',
  version: [1, 0, 0],
  features: ['render'],
  ioctls: VGEM_IOCTLS,
  open: vgemFenceOpen,
  postclose: vgemFenceClose,
  dumbCreate: gemShmemDumbCreate,
  *gemPrimeImport(dev: DrmDevice, buf: DmaBuf): Task<GemObject> {
    return yield* gemPrimeImportNoMap(dev, buf, gemShmemCreate);
  },
};

/**
 * Loads the driver: there is one such device.
 *
 * @context At boot.
 * @source `vgem_init()`
 */
export function vgemDevice(kernel: Kernel): DrmDevice {
  const { coherentDma } = kernel.machine.spec;
  return new DrmDevice(kernel, VGEM_DRIVER, new PlatformDevice('vgem', coherentDma));
}
