/**
 * The files of a machine, real or copied, as the doctor reads them: three methods over paths such
 * as `sys/bus/pci/devices`. It is not a file system: nothing is written, and nothing is followed
 * unasked.
 */

import { InputError } from '../base/index.ts';
import { oneLinePath } from './one-line.ts';

/** LIMIT: links that lead to links. Linux gives up after 40 as well. */
const HOPS_MAX = 40;
/** LIMIT: how deep below the top of a copy its `sys` may lie; people pack a folder in a folder. */
const COPY_DEPTH_MAX = 4;
/** LIMIT: directories looked at per level in the search for that top. */
const COPY_WIDTH_MAX = 32;

/** What `sys/devices` of a machine with PCI holds, and few other directories of that name do. */
const DEVICES = /^(?:pci[0-9a-f]{4,}:[0-9a-f]{2}|platform|LNXSYSTM:00)$/;

/**
 * Read access to a machine's files. Paths are relative, separated by `/`, without a leading one;
 * the empty path is the top. What is absent, of another kind or may not be read is null.
 */
export interface SysTree {
  /** The bytes of the regular file at `path`. */
  read(path: string): Uint8Array | null;
  /** The names in the directory at `path`, sorted. */
  list(path: string): readonly string[] | null;
  /** Where the symbolic link at `path` points, as written in it. */
  link(path: string): string | null;
}

/** One member of an archive. */
export type TreeEntry =
  | { readonly kind: 'file'; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

type TreeNode =
  | { readonly kind: 'file'; readonly bytes: Uint8Array }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'directory'; readonly names: Set<string> };

/** A tree in memory. Directories above an entry need no entry of their own. */
export class MapTree implements SysTree {
  private readonly nodes = new Map<string, TreeNode>([
    ['', { kind: 'directory', names: new Set() }],
  ]);

  /**
   * @param source - Where the entries come from, for the error.
   * @param entries - In any order; of two for one path the later counts.
   * @throws {@link InputError} for a path that leaves the tree, or leads through a file or link.
   */
  constructor(source: string, entries: Iterable<TreeEntry>) {
    for (const entry of entries) this.add(source, entry);
  }

  read(path: string): Uint8Array | null {
    const node = this.nodes.get(path);
    return node?.kind === 'file' ? node.bytes : null;
  }

  list(path: string): readonly string[] | null {
    const node = this.nodes.get(path);
    return node?.kind === 'directory' ? [...node.names].sort() : null;
  }

  link(path: string): string | null {
    const node = this.nodes.get(path);
    return node?.kind === 'link' ? node.target : null;
  }

  private add(source: string, entry: TreeEntry): void {
    const parts = pathParts(entry.path);
    if (parts === null) {
      throw new InputError(source, oneLinePath(entry.path), 'expected a path inside the archive');
    }
    const name = parts.pop();
    if (name === undefined) return;
    const above = this.directory(source, parts);
    const path = joinPath(parts.join('/'), name);
    above.add(name);
    if (entry.kind === 'file') this.nodes.set(path, { kind: 'file', bytes: entry.bytes });
    else if (entry.kind === 'link') this.nodes.set(path, { kind: 'link', target: entry.target });
    else this.directory(source, [...parts, name]);
  }

  private directory(source: string, parts: readonly string[]): Set<string> {
    let path = '';
    let names = this.namesAt(source, path);
    for (const part of parts) {
      names.add(part);
      path = joinPath(path, part);
      if (!this.nodes.has(path)) this.nodes.set(path, { kind: 'directory', names: new Set() });
      names = this.namesAt(source, path);
    }
    return names;
  }

  private namesAt(source: string, path: string): Set<string> {
    const node = this.nodes.get(path);
    if (node?.kind === 'directory') return node.names;
    throw new InputError(source, oneLinePath(path), 'expected a directory, found a file or a link');
  }
}

/**
 * The top of the copy in `tree`, as a tree that holds `sys/…`. The copy may be that already, or be
 * the inside of `sys`, or lie a few folders deep, as packed folders do. Null if there is none.
 */
export function findSysRoot(tree: SysTree): SysTree | null {
  let tops = [''];
  for (let depth = 0; depth <= COPY_DEPTH_MAX; depth += 1) {
    const below: string[] = [];
    for (const top of tops) {
      if (looksLikeSys(tree, joinPath(top, 'sys'))) return new SubTree(tree, top, false);
      if (looksLikeSys(tree, top)) return new SubTree(tree, top, true);
      for (const name of tree.list(top) ?? []) below.push(joinPath(top, name));
    }
    tops = below.slice(0, COPY_WIDTH_MAX);
  }
  return null;
}

/**
 * `path` with every symbolic link in it resolved inside the tree; links are relative, or absolute
 * from the top. Null if it leaves the tree or the links lead round in a circle. What the path names
 * need not exist: copies are often partial.
 */
export function resolvePath(tree: SysTree, path: string): string | null {
  const rest = path.split('/').reverse();
  const done: string[] = [];
  let hops = 0;
  while (rest.length > 0) {
    const part = rest.pop() ?? '';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (done.pop() === undefined) return null;
      continue;
    }
    done.push(part);
    const target = tree.link(done.join('/'));
    if (target === null) continue;
    hops += 1;
    if (hops > HOPS_MAX) return null;
    done.pop();
    if (target.startsWith('/')) done.length = 0;
    rest.push(...target.split('/').reverse());
  }
  return done.join('/');
}

/** The last part of the symbolic link at `path`: the driver's name, the group's number; or null. */
export function linkName(tree: SysTree, path: string): string | null {
  const name = tree.link(path)?.split('/').pop();
  return name === undefined || name === '' ? null : name;
}

/** The text of a file, without the zeros that `tar` pads with and the space around; or null. */
export function readText(tree: SysTree, path: string): string | null {
  const bytes = tree.read(path);
  if (bytes === null) return null;
  const end = bytes.indexOf(0);
  return asciiText(end < 0 ? bytes : bytes.subarray(0, end)).trim();
}

/** Bytes as text, one character a byte; what is not ASCII becomes U+FFFD. */
export function asciiText(bytes: Uint8Array): string {
  const CHUNK = 8192;
  const chunks: string[] = [];
  for (let start = 0; start < bytes.length; start += CHUNK) {
    const latin1 = String.fromCharCode(...bytes.subarray(start, start + CHUNK));
    chunks.push(latin1.replace(/[\u0080-\u00ff]/g, '\ufffd'));
  }
  return chunks.join('');
}

/** `name` below `path`. */
export function joinPath(path: string, name: string): string {
  return path === '' ? name : `${path}/${name}`;
}

/**
 * A part of another tree. If `isSys`, the part is the inside of `sys` and there is nothing beside.
 */
class SubTree implements SysTree {
  private readonly tree: SysTree;
  private readonly top: string;
  private readonly isSys: boolean;

  constructor(tree: SysTree, top: string, isSys: boolean) {
    this.tree = tree;
    this.top = top;
    this.isSys = isSys;
  }

  read(path: string): Uint8Array | null {
    const inner = this.inner(path);
    return inner === null ? null : this.tree.read(inner);
  }

  list(path: string): readonly string[] | null {
    const inner = this.inner(path);
    return inner === null ? null : this.tree.list(inner);
  }

  link(path: string): string | null {
    const inner = this.inner(path);
    return inner === null ? null : this.tree.link(inner);
  }

  private inner(path: string): string | null {
    if (!this.isSys) return path === '' ? this.top : joinPath(this.top, path);
    if (path === 'sys') return this.top;
    return path.startsWith('sys/') ? joinPath(this.top, path.slice('sys/'.length)) : null;
  }
}

function looksLikeSys(tree: SysTree, path: string): boolean {
  return (
    tree.list(joinPath(path, 'bus/pci/devices')) !== null ||
    (tree.list(joinPath(path, 'devices')) ?? []).some((name) => DEVICES.test(name))
  );
}

function pathParts(path: string): string[] | null {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return parts.includes('..') ? null : parts;
}
