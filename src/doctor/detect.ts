/** What kind of capture some bytes are, by their content alone; names of files lie too often. */

import { hasSlotLine } from './lspci-text.ts';
import { asciiText } from './sys-tree.ts';

/** LIMIT: bytes looked at. Whatever tells the kinds apart stands within them. */
const HEAD_MAX = 65_536;
/** LIMIT: characters of the name of an XML root element that are looked at. */
const ROOT_NAME_MAX = 32;
/** A block of a tar archive. */
const TAR_BLOCK_SIZE = 512;
const TAR_CHECKSUM_AT = 148;
const TAR_CHECKSUM_SIZE = 8;

/** The kinds of file that captures come in. `machine-spec` is any JSON object. */
export type CaptureFormat =
  'machine-spec' | 'lspci' | 'tar' | 'gzip' | 'bzip2' | 'nccl-xml' | 'hwloc-xml' | 'unknown';

/** Tells the kind of `bytes`; nothing is said of whether the rest of it is sound. */
export function detectFormat(bytes: Uint8Array): CaptureFormat {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return 'gzip';
  if (asciiText(bytes.subarray(0, 4)).startsWith('BZh')) return 'bzip2';
  if (isTar(bytes)) return 'tar';
  const text = textHead(bytes);
  if (text.startsWith('{')) return 'machine-spec';
  if (text.startsWith('<')) return xmlFormat(text);
  return hasSlotLine(text) ? 'lspci' : 'unknown';
}

/** A tar archive has no magic number in its oldest form; every header has a sum over itself. */
function isTar(bytes: Uint8Array): boolean {
  if (bytes.length < TAR_BLOCK_SIZE) return false;
  const field = bytes.subarray(TAR_CHECKSUM_AT, TAR_CHECKSUM_AT + TAR_CHECKSUM_SIZE);
  const octal = /^ *([0-7]+)[ \0]*$/.exec(asciiText(field))?.[1];
  if (octal === undefined) return false;
  let sum = 0;
  for (const [at, byte] of bytes.subarray(0, TAR_BLOCK_SIZE).entries()) {
    const isField = at >= TAR_CHECKSUM_AT && at < TAR_CHECKSUM_AT + TAR_CHECKSUM_SIZE;
    sum += isField ? 0x20 : byte;
  }
  return sum === Number.parseInt(octal, 8);
}

function textHead(bytes: Uint8Array): string {
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  return asciiText(bytes.subarray(hasMark ? 3 : 0, HEAD_MAX)).trimStart();
}

/** By the root element, which may stand after declarations and comments. */
function xmlFormat(text: string): CaptureFormat {
  let at = 0;
  while (text.startsWith('<?', at) || text.startsWith('<!', at)) {
    const end = text.startsWith('<!--', at) ? '-->' : '>';
    const found = text.indexOf(end, at);
    if (found < 0) return 'unknown';
    at = found + end.length;
    while (/\s/.test(text.charAt(at))) at += 1;
  }
  const root = /^<([A-Za-z]\w*)/.exec(text.slice(at, at + ROOT_NAME_MAX))?.[1];
  if (root === 'system') return 'nccl-xml';
  return root === 'topology' ? 'hwloc-xml' : 'unknown';
}
