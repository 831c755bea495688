/**
 * mmap(2): what is checked before a file's own operation, and memory without a file.
 *
 * @source `ksys_mmap_pgoff()`, `do_mmap()`, mm/mmap.c, v7.2; reference/linux-dma-buf.md A.15
 */

import {
  alignUp,
  DmaBufError,
  isPageAligned,
  MAP,
  MFD,
  PAGE_SIZE,
  PROT,
  type UserAddr,
} from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { KernelFile } from '../vfs/file.ts';
import { memfdCreate } from '../vfs/memfd-file.ts';
import { TASK_SIZE } from './address-space.ts';
import { anonymousMemory } from './anonymous-memory.ts';
import type { Process } from './process.ts';
import type { MmapRequest } from './sys.ts';
import type { Vma, VmaRequest } from './vma.ts';

/** `MAP_TYPE`. */
const TYPE = 0xf;

/** Any of them lets a page be read, on the processors that we model. */
const READABLE = PROT.READ | PROT.WRITE | PROT.EXEC;

/**
 * Maps a file, or memory of the process's own.
 *
 * @returns Where.
 * @throws {@link DmaBufError} As {@link Sys.mmap}.
 * @context May sleep; no lock held.
 */
export function* mmap(process: Process, request: MmapRequest): Task<UserAddr> {
  const { flags, offset, fd } = request;
  if (!isPageAligned(offset)) throw new DmaBufError('EINVAL', 'mmap', 'crooked-offset');
  if ((flags & MAP.ANONYMOUS) !== 0) return yield* mapAnonymous(process, request);
  const file = yield* process.file(fd, 'mmap');
  try {
    const size = sizeOf(request);
    checkFile(file, request, size);
    return yield* mapFile(process, file, vmaRequest(request, size, file));
  } finally {
    yield* file.put();
  }
}

/**
 * munmap(2).
 *
 * @throws {@link DmaBufError} `EINVAL` a crooked address, no length, beyond all addresses; part of
 *   a map.
 * @context May sleep; no lock held.
 * @source `__vm_munmap()`
 */
export function* munmap(process: Process, address: UserAddr, length: number): Task {
  const size = alignUp(length, PAGE_SIZE);
  const fits = length > 0 && address >= 0 && address <= TASK_SIZE && size <= TASK_SIZE - address;
  if (!isPageAligned(address) || !fits) {
    throw new DmaBufError('EINVAL', 'munmap', 'no-range-of-pages');
  }
  yield* process.mm.unmap(address, size);
}

function sizeOf({ length, flags }: MmapRequest): number {
  if (!(length > 0)) throw new DmaBufError('EINVAL', 'mmap', 'nothing-to-map');
  const size = alignUp(length, PAGE_SIZE);
  if (size > TASK_SIZE) throw new DmaBufError('ENOMEM', 'mmap', 'larger-than-all-addresses');
  // Without an address, a fixed one is the first page, which nobody may map.
  if ((flags & MAP.FIXED) !== 0) throw new DmaBufError('EPERM', 'mmap', 'fixed-at-null');
  return size;
}

function checkFile({ mode }: KernelFile, { flags, prot, offset }: MmapRequest, size: number): void {
  // No byte of a file is beyond 2^63, and no number of ours even there.
  if (offset < 0 || offset + size > Number.MAX_SAFE_INTEGER) {
    throw new DmaBufError('EOVERFLOW', 'mmap', 'offset-beyond-any-file');
  }
  const type = flags & TYPE;
  const isShared = type === MAP.SHARED || type === MAP.SHARED_VALIDATE;
  if (!isShared && type !== MAP.PRIVATE) throw neitherSharedNorPrivate();
  if (isShared && (prot & PROT.WRITE) !== 0 && !mode.write) {
    throw new DmaBufError('EACCES', 'mmap', 'shared-writing-needs-a-writable-file');
  }
  if (!mode.read) throw new DmaBufError('EACCES', 'mmap', 'mapping-needs-a-readable-file');
}

function* mapAnonymous(process: Process, request: MmapRequest): Task<UserAddr> {
  const size = sizeOf(request);
  const type = request.flags & TYPE;
  if (type === MAP.SHARED) return yield* mapSharedMemory(process, request, size);
  if (type !== MAP.PRIVATE) throw neitherSharedNorPrivate();
  const wanted = { ...vmaRequest(request, size, null), pgoff: 0 };
  const vma = yield* process.mm.map(wanted, setAnonymous);
  return vma.start;
}

function* setAnonymous(vma: Vma): Task {
  vma.operations = anonymousMemory;
}

/** Shared memory without a file has one all the same, which nobody else can open. */
function* mapSharedMemory(process: Process, request: MmapRequest, size: number): Task<UserAddr> {
  const file = yield* memfdCreate(process.kernel, 'dev/zero', MFD.EXEC);
  try {
    yield* file.memfd.truncate(size);
    const wanted = { ...vmaRequest(request, size, file), pgoff: 0 };
    return yield* mapFile(process, file, wanted);
  } finally {
    yield* file.put();
  }
}

function* mapFile(
  process: Process,
  file: KernelFile,
  wanted: Omit<VmaRequest, 'start'>,
): Task<UserAddr> {
  const { mmap: own } = file.operations;
  if (own === undefined) {
    throw new DmaBufError('ENODEV', 'mmap', 'files-of-this-kind-are-not-mapped');
  }
  const vma = yield* process.mm.map(wanted, (made: Vma) => {
    return own.call(file.operations, file, made);
  });
  return vma.start;
}

function vmaRequest(
  { prot, flags, offset }: MmapRequest,
  size: number,
  file: KernelFile | null,
): Omit<VmaRequest, 'start'> {
  return {
    size,
    pgoff: offset / PAGE_SIZE,
    read: (prot & READABLE) !== 0,
    write: (prot & PROT.WRITE) !== 0,
    isShared: (flags & TYPE) !== MAP.PRIVATE,
    file,
  };
}

function neitherSharedNorPrivate(): DmaBufError {
  return new DmaBufError('EINVAL', 'mmap', 'neither-shared-nor-private');
}
