/**
 * Reads a machine from whatever people have: a directory, an archive, a listing, a `MachineSpec`.
 * The kind is told by content, not by name.
 */

import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { assertUnreachable, InputError } from '../base/index.ts';
import {
  asciiText,
  type CaptureFacts,
  type CaptureFormat,
  detectFormat,
  LSPCI_TEXT_MAX,
  machineFromLspci,
  machineFromSysfs,
  oneLine,
  oneLinePath,
} from '../doctor/index.ts';
import { type MachineSpec, parseMachineSpec, readMachineSpec } from '../machine/index.ts';
import { errorCode, readBounded } from './bounded-read.ts';
import { DirectoryTree } from './sys-tree.ts';
import { readTar } from './tar-tree.ts';

/** LIMIT: bytes of a file, and of what it unpacks to. A copy of a whole /sys is some 20 MB. */
const CAPTURE_SIZE_MAX = 256 * 2 ** 20;
const READABLE =
  'a directory or tar archive (also .gz) with a copy of /sys, the output of lspci -vvvxxxx, ' +
  'or a machine in JSON';

/** What the caller knows beside the capture. */
export interface CaptureOptions extends CaptureFacts {
  /** What the file is, if its content should not tell. Means nothing for a directory. */
  readonly format?: CaptureFormat;
}

/**
 * Reads the machine that `path` holds; `/` is the machine that this runs on.
 *
 * @returns A valid machine; what was assumed stands in its `notes`.
 * @throws {@link InputError} for everything that is wrong, in one line: no such file, of another
 *   kind, damaged, larger than the limits, or not a machine that can be.
 */
export async function readCapture(
  path: string,
  options: CaptureOptions = {},
): Promise<MachineSpec> {
  const source = oneLinePath(path);
  const spec = isDirectory(path, source)
    ? readDirectory(path, source, options)
    : await readBytes(readFile(path, source), source, options);
  return readMachineSpec(spec, source);
}

function isDirectory(path: string, source: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    throw new InputError(source, '', unreadable(errorCode(error)));
  }
}

function readDirectory(path: string, source: string, facts: CaptureFacts): MachineSpec {
  const tree = openDirectory(path, source);
  const spec = machineFromSysfs(tree, source, facts);
  if (tree.deniedCount === 0) return spec;
  const note = `${tree.deniedCount} files could not be read for lack of permission.`;
  return { ...spec, notes: [...spec.notes, note] };
}

function openDirectory(path: string, source: string): DirectoryTree {
  try {
    return new DirectoryTree(path);
  } catch (error) {
    throw new InputError(source, '', unreadable(errorCode(error)));
  }
}

function readFile(path: string, source: string): Uint8Array {
  const result = readBounded(path, CAPTURE_SIZE_MAX, true);
  switch (result.kind) {
    case 'bytes':
      return result.bytes;
    case 'large':
      throw new InputError(source, '', `expected at most ${CAPTURE_SIZE_MAX} bytes`);
    case 'other':
      throw new InputError(source, '', 'expected a regular file or a directory');
    case 'failed':
      throw new InputError(source, '', unreadable(result.code));
    default:
      return assertUnreachable(result);
  }
}

async function readBytes(
  packed: Uint8Array,
  source: string,
  options: CaptureOptions,
): Promise<MachineSpec> {
  const isGzip = detectFormat(packed) === 'gzip';
  const bytes = isGzip ? await unpack(packed, source) : packed;
  const wanted = isGzip && options.format === 'gzip' ? undefined : options.format;
  const found = detectFormat(bytes);
  // Asked before the caller's word: the tar library would unpack it, without our limits.
  const format = found === 'gzip' ? found : (wanted ?? found);
  switch (format) {
    case 'tar':
      return machineFromSysfs(readTar(bytes, source), source, options);
    case 'lspci':
      return machineFromLspci(lspciText(bytes, source), source, options);
    case 'machine-spec':
      return withFacts(parseMachineSpec(utf8Text(bytes, source), source), options);
    case 'nccl-xml':
    case 'hwloc-xml':
      throw new InputError(source, '', `expected ${READABLE}; this version reads no ${format}`);
    case 'bzip2':
      throw new InputError(source, '', 'expected no bzip2; unpack it first, with bunzip2');
    case 'gzip':
      throw new InputError(source, '', `expected ${isGzip ? 'no second gzip inside' : 'a gzip'}`);
    case 'unknown':
      throw new InputError(source, '', `expected ${READABLE}; found ${shown(bytes)}`);
    default:
      return assertUnreachable(format);
  }
}

async function unpack(packed: Uint8Array, source: string): Promise<Uint8Array> {
  try {
    return await promisify(gunzip)(packed, { maxOutputLength: CAPTURE_SIZE_MAX });
  } catch (error) {
    const code = errorCode(error);
    const problem =
      code === 'ERR_BUFFER_TOO_LARGE'
        ? `expected a gzip of at most ${CAPTURE_SIZE_MAX} bytes when unpacked`
        : `expected a whole and sound gzip, found ${code}`;
    throw new InputError(source, '', problem);
  }
}

function lspciText(bytes: Uint8Array, source: string): string {
  if (bytes.length <= LSPCI_TEXT_MAX) return asciiText(bytes);
  throw new InputError(source, '', `expected at most ${LSPCI_TEXT_MAX} bytes of lspci output`);
}

function utf8Text(bytes: Uint8Array, source: string): string {
  if (!isUtf8(bytes)) throw new InputError(source, '', 'expected text in UTF-8');
  return new TextDecoder().decode(bytes);
}

/** What a machine in JSON lacks, the caller may add. */
function withFacts(spec: MachineSpec, { cpu }: CaptureFacts): MachineSpec {
  return spec.cpu === null && cpu !== undefined ? { ...spec, cpu } : spec;
}

function unreadable(code: string): string {
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'expected a file or directory, found none';
  return `expected to be allowed to read it, found ${code}`;
}

function shown(bytes: Uint8Array): string {
  const HEAD_SIZE = 40;
  return bytes.length === 0 ? 'nothing' : `'${oneLine(asciiText(bytes.subarray(0, HEAD_SIZE)))}'`;
}
