/**
 * Reads a `MachineSpec` from JSON and checks that such a machine can exist: this file its fields,
 * `check-tree.ts` buses and bridges, `check-addresses.ts` memory. What it returns is complete
 * (defaults filled in), canonical (addresses in full, in ascending order) and may be trusted.
 *
 * It does not check that a machine is wise: a BAR outside the windows above it, a route that the
 * root complex drops and a node without memory are all machines that exist.
 */

import { ADDRESS_LIMIT, InputError, present } from '../../base/index.ts';
import { ACS_BITS } from '../pci/acs-registers.ts';
import { compareBdf, formatBdf, parseBdf } from '../pci/bdf.ts';
import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE } from '../pci/config-bytes.ts';
import { LINK_SPEEDS, LINK_WIDTHS } from '../pci/link-registers.ts';
import { PCI_TYPES } from '../pci/pcie-type.ts';
import { checkAddresses } from './check-addresses.ts';
import { checkTree } from './check-tree.ts';
import {
  type Fields,
  optional,
  Place,
  readBoolean,
  readInteger,
  readList,
  readNullable,
  readObject,
  readOneOf,
  readText,
  required,
  show,
} from './json-reader.ts';
import { parseJson } from './json-text.ts';
import {
  type AcsSpec,
  type BarSpec,
  type BridgeSpec,
  type CpuSpec,
  type FunctionSpec,
  type HostBridgeSpec,
  type LinkSpec,
  MACHINE_SCHEMA,
  type MachineSpec,
  type MemorySpec,
  type WindowSpec,
} from './machine-spec.ts';

/** LIMIT: all functions that a domain can name; the largest machines have a tenth. */
export const FUNCTIONS_MAX: number = 65_536;

/** LIMIT: root buses; the largest machines have a few hundred. */
export const HOST_BRIDGES_MAX: number = 4096;

/** LIMIT: ranges of RAM, and notes; firmware tables list a few dozen. */
const LIST_MAX = 4096;
/** LIMIT: the kernel's `MAX_NUMNODES` is at most this. */
const NODE_MAX = 1023;
const INT32_MAX = 2 ** 31 - 1;
const NAME = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const CONFIG_SIZES: readonly number[] = [HEADER_SIZE, CONVENTIONAL_SIZE, EXTENDED_SIZE];

/**
 * Reads a machine from the text of a JSON file.
 *
 * @param text - At most 64 MiB.
 * @param source - What errors call the text: the file's name.
 * @returns A machine that {@link readMachineSpec} would return.
 * @throws {@link InputError} If the text is no JSON (`place` is line and column), or no valid
 *   machine (`place` is a path such as `functions[3].bars[0].size`).
 */
export function parseMachineSpec(text: string, source: string): MachineSpec {
  return readMachineSpec(parseJson(text, source), source);
}

/**
 * Reads a machine from a JSON value. Ids, addresses and sizes may be numbers or hexadecimal
 * strings; fields that `docs/machine-spec.md` gives a default may be left out; host bridges and
 * functions may stand in any order.
 *
 * @param json - What `JSON.parse` returned, or a `MachineSpec`.
 * @param source - What errors call it.
 * @returns A complete machine: host bridges and functions by ascending address, addresses with
 *   domain.
 * @throws {@link InputError} If it is no valid machine; `place` is a path in the value as given.
 */
export function readMachineSpec(json: unknown, source: string): MachineSpec {
  const machine = readObject(MACHINE)(json, new Place(source));
  const refuse = (place: string, problem: string): never => {
    throw new InputError(source, place, problem);
  };
  const functions = machine.functions.map((spec, index) => {
    return { index, spec, bdf: present(parseBdf(spec.address), 'an address that was read') };
  });
  checkTree(machine, functions, refuse);
  checkAddresses(machine, functions, refuse);
  return {
    ...machine,
    hostBridges: machine.hostBridges.toSorted(
      (one, other) => one.domain - other.domain || one.bus - other.bus,
    ),
    functions: functions
      .toSorted((one, other) => compareBdf(one.bdf, other.bdf))
      .map(({ spec }) => ({ ...spec, bars: byIndex(spec.bars) })),
  };
}

const NODE = readInteger(0, NODE_MAX);
const BUS = readInteger(0, 0xff);
const BITS_16 = readInteger(0, 0xffff);
const ADDRESS = readInteger(0, ADDRESS_LIMIT - 1);
const SIZE = readInteger(1, ADDRESS_LIMIT);
const OFFSET = readInteger(1 - ADDRESS_LIMIT, ADDRESS_LIMIT - 1);

const CPU: Fields<CpuSpec> = {
  arch: required(readText),
  vendor: required(readText),
  family: optional(BITS_16, 0),
  model: optional(BITS_16, 0),
};

const MEMORY: Fields<MemorySpec> = {
  node: optional(NODE, 0),
  start: required(ADDRESS),
  size: required(SIZE),
};

const HOST_BRIDGE: Fields<HostBridgeSpec> = {
  domain: optional(readInteger(0, 2 ** 32 - 1), 0),
  bus: required(BUS),
  node: optional(readNullable(NODE), null),
  busOffset: optional(OFFSET, 0),
  dmaOffset: optional(OFFSET, 0),
  peerForwarding: optional(readOneOf(['none', 'same-host-bridge', 'all'] as const), 'none'),
};

const BAR: Fields<BarSpec> = {
  index: required(readInteger(0, 5)),
  kind: optional(readOneOf(['memory', 'io'] as const), 'memory'),
  address: optional(ADDRESS, 0),
  size: required(SIZE),
  prefetchable: optional(readBoolean, false),
  is64: optional(readBoolean, false),
};

const WINDOW: Fields<WindowSpec> = {
  base: required(ADDRESS),
  limit: required(ADDRESS),
};

const BRIDGE: Fields<BridgeSpec> = {
  secondary: required(BUS),
  subordinate: required(BUS),
  memory: optional(readNullable(readObject(WINDOW)), null),
  prefetch: optional(readNullable(readObject(WINDOW)), null),
};

const ACS: Fields<AcsSpec> = {
  capability: required(readInteger(0, ACS_BITS)),
  control: required(readInteger(0, ACS_BITS)),
};

const LINK: Fields<LinkSpec> = {
  speed: optional(readNullable(readOneOf(LINK_SPEEDS)), null),
  width: optional(readNullable(readOneOf(LINK_WIDTHS)), null),
  maxSpeed: optional(readNullable(readOneOf(LINK_SPEEDS)), null),
  maxWidth: optional(readNullable(readOneOf(LINK_WIDTHS)), null),
};

const FUNCTION: Fields<FunctionSpec> = {
  address: required(readAddress),
  parent: optional(readNullable(readAddress), null),
  vendor: required(BITS_16),
  device: required(BITS_16),
  subsystemVendor: optional(BITS_16, 0),
  subsystemDevice: optional(BITS_16, 0),
  classCode: required(readInteger(0, 0xffffff)),
  revision: optional(readInteger(0, 0xff), 0),
  type: required(readOneOf(PCI_TYPES)),
  command: optional(BITS_16, 0x6),
  bars: optional(readList(readObject(BAR), 6), []),
  bridge: optional(readNullable(readObject(BRIDGE)), null),
  acs: optional(readAcsField, null),
  link: optional(readNullable(readObject(LINK)), null),
  node: optional(readNullable(NODE), null),
  iommuGroup: optional(readNullable(readInteger(0, INT32_MAX)), null),
  driver: optional(readNullable(readText), null),
  physicalFunction: optional(readNullable(readAddress), null),
  config: optional(readNullable(readConfig), null),
};

const MACHINE: Fields<MachineSpec> = {
  schema: required(readSchema),
  name: required(readName),
  title: required(readText),
  cpu: optional(readNullable(readObject(CPU)), null),
  coherentDma: optional(readBoolean, true),
  memory: required(readList(readObject(MEMORY), LIST_MAX)),
  iommu: optional(readOneOf(['off', 'passthrough', 'translated'] as const), 'off'),
  hostBridges: required(readList(readObject(HOST_BRIDGE), HOST_BRIDGES_MAX)),
  functions: required(readList(readObject(FUNCTION), FUNCTIONS_MAX)),
  notes: optional(readList(readText, LIST_MAX), []),
};

/** Names of the fields of every object in a machine, by what the object is. For documentation. */
export const MACHINE_FIELDS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    machine: MACHINE,
    cpu: CPU,
    memory: MEMORY,
    hostBridge: HOST_BRIDGE,
    function: FUNCTION,
    bar: BAR,
    bridge: BRIDGE,
    window: WINDOW,
    acs: ACS,
    link: LINK,
  }).map(([object, fields]) => [object, Object.keys(fields)]),
);

function byIndex(bars: readonly BarSpec[]): readonly BarSpec[] {
  return bars.toSorted((one, other) => one.index - other.index);
}

function readSchema(value: unknown, at: Place): typeof MACHINE_SCHEMA {
  if (value === MACHINE_SCHEMA) return MACHINE_SCHEMA;
  at.fail(`this program reads machines of schema "${MACHINE_SCHEMA}", got ${show(value)}`);
}

function readName(value: unknown, at: Place): string {
  const name = readText(value, at);
  return NAME.test(name) ? name : at.refuse('a name in kebab-case', value);
}

function readAddress(value: unknown, at: Place): string {
  const bdf = typeof value === 'string' ? parseBdf(value) : null;
  if (bdf === null) return at.refuse('a PCI address such as "0000:41:00.0"', value);
  return formatBdf(bdf);
}

function readAcsField(value: unknown, at: Place): AcsSpec | null | 'unknown' {
  if (value === null || value === 'unknown') return value;
  if (typeof value === 'string') return at.refuse('an object, null or "unknown"', value);
  return readObject(ACS)(value, at);
}

function readConfig(value: unknown, at: Place): string {
  if (typeof value !== 'string') return at.refuse('a string of hexadecimal digits', value);
  const sizes = CONFIG_SIZES.join(', ');
  if (!CONFIG_SIZES.includes(value.length / 2)) {
    at.fail(`expected ${sizes} bytes of two digits each, got ${value.length} characters`);
  }
  return /^[0-9a-f]*$/.test(value) ? value : at.refuse('lower-case hexadecimal digits', value);
}
