/**
 * `/dev/vfio/devices/vfioN`: what a user-space driver asks of its device, as bytes.
 *
 * @source drivers/vfio/vfio_main.c, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dmabuf.c, v7.2;
 *   reference/linux-dma-buf.md E.1, G.3
 */

import {
  DmaBufError,
  type UserAddr,
  VFIO_DEVICE_FEATURE,
  VFIO_IOCTL,
  vfioDeviceFeature,
  vfioDeviceFeatureDmaBuf,
  vfioRegionDmaRange,
} from '../../base/index.ts';
import {
  type DeviceNode,
  type FileOperations,
  KernelFile,
  type OpenMode,
  type Process,
  type Vma,
} from '../../framework/index.ts';
import { Shared, type Task } from '../../machine/index.ts';
import { checkExportHeader, type VfioRegionDmaRange } from './vfio-export-request.ts';
import type { VfioPciDevice } from './vfio-pci-device.ts';
import { mapRegion } from './vfio-region-map.ts';

/** Features beside `DMA_BUF`, of `flags`' low half. */
export const VFIO_FEATURE: Readonly<Record<'LOW_POWER_ENTRY' | 'LOW_POWER_EXIT', number>> = {
  LOW_POWER_ENTRY: 3,
  LOW_POWER_EXIT: 5,
};

/** LIMIT: ranges in one request: what `kmalloc()` gives at once is 4 MiB. */
const RANGES_MAX = 2 ** 22 / vfioRegionDmaRange.size;

const { GET, SET, PROBE, MASK } = VFIO_DEVICE_FEATURE;

/** The file of one device. */
export class VfioDeviceNode implements DeviceNode {
  readonly vdev: VfioPciDevice;
  readonly path: string;
  private readonly isOpen: Shared<boolean>;

  /**
   * @param number - As in the file's name: `vfio0`.
   * @context At boot: the file appears.
   */
  constructor(vdev: VfioPciDevice, number: number) {
    this.vdev = vdev;
    this.path = `/dev/vfio/devices/vfio${number}`;
    this.isOpen = new Shared<boolean>(vdev.kernel.scheduler, this.path, false);
    vdev.kernel.nodes.add(this.path, this);
  }

  /**
   * Opens the device; once at a time.
   *
   * DIFFERS: in Linux a second open succeeds and can do nothing before it is bound to an iommufd,
   * which fails then; here the bind belongs to the open.
   *
   * @throws {@link DmaBufError} `EBUSY` it is open.
   * @context May sleep; no lock held.
   */
  *open(_process: Process, mode: OpenMode): Task<KernelFile> {
    yield* this.vdev.memoryLock.downWrite();
    const isOpen = yield* this.isOpen.read();
    yield* this.isOpen.write(true);
    yield* this.vdev.memoryLock.upWrite();
    if (isOpen) throw new DmaBufError('EBUSY', 'open', 'vfio-device-is-open');
    yield* this.vdev.open();
    return new VfioDeviceFile(this, mode);
  }

  /** The last reference of the file is gone. @context May sleep; no lock held. */
  *release(): Task {
    yield* this.vdev.cleanUp();
    yield* this.isOpen.write(false);
  }
}

/** An open device. */
class VfioDeviceFile extends KernelFile {
  readonly node: VfioDeviceNode;

  constructor(node: VfioDeviceNode, mode: OpenMode) {
    super(node.vdev.kernel, node.path, VFIO_FILE_OPERATIONS, mode);
    this.node = node;
  }
}

const VFIO_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    yield* (file as VfioDeviceFile).node.release();
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    const { vdev } = (file as VfioDeviceFile).node;
    if (request === VFIO_IOCTL.DEVICE_FEATURE) return yield* feature(vdev, arg, process);
    if (request !== VFIO_IOCTL.DEVICE_RESET) {
      throw new DmaBufError('ENOTTY', 'ioctl', 'vfio-ioctl-is-unknown', { detail: { request } });
    }
    yield* vdev.ioctlReset();
    return 0;
  },

  *mmap(file: KernelFile, vma: Vma): Task {
    yield* mapRegion((file as VfioDeviceFile).node.vdev, vma);
  },
};

/** @source `vfio_ioctl_device_feature()` */
function* feature(vdev: VfioPciDevice, arg: number, process: Process): Task<number> {
  const { size } = vfioDeviceFeature;
  const { argsz, flags } = vfioDeviceFeature.decode(yield* load(process, arg, size));
  if (argsz < size) throw refusal('EINVAL', 'feature-argument-is-too-short');
  if ((flags & ~(MASK | GET | SET | PROBE)) !== 0) {
    throw refusal('EINVAL', 'feature-flag-is-unknown');
  }
  const both = GET | SET;
  if ((flags & PROBE) === 0 && (flags & both) === both) {
    throw refusal('EINVAL', 'feature-is-got-and-set-at-once');
  }
  const payload = { at: arg + size, size: argsz - size };
  switch (flags & MASK) {
    case VFIO_DEVICE_FEATURE.DMA_BUF:
      return yield* dmaBufFeature(vdev, flags, payload, process);
    case VFIO_FEATURE.LOW_POWER_ENTRY:
      if (isAsked(flags, SET, payload, 0)) yield* vdev.lowPowerEntry();
      return 0;
    case VFIO_FEATURE.LOW_POWER_EXIT:
      if (isAsked(flags, SET, payload, 0)) yield* vdev.lowPowerExit();
      return 0;
    default:
      throw refusal('ENOTTY', 'feature-is-unknown');
  }
}

interface Payload {
  readonly at: number;
  /** Bytes, as the program says. */
  readonly size: number;
}

/**
 * True if the feature is to be used, false if the program only wants to know whether it is there.
 *
 * @source `vfio_check_feature()`
 */
function isAsked(flags: number, supported: number, { size }: Payload, needed: number): boolean {
  const asked = flags & (GET | SET);
  if ((asked & ~supported) !== 0) throw refusal('EINVAL', 'feature-has-no-such-direction');
  if ((flags & PROBE) !== 0) return false;
  if (asked === 0) throw refusal('EINVAL', 'feature-is-neither-got-nor-set');
  if (size < needed) throw refusal('EINVAL', 'feature-payload-is-too-short');
  return true;
}

/** @source `vfio_pci_core_feature_dma_buf()` */
function* dmaBufFeature(
  vdev: VfioPciDevice,
  flags: number,
  payload: Payload,
  process: Process,
): Task<number> {
  const { hasDmaBuf = true, hasGetDmabufPhys = true } = vdev.options;
  if (!hasDmaBuf) throw refusal('ENOTTY', 'kernel-is-built-without-vfio-dma-bufs');
  if (!hasGetDmabufPhys) throw refusal('EOPNOTSUPP', 'variant-driver-exports-no-dma-bufs');
  const { size } = vfioDeviceFeatureDmaBuf;
  if (!isAsked(flags, GET, payload, size)) return 0;
  const asked = vfioDeviceFeatureDmaBuf.decode(yield* load(process, payload.at, size));
  checkExportHeader(vdev.fn, asked);
  const { nrRanges, regionIndex, openFlags } = asked;
  if (nrRanges > RANGES_MAX) throw refusal('ENOMEM', 'ranges-do-not-fit-into-memory');
  const list = yield* load(process, payload.at + size, nrRanges * vfioRegionDmaRange.size);
  const ranges = Array.from({ length: nrRanges }, (_, i) => rangeAt(list, i));
  return yield* vdev.exportBuffer(process, { regionIndex, ranges, openFlags });
}

function rangeAt(list: Uint8Array, index: number): VfioRegionDmaRange {
  const from = index * vfioRegionDmaRange.size;
  const { offset, length } = vfioRegionDmaRange.decode(list.subarray(from));
  return { offset: asNumber(offset), length: asNumber(length) };
}

/** Whole pages are exact as numbers; what is not whole pages only has to stay so. */
function asNumber(bytes: bigint): number {
  return bytes % 4096n === 0n ? Number(bytes) : Number(bytes % 4096n);
}

function* load(process: Process, at: number, length: number): Task<Uint8Array> {
  return yield* process.mm.load(at as UserAddr, length);
}

function refusal(code: 'EINVAL' | 'ENOTTY' | 'EOPNOTSUPP' | 'ENOMEM', reason: string): DmaBufError {
  return new DmaBufError(code, 'ioctl(VFIO_DEVICE_FEATURE)', reason);
}
