/** Files that are written as a whole or not at all. */

import { randomUUID } from 'node:crypto';
import { realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InputError } from '../base/index.ts';
import { oneLinePath } from '../doctor/index.ts';

/**
 * Writes `text` to `path`: first to a name beside it, which then takes its place. What is no
 * regular file, such as `/dev/null`, is written to where it is.
 *
 * @throws {@link InputError} It cannot be written; nothing is left behind, and a file that was
 *   there is as it was.
 */
export function writeWhole(path: string, text: string): void {
  try {
    const target = existingTarget(path);
    if (target !== null && !statSync(target).isFile()) writeFileSync(target, text);
    else replaceFile(target ?? path, text);
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    const problem = `expected to be allowed to write it, found ${String(error.code)}`;
    throw new InputError(oneLinePath(path), '', problem);
  }
}

/** Where `path` leads; null if there is nothing yet. */
function existingTarget(path: string): string | null {
  try {
    return realpathSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

function replaceFile(path: string, text: string): void {
  const beside = join(dirname(path), `.${randomUUID()}.part`);
  try {
    writeFileSync(beside, text, { flag: 'wx' });
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}
