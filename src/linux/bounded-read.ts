/** Reading a file without trusting the size that it claims: sysfs and procfs claim 4096 or 0. */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

const CHUNK_SIZE = 65_536;

/** What became of reading a file. */
export type BoundedRead =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** It is there and is no regular file. */
  | { readonly kind: 'other' }
  /** It has more than the limit. */
  | { readonly kind: 'large' }
  /** The system refused; `code` is its name for why. */
  | { readonly kind: 'failed'; readonly code: string };

/**
 * Reads the regular file at `path` up to `sizeMax` bytes. Never waits for a pipe or a device.
 *
 * @param follow - Whether a symbolic link at the end of the path is followed.
 */
export function readBounded(path: string, sizeMax: number, follow: boolean): BoundedRead {
  const noFollow = follow ? 0 : constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | noFollow);
  } catch (error) {
    return { kind: 'failed', code: errorCode(error) };
  }
  try {
    if (!fstatSync(fd).isFile()) return { kind: 'other' };
    return readAll(fd, sizeMax);
  } catch (error) {
    return { kind: 'failed', code: errorCode(error) };
  } finally {
    closeSync(fd);
  }
}

/** The name of a system error: `ENOENT`. @throws what is none. */
export function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  throw error;
}

function readAll(fd: number, sizeMax: number): BoundedRead {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(CHUNK_SIZE);
    const count = readSync(fd, chunk, 0, CHUNK_SIZE, null);
    if (count === 0) break;
    total += count;
    if (total > sizeMax) return { kind: 'large' };
    chunks.push(chunk.subarray(0, count));
  }
  return { kind: 'bytes', bytes: Buffer.concat(chunks, total) };
}
