/**
 * `/dev/iommu`: user space makes I/O address spaces, fills them with memory of dma-bufs, and VFIO
 * puts devices into them.
 *
 * Not modelled: memory of processes and memfds, page tables of its own making, in-kernel access,
 * faults and dirty tracking.
 *
 * @source drivers/iommu/iommufd/main.c, ioas.c, v7.2; reference/linux-dma-buf.md F.2, G
 */

import {
  DmaBufError,
  IOMMU_IOAS_MAP,
  IOMMU_IOCTL,
  type IommuIoasMapFile,
  iommuIoasMapFile,
  ioctlNumber,
  type Struct,
  struct,
  u32,
  u64,
  u8,
} from '../../base/index.ts';
import {
  copyFromUser,
  copyToUser,
  type DeviceNode,
  DmaBuf,
  type FileOperations,
  type Kernel,
  KernelFile,
  type OpenMode,
  type Process,
} from '../../framework/index.ts';
import { Mutex, PlatformDevice, Shared, type Task } from '../../machine/index.ts';
import { Ioas, type IoptMemory } from './ioas.ts';
import { IoptPages } from './iopt-pages.ts';

/** Where it is found. */
export const IOMMUFD_PATH = '/dev/iommu';

/** Numbers of the ioctls beside `IOAS_MAP_FILE`; they carry neither direction nor size. */
export const IOMMUFD_IOCTL: Readonly<Record<'DESTROY' | 'IOAS_ALLOC' | 'IOAS_UNMAP', number>> = {
  DESTROY: ioctlNumber('none', ';', 0x80, 0),
  IOAS_ALLOC: ioctlNumber('none', ';', 0x81, 0),
  IOAS_UNMAP: ioctlNumber('none', ';', 0x86, 0),
};

/** `struct iommu_destroy`. */
export interface IommuDestroy {
  /** Bytes of this struct. */
  readonly size: number;
  readonly id: number;
}

/** Layout of {@link IommuDestroy}. */
export const iommuDestroy: Struct<IommuDestroy> = struct({ size: u32, id: u32 });

/** `struct iommu_ioas_alloc`. */
export interface IommuIoasAlloc {
  /** Bytes of this struct. */
  readonly size: number;
  /** Must be 0. */
  readonly flags: number;
  /** Told. */
  readonly outIoasId: number;
}

/** Layout of {@link IommuIoasAlloc}. */
export const iommuIoasAlloc: Struct<IommuIoasAlloc> = struct({
  size: u32,
  flags: u32,
  outIoasId: u32,
});

/** `struct iommu_ioas_unmap`. */
export interface IommuIoasUnmap {
  /** Bytes of this struct. */
  readonly size: number;
  readonly ioasId: number;
  readonly iova: bigint;
  /** All ones with `iova` 0: everything. Told: bytes taken away. */
  readonly length: bigint;
}

/** Layout of {@link IommuIoasUnmap}. */
export const iommuIoasUnmap: Struct<IommuIoasUnmap> = struct({
  size: u32,
  ioasId: u32,
  iova: u64,
  length: u64,
});

/** `ULONG_MAX`. */
const ULONG_MAX = 2n ** 64n - 1n;

/** LIMIT: pages of an area, as they are counted in 32 bits less a few. */
const PAGES_MAX = 2n ** 31n;

const PAGE_SHIFT = 12n;

/** Just the size that every struct begins with. */
const sizeOnly: Struct<{ readonly size: number }> = struct({ size: u32 });

/** The device. */
export class Iommufd implements DeviceNode {
  readonly kernel: Kernel;
  /** What buffers are attached for; it does no DMA. */
  readonly misc: PlatformDevice = new PlatformDevice('iommu', true);

  /** @context At boot: the file is there afterwards. */
  constructor(kernel: Kernel) {
    this.kernel = kernel;
    kernel.nodes.add(IOMMUFD_PATH, this);
  }

  /** @context May sleep. */
  *open(_process: Process, mode: OpenMode): Task<KernelFile> {
    return new IommufdFile(this, mode);
  }
}

/** What one open file made (`struct iommufd_ctx`). */
export class IommufdFile extends KernelFile {
  readonly iommufd: Iommufd;
  /** Guards {@link objects}. */
  private readonly lock: Mutex;
  private readonly objects: Shared<ReadonlyMap<number, Ioas>>;
  private made = 0;

  constructor(iommufd: Iommufd, mode: OpenMode) {
    super(iommufd.kernel, IOMMUFD_PATH, IOMMUFD_FILE_OPERATIONS, mode);
    const { scheduler } = iommufd.kernel;
    this.iommufd = iommufd;
    this.lock = new Mutex(scheduler, 'iommufd_ctx.objects');
    this.objects = new Shared<ReadonlyMap<number, Ioas>>(scheduler, 'iommufd objects', new Map());
  }

  /**
   * An address space by its number: for VFIO, which puts devices into it.
   *
   * @throws {@link DmaBufError} `ENOENT` there is none.
   * @context Any.
   * @source `iommufd_get_ioas()`
   */
  *ioas(id: number): Task<Ioas> {
    const found = (yield* this.objects.read()).get(id);
    if (found !== undefined) return found;
    throw new DmaBufError('ENOENT', 'ioctl(iommufd)', 'no-such-address-space', { detail: { id } });
  }

  /**
   * A new address space. Nobody finds it before it is published, so a program that cannot be told
   * its number leaves nothing.
   *
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep.
   * @source `iommufd_object_alloc()`
   */
  *alloc(): Task<Ioas> {
    if (!(yield* this.kernel.slab.alloc())) {
      const call = 'ioctl(IOMMU_IOAS_ALLOC)';
      throw new DmaBufError('ENOMEM', call, 'no-memory-for-an-address-space');
    }
    yield* this.lock.lock();
    this.made += 1;
    const made = new Ioas(this.kernel, this.made);
    yield* this.lock.unlock();
    return made;
  }

  /**
   * Lets everybody find a new address space.
   *
   * @context May sleep.
   * @source `iommufd_object_finalize()`
   */
  *publish(made: Ioas): Task {
    yield* this.lock.lock();
    yield* this.objects.write(new Map([...(yield* this.objects.read()), [made.id, made]]));
    yield* this.lock.unlock();
  }

  /**
   * Takes an address space away, with all that is mapped in it.
   *
   * @throws {@link DmaBufError} `ENOENT` there is none; `EBUSY` a device uses it.
   * @context May sleep; no lock held.
   * @source `iommufd_destroy()`
   */
  *destroy(id: number): Task {
    const ioas = yield* this.remove(id);
    yield* ioas.unmap(0, Number.POSITIVE_INFINITY);
  }

  private *remove(id: number): Task<Ioas> {
    yield* this.lock.lock();
    try {
      const ioas = yield* this.ioas(id);
      if (yield* ioas.isInUse()) {
        throw new DmaBufError('EBUSY', 'ioctl(IOMMU_DESTROY)', 'address-space-is-in-use');
      }
      const rest = [...(yield* this.objects.read())].filter(([other]) => other !== id);
      yield* this.objects.write(new Map(rest));
      return ioas;
    } finally {
      yield* this.lock.unlock();
    }
  }

  /**
   * Takes everything away.
   *
   * @context May sleep; no lock held.
   */
  *destroyAll(): Task {
    for (const ioas of (yield* this.objects.read()).values()) {
      yield* ioas.unmap(0, Number.POSITIVE_INFINITY);
    }
    yield* this.objects.write(new Map());
  }
}

const IOMMUFD_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    if (file instanceof IommufdFile) yield* file.destroyAll();
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof IommufdFile)) return 0;
    switch (request) {
      case IOMMUFD_IOCTL.DESTROY: {
        const { id } = yield* readStruct(process, arg, iommuDestroy);
        yield* file.destroy(id);
        return 0;
      }
      case IOMMUFD_IOCTL.IOAS_ALLOC:
        return yield* ioasAlloc(file, arg, process);
      case IOMMUFD_IOCTL.IOAS_UNMAP:
        return yield* ioasUnmap(file, arg, process);
      case IOMMU_IOCTL.IOAS_MAP_FILE:
        return yield* ioasMapFile(file, arg, process);
      default:
        throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-iommufd-command');
    }
  },
};

/** A struct that says its size. What a newer program's struct has more must be zero. */
function* readStruct<V extends object>(process: Process, at: number, layout: Struct<V>): Task<V> {
  const { size } = yield* copyFromUser(process, at, sizeOnly);
  if (size < layout.size) throw new DmaBufError('EINVAL', 'ioctl', 'iommufd-struct-is-too-short');
  const more: Struct<{ readonly byte: number }> = struct({ byte: u8 });
  for (let offset = layout.size; offset + more.size <= size; offset += more.size) {
    const { byte } = yield* copyFromUser(process, at + offset, more);
    if (byte !== 0) throw new DmaBufError('E2BIG', 'ioctl', 'iommufd-struct-says-more');
  }
  return yield* copyFromUser(process, at, layout);
}

function* ioasAlloc(file: IommufdFile, arg: number, process: Process): Task<number> {
  const given = yield* readStruct(process, arg, iommuIoasAlloc);
  if (given.flags !== 0) {
    throw new DmaBufError('EOPNOTSUPP', 'ioctl(IOMMU_IOAS_ALLOC)', 'flags-of-an-address-space');
  }
  const made = yield* file.alloc();
  yield* copyToUser(process, arg, iommuIoasAlloc.encode({ ...given, outIoasId: made.id }));
  yield* file.publish(made);
  return 0;
}

function* ioasUnmap(file: IommufdFile, arg: number, process: Process): Task<number> {
  const given = yield* readStruct(process, arg, iommuIoasUnmap);
  const ioas = yield* file.ioas(given.ioasId);
  const isAll = given.iova === 0n && given.length === ULONG_MAX;
  const call = 'ioctl(IOMMU_IOAS_UNMAP)';
  if (!isAll && (given.iova >= ULONG_MAX || given.length >= ULONG_MAX)) {
    throw new DmaBufError('EOVERFLOW', call, 'range-to-unmap-wraps');
  }
  if (given.length === 0n) throw new DmaBufError('EINVAL', call, 'unmap-of-nothing');
  if (!isAll && given.iova + given.length - 1n > ULONG_MAX) {
    throw new DmaBufError('EOVERFLOW', call, 'range-to-unmap-has-no-end');
  }
  const size = isAll ? Number.POSITIVE_INFINITY : Number(given.length);
  const length = BigInt(yield* ioas.unmap(Number(given.iova), size));
  yield* copyToUser(process, arg, iommuIoasUnmap.encode({ ...given, length }));
  return 0;
}

/**
 * The errors come in the kernel's order.
 *
 * @source `iommufd_ioas_map_file()`, `iopt_map_file_pages()`
 */
function* ioasMapFile(file: IommufdFile, arg: number, process: Process): Task<number> {
  const given = yield* readStruct(process, arg, iommuIoasMapFile);
  const { flags, iova, length, start, ioasId } = given;
  const call = 'ioctl(IOMMU_IOAS_MAP_FILE)';
  const { FIXED_IOVA, WRITEABLE, READABLE } = IOMMU_IOAS_MAP;
  if ((flags & ~(FIXED_IOVA | WRITEABLE | READABLE)) !== 0) {
    throw new DmaBufError('EOPNOTSUPP', call, 'flags-of-a-map-unknown');
  }
  if (iova >= ULONG_MAX || length >= ULONG_MAX) {
    throw new DmaBufError('EOVERFLOW', call, 'io-address-wraps');
  }
  if ((flags & (WRITEABLE | READABLE)) === 0) {
    throw new DmaBufError('EINVAL', call, 'map-neither-to-read-nor-to-write');
  }
  const ioas = yield* file.ioas(ioasId);
  if (length === 0n) throw new DmaBufError('EINVAL', call, 'map-of-nothing');
  if (start + length - 1n > ULONG_MAX)
    throw new DmaBufError('EOVERFLOW', call, 'file-offset-wraps');
  const buf = yield* getBuffer(process, given);
  const pages = yield* pagesOf(file, buf, given);
  const rights = { readable: (flags & READABLE) !== 0, writable: (flags & WRITEABLE) !== 0 };
  const memory = { size: Number(length), pages, offset: Number(start), rights };
  const at = yield* mapOrRelease(ioas, (flags & FIXED_IOVA) === 0 ? null : Number(iova), memory);
  yield* copyToUser(process, arg, iommuIoasMapFile.encode({ ...given, iova: BigInt(at) }));
  return 0;
}

function* mapOrRelease(ioas: Ioas, iova: number | null, memory: IoptMemory): Task<number> {
  try {
    return yield* ioas.map(iova, memory);
  } catch (error) {
    yield* memory.pages.release();
    throw error;
  }
}

/** `EBADF` not open; `EINVAL` a file that is no dma-buf: memfds are not modelled here. */
function* getBuffer(process: Process, { fd, start, length }: IommuIoasMapFile): Task<DmaBuf> {
  const call = 'ioctl(IOMMU_IOAS_MAP_FILE)';
  const buf = yield* DmaBuf.get(process, fd);
  const last = start + length - 1n;
  const pages = (last >> PAGE_SHIFT) - (start >> PAGE_SHIFT) + 1n;
  if (BigInt(buf.size) <= last || pages > PAGES_MAX) {
    yield* buf.put();
    throw new DmaBufError('EINVAL', call, 'map-beyond-the-file');
  }
  return buf;
}

/** Takes the reference over, or drops it. */
function* pagesOf(file: IommufdFile, buf: DmaBuf, { start }: IommuIoasMapFile): Task<IoptPages> {
  try {
    if (!(yield* file.kernel.slab.alloc())) {
      const call = 'ioctl(IOMMU_IOAS_MAP_FILE)';
      throw new DmaBufError('ENOMEM', call, 'no-memory-for-mapped-pages');
    }
    if (start % (1n << PAGE_SHIFT) !== 0n) {
      throw new DmaBufError('EINVAL', 'ioctl(IOMMU_IOAS_MAP_FILE)', 'file-offset-is-crooked');
    }
    return yield* IoptPages.create(file.iommufd.misc, buf);
  } catch (error) {
    yield* buf.put();
    throw error;
  }
}
