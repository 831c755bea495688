/**
 * A tar archive as a tree in memory. Nothing is unpacked to disk, and no entry is taken on trust.
 */

import { Parser, type ReadEntry } from 'tar';
import { InputError, isInputError } from '../base/index.ts';
import { MapTree, oneLine, oneLinePath, type TreeEntry } from '../doctor/index.ts';

/** LIMIT: entries; a whole /sys of a large server has about half. */
const ENTRIES_MAX = 200_000;
/** LIMIT: bytes of all files together. */
const BYTES_MAX = 256 * 2 ** 20;
/** LIMIT: directories one in another; a chain of 64 bridges is the longest that a machine has. */
const DEPTH_MAX = 128;
/** LIMIT: characters of a path, as in Linux. */
const PATH_MAX = 4096;
/** LIMIT: bytes of a header that extends another: long names, times. */
const META_SIZE_MAX = 65_536;

const FILE_TYPES: ReadonlySet<string> = new Set(['File', 'OldFile', 'ContiguousFile']);
const DIRECTORY_TYPES: ReadonlySet<string> = new Set(['Directory', 'GNUDumpDir']);

/**
 * Reads an archive that is in memory as a whole.
 *
 * @param source - What errors call it.
 * @throws {@link InputError} if it is damaged, cut short, or exceeds a limit; `place` is the entry.
 */
export function readTar(bytes: Uint8Array, source: string): MapTree {
  const collector = new Collector(source);
  let sawEnd = false;
  const parser = new Parser({ strict: true, zstd: false, maxMetaEntrySize: META_SIZE_MAX });
  parser.on('entry', (entry: ReadEntry) => collector.take(entry));
  parser.on('eof', () => {
    sawEnd = true;
  });
  parser.on('error', (error: Error) => {
    throw error;
  });
  try {
    // All bytes are at hand, so the parser is done when this returns.
    parser.end(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    if (isInputError(error) || !(error instanceof Error)) throw error;
    throw collector.problem(`expected a sound tar archive: ${oneLine(error.message)}`);
  }
  if (!sawEnd) throw collector.problem('expected the end mark of the archive behind this');
  return new MapTree(source, collector.entries);
}

/** Takes entries as the parser finds them. */
class Collector {
  readonly entries: TreeEntry[] = [];
  private readonly source: string;
  /** For hard links, which name an earlier file. */
  private readonly contents = new Map<string, Uint8Array>();
  private count = 0;
  private total = 0;
  private last = '';

  constructor(source: string) {
    this.source = source;
  }

  /** An error at the last entry. */
  problem(problem: string): InputError {
    return new InputError(this.source, oneLinePath(this.last), problem);
  }

  take(entry: ReadEntry): void {
    const { path, type } = entry;
    this.checkLimits(entry);
    if (FILE_TYPES.has(type)) {
      const chunks: Uint8Array[] = [];
      entry.on('data', (chunk) => chunks.push(chunk));
      entry.on('end', () => this.addFile(path, Buffer.concat(chunks)));
      return;
    }
    entry.resume();
    if (DIRECTORY_TYPES.has(type)) this.entries.push({ kind: 'directory', path });
    const target = entry.linkpath ?? '';
    if (type === 'SymbolicLink') this.entries.push({ kind: 'link', path, target });
    if (type !== 'Link') return;
    const bytes = this.contents.get(target);
    if (bytes === undefined) {
      throw this.problem(`expected a file before it that it is linked to, ${oneLinePath(target)}`);
    }
    this.addFile(path, bytes);
  }

  private addFile(path: string, bytes: Uint8Array): void {
    this.contents.set(path, bytes);
    this.entries.push({ kind: 'file', path, bytes });
  }

  private checkLimits({ path, size }: ReadEntry): void {
    this.last = path;
    this.count += 1;
    this.total += size;
    if (this.count > ENTRIES_MAX) throw this.problem(`expected at most ${ENTRIES_MAX} entries`);
    if (this.total > BYTES_MAX) throw this.problem(`expected at most ${BYTES_MAX} bytes of files`);
    if (path.length > PATH_MAX || path.split('/').length > DEPTH_MAX) {
      throw this.problem(`expected a path of at most ${DEPTH_MAX} parts, ${PATH_MAX} characters`);
    }
  }
}
