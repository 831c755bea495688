/** Looking at files that the user names, before anybody reads them for good. Never waits. */

import { closeSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { constants, gunzipSync } from 'node:zlib';
import { asciiText, detectFormat } from '../doctor/index.ts';
import { DirectoryTree } from '../linux/index.ts';

/** LIMIT: bytes of a file that are looked at to tell whether it is JSON. */
const HEAD_SIZE = 65_536;

/** True if `path` names anything that can be seen. */
export function exists(path: string): boolean {
  return orNull(() => statSync(path)) !== null;
}

/** True if `path` names a regular file. */
export function isRegularFile(path: string): boolean {
  return orNull(() => statSync(path))?.isFile() === true;
}

/** True if `path` is a file with a JSON object in it, packed or not; no more is checked. */
export function isMachineJson(path: string): boolean {
  if (!isRegularFile(path)) return false;
  const head = orNull(() => readHead(path)) ?? new Uint8Array();
  const format = detectFormat(head);
  if (format !== 'gzip') return format === 'machine-spec';
  const inside = orNull(() => unpackHead(head)) ?? new Uint8Array();
  return detectFormat(inside) === 'machine-spec';
}

/**
 * The text of a regular file.
 *
 * @returns Null if there is none, or it cannot be read, or it is larger than any file of /proc.
 */
export function readSmallFile(path: string): string | null {
  if (!isRegularFile(path)) return null;
  const real = orNull(() => realpathSync(path));
  const bytes = real === null ? null : new DirectoryTree(dirname(real)).read(basename(real));
  return bytes === null ? null : asciiText(bytes);
}

function readHead(path: string): Uint8Array {
  const head = Buffer.alloc(HEAD_SIZE);
  const fd = openSync(path, 'r');
  try {
    return head.subarray(0, readSync(fd, head, 0, HEAD_SIZE, 0));
  } finally {
    closeSync(fd);
  }
}

/** What the first bytes of a gzip unpack to; the rest is cut off, which is no error here. */
function unpackHead(head: Uint8Array): Uint8Array {
  return gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, HEAD_SIZE);
}

/** Null for what the system refuses: whoever reads the file for good will say why. */
function orNull<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (error instanceof Error && 'code' in error) return null;
    throw error;
  }
}
