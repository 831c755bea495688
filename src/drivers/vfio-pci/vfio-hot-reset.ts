/**
 * A reset of everything on one bus: who asks must own all of it, and all buffers of all functions
 * are revoked first.
 *
 * DIFFERS: Linux only tries the memory locks and says `EBUSY`; here they are waited for, in the
 * order of the bus.
 *
 * @source `vfio_pci_dev_set_hot_reset()`, drivers/vfio/pci/vfio_pci_core.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import type { Process } from '../../framework/index.ts';
import type { PciNode, Task } from '../../machine/index.ts';
import type { VfioPciDevice } from './vfio-pci-device.ts';

/**
 * `VFIO_DEVICE_PCI_HOT_RESET`.
 *
 * @param vdev - The device that it is asked of.
 * @param owned - The devices that the caller shows to own.
 * @throws {@link DmaBufError} `EINVAL` the reset would hit another.
 * @context May sleep; no lock held.
 */
export function* vfioPciHotReset(
  process: Process,
  vdev: VfioPciDevice,
  owned: readonly VfioPciDevice[],
): Task {
  yield* process.syscall(hotReset(vdev, owned));
}

function* hotReset(vdev: VfioPciDevice, owned: readonly VfioPciDevice[]): Task {
  const hit = sameBus(vdev.fn.node);
  const set = hit.map((node) => owned.find(({ fn }) => fn.node === node));
  const devices = set.filter((one) => one !== undefined);
  if (devices.length < hit.length) {
    throw new DmaBufError('EINVAL', 'ioctl(VFIO_DEVICE_PCI_HOT_RESET)', 'bus-is-not-all-owned', {
      detail: { bus: hit.map(({ address }) => address) },
    });
  }
  for (const one of devices) yield* one.zapAndDownWrite();
  for (const one of devices) yield* one.prepareReset();
  for (const { fn } of devices) yield* fn.reset();
  for (const one of devices) yield* one.giveBack();
}

/** All functions below the same port, in order. */
function sameBus(node: PciNode): readonly PciNode[] {
  return node.upstream === null ? [node] : node.upstream.children;
}
