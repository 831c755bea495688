/**
 * Paths that a program can open, and what `/proc/self` says about its descriptors. There is no
 * other file system: what drivers put there, and nothing else.
 *
 * @source fs/namei.c, fs/proc/fd.c, v7.2
 */

import { DmaBufError, O } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import { type KernelFile, openMode } from '../vfs/file.ts';
import { MemfdFile } from '../vfs/memfd-file.ts';
import { descriptorIn, fdinfo } from './proc-fd.ts';
import type { Process } from './process.ts';

/** LIMIT: bytes that a file is read by, when it is read as a whole. */
const PIECE = 4096;

/** Permissions of a node that says nothing. */
const NODE_MODE = 0o666;

/**
 * Opens a node, or the file behind `/proc/self/fd/N` once more.
 *
 * @returns The caller owns its reference.
 * @throws {@link DmaBufError} `ENOENT` no such path; `EACCES` not for this process; `ENXIO` behind
 *   the descriptor is nothing that can be opened; what the driver says.
 * @context May sleep; no lock held.
 * @source `do_filp_open()`
 */
export function* openPath(process: Process, path: string, flags: number): Task<KernelFile> {
  const fd = descriptorIn(path, 'fd');
  if (fd !== null) return yield* openAgain(process, fd, flags);
  const node = process.kernel.nodes.find(path);
  if (node === null) throw new DmaBufError('ENOENT', 'open', 'no-such-path', { detail: { path } });
  const access = flags & O.ACCMODE;
  const wanted = (access === O.WRONLY ? 0 : 4) | (access === O.RDONLY ? 0 : 2);
  if (!process.isRoot && (wanted & ~(node.mode ?? NODE_MODE)) !== 0) {
    throw new DmaBufError('EACCES', 'open', 'only-root-may-open-this', { detail: { path } });
  }
  return yield* node.open(process, openMode(flags));
}

/**
 * What readlink(2) says of `/proc/self/fd/N`.
 *
 * @throws {@link DmaBufError} `ENOENT` no such path, or not open; `EINVAL` no link.
 * @context Any.
 * @source `proc_fd_link()`
 */
export function* linkText(process: Process, path: string): Task<string> {
  const fd = descriptorIn(path, 'fd');
  if (fd === null) {
    const isThere = process.kernel.nodes.find(path) !== null;
    throw isThere
      ? new DmaBufError('EINVAL', 'readlink', 'not-a-link')
      : new DmaBufError('ENOENT', 'readlink', 'no-such-path-to-a-link');
  }
  const file = yield* process.fds.fget(fd);
  if (file === null) throw new DmaBufError('ENOENT', 'readlink', 'no-such-link');
  const text = file.path;
  yield* file.put();
  return text;
}

/**
 * All that can be read at a path: `/proc/self/fdinfo/N`, a file of debugfs.
 *
 * @throws {@link DmaBufError} As {@link openPath}; `EINVAL` it cannot be read.
 * @context May sleep; no lock held.
 */
export function* fileText(process: Process, path: string): Task<string> {
  const fd = descriptorIn(path, 'fdinfo');
  if (fd !== null) return yield* fdinfoText(process, fd);
  const file = yield* openPath(process, path, O.RDONLY);
  try {
    return yield* wholeText(file);
  } finally {
    yield* file.put();
  }
}

function* openAgain(process: Process, fd: number, flags: number): Task<KernelFile> {
  const file = yield* process.fds.fget(fd);
  if (file === null) throw new DmaBufError('ENOENT', 'open', 'no-such-link-to-open');
  try {
    if (file instanceof MemfdFile) return yield* file.openAgain(openMode(flags));
    throw new DmaBufError('ENXIO', 'open', 'not-to-be-opened-again');
  } finally {
    yield* file.put();
  }
}

function* fdinfoText(process: Process, fd: number): Task<string> {
  const file = yield* process.fds.fget(fd);
  if (file === null) throw new DmaBufError('ENOENT', 'open', 'no-such-fdinfo');
  try {
    return yield* fdinfo(process, fd, file);
  } finally {
    yield* file.put();
  }
}

function* wholeText(file: KernelFile): Task<string> {
  if (file.operations.read === undefined) {
    throw new DmaBufError('EINVAL', 'read', 'no-text-to-read');
  }
  let text = '';
  for (;;) {
    const bytes = yield* file.operations.read(file, PIECE);
    if (bytes.length === 0) return text;
    for (const byte of bytes) text += String.fromCharCode(byte);
  }
}
