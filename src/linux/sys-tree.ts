/**
 * A real directory as the doctor's {@link SysTree}: `/` of this machine, or a copy of its sysfs.
 * Links are shown and never followed, so that a copy from elsewhere cannot lead out of its
 * directory.
 */

import { lstatSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SysTree } from '../doctor/index.ts';
import { errorCode, readBounded } from './bounded-read.ts';

/** LIMIT: bytes of one file; `/proc/cpuinfo` of the largest machines has a tenth of it. */
const FILE_SIZE_MAX = 16 * 2 ** 20;
/** LIMIT: names in one directory. */
const NAMES_MAX = 100_000;

/** The files below a directory. */
export class DirectoryTree implements SysTree {
  private readonly root: string;
  /** True for directories, by path, that are reached without a link. */
  private readonly plain = new Map<string, boolean>();
  private denied = 0;

  /**
   * @param root - An existing directory; links in its own path are followed.
   * @throws A system error if it cannot be resolved.
   */
  constructor(root: string) {
    this.root = realpathSync.native(root);
  }

  /** How many reads and listings failed for lack of permission. */
  get deniedCount(): number {
    return this.denied;
  }

  read(path: string): Uint8Array | null {
    if (!this.isPlain(dirname(path))) return null;
    const result = readBounded(join(this.root, path), FILE_SIZE_MAX, false);
    if (result.kind === 'failed') this.countDenied(result.code);
    return result.kind === 'bytes' ? result.bytes : null;
  }

  list(path: string): readonly string[] | null {
    if (!this.isPlain(path)) return null;
    const names = this.attempt(() => readdirSync(join(this.root, path)));
    return names === null ? null : names.slice(0, NAMES_MAX).sort();
  }

  link(path: string): string | null {
    if (!this.isPlain(dirname(path))) return null;
    const full = join(this.root, path);
    return this.attempt(() => (lstatSync(full).isSymbolicLink() ? readlinkSync(full) : null));
  }

  /** True if no part of `path` is a link: then it lies below the root. */
  private isPlain(path: string): boolean {
    const known = this.plain.get(path);
    if (known !== undefined) return known;
    const full = join(this.root, path);
    const isInside = !path.split('/').includes('..');
    const isPlain = isInside && this.attempt(() => realpathSync.native(full)) === full;
    this.plain.set(path, isPlain);
    return isPlain;
  }

  private attempt<T>(action: () => T): T | null {
    try {
      return action();
    } catch (error) {
      this.countDenied(errorCode(error));
      return null;
    }
  }

  /**
   * Everything else that fails is as good as absent: a device that went, an attribute without
   * value.
   */
  private countDenied(code: string): void {
    if (code === 'EACCES' || code === 'EPERM') this.denied += 1;
  }
}
