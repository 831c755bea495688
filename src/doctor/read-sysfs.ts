/**
 * Reads a machine off sysfs, live or copied. Nothing is asked but files: no privilege is needed,
 * and what root alone may read is `unknown` without it.
 *
 * @source reference/p2p-topology.md 3.1, 3.2
 */

import { InputError, PAGE_SIZE } from '../base/index.ts';
import { type CpuSpec, formatBdf, type MachineSpec, parseBdf } from '../machine/index.ts';
import { assembleMachine } from './assemble.ts';
import type { CaptureFacts, FunctionDraft, MemoryEvidence, MemorySize } from './capture.ts';
import { parseCpuText } from './cpu-text.ts';
import { type IommuEvidence, iommuModeOf } from './iommu-mode.ts';
import { NoteTally } from './note-tally.ts';
import { findSysRoot, joinPath, readText, type SysTree } from './sys-tree.ts';
import { readSysfsFunction } from './sysfs-function.ts';
import { findFunctions } from './sysfs-scan.ts';

const GROUPS = 'sys/kernel/iommu_groups';
const NODES = 'sys/devices/system/node';
const DMI = 'sys/devices/virtual/dmi/id';
/** Where people put what `lscpu` printed beside a copy of sysfs. */
const CPU_FILES = ['proc/cpuinfo', 'proc/lscpu', 'lscpu', 'lscpu.txt', 'lscpu.log'];
const KIBIBYTE = 1024;
/** LIMIT: nodes of one machine, as in a `MachineSpec`. */
const NODES_MAX = 1024;
/** LIMIT: ranges of RAM; firmware lists a few dozen. */
const RANGES_MAX = 1024;

/**
 * Reads a machine from `tree`, whose top holds `sys/…`, or is the inside of it, or holds a folder
 * that does.
 *
 * @param source - What errors and the title call it.
 * @param facts - What the caller knows; used where the tree is silent.
 * @returns A machine for `readMachineSpec` to check; what was assumed stands in `notes`.
 * @throws {@link InputError} if there is no PCI function, or a file holds what no kernel writes;
 *   `place` is its path.
 */
export function machineFromSysfs(
  tree: SysTree,
  source: string,
  facts: CaptureFacts = {},
): MachineSpec {
  const root = findSysRoot(tree);
  if (root === null) {
    throw new InputError(source, '', 'expected a copy of /sys with bus/pci or devices/pci… in it');
  }
  const notes: string[] = [];
  const tally = new NoteTally();
  const groups = groupsOf(root);
  const found = findFunctions(root, source, notes);
  const functions = found.map((fn) => readSysfsFunction(root, fn, groups, source, tally));
  const iommu = iommuModeOf(iommuEvidence(root, functions, facts), notes);
  return assembleMachine({
    source,
    facts,
    title: titleOf(root),
    cpu: cpuOf(root) ?? facts.cpu ?? null,
    iommu,
    memory: memoryOf(root, source),
    functions,
    notes: [...notes, ...tally.notes()],
  });
}

/** IOMMU group by address, as the groups list their members. */
function groupsOf(tree: SysTree): ReadonlyMap<string, number> {
  const groups = new Map<string, number>();
  for (const group of tree.list(GROUPS) ?? []) {
    if (!/^\d{1,9}$/.test(group)) continue;
    for (const name of tree.list(`${GROUPS}/${group}/devices`) ?? []) {
      const bdf = parseBdf(name);
      if (bdf !== null) groups.set(formatBdf(bdf), Number(group));
    }
  }
  return groups;
}

function iommuEvidence(
  tree: SysTree,
  functions: readonly FunctionDraft[],
  facts: CaptureFacts,
): IommuEvidence {
  const units = tree.list('sys/class/iommu');
  const groups = new Set(functions.map(({ iommuGroup }) => iommuGroup).filter((g) => g !== null));
  const types = new Set<string>();
  for (const group of groups) {
    const type = readText(tree, `${GROUPS}/${group}/type`);
    if (type !== null) types.add(type);
  }
  // A copy that keeps the links of drivers would have kept those of groups.
  const showsGroups =
    units !== null || tree.list(GROUPS) !== null || functions.some(({ driver }) => driver !== null);
  const hasIommu = groups.size > 0 || (units !== null && units.length > 0);
  return {
    hasIommu: hasIommu || (showsGroups ? false : null),
    groupTypes: [...types],
    cmdline: readText(tree, 'proc/cmdline') ?? facts.cmdline ?? null,
  };
}

function cpuOf(tree: SysTree): CpuSpec | null {
  for (const path of CPU_FILES) {
    const cpu = parseCpuText(readText(tree, path) ?? '');
    if (cpu !== null) return cpu;
  }
  return null;
}

function titleOf(tree: SysTree): string | null {
  const words = ['sys_vendor', 'product_name'].map((name) => readText(tree, joinPath(DMI, name)));
  const title = words.filter((word) => word !== null && word !== '').join(' ');
  return title === '' ? null : title;
}

function memoryOf(tree: SysTree, source: string): MemoryEvidence {
  const ranges = rangesIn(readText(tree, 'proc/iomem') ?? '');
  const sizes = nodeSizes(tree);
  if (sizes.length > NODES_MAX) {
    throw new InputError(source, NODES, `expected at most ${NODES_MAX} nodes with memory`);
  }
  if (sizes.length > 0) return { ranges, sizes };
  const size = totalIn(readText(tree, 'proc/meminfo') ?? '');
  return { ranges, sizes: size === null ? [] : [{ node: 0, size }] };
}

function nodeSizes(tree: SysTree): MemorySize[] {
  const sizes: MemorySize[] = [];
  for (const name of tree.list(NODES) ?? []) {
    const node = Number(/^node(\d{1,4})$/.exec(name)?.[1] ?? Number.NaN);
    const size = totalIn(readText(tree, `${NODES}/${name}/meminfo`) ?? '');
    if (node < NODES_MAX && size !== null && size > 0) sizes.push({ node, size });
  }
  return sizes.sort((one, other) => one.node - other.node);
}

/** `MemTotal`, in bytes, of a `meminfo`. */
function totalIn(text: string): number | null {
  const digits = /^(?:Node \d+ )?MemTotal: *(\d{1,12}) kB$/m.exec(text)?.[1];
  return digits === undefined ? null : Number(digits) * KIBIBYTE;
}

/** `System RAM` at the top level of `/proc/iomem`; for an ordinary user all addresses are 0. */
function rangesIn(text: string): MemoryEvidence['ranges'] {
  const ranges: { start: number; size: number }[] = [];
  let last = 0;
  for (const match of text.matchAll(/^([0-9a-f]{8,13})-([0-9a-f]{8,13}) : System RAM$/gm)) {
    const start = Number.parseInt(match[1] ?? '', 16);
    const end = Number.parseInt(match[2] ?? '', 16) + 1;
    const first = Math.max(Math.ceil(start / PAGE_SIZE) * PAGE_SIZE, last);
    const size = Math.floor(end / PAGE_SIZE) * PAGE_SIZE - first;
    if (end === 1 || size <= 0 || ranges.length === RANGES_MAX) continue;
    ranges.push({ start: first, size });
    last = first + size;
  }
  return ranges;
}
