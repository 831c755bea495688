/**
 * What `/proc/self/fd` and `/proc/self/fdinfo` say of a descriptor.
 *
 * @source fs/proc/fd.c, v7.2; reference/linux-dma-buf.md A.11
 */

import { O } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { FileStat, KernelFile } from '../vfs/file.ts';
import type { Process } from './process.ts';

/** `f_type` of the file system of anonymous inodes. */
const ANON_INODE_MAGIC = 0x0904_1934;

/** `f_type` of devtmpfs. */
const DEVTMPFS_MAGIC = 0x0102_1994;

const S_IFCHR = 0o020000;

/** `mnt_id` of everything: nothing is mounted twice here. */
const MOUNT = 15;

/**
 * The number in `/proc/self/fd/N`, or in another of its directories.
 *
 * @returns Null if the path is another.
 */
export function descriptorIn(path: string, directory: 'fd' | 'fdinfo'): number | null {
  const [, found, number] = /^\/proc\/self\/(fd|fdinfo)\/(\d{1,9})$/.exec(path) ?? [];
  return found === directory ? Number(number) : null;
}

/** What fstat(2) and fstatfs(2) say: the file itself, or what holds for all of its kind. */
export function statOf(file: KernelFile): FileStat {
  const { stat } = file.operations;
  if (stat !== undefined) return stat(file);
  return file.mode.isByPath === true
    ? { ino: 1, size: 0, mode: S_IFCHR | 0o666, magic: DEVTMPFS_MAGIC }
    : { ino: 1, size: 0, mode: 0o600, magic: ANON_INODE_MAGIC };
}

/**
 * The text of `/proc/self/fdinfo/N`.
 *
 * @param file - The reader holds a reference to it.
 * @context May sleep; no lock held.
 * @source `seq_show()`
 */
export function* fdinfo(process: Process, fd: number, file: KernelFile): Task<string> {
  const closeOnExec = yield* process.fds.isCloseOnExec(fd);
  const flags = file.flags | (closeOnExec ? O.CLOEXEC : 0);
  const more = file.operations.fdinfo === undefined ? [] : yield* file.operations.fdinfo(file);
  const lines = [
    `pos:\t${file.filePosition}`,
    `flags:\t0${flags.toString(8)}`,
    `mnt_id:\t${MOUNT}`,
    `ino:\t${statOf(file).ino}`,
    ...more,
  ];
  return lines.map((line) => `${line}\n`).join('');
}
