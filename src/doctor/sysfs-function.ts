/** One PCI function as its directory in sysfs shows it. @source reference/p2p-topology.md 3.1 */

import {
  type BarSpec,
  type BridgeSpec,
  type ConfigFacts,
  formatBdf,
  parseBdf,
} from '../machine/index.ts';
import type { FunctionDraft } from './capture.ts';
import { configEvidence, noteProblems } from './config-evidence.ts';
import { barsOfRegisters, busAddressesOf, virtualFunctionsOf } from './draft-registers.ts';
import type { NoteTally } from './note-tally.ts';
import { CLASS_PCI_BRIDGE, CLASS_UNKNOWN } from './pci-class.ts';
import { joinPath, linkName, type SysTree } from './sys-tree.ts';
import {
  barsOfResources,
  type Resource,
  readLinkFiles,
  readResources,
  SysDirectory,
} from './sysfs-files.ts';
import type { FoundFunction } from './sysfs-scan.ts';

const COMMAND_ASSUMED = 0x6;
const ID_MAX = 0xffff;
const CLASS_MAX = 0xffffff;
const REVISION_MAX = 0xff;
/** Lines of `resource` with a bridge's windows: with and without room for virtual functions. */
const WINDOW_LINES: ReadonlyMap<number, number> = new Map([
  [18, 14],
  [17, 14],
  [12, 8],
  [11, 8],
]);

/**
 * Reads one function.
 *
 * @param groups - IOMMU group by address, for copies that have no link to it.
 * @param tally - Takes what had to be assumed.
 * @throws {@link InputError} if a file holds what no kernel writes.
 */
export function readSysfsFunction(
  tree: SysTree,
  found: FoundFunction,
  groups: ReadonlyMap<string, number>,
  source: string,
  tally: NoteTally,
): FunctionDraft {
  const directory = new SysDirectory(tree, found.path, source);
  const address = formatBdf(found.bdf);
  const evidence = configEvidence(tree.read(joinPath(found.path, 'config')));
  const facts = evidence?.facts ?? null;
  if (evidence === null) {
    tally.add(address, 'configuration space is not in the source; what stands there is assumed');
  }
  noteProblems(address, evidence, tally);
  const resources = readResources(directory);
  const physicalFunction = functionLinked(directory, 'physfn');
  const ids = readIds(directory, facts, address, tally);
  return {
    bdf: found.bdf,
    parent: found.parent,
    ...ids,
    type: facts === null || facts.type === 'unknown' ? null : facts.type,
    isExpress: directory.has('max_link_width'),
    command: facts?.command ?? (evidence === null ? COMMAND_ASSUMED : 0),
    bars: readBars(resources, facts, address, tally),
    busAddresses: facts === null ? new Map() : busAddressesOf(facts),
    bridge: readBridge(directory, resources, facts, ids.classCode),
    acs: facts?.acs ?? (facts === null ? 'unknown' : null),
    link: readLinkFiles(directory, facts?.link ?? null),
    node: nodeOf(directory),
    iommuGroup: groupOf(directory) ?? groups.get(address) ?? null,
    driver: linkName(tree, joinPath(found.path, 'driver')),
    physicalFunction,
    virtualFunctions: facts === null ? null : virtualFunctionsOf(facts),
    config: evidence?.hex ?? null,
  };
}

/** The kernel's files, else its summary in `uevent`, else the registers. */
function readIds(
  directory: SysDirectory,
  facts: ConfigFacts | null,
  address: string,
  tally: NoteTally,
): Pick<
  FunctionDraft,
  'vendor' | 'device' | 'subsystemVendor' | 'subsystemDevice' | 'classCode' | 'revision'
> {
  const uevent = directory.text('uevent') ?? '';
  const inUevent = (form: RegExp, group: number): number | null => {
    const digits = form.exec(uevent)?.[group];
    return digits === undefined ? null : Number.parseInt(digits, 16);
  };
  const ID = /^PCI_ID=([0-9A-F]{4}):([0-9A-F]{4})$/m;
  const SUBSYSTEM = /^PCI_SUBSYS_ID=([0-9A-F]{4}):([0-9A-F]{4})$/m;
  const CLASS = /^PCI_CLASS=([0-9A-F]{1,6})$/m;
  const vendor = directory.hex('vendor', ID_MAX) ?? inUevent(ID, 1) ?? facts?.vendor;
  const device = directory.hex('device', ID_MAX) ?? inUevent(ID, 2) ?? facts?.device;
  const classCode = directory.hex('class', CLASS_MAX) ?? inUevent(CLASS, 1) ?? facts?.classCode;
  if (classCode === undefined) tally.add(address, 'its class is not in the source');
  return {
    vendor: vendor ?? 0,
    device: device ?? 0,
    classCode: classCode ?? CLASS_UNKNOWN,
    subsystemVendor:
      directory.hex('subsystem_vendor', ID_MAX) ??
      inUevent(SUBSYSTEM, 1) ??
      facts?.subsystemVendor ??
      0,
    subsystemDevice:
      directory.hex('subsystem_device', ID_MAX) ??
      inUevent(SUBSYSTEM, 2) ??
      facts?.subsystemDevice ??
      0,
    revision: directory.hex('revision', REVISION_MAX) ?? facts?.revision ?? 0,
  };
}

function readBars(
  resources: readonly Resource[] | null,
  facts: ConfigFacts | null,
  address: string,
  tally: NoteTally,
): BarSpec[] {
  if (resources === null) {
    tally.add(address, 'the file resource is not in the source; sizes of BARs are assumed');
    return facts === null ? [] : barsOfRegisters(facts);
  }
  return barsOfResources(resources);
}

/** The registers, else what the kernel's files say of a function that is a bridge. */
function readBridge(
  directory: SysDirectory,
  resources: readonly Resource[] | null,
  facts: ConfigFacts | null,
  classCode: number,
): BridgeSpec | null {
  if (facts !== null) {
    if (facts.bridge === null) return null;
    const { secondary, subordinate, memory, prefetch } = facts.bridge;
    return { secondary, subordinate, memory, prefetch };
  }
  const secondary = directory.decimal('secondary_bus_number');
  const subordinate = directory.decimal('subordinate_bus_number');
  if (secondary === null && classCode >>> 8 !== CLASS_PCI_BRIDGE) return null;
  const first = WINDOW_LINES.get(resources?.length ?? 0);
  const window = (at: number | undefined): BridgeSpec['memory'] => {
    const { start = 0, size = 0 } = (at === undefined ? undefined : resources?.[at]) ?? {};
    return size === 0 ? null : { base: start, limit: start + size - 1 };
  };
  return {
    secondary: secondary ?? 0,
    subordinate: subordinate ?? secondary ?? 0,
    memory: window(first),
    prefetch: window(first === undefined ? undefined : first + 1),
  };
}

/** Linux shows -1 for a node that it does not know. */
function nodeOf(directory: SysDirectory): number | null {
  const node = directory.decimal('numa_node');
  return node === null || node < 0 ? null : node;
}

function groupOf(directory: SysDirectory): number | null {
  const name = linkName(directory.tree, joinPath(directory.path, 'iommu_group')) ?? '';
  return /^\d{1,9}$/.test(name) ? Number(name) : null;
}

function functionLinked(directory: SysDirectory, link: string): string | null {
  const bdf = parseBdf(linkName(directory.tree, joinPath(directory.path, link)) ?? '');
  return bdf === null ? null : formatBdf(bdf);
}
