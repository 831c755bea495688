/**
 * A tar reader of a few lines, so that what the real one makes of an archive can be told from its
 * bytes.
 */

/** What an archive holds, by path. */
export interface PlainTar {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly links: ReadonlyMap<string, string>;
}

const BLOCK_SIZE = 512;

/** Reads ustar, pax and GNU long names; nothing is checked. */
export function plainTar(bytes: Buffer): PlainTar {
  const files = new Map<string, Buffer>();
  const links = new Map<string, string>();
  let longPath = '';
  let longTarget = '';
  for (let at = 0; at + BLOCK_SIZE <= bytes.length;) {
    const text = (start: number, length: number): string =>
      bytes.toString('utf8', at + start, at + start + length).replace(/\0.*$/s, '');
    if (text(0, 100) === '') break;
    const size = Number.parseInt(text(124, 12).trim() || '0', 8);
    const content = bytes.subarray(at + BLOCK_SIZE, at + BLOCK_SIZE + size);
    const type = text(156, 1);
    at += BLOCK_SIZE + Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
    if (type === 'x') {
      longPath = /^\d+ path=(.*)$/m.exec(content.toString())?.[1] ?? '';
      longTarget = /^\d+ linkpath=(.*)$/m.exec(content.toString())?.[1] ?? '';
      continue;
    }
    if (type === 'L') longPath = content.toString().replace(/\0.*$/s, '');
    if (type === 'K') longTarget = content.toString().replace(/\0.*$/s, '');
    if (type === 'L' || type === 'K') continue;
    at -= BLOCK_SIZE + Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
    const prefix = text(345, 155);
    const path = longPath || (prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`);
    if (type === '2') links.set(path, longTarget || text(157, 100));
    if (type === '0' || type === '') files.set(path, content);
    at += BLOCK_SIZE + Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
    longPath = '';
    longTarget = '';
  }
  return { files, links };
}
