/**
 * `/dev/xen/gntdev`, as far as dma-bufs go: pages that another guest lent become a buffer here, and
 * buffers of ours are lent to another guest.
 *
 * Not modelled: mapping grants into a process, notifications, coherent and write-combined backing
 * (the flags change nothing here).
 *
 * @source drivers/xen/gntdev-dmabuf.c, v7.2; reference/linux-dma-buf.md F.4, G
 */

import {
  DmaBufError,
  GNTDEV_DMABUF,
  gntdevDmabufExpFromRefs,
  gntdevDmabufExpWaitReleased,
  gntdevDmabufImpRelease,
  gntdevDmabufImpToRefs,
  type Struct,
  struct,
  u32,
} from '../../base/index.ts';
import {
  copyFromUser,
  copyToUser,
  type DeviceNode,
  type DmaBuf,
  type FileOperations,
  type Kernel,
  KernelFile,
  type OpenMode,
  type Process,
  waitForAny,
  WaitQueue,
} from '../../framework/index.ts';
import { type Atomic, Mutex, PlatformDevice, Shared, type Task } from '../../machine/index.ts';
import { GntdevExport, type LentPage } from './gntdev-export.ts';
import { GntdevImport } from './gntdev-import.ts';
import type { GrantTables } from './grant-tables.ts';

/** Where it is found. */
export const GNTDEV_PATH = '/dev/xen/gntdev';

/** LIMIT: pages of one buffer (module parameter `limit`). */
export const GNTDEV_PAGES_MAX = 65536;

const NS_PER_MS = 1_000_000;

/** One reference. */
const refArgument: Struct<{ readonly ref: number }> = struct({ ref: u32 });

/** How our guest runs. */
export interface GntdevOptions {
  readonly tables: GrantTables;
  /** Number of our guest. */
  readonly domid: number;
  /** True for a paravirtualised guest, which cannot do any of this. Default false. */
  readonly isPv?: boolean;
}

/** The device. */
export class Gntdev implements DeviceNode {
  readonly kernel: Kernel;
  readonly options: GntdevOptions;
  /** What buffers are imported for. Its device addresses are the guest's physical ones. */
  readonly misc: PlatformDevice = new PlatformDevice('xen/gntdev', true);

  /** @context At boot: the file is there afterwards. */
  constructor(kernel: Kernel, options: GntdevOptions) {
    this.kernel = kernel;
    this.options = options;
    kernel.nodes.add(GNTDEV_PATH, this);
  }

  /** @context May sleep. */
  *open(_process: Process, mode: OpenMode): Task<KernelFile> {
    return new GntdevFile(this, mode);
  }
}

/** An open file (`struct gntdev_dmabuf_priv`). */
class GntdevFile extends KernelFile {
  readonly gntdev: Gntdev;
  /** Guards the lists. */
  readonly lock: Mutex;
  /** Buffers that were exported and not released. */
  readonly exports: Shared<readonly GntdevExport[]>;
  readonly imports: Shared<readonly GntdevImport[]>;
  /** Woken when one of {@link exports} goes. */
  readonly released: WaitQueue;

  constructor(gntdev: Gntdev, mode: OpenMode) {
    super(gntdev.kernel, GNTDEV_PATH, GNTDEV_FILE_OPERATIONS, mode);
    const { scheduler } = gntdev.kernel;
    this.gntdev = gntdev;
    this.lock = new Mutex(scheduler, 'gntdev_dmabuf_priv.lock');
    this.exports = new Shared<readonly GntdevExport[]>(scheduler, 'gntdev exports', []);
    this.imports = new Shared<readonly GntdevImport[]>(scheduler, 'gntdev imports', []);
    this.released = new WaitQueue(scheduler, 'gntdev released');
  }
}

const GNTDEV_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    if (!(file instanceof GntdevFile)) return;
    // Exports hold the file, so there are none.
    for (const one of yield* takeAll(file.imports)) yield* one.release();
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof GntdevFile)) return 0;
    switch (request) {
      case GNTDEV_DMABUF.EXP_FROM_REFS:
        return yield* expFromRefs(file, arg, process);
      case GNTDEV_DMABUF.EXP_WAIT_RELEASED:
        return yield* expWaitReleased(file, arg, process);
      case GNTDEV_DMABUF.IMP_TO_REFS:
        return yield* impToRefs(file, arg, process);
      case GNTDEV_DMABUF.IMP_RELEASE:
        return yield* impRelease(file, arg, process);
      default:
        throw new DmaBufError('ENOTTY', 'ioctl', 'no-such-gntdev-command');
    }
  },
};

/** @source `gntdev_ioctl_dmabuf_exp_from_refs()` */
function* expFromRefs(file: GntdevFile, arg: number, process: Process): Task<number> {
  const call = 'ioctl(EXP_FROM_REFS)';
  const { gntdev } = file;
  if (gntdev.options.isPv === true) throw new DmaBufError('EINVAL', call, 'export-of-a-pv-guest');
  const given = yield* copyFromUser(process, arg, gntdevDmabufExpFromRefs);
  const { count, domid } = given;
  if (count === 0) throw new DmaBufError('EINVAL', call, 'export-of-no-page');
  const refsAt = arg + gntdevDmabufExpFromRefs.offsets.refs;
  if (count > GNTDEV_PAGES_MAX) throw new DmaBufError('EINVAL', call, 'export-of-too-many-pages');
  const refs: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const { ref } = yield* copyFromUser(process, refsAt + i * refArgument.size, refArgument);
    refs.push(ref);
  }
  if (!(yield* file.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', call, 'no-memory-for-lent-pages');
  }
  const fd = yield* process.fds.reserve({ closeOnExec: true });
  if (fd === null) throw new DmaBufError('EMFILE', call, 'no-descriptor-for-the-export');
  try {
    const pages = yield* mapGrants(gntdev, domid, refs);
    yield* exportPages(file, process, arg, { ...given, fd }, pages);
  } catch (error) {
    yield* process.fds.unreserve(fd);
    throw error;
  }
  return 0;
}

/** Makes the buffer, tells its number, and only then puts it behind its descriptor. */
function* exportPages(
  file: GntdevFile,
  process: Process,
  arg: number,
  told: { readonly fd: number; domid: number; flags: number; count: number },
  pages: readonly LentPage[],
): Task {
  const { fd, domid, flags, count } = told;
  const { tables } = file.gntdev.options;
  const lent = { tables, domid, pages };
  const made = new GntdevExport(lent, fd, file, (gone) => forget(file, gone));
  const buf = yield* exportOrUnmap(made);
  yield* file.lock.lock();
  yield* file.exports.write([...(yield* file.exports.read()), made]);
  yield* file.lock.unlock();
  try {
    const bytes = gntdevDmabufExpFromRefs.encode({ flags, count, fd, domid });
    // The references behind these fields stay as they are.
    const { refs } = gntdevDmabufExpFromRefs.offsets;
    yield* copyToUser(process, arg, bytes.subarray(0, refs));
  } catch (error) {
    yield* buf.put();
    throw error;
  }
  // Not `fdInstall`: Linux's gntdev installs the file itself, and no event tells of it.
  yield* process.fds.fill(fd, buf.file);
}

function* exportOrUnmap(made: GntdevExport): Task<DmaBuf> {
  try {
    return yield* made.export();
  } catch (error) {
    yield* made.unmapGrants();
    throw error;
  }
}

/** All pages, or none. */
function* mapGrants(
  { options }: Gntdev,
  from: number,
  refs: readonly number[],
): Task<readonly LentPage[]> {
  const { tables, domid } = options;
  const pages: LentPage[] = [];
  for (const ref of refs) {
    const phys = yield* tables.map(from, ref, domid);
    if (phys === null) {
      for (const page of pages) yield* tables.unmap(from, page.ref);
      throw new DmaBufError('EINVAL', 'ioctl(EXP_FROM_REFS)', 'page-was-not-lent-to-us', {
        detail: { domid: from, ref },
      });
    }
    pages.push({ ref, phys });
  }
  return pages;
}

/** The last reference of a buffer is gone. */
function* forget(file: GntdevFile, gone: GntdevExport): Task {
  yield* file.lock.lock();
  const all = yield* file.exports.read();
  yield* file.exports.write(all.filter((one) => one !== gone));
  yield* file.lock.unlock();
  yield* file.released.wake();
}

/**
 * Waits until a buffer is released everywhere.
 *
 * @source `dmabuf_exp_wait_released()`
 */
function* expWaitReleased(file: GntdevFile, arg: number, process: Process): Task<number> {
  const call = 'ioctl(EXP_WAIT_RELEASED)';
  const given = yield* copyFromUser(process, arg, gntdevDmabufExpWaitReleased);
  const { scheduler } = file.kernel;
  const until = scheduler.t + given.waitToMs * NS_PER_MS;
  const awaited = yield* findExport(file, given.fd);
  if (awaited === null) throw new DmaBufError('ENOENT', call, 'nothing-to-wait-for');
  for (;;) {
    const seen = yield* file.released.seen();
    if (!(yield* file.exports.read()).includes(awaited)) return 0;
    if (scheduler.t >= until) throw new DmaBufError('ETIMEDOUT', call, 'buffer-is-still-in-use');
    yield* waitForAny(scheduler.clock, [{ queue: file.released, seen }], until);
  }
}

/** @source `gntdev_ioctl_dmabuf_imp_to_refs()` */
function* impToRefs(file: GntdevFile, arg: number, process: Process): Task<number> {
  const call = 'ioctl(IMP_TO_REFS)';
  const { options, misc } = file.gntdev;
  if (options.isPv === true) throw new DmaBufError('EINVAL', call, 'import-by-a-pv-guest');
  const { fd, count, domid } = yield* copyFromUser(process, arg, gntdevDmabufImpToRefs);
  if (count === 0) throw new DmaBufError('EINVAL', call, 'import-of-no-page');
  if (count > GNTDEV_PAGES_MAX) throw new DmaBufError('EINVAL', call, 'import-of-too-many-pages');
  if (!(yield* file.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', call, 'no-memory-for-pages-to-lend');
  }
  const lending = { tables: options.tables, from: options.domid, to: domid };
  const made = yield* GntdevImport.create(process, misc, fd, count, lending);
  yield* file.lock.lock();
  yield* file.imports.write([...(yield* file.imports.read()), made]);
  yield* file.lock.unlock();
  const refsAt = arg + gntdevDmabufImpToRefs.offsets.refs;
  try {
    for (const [i, ref] of made.refs.entries()) {
      const bytes = refArgument.encode({ ref });
      yield* copyToUser(process, refsAt + i * refArgument.size, bytes);
    }
  } catch (error) {
    if (yield* takeImport(file, made)) yield* made.release();
    throw error;
  }
  return 0;
}

/** @source `dmabuf_imp_release()` */
function* impRelease(file: GntdevFile, arg: number, process: Process): Task<number> {
  const { fd } = yield* copyFromUser(process, arg, gntdevDmabufImpRelease);
  const found = (yield* file.imports.read()).find((one) => one.fd === fd);
  if (found === undefined || !(yield* takeImport(file, found))) {
    throw new DmaBufError('ENOENT', 'ioctl(IMP_RELEASE)', 'nothing-imported-by-that-number');
  }
  yield* found.release();
  return 0;
}

/** Takes an import off the list. False: somebody else did. */
function* takeImport(file: GntdevFile, one: GntdevImport): Task<boolean> {
  yield* file.lock.lock();
  const all = yield* file.imports.read();
  yield* file.imports.write(all.filter((other) => other !== one));
  yield* file.lock.unlock();
  return all.includes(one);
}

function* findExport(file: GntdevFile, fd: number): Task<GntdevExport | null> {
  yield* file.lock.lock();
  const found = (yield* file.exports.read()).find((one) => one.fd === fd);
  yield* file.lock.unlock();
  return found ?? null;
}

/** Nobody has the file any more, so nobody races. */
function* takeAll<T>(list: Shared<readonly T[]>): Atomic<readonly T[]> {
  const all = yield* list.read();
  yield* list.write([]);
  return all;
}
