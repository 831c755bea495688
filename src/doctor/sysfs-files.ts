/**
 * The small text files of sysfs as values. A file that is missing is null: copies are partial and
 * users not always root. A file that holds nonsense is an error: something else was copied.
 */

import { ADDRESS_LIMIT, InputError } from '../base/index.ts';
import type { BarSpec, LinkSpec } from '../machine/index.ts';
import { oneLine, oneLinePath } from './one-line.ts';
import { joinPath, readText, type SysTree } from './sys-tree.ts';

/** LIMIT: lines of a `resource` file; Linux prints 7 to 18. */
const RESOURCES_MAX = 32;
const BARS_MAX = 6;
/** Flags of a resource. @source include/linux/ioport.h, v7.2 */
const FLAG_IO = 0x100;
const FLAG_MEMORY = 0x200;
const FLAG_PREFETCH = 0x2000;
const FLAG_64 = 0x100000;
const FLAG_UNSET = 0x20000000;
/** LIMIT: lanes of a link. Some devices show 63 or 255 where they do not know. */
const WIDTH_MAX = 32;

/** One directory of sysfs, with the name of its copy for errors. */
export class SysDirectory {
  readonly tree: SysTree;
  readonly path: string;
  private readonly source: string;

  constructor(tree: SysTree, path: string, source: string) {
    this.tree = tree;
    this.path = path;
    this.source = source;
  }

  /** `0x8086` and the like, up to `max`. */
  hex(name: string, max: number): number | null {
    const expected = `a hexadecimal number up to 0x${max.toString(16)}`;
    const value = this.value(name, /^(0x[0-9a-f]{1,8})$/i, expected);
    if (value !== null && value > max) throw this.problem(name, `expected ${expected}`);
    return value;
  }

  /** `255`; also `-1`. */
  decimal(name: string): number | null {
    return this.value(name, /^(-?\d{1,9})$/, 'a decimal number');
  }

  /** `32.0 GT/s PCIe`, in GT/s; null also for a speed that is not known. */
  speed(name: string): number | null {
    const speed = this.value(name, /^(?:(\d{1,3}(?:\.\d{1,2})?) GT\/s\b.*|Unknown.*|)$/, 'a speed');
    return speed === 0 ? null : speed;
  }

  /** Lanes; null also for a number that no link has. */
  width(name: string): number | null {
    const width = this.value(name, /^(?:(\d{1,3})|Unknown.*|)$/, 'a number of lanes');
    return width !== null && width <= WIDTH_MAX ? width : null;
  }

  /** True if the directory holds a regular file of that name that can be read. */
  has(name: string): boolean {
    return this.tree.read(joinPath(this.path, name)) !== null;
  }

  /** What is wrong with a file, as an error to throw. */
  problem(name: string, problem: string): InputError {
    return new InputError(this.source, oneLinePath(joinPath(this.path, name)), problem);
  }

  /** A file's text without the space around it. */
  text(name: string): string | null {
    return readText(this.tree, joinPath(this.path, name));
  }

  private value(name: string, form: RegExp, expected: string): number | null {
    const text = this.text(name);
    if (text === null) return null;
    const match = form.exec(text);
    if (match === null) throw this.problem(name, `expected ${expected}, found '${oneLine(text)}'`);
    return match[1] === undefined ? null : Number(match[1]);
  }
}

/** One line of `resource`. */
export interface Resource {
  /** CPU physical address; 0 if none is assigned. */
  readonly start: number;
  /** Bytes; 0 if the line is empty. */
  readonly size: number;
  readonly flags: number;
}

/** The lines of `resource`; null without the file. */
export function readResources(directory: SysDirectory): readonly Resource[] | null {
  const text = directory.text('resource');
  if (text === null) return null;
  const lines = text.split('\n');
  if (lines.length > RESOURCES_MAX) {
    throw directory.problem('resource', `expected at most ${RESOURCES_MAX} lines`);
  }
  return lines.map((line, at) => readResource(directory, line, at + 1));
}

/** The base address registers among the resources. */
export function barsOfResources(resources: readonly Resource[]): BarSpec[] {
  const bars: BarSpec[] = [];
  for (const [index, { start, size, flags }] of resources.slice(0, BARS_MAX).entries()) {
    if (size === 0 || (flags & (FLAG_IO | FLAG_MEMORY)) === 0) continue;
    bars.push({
      index,
      kind: (flags & FLAG_IO) !== 0 ? 'io' : 'memory',
      address: start,
      size,
      prefetchable: (flags & FLAG_PREFETCH) !== 0,
      is64: (flags & FLAG_64) !== 0,
    });
  }
  return bars;
}

/** The link files; `seen` fills in for those that are missing, as old kernels have none. */
export function readLinkFiles(directory: SysDirectory, seen: LinkSpec | null): LinkSpec | null {
  const pick = <T>(name: string, value: T, fallback: T | undefined): T | null =>
    directory.has(name) ? value : (fallback ?? null);
  const link: LinkSpec = {
    speed: pick('current_link_speed', directory.speed('current_link_speed'), seen?.speed),
    width: pick('current_link_width', directory.width('current_link_width'), seen?.width),
    maxSpeed: pick('max_link_speed', directory.speed('max_link_speed'), seen?.maxSpeed),
    maxWidth: pick('max_link_width', directory.width('max_link_width'), seen?.maxWidth),
  };
  return Object.values(link).every((value) => value === null) ? null : link;
}

function readResource(directory: SysDirectory, line: string, number: number): Resource {
  const match = /^0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})$/i.exec(line.trim());
  const [start = Number.NaN, end = Number.NaN, flagBits = Number.NaN] = (match ?? [])
    .slice(1)
    .map((digits) => Number.parseInt(digits, 16));
  if (Number.isNaN(flagBits)) {
    const problem = `expected start, end and flags, found '${oneLine(line)}'`;
    throw directory.problem(`resource line ${number}`, problem);
  }
  const flags = (flagBits % 2 ** 32) | 0;
  if (flags === 0 || end <= 0 || end < start) return { start: 0, size: 0, flags };
  if (end >= ADDRESS_LIMIT) {
    const problem = `expected an address below 2^52, found 0x${end.toString(16)}`;
    throw directory.problem(`resource line ${number}`, problem);
  }
  const isUnset = (flags & FLAG_UNSET) !== 0;
  return { start: isUnset ? 0 : start, size: end - start + 1, flags };
}
