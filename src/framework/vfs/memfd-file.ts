/**
 * What memfd_create(2) makes: an open file of a memfd, with a position of its own.
 *
 * @source mm/memfd.c, mm/shmem.c, v7.2; reference/linux-dma-buf.md G.4
 */

import { DmaBufError, F_SEAL, MFD, SEEK } from '../../base/index.ts';
import { Mutex, Shared, type Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import type { Vma, VmOperations } from '../user/vma.ts';
import { type FileOperations, type FileStat, KernelFile, type OpenMode } from './file.ts';
import { Memfd } from './memfd.ts';

/** LIMIT: characters in a name. */
const NAME_MAX = 249;

/** `f_type` of tmpfs. */
const TMPFS_MAGIC = 0x0102_1994;

const S_IFREG = 0o100000;

const FLAGS = MFD.CLOEXEC | MFD.ALLOW_SEALING | MFD.HUGETLB | MFD.NOEXEC_SEAL | MFD.EXEC;
const SEALS =
  F_SEAL.SEAL | F_SEAL.SHRINK | F_SEAL.GROW | F_SEAL.WRITE | F_SEAL.FUTURE_WRITE | F_SEAL.EXEC;

/** An open file of a memfd. */
export class MemfdFile extends KernelFile {
  readonly memfd: Memfd;
  /** `f_pos`. Guarded by {@link positionLock}. */
  readonly position: Shared<number>;
  readonly positionLock: Mutex;

  constructor(kernel: Kernel, memfd: Memfd, mode: OpenMode) {
    super(kernel, `/memfd:${memfd.name} (deleted)`, MEMFD_OPERATIONS, mode);
    this.memfd = memfd;
    this.position = new Shared(kernel.scheduler, `${this.name} position`, 0);
    this.positionLock = new Mutex(kernel.scheduler, `${this.name} f_pos_lock`);
  }

  override get filePosition(): number {
    return this.position.value;
  }

  /**
   * Another open file of the same memory, as open(2) of `/proc/self/fd/N` makes.
   *
   * @returns The caller owns its reference.
   * @context Any; the caller has a reference to this one.
   */
  *openAgain(mode: OpenMode): Task<MemfdFile> {
    yield* this.memfd.refs.get();
    return new MemfdFile(this.kernel, this.memfd, mode);
  }
}

/** The inode behind a file, for who pins its pages; null if it is no memfd. */
export function memfdOf(file: KernelFile): Memfd | null {
  return file instanceof MemfdFile ? file.memfd : null;
}

/**
 * What memfd_create(2) says of its arguments, before it takes a descriptor.
 *
 * @throws {@link DmaBufError} `EINVAL` unknown flags, both `EXEC` and `NOEXEC_SEAL`, a name of more
 *   than 249 characters; `ENOSYS` huge pages.
 */
export function checkMemfdArguments(name: string, flags: number): void {
  if ((flags & ~FLAGS) !== 0) {
    throw new DmaBufError('EINVAL', 'memfd_create', 'unknown-memfd-flags');
  }
  if ((flags & MFD.EXEC) !== 0 && (flags & MFD.NOEXEC_SEAL) !== 0) {
    throw new DmaBufError('EINVAL', 'memfd_create', 'executable-and-not');
  }
  if (name.length > NAME_MAX) {
    throw new DmaBufError('EINVAL', 'memfd_create', 'memfd-name-is-too-long');
  }
  // As a kernel without hugetlbfs.
  if ((flags & MFD.HUGETLB) !== 0) {
    throw new DmaBufError('ENOSYS', 'memfd_create', 'no-huge-pages');
  }
}

/**
 * Makes an empty memfd, open for reading and writing.
 *
 * @returns The caller owns its reference.
 * @context May sleep; no lock held.
 * @source `memfd_alloc_file()`
 */
export function* memfdCreate(kernel: Kernel, name: string, flags: number): Task<MemfdFile> {
  const ino = yield* kernel.otherInodes.next();
  const isProgram = (flags & MFD.NOEXEC_SEAL) === 0;
  const maySeal = !isProgram || (flags & MFD.ALLOW_SEALING) !== 0;
  const seals = (maySeal ? 0 : F_SEAL.SEAL) | (isProgram ? 0 : F_SEAL.EXEC);
  const memfd = new Memfd(kernel, name, ino, S_IFREG | (isProgram ? 0o777 : 0o666), seals);
  const mode = { read: true, write: true, isNonBlocking: false, isByPath: true };
  return new MemfdFile(kernel, memfd, mode);
}

/**
 * fcntl(2) `F_ADD_SEALS`.
 *
 * @returns 0.
 * @throws {@link DmaBufError} `EPERM` not open for writing; `EINVAL` unknown seals, no memfd; as
 *   {@link Memfd.addSeals}.
 * @context May sleep; no lock held.
 * @source `memfd_add_seals()`
 */
export function* addSeals(file: KernelFile, seals: number): Task<number> {
  if (!file.mode.write) throw new DmaBufError('EPERM', 'fcntl', 'seals-need-a-writable-file');
  if ((seals & ~SEALS) !== 0) throw new DmaBufError('EINVAL', 'fcntl', 'unknown-seals');
  yield* sealable(file).addSeals(seals);
  return 0;
}

/**
 * fcntl(2) `F_GET_SEALS`.
 *
 * @throws {@link DmaBufError} `EINVAL` no memfd.
 * @context Any.
 * @source `memfd_get_seals()`
 */
export function* getSeals(file: KernelFile): Task<number> {
  return yield* sealable(file).seals.read();
}

/**
 * ftruncate(2).
 *
 * @throws {@link DmaBufError} `EINVAL` no regular file, or not open for writing; `EPERM` sealed.
 * @context May sleep; no lock held.
 * @source `do_ftruncate()`
 */
export function* truncateFile(file: KernelFile, length: number): Task {
  const memfd = memfdOf(file);
  if (memfd === null || !file.mode.write) {
    throw new DmaBufError('EINVAL', 'ftruncate', 'not-a-file-to-truncate');
  }
  yield* memfd.truncate(length);
}

function sealable(file: KernelFile): Memfd {
  const memfd = memfdOf(file);
  if (memfd === null) throw new DmaBufError('EINVAL', 'fcntl', 'file-takes-no-seals');
  return memfd;
}

const MEMFD_MAP: VmOperations = {
  open: (vma: Vma): Task => memfdMapped(vma).copyMap(vma),
  close: (vma: Vma): Task => memfdMapped(vma).removeMap(vma),
  fault: (vma: Vma, page: number): Task => memfdMapped(vma).fault(vma, page),
};

function memfdMapped(vma: Vma): Memfd {
  return vma.priv as Memfd;
}

const MEMFD_OPERATIONS: FileOperations = {
  release: (file: KernelFile): Task => (file as MemfdFile).memfd.put(),

  *llseek(file: KernelFile, offset: number, whence: number): Task<number> {
    const open = file as MemfdFile;
    yield* open.positionLock.lock();
    try {
      const at = (yield* seekBase(open, whence)) + offset;
      if (at < 0) throw new DmaBufError('EINVAL', 'lseek', 'before-the-beginning');
      yield* open.position.write(at);
      return at;
    } finally {
      yield* open.positionLock.unlock();
    }
  },

  *read(file: KernelFile, length: number): Task<Uint8Array> {
    const open = file as MemfdFile;
    yield* open.positionLock.lock();
    const at = yield* open.position.read();
    const bytes = yield* open.memfd.readAt(at, length);
    yield* open.position.write(at + bytes.length);
    yield* open.positionLock.unlock();
    return bytes;
  },

  *write(file: KernelFile, bytes: Uint8Array): Task<number> {
    const open = file as MemfdFile;
    yield* open.positionLock.lock();
    try {
      const at = yield* open.position.read();
      const done = yield* open.memfd.writeAt(at, bytes);
      yield* open.position.write(at + done);
      return done;
    } finally {
      yield* open.positionLock.unlock();
    }
  },

  *mmap(file: KernelFile, vma: Vma): Task {
    const { memfd } = file as MemfdFile;
    yield* memfd.addMap(vma, file.mode.write);
    vma.priv = memfd;
    vma.operations = MEMFD_MAP;
  },

  stat(file: KernelFile): FileStat {
    const { ino, mode, size } = (file as MemfdFile).memfd;
    return { ino, size: size.value, mode, magic: TMPFS_MAGIC };
  },
};

function* seekBase(open: MemfdFile, whence: number): Task<number> {
  switch (whence) {
    case SEEK.SET:
      return 0;
    case SEEK.CUR:
      return yield* open.position.read();
    case SEEK.END:
      return yield* open.memfd.size.read();
    default:
      throw new DmaBufError('EINVAL', 'lseek', 'holes-are-not-sought');
  }
}
