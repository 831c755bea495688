/** A program that makes system calls, straight on; the first that fails ends it. */

import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
  dmaBufSync,
  dmaHeapAllocationData,
  joinBytes,
  MAP,
  O,
  PAGE_SIZE,
  PROBE_DIRECTION,
  PROBE_IOCTL,
  probeAttach,
  probeCpu,
  probeFenceAdd,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeVmap,
  PROT,
  type Struct,
  type UserAddr,
  VFIO_DEVICE_FEATURE,
  VFIO_IOCTL,
  vfioDeviceFeature,
  vfioDeviceFeatureDmaBuf,
  vfioRegionDmaRange,
} from '../../src/base/index.ts';
import type { Sys } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { BAR } from './vfio-pci-rig.ts';
import { IMPORTER, NODES, SIZE } from './every-driver-rig.ts';

/** The program. */
export class Program {
  readonly sys: Sys;
  private at: UserAddr | null = null;

  constructor(sys: Sys) {
    this.sys = sys;
  }

  /** Opens a device. */
  *open(path: string, flags: number = O.RDWR): Task<number> {
    return yield* this.sys.open(path, flags);
  }

  /** Memory for arguments. */
  *scratch(): Task<UserAddr> {
    this.at ??= yield* this.sys.alloc(PAGE_SIZE);
    return this.at;
  }

  /** An ioctl with bytes. */
  *raw(fd: number, request: number, ...parts: readonly Uint8Array[]): Task<number> {
    const at = yield* this.scratch();
    yield* this.sys.store(at, joinBytes(...parts));
    return yield* this.sys.ioctl(fd, request, at);
  }

  /** An ioctl with a struct; gives back the struct, and the result. */
  *call<V extends object>(
    fd: number,
    request: number,
    layout: Struct<V>,
    values: Partial<V>,
  ): Task<V & { readonly result: number }> {
    const result = yield* this.raw(fd, request, layout.encode(values));
    const told = yield* this.sys.load(yield* this.scratch(), layout.size);
    return { ...layout.decode(told), result };
  }

  /** A buffer of a heap. */
  *heap(path: string = NODES.heap, size = SIZE): Task<number> {
    const heap = yield* this.open(path);
    const asked = { len: BigInt(size), fdFlags: O.RDWR | O.CLOEXEC };
    return (yield* this.call(heap, DMA_HEAP_IOCTL.ALLOC, dmaHeapAllocationData, asked)).fd;
  }

  /** Opens the device that VFIO has. */
  *vfio(): Task<{ readonly device: number; readonly fd: number }> {
    const device = yield* this.open(NODES.vfio);
    return { device, fd: yield* this.vfioExport(device) };
  }

  /** A buffer of that device's memory. */
  *vfioExport(device: number): Task<number> {
    return yield* this.raw(
      device,
      VFIO_IOCTL.DEVICE_FEATURE,
      vfioDeviceFeature.encode({
        argsz: 40,
        flags: VFIO_DEVICE_FEATURE.GET | VFIO_DEVICE_FEATURE.DMA_BUF,
      }),
      vfioDeviceFeatureDmaBuf.encode({ regionIndex: BAR, openFlags: O.RDWR, nrRanges: 1 }),
      vfioRegionDmaRange.encode({ offset: 0n, length: BigInt(SIZE) }),
    );
  }

  /** What a program does with a buffer that it has. */
  *use(fd: number, isShared = true): Task {
    const { sys } = this;
    const flags = isShared ? MAP.SHARED : MAP.PRIVATE;
    const prot = PROT.READ | PROT.WRITE;
    const map = yield* sys.mmap({ length: SIZE, prot, flags, fd, offset: 0 });
    yield* this.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 2n });
    yield* sys.store(map, Uint8Array.of(1, 2, 3));
    yield* this.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 6n });
    yield* this.importSync(fd, yield* this.exportSync(fd));
    yield* sys.dup(fd);
    yield* sys.munmap(map, SIZE);
  }

  /** A sync file of all that a buffer waits for. */
  *exportSync(fd: number): Task<number> {
    const request = DMA_BUF_IOCTL.EXPORT_SYNC_FILE;
    return (yield* this.call(fd, request, dmaBufExportSyncFile, { flags: 3 })).fd;
  }

  /** Lets a buffer wait for a sync file. */
  *importSync(fd: number, sync: number): Task {
    const request = DMA_BUF_IOCTL.IMPORT_SYNC_FILE;
    yield* this.call(fd, request, dmaBufImportSyncFile, { flags: 3, fd: sync });
  }

  /** Attaches to a buffer, as an importing driver does. */
  *attach(fd: number, mode: number): Task<{ probe: number; id: number; attachment: number }> {
    const probe = yield* this.open(NODES.probe);
    const { import: id } = yield* this.call(probe, PROBE_IOCTL.IMPORT, probeImport, { fd });
    const asked = { import: id, mode, device: IMPORTER };
    const { attachment } = yield* this.call(probe, PROBE_IOCTL.ATTACH, probeAttach, asked);
    return { probe, id, attachment };
  }

  /** What an importing driver does with a buffer. */
  *import(fd: number, mode: number): Task {
    const { probe, id, attachment } = yield* this.attach(fd, mode);
    if (mode !== 0) yield* this.call(probe, PROBE_IOCTL.PIN, probeId, { id: attachment });
    const { mapping } = yield* this.call(probe, PROBE_IOCTL.MAP, probeMap, { attachment });
    yield* this.call(probe, PROBE_IOCTL.VMAP, probeVmap, { import: id });
    const cpu = { import: id, direction: PROBE_DIRECTION.TO_DEVICE };
    yield* this.call(probe, PROBE_IOCTL.BEGIN_CPU, probeCpu, cpu);
    yield* this.call(probe, PROBE_IOCTL.END_CPU, probeCpu, cpu);
    const added = { import: id };
    const { fence } = yield* this.call(probe, PROBE_IOCTL.FENCE_ADD, probeFenceAdd, added);
    yield* this.call(probe, PROBE_IOCTL.FENCE_SIGNAL, probeFenceSignal, { fence });
    yield* this.call(probe, PROBE_IOCTL.UNMAP, probeId, { id: mapping });
  }
}
