/**
 * BAR ranges of a VFIO device as a dma-buf: the exporter's table and the state it keeps per buffer.
 * When the device is reset or its memory switched off, access is taken back; who revokes, and when,
 * is in `vfio-pci-device.ts`.
 *
 * Only importers that accept device memory and can give it back are let in. No mmap, vmap or pin.
 *
 * @source drivers/vfio/pci/vfio_pci_dmabuf.c, v7.2; reference/linux-dma-buf.md E.1
 */

import { DmaBufError, type DmaDirection } from '../../base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  offer,
  type P2pProvider,
  PHYSICAL_WINDOW,
  type PhysVec,
  type RevocableBacking,
  type SgTable,
} from '../../framework/index.ts';
import {
  Allocation,
  Completion,
  RefCount,
  type Scheduler,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { VfioPciDevice } from './vfio-pci-device.ts';

/** What is exported. */
export interface VfioExport {
  /** Bytes. */
  readonly size: number;
  readonly physVec: readonly PhysVec[];
  readonly provider: P2pProvider;
}

/** `struct vfio_pci_dma_buf`. */
export class VfioDmaBuf {
  /** The memory of this state itself: freed at release, and whoever touches it later is found. */
  readonly memory: Allocation;
  readonly exported: VfioExport;
  /** The buffer, once it is exported. */
  readonly dmabuf: Shared<DmaBuf | null>;
  /** The device; null once it was closed. Guarded by its memory lock. */
  readonly vdev: Shared<VfioPciDevice | null>;
  /** True while access is taken back. Written under the reservation. */
  readonly revoked: Shared<boolean>;
  /** One, and one more for each mapping. */
  readonly kref: RefCount;
  /** Completed when the last mapping of a revoked buffer is gone. */
  readonly allUnmapped: Completion;
  /** Devices that mapped and did not unmap yet, once for each mapping; for reports only. */
  readonly mappers: string[] = [];

  constructor(scheduler: Scheduler, vdev: VfioPciDevice, exported: VfioExport) {
    const memory = new Allocation(scheduler, 'vfio_pci_dma_buf');
    this.memory = memory;
    this.exported = exported;
    this.dmabuf = new Shared<DmaBuf | null>(scheduler, 'dmabuf', null, memory);
    this.vdev = new Shared<VfioPciDevice | null>(scheduler, 'vdev', vdev, memory);
    this.revoked = new Shared<boolean>(scheduler, 'revoked', false, memory);
    this.kref = new RefCount(scheduler, 'vfio_pci_dma_buf.kref');
    this.allUnmapped = new Completion(scheduler, 'vfio_pci_dma_buf.comp', () => [
      ...new Set(this.mappers),
    ]);
  }

  /**
   * Takes access back. Returns when nobody uses the memory any more.
   *
   * @context May sleep; the device's memory lock is held for writing, the reservation is not.
   * @source `vfio_pci_dma_buf_move()`
   */
  *revoke(dmabuf: DmaBuf): Task {
    yield* dmabuf.resv.lock();
    yield* this.revoked.write(true);
    yield* dmabuf.invalidateMappings();
    yield* dmabuf.resv.wait('bookkeep');
    yield* dmabuf.resv.unlock();
    // Now nobody writes any more; when every mapping is gone, nobody reads either.
    yield* this.putMapping();
    yield* this.allUnmapped.wait();
    yield* this.kref.reset();
    yield* this.allUnmapped.reinit();
  }

  /**
   * Gives access back. Importers are told nothing that they did not know: they learn of it when
   * they map again.
   *
   * @context As {@link revoke}.
   * @source `vfio_pci_dma_buf_move()`
   */
  *restore(dmabuf: DmaBuf): Task {
    yield* dmabuf.resv.lock();
    yield* dmabuf.invalidateMappings();
    yield* dmabuf.resv.wait('bookkeep');
    yield* dmabuf.resv.unlock();
    yield* dmabuf.resv.lock();
    yield* this.revoked.write(false);
    yield* dmabuf.resv.unlock();
  }

  /**
   * Drops a reference of a mapping, or the one that stands for "not revoked".
   *
   * @context Any.
   * @source `vfio_pci_dma_buf_done()`
   */
  *putMapping(): Task {
    if (yield* this.kref.put()) yield* this.allUnmapped.complete();
  }
}

/**
 * Makes a buffer and the state that VFIO keeps of it; it is not on the device's list yet.
 *
 * @param flags - For the buffer's file.
 * @throws {@link DmaBufError} `ENOMEM`; what the export says.
 * @context May sleep; no lock held.
 * @source `vfio_pci_core_feature_dma_buf()`
 */
export function* exportVfioBuffer(
  vdev: VfioPciDevice,
  exported: VfioExport,
  flags: number,
): Task<readonly [VfioDmaBuf, DmaBuf<VfioDmaBuf>]> {
  const { kernel } = vdev;
  if (!(yield* kernel.slab.alloc())) {
    const call = 'ioctl(VFIO_DEVICE_FEATURE_DMA_BUF)';
    throw new DmaBufError('ENOMEM', call, 'no-memory-for-a-vfio-buffer');
  }
  const priv = new VfioDmaBuf(kernel.scheduler, vdev, exported);
  const { size } = exported;
  const ops = vfioPciDmaBufOps;
  try {
    const info = { exporterName: 'vfio_pci_core', ops, size, priv, flags };
    const dmabuf = yield* DmaBuf.export(kernel, info);
    yield* priv.dmabuf.write(dmabuf);
    return [priv, dmabuf];
  } catch (error) {
    yield* priv.memory.free();
    throw error;
  }
}

/** The exporter's table. */
const vfioPciDmaBufOps: DmaBufOps<VfioDmaBuf> = {
  *attach(buf: DmaBuf<VfioDmaBuf>, attachment: Attachment<VfioDmaBuf>): Task {
    if (!attachment.peer2peer) {
      throw refusal('EOPNOTSUPP', 'importer-does-not-take-peer-memory', attachment);
    }
    if (yield* buf.priv.revoked.read()) {
      throw refusal('ENODEV', 'attach-to-revoked-memory', attachment);
    }
    if (!attachment.isRevocable) {
      throw refusal('EOPNOTSUPP', 'importer-cannot-give-memory-back', attachment);
    }
  },

  *mapDmaBuf(attachment: Attachment<VfioDmaBuf>, direction: DmaDirection): Task<SgTable> {
    const { priv, resv } = attachment.buf;
    resv.assertHeld('vfio_pci_dma_buf_map');
    if (yield* priv.revoked.read()) {
      throw refusal('ENODEV', 'map-of-revoked-memory', attachment);
    }
    const { provider, physVec } = priv.exported;
    const table = yield* dmaBufPhysVecToSgt(attachment, provider, physVec, direction);
    yield* priv.kref.get();
    priv.mappers.push(attachment.device.name);
    return table;
  },

  *unmapDmaBuf(attachment: Attachment<VfioDmaBuf>, table: SgTable, direction: DmaDirection): Task {
    attachment.buf.resv.assertHeld('vfio_pci_dma_buf_unmap');
    yield* dmaBufFreeSgt(attachment, table, direction);
    const { mappers } = attachment.buf.priv;
    const at = mappers.indexOf(attachment.device.name);
    if (at >= 0) mappers.splice(at, 1);
    yield* attachment.buf.priv.putMapping();
  },

  *release(buf: DmaBuf<VfioDmaBuf>): Task {
    const vdev = yield* buf.priv.vdev.read();
    if (vdev === null) yield* buf.priv.memory.free();
    else yield* vdev.releaseBuffer(buf.priv);
  },

  // For iommufd, which fills I/O page tables itself: `vfio_pci_dma_buf_iommufd_map()`.
  offers: [offer(PHYSICAL_WINDOW, describeForWindow)],
};

function* describeForWindow({ priv }: DmaBuf<VfioDmaBuf>): Task<RevocableBacking> {
  return { ranges: priv.exported.physVec, isRevoked: yield* priv.revoked.read() };
}

const HELP: Readonly<Record<string, string>> = {
  'importer-does-not-take-peer-memory':
    'the importer must attach dynamically and allow peer-to-peer: its device would reach a BAR',
  'importer-cannot-give-memory-back':
    'the importer must bring invalidateMappings: a reset takes the memory back',
  'attach-to-revoked-memory': 'switch memory decoding on, or wait for the reset to end',
  'map-of-revoked-memory':
    'switch memory decoding on, or wait for the reset to end; then map again',
};

function refusal(
  code: 'EOPNOTSUPP' | 'ENODEV',
  reason: string,
  { device, buf }: Attachment<VfioDmaBuf>,
): DmaBufError {
  return new DmaBufError(code, 'vfio_pci_dma_buf', reason, {
    detail: {
      refusedBy: 'exporter',
      exporter: buf.exporterName,
      client: device.name,
      advice: [{ change: 'importer', value: '', text: HELP[reason] ?? '' }],
    },
  });
}
