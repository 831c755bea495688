/**
 * `/dev/udmabuf`: a program names pieces of memfds, and gets a dma-buf of them. Each memfd must be
 * sealed against shrinking, so that the pages stay, and not against writing, because devices write.
 *
 * @source drivers/dma-buf/udmabuf.c, v7.2; reference/linux-dma-buf.md E.2
 */

import {
  DmaBufError,
  F_SEAL,
  O,
  PAGE_SIZE,
  UDMABUF_FLAGS_CLOEXEC,
  UDMABUF_IOCTL,
  type UdmabufCreateItem,
  type UserAddr,
  udmabufCreate,
  udmabufCreateItem,
  udmabufCreateList,
} from '../../base/index.ts';
import {
  copyFromUser,
  DmaBuf,
  type FileOperations,
  type Kernel,
  KernelFile,
  type Memfd,
  memfdOf,
  type OpenMode,
  type Process,
} from '../../framework/index.ts';
import { type Device, PlatformDevice, Shared, type Task } from '../../machine/index.ts';
import { type PinnedPages, Udmabuf, udmabufOps, unpinAll } from './udmabuf.ts';

/** Where the device is. */
export const UDMABUF_PATH = '/dev/udmabuf';

/** LIMIT: items of a list, unless the parameter is changed. */
const LIST_LIMIT_DEFAULT = 1024;
/** LIMIT: MiB of a buffer, unless the parameter is changed. */
const SIZE_LIMIT_MB_DEFAULT = 64;

/** What a memfd must be sealed against, and what it must not. */
const SEALS_WANTED = F_SEAL.SHRINK;
const SEALS_DENIED = F_SEAL.WRITE | F_SEAL.FUTURE_WRITE;

/** The driver. At boot. */
export class UdmabufDevice {
  readonly kernel: Kernel;
  /** The misc device, as far as it is one that caches are maintained for. */
  readonly device: Device;
  /** Module parameter: items in a list. */
  readonly listLimit: Shared<number>;
  /** Module parameter: MiB in a buffer. */
  readonly sizeLimitMb: Shared<number>;

  /** @source `udmabuf_dev_init()` */
  constructor(kernel: Kernel) {
    const { scheduler, machine } = kernel;
    this.kernel = kernel;
    this.device = new PlatformDevice('udmabuf', machine.spec.coherentDma);
    this.listLimit = new Shared(scheduler, 'udmabuf.list_limit', LIST_LIMIT_DEFAULT);
    this.sizeLimitMb = new Shared(scheduler, 'udmabuf.size_limit_mb', SIZE_LIMIT_MB_DEFAULT);
    const node = (mode: OpenMode): KernelFile => new UdmabufFile(this, mode);
    kernel.nodes.add(UDMABUF_PATH, {
      *open(_process: Process, mode: OpenMode): Task<KernelFile> {
        return node(mode);
      },
    });
  }

  /**
   * Makes a buffer of pieces of memfds, in order, and gives it a descriptor.
   *
   * @param items - As user space gave them.
   * @param flags - Only the lowest bit counts: the descriptor is closed on exec.
   * @returns The descriptor.
   * @throws {@link DmaBufError} `EINVAL` a crooked offset or size, more pages than the limit, none
   *   at all, missing or forbidden seals, a range beyond the end; `ENOMEM`; `EBADFD` not open, or
   *   no memfd; `EMFILE`.
   * @context May sleep; no lock held.
   * @source `udmabuf_create()`
   */
  *create(process: Process, items: readonly UdmabufCreateItem[], flags: number): Task<number> {
    const { slab } = this.kernel;
    if (!(yield* slab.alloc())) throw noMemory('no-memory-for-a-udmabuf');
    checkItems(items, (yield* this.sizeLimitMb.read()) * (2 ** 20 / PAGE_SIZE));
    if (!(yield* slab.alloc())) throw noMemory('no-memory-for-the-pages-of-a-udmabuf');
    if (!(yield* slab.alloc())) throw noMemory('no-memory-for-the-folios-of-a-udmabuf');
    const pinned: PinnedPages[] = [];
    let buf: DmaBuf<Udmabuf>;
    try {
      for (const item of items) pinned.push(yield* pinItem(process, item));
      buf = yield* this.export(pinned);
    } catch (error) {
      yield* unpinAll(pinned);
      throw error;
    }
    try {
      return yield* buf.fd(process, (flags & UDMABUF_FLAGS_CLOEXEC) !== 0 ? O.CLOEXEC : 0);
    } catch (error) {
      yield* buf.put();
      throw error;
    }
  }

  private *export(pinned: readonly PinnedPages[]): Task<DmaBuf<Udmabuf>> {
    const priv = new Udmabuf(this.kernel, this.device, pinned);
    try {
      return yield* DmaBuf.export(this.kernel, {
        exporterName: 'udmabuf',
        ops: udmabufOps,
        size: priv.size,
        priv,
        flags: O.RDWR,
      });
    } catch (error) {
      yield* priv.free();
      throw error;
    }
  }
}

/** An open `/dev/udmabuf`. */
class UdmabufFile extends KernelFile {
  readonly driver: UdmabufDevice;

  constructor(driver: UdmabufDevice, mode: OpenMode) {
    super(driver.kernel, UDMABUF_PATH, UDMABUF_FILE_OPERATIONS, mode);
    this.driver = driver;
  }
}

const UDMABUF_FILE_OPERATIONS: FileOperations = {
  *release(): Task {},

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof UdmabufFile)) return 0;
    const { driver } = file;
    switch (request) {
      case UDMABUF_IOCTL.CREATE:
        return yield* ioctlCreate(driver, arg, process);
      case UDMABUF_IOCTL.CREATE_LIST:
        return yield* ioctlCreateList(driver, arg, process);
      default:
        throw new DmaBufError('ENOTTY', 'udmabuf_ioctl', 'unknown-udmabuf-ioctl');
    }
  },
};

/** @source `udmabuf_ioctl_create()` */
function* ioctlCreate(driver: UdmabufDevice, arg: number, process: Process): Task<number> {
  const { memfd, flags, offset, size } = yield* copyFromUser(process, arg, udmabufCreate);
  return yield* driver.create(process, [{ memfd, pad: 0, offset, size }], flags);
}

/** @source `udmabuf_ioctl_create_list()` */
function* ioctlCreateList(driver: UdmabufDevice, arg: number, process: Process): Task<number> {
  const call = 'udmabuf_ioctl_create_list';
  const { flags, count } = yield* copyFromUser(process, arg, udmabufCreateList);
  if (count > (yield* driver.listLimit.read())) {
    throw new DmaBufError('EINVAL', call, 'more-items-than-the-limit', { detail: { count } });
  }
  if (!(yield* driver.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', call, 'no-memory-for-the-items');
  }
  const { size } = udmabufCreateItem;
  const start = (arg + udmabufCreateList.size) as UserAddr;
  const bytes = yield* process.mm.load(start, count * size);
  const items = Array.from({ length: count }, (_, i) =>
    udmabufCreateItem.decode(bytes.subarray(i * size, (i + 1) * size)),
  );
  return yield* driver.create(process, items, flags);
}

function checkItems(items: readonly UdmabufCreateItem[], pagesMax: number): void {
  const page = BigInt(PAGE_SIZE);
  let pages = 0n;
  for (const { offset, size } of items) {
    if (offset % page !== 0n || size % page !== 0n) throw invalid('item-is-not-whole-pages');
    pages += size / page;
    if (pages > BigInt(pagesMax)) throw invalid('more-pages-than-the-limit');
  }
  if (pages === 0n) throw invalid('udmabuf-of-no-pages');
}

/** Pins the pages of one item; the descriptor is not needed after that. */
function* pinItem(process: Process, { memfd, offset, size }: UdmabufCreateItem): Task<PinnedPages> {
  const file = yield* process.fds.fget(memfd);
  if (file === null) throw badFile('memfd-is-not-open');
  try {
    const inode = memfdOf(file);
    if (inode === null) throw badFile('file-without-seals');
    return { memfd: inode, list: yield* pinSealed(inode, Number(offset), Number(size)) };
  } finally {
    yield* file.put();
  }
}

/** The inode's lock keeps seals as they are from the look at them until the pages are pinned. */
function* pinSealed(inode: Memfd, offset: number, size: number): Task<PinnedPages['list']> {
  yield* inode.lock.downRead();
  try {
    const seals = yield* inode.seals.read();
    if ((seals & SEALS_WANTED) !== SEALS_WANTED) throw invalid('memfd-may-shrink');
    if ((seals & SEALS_DENIED) !== 0) throw invalid('memfd-is-sealed-against-writing');
    return yield* inode.pinRange(offset, size);
  } finally {
    yield* inode.lock.upRead();
  }
}

function invalid(reason: string): DmaBufError {
  return new DmaBufError('EINVAL', 'udmabuf_create', reason);
}

function badFile(reason: string): DmaBufError {
  return new DmaBufError('EBADFD', 'udmabuf_create', reason);
}

function noMemory(reason: string): DmaBufError {
  return new DmaBufError('ENOMEM', 'udmabuf_create', reason);
}
