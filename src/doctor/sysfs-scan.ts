/**
 * Where in sysfs the PCI functions are. The directory of links is followed if it is there; in
 * copies without it the device directories themselves are searched.
 *
 * @source reference/p2p-topology.md 3.1
 */

import { InputError } from '../base/index.ts';
import { type Bdf, formatBdf, parseBdf } from '../machine/index.ts';
import { FUNCTIONS_MAX } from './capture.ts';
import { joinPath, resolvePath, type SysTree } from './sys-tree.ts';

const LINKS = 'sys/bus/pci/devices';
const DEVICES = 'sys/devices';
/** LIMIT: directories that are looked into outside of PCI, for root buses below other hardware. */
const OUTSIDE_MAX = 5000;
/** LIMIT: how deep a directory may be; a bridge below a bridge can go on for 256 buses. */
const DEPTH_MAX = 320;
/** Parts of `sys/devices` that are large and have no hardware below. */
const NOT_HARDWARE: ReadonlySet<string> = new Set(['breakpoint', 'software', 'system', 'virtual']);

/** `pci0000:40`, the directory of a root bus. */
const ROOT_NAME = /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/;
/** As in a directory name: the domain is always there. */
const FUNCTION_NAME = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/** A function and its directory. */
export interface FoundFunction {
  readonly bdf: Bdf;
  /** Path of the directory with its files. */
  readonly path: string;
  /** Address of the bridge above; null on a root bus. `unknown`: the path does not say. */
  readonly parent: string | null | 'unknown';
}

/**
 * Finds all functions.
 *
 * @param notes - Takes a sentence if functions are named and not there.
 * @throws {@link InputError} if there is none, or too many.
 */
export function findFunctions(tree: SysTree, source: string, notes: string[]): FoundFunction[] {
  const linked = fromLinks(tree, notes);
  const found = linked.length > 0 ? linked : fromDirectories(tree);
  if (found.length === 0) {
    throw new InputError(source, LINKS, 'expected at least one PCI function');
  }
  if (found.length > FUNCTIONS_MAX) {
    throw new InputError(source, LINKS, `expected at most ${FUNCTIONS_MAX} PCI functions`);
  }
  return found;
}

function fromLinks(tree: SysTree, notes: string[]): FoundFunction[] {
  const found = new Map<string, FoundFunction>();
  let missing = 0;
  for (const name of tree.list(LINKS) ?? []) {
    const bdf = functionNamed(name);
    if (bdf === null) continue;
    const path = resolvePath(tree, joinPath(LINKS, name));
    if (path === null || tree.list(path) === null) missing += 1;
    else found.set(formatBdf(bdf), { bdf, path, parent: parentIn(path, bdf) });
  }
  for (const { path } of [...found.values()]) addAbove(path, found);
  if (missing > 0) notes.push(`${missing} of the functions in ${LINKS} are not in the copy.`);
  return [...found.values()];
}

/** Adds the bridges in a path, of which a partial copy may lack the links. */
function addAbove(path: string, found: Map<string, FoundFunction>): void {
  const parts = path.split('/');
  for (let length = parts.length - 1; length > 0; length -= 1) {
    const bdf = functionNamed(parts[length - 1] ?? '');
    if (bdf === null || found.has(formatBdf(bdf))) return;
    const above = parts.slice(0, length).join('/');
    found.set(formatBdf(bdf), { bdf, path: above, parent: parentIn(above, bdf) });
  }
}

/** Searches breadth first, inside of PCI only where functions and root buses can be. */
function fromDirectories(tree: SysTree): FoundFunction[] {
  const found = new Map<string, FoundFunction>();
  const ready = [{ path: DEVICES, depth: 1, isPci: false }];
  let outside = 0;
  for (const directory of ready) {
    if (!directory.isPci) outside += 1;
    if (outside > OUTSIDE_MAX || found.size > FUNCTIONS_MAX) break;
    if (directory.depth > DEPTH_MAX) continue;
    for (const name of tree.list(directory.path) ?? []) {
      const path = joinPath(directory.path, name);
      const bdf = functionNamed(name);
      const isPci = bdf !== null || ROOT_NAME.test(name);
      if (!isPci && (directory.isPci || NOT_HARDWARE.has(name))) continue;
      if (bdf !== null && tree.list(path) === null) continue;
      if (bdf !== null) found.set(formatBdf(bdf), { bdf, path, parent: parentIn(path, bdf) });
      ready.push({ path, depth: directory.depth + 1, isPci });
    }
  }
  return [...found.values()];
}

/** The parts of a path behind the last root bus are functions, each below the one before. */
function parentIn(path: string, bdf: Bdf): FoundFunction['parent'] {
  const parts = path.split('/');
  const root = parts.findLastIndex((part) => ROOT_NAME.test(part));
  const chain = parts.slice(root + 1).map(functionNamed);
  const own = chain.pop() ?? null;
  const isChain = root >= 0 && !chain.includes(null);
  if (!isChain || own === null || formatBdf(own) !== formatBdf(bdf)) return 'unknown';
  const above = chain.at(-1) ?? null;
  return above === null ? null : formatBdf(above);
}

function functionNamed(name: string): Bdf | null {
  return FUNCTION_NAME.test(name) ? parseBdf(name) : null;
}
