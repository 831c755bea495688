/**
 * What the lines of `lspci` about one function mean. Only what is printed is told: the fields of a
 * shorter listing are null, never a guess.
 *
 * @source reference/p2p-topology.md 3.4
 */

import type { AcsSpec, LinkSpec, PciType, WindowSpec } from '../machine/index.ts';
import type { VirtualFunctions } from './capture.ts';
import type { LspciFunction } from './lspci-text.ts';
import { classOfName } from './pci-class.ts';

/** Command register bits, in the order of `Control:`. */
const COMMAND_FLAGS = [
  ...['I/O', 'Mem', 'BusMaster', 'SpecCycle', 'MemWINV', 'VGASnoop'],
  ...['ParErr', 'Stepping', 'SERR', 'FastB2B', 'DisINTx'],
];
/** ACS bits, in the order of `ACSCap:` and `ACSCtl:`. */
const ACS_FLAGS = [
  ...['SrcValid', 'TransBlk', 'ReqRedir', 'CmpltRedir'],
  ...['UpstreamFwd', 'EgressCtrl', 'DirectTrans'],
];
const COMMAND_IO = 0x1;
const COMMAND_MEMORY = 0x2;
const COMMAND_BUS_MASTER = 0x4;
const SIZE_UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/** The words behind `Express (v2)`; none begins another. */
const EXPRESS_TYPES: readonly (readonly [string, PciType])[] = [
  ['Root Port', 'root-port'],
  ['Upstream Port', 'upstream-port'],
  ['Downstream Port', 'downstream-port'],
  ['Endpoint', 'endpoint'],
  ['Legacy Endpoint', 'legacy-endpoint'],
  ['Root Complex Integrated Endpoint', 'root-complex-endpoint'],
  ['Root Complex Event Collector', 'root-complex-event-collector'],
  ['PCI-Express to PCI', 'pcie-to-pci-bridge'],
  ['PCI/PCI-X to PCI-Express', 'pci-to-pcie-bridge'],
];

/** A `Region` line. */
export interface LspciRegion {
  readonly index: number;
  readonly kind: 'memory' | 'io';
  /** CPU physical address; 0 if none is assigned. */
  readonly address: number;
  /** Bytes; null if not printed. */
  readonly size: number | null;
  readonly prefetchable: boolean;
  readonly is64: boolean;
}

/** A pair of ids. */
export interface LspciIds {
  readonly vendor: number;
  readonly device: number;
}

/** Everything that the text says of one function. Null: it does not say. */
export interface LspciFields {
  readonly ids: LspciIds | null;
  readonly subsystem: LspciIds | null;
  readonly classCode: number | null;
  readonly revision: number;
  readonly command: number | null;
  readonly regions: readonly LspciRegion[];
  readonly buses: { readonly secondary: number; readonly subordinate: number } | null;
  readonly memory: WindowSpec | null;
  readonly prefetch: WindowSpec | null;
  /** Null also if the capability is not there; see {@link LspciFields.seesCapabilities}. */
  readonly type: PciType | null;
  /** True if capabilities were readable, or there are none. */
  readonly seesCapabilities: boolean;
  readonly acs: AcsSpec | null | 'unknown';
  readonly link: LinkSpec | null;
  readonly node: number | null;
  readonly iommuGroup: number | null;
  readonly driver: string | null;
  readonly virtualFunctions: VirtualFunctions | null;
}

/** Reads the title and the details of `fn`. */
export function readLspciFields(fn: LspciFunction): LspciFields {
  const start = fn.details.findIndex((line) => line.startsWith('Capabilities:'));
  const head = start < 0 ? fn.details : fn.details.slice(0, start);
  const capabilities = start < 0 ? [] : fn.details.slice(start);
  const flags = head.find((line) => line.startsWith('Flags:')) ?? '';
  const sees = seesCapabilities(head, capabilities);
  const title = readTitle(fn.title);
  return {
    ...title,
    subsystem: idsIn(after(head, 'Subsystem:') ?? ''),
    command: readCommand(head, flags),
    regions: readRegions(head),
    buses: readBuses(head),
    memory: readWindow(after(head, 'Memory behind bridge:')),
    prefetch: readWindow(after(head, 'Prefetchable memory behind bridge:')),
    type: readType(capabilities),
    seesCapabilities: sees,
    acs: readAcs(capabilities, sees),
    link: readLink(capabilities),
    node: numberIn(/^(?:Flags:.*, )?NUMA node:? (\d+)/, [...head, flags]),
    iommuGroup: numberIn(/^(?:Flags:.*, )?IOMMU group:? (\d+)/, [...head, flags]),
    driver: /^\S+/.exec(after(fn.details, 'Kernel driver in use:') ?? '')?.[0] ?? null,
    virtualFunctions: readVirtualFunctions(capabilities, title.ids),
  };
}

function readTitle(title: string): Pick<LspciFields, 'ids' | 'classCode' | 'revision'> {
  const [, className = '', rest = ''] = /^(.*?): (.*)$/.exec(title) ?? [];
  const printed = /^(?:Class )?([0-9a-f]{4})$|\[([0-9a-f]{4})\]$/i.exec(className);
  const digits = printed?.[1] ?? printed?.[2];
  const base = digits === undefined ? classOfName(className) : Number.parseInt(digits, 16);
  const interfaceByte = hexIn(/\(prog-if ([0-9a-f]{2})/i, rest) ?? 0;
  return {
    ids: idsIn(rest),
    classCode: base === null ? null : base * 0x100 + interfaceByte,
    revision: hexIn(/\(rev ([0-9a-f]{2})\)/i, rest) ?? 0,
  };
}

/**
 * Ids stand in brackets behind the names (`-nn`), or instead of them. Of several the last counts.
 */
function idsIn(text: string): LspciIds | null {
  const bare = /^(?:Device )?([0-9a-f]{4}):([0-9a-f]{4})\b/i.exec(text);
  const match = bare ?? [...text.matchAll(/\[([0-9a-f]{4}):([0-9a-f]{4})\]/gi)].at(-1);
  if (match === undefined) return null;
  const [, vendor = '', device = ''] = match;
  return { vendor: Number.parseInt(vendor, 16), device: Number.parseInt(device, 16) };
}

/** `Control:` has all bits. `Flags:` of `-v` has one of them; regions tell the others. */
function readCommand(head: readonly string[], flags: string): number | null {
  const control = after(head, 'Control:');
  if (control !== null) return bitsOf(control, COMMAND_FLAGS);
  if (flags === '') return null;
  const answers = (form: RegExp): boolean =>
    head.some((line) => form.test(line) && !/\[disabled\]|at </.test(line));
  return (
    (answers(/I\/O ports at |^I\/O behind bridge/) ? COMMAND_IO : 0) |
    (answers(/Memory at |^(?:Prefetchable m|M)emory behind bridge/) ? COMMAND_MEMORY : 0) |
    (/\bbus master\b/.test(flags) ? COMMAND_BUS_MASTER : 0)
  );
}

/** `-v` leaves the numbers of the regions out; then they are counted. */
function readRegions(head: readonly string[]): LspciRegion[] {
  const FORM =
    /^(?:Region (\d): )?(?:\[\w+\] )?(Memory|I\/O ports) at (<[\w-]+>|[0-9a-f]{1,16})( .*)?$/i;
  const regions: LspciRegion[] = [];
  let next = 0;
  for (const line of head) {
    const match = FORM.exec(line);
    if (match === null) continue;
    const [, digit, kind, address = '', rest = ''] = match;
    const index = digit === undefined ? next : Number(digit);
    const is64 = rest.includes('64-bit');
    next = index + (is64 ? 2 : 1);
    regions.push({
      index,
      kind: kind === 'Memory' ? 'memory' : 'io',
      address: address.startsWith('<') ? 0 : Number.parseInt(address, 16),
      size: readSize(rest),
      prefetchable: /\bprefetchable\b/.test(rest) && !rest.includes('non-prefetchable'),
      is64,
    });
  }
  return regions;
}

function readSize(text: string): number | null {
  const match = /\[size=(\d{1,9})([KMGTP]?)\]/.exec(text);
  if (match === null) return null;
  return Number(match[1]) * 1024 ** SIZE_UNITS.indexOf(match[2] ?? '');
}

function readBuses(head: readonly string[]): LspciFields['buses'] {
  const line = after(head, 'Bus:') ?? '';
  const secondary = hexIn(/\bsecondary=([0-9a-f]{2})\b/, line);
  const subordinate = hexIn(/\bsubordinate=([0-9a-f]{2})\b/, line);
  return secondary === null || subordinate === null ? null : { secondary, subordinate };
}

function readWindow(text: string | null): WindowSpec | null {
  const match = /^([0-9a-f]{4,16})-([0-9a-f]{4,16})\b(.*)$/.exec(text ?? '');
  if (match === null || match[3]?.includes('[disabled]') === true) return null;
  const base = Number.parseInt(match[1] ?? '', 16);
  const limit = Number.parseInt(match[2] ?? '', 16);
  return base <= limit ? { base, limit } : null;
}

function readType(capabilities: readonly string[]): PciType | null {
  for (const line of capabilities) {
    const words = /^Capabilities: \[[0-9a-f]+\] Express (?:\(v\d+\) )?(.*)$/.exec(line)?.[1];
    const known = EXPRESS_TYPES.find(([name]) => words?.startsWith(name));
    if (known !== undefined) return known[1];
  }
  return null;
}

function seesCapabilities(head: readonly string[], capabilities: readonly string[]): boolean {
  if (capabilities.some((line) => line.includes('<access denied>'))) return false;
  if (capabilities.length > 0) return true;
  return /\bCap-/.test(after(head, 'Status:') ?? '');
}

/** `-v` names the capability without its control bits; then those are not known. */
function readAcs(capabilities: readonly string[], sees: boolean): LspciFields['acs'] {
  const capability = after(capabilities, 'ACSCap:');
  const control = after(capabilities, 'ACSCtl:');
  if (capability !== null && control !== null) {
    return { capability: bitsOf(capability, ACS_FLAGS), control: bitsOf(control, ACS_FLAGS) };
  }
  const isNamed = capabilities.some((line) => line.includes('Access Control Services'));
  return sees && !isNamed ? null : 'unknown';
}

function readLink(capabilities: readonly string[]): LinkSpec | null {
  const now = after(capabilities, 'LnkSta:');
  const most = after(capabilities, 'LnkCap:');
  if (now === null && most === null) return null;
  return {
    speed: decimalIn(/\bSpeed ([\d.]+)GT\/s/, now ?? ''),
    width: decimalIn(/\bWidth x(\d+)/, now ?? ''),
    maxSpeed: decimalIn(/\bSpeed ([\d.]+)GT\/s/, most ?? ''),
    maxWidth: decimalIn(/\bWidth x(\d+)/, most ?? ''),
  };
}

function readVirtualFunctions(
  capabilities: readonly string[],
  ids: LspciIds | null,
): VirtualFunctions | null {
  const counts = capabilities.find((line) => line.startsWith('Initial VFs:')) ?? '';
  const places = after(capabilities, 'VF offset:') ?? '';
  const count = decimalIn(/\bNumber of VFs: (\d+)/, counts) ?? 0;
  const offset = decimalIn(/^(\d+)/, places) ?? 0;
  const stride = decimalIn(/\bstride: (\d+)/, places) ?? 0;
  if (count === 0 || offset === 0) return null;
  const device = hexIn(/\bDevice ID: ([0-9a-f]{4})/, places) ?? 0;
  return { count, offset, stride, vendor: ids?.vendor ?? 0, device };
}

/** What stands behind `label` in the first line that begins with it. */
function after(lines: readonly string[], label: string): string | null {
  const line = lines.find((candidate) => candidate.startsWith(label));
  return line === undefined ? null : line.slice(label.length).trim();
}

/** The bits whose flag has a plus. */
function bitsOf(text: string, flags: readonly string[]): number {
  const set = new Set(text.split(/[\s,]+/));
  return flags.reduce((bits, flag, at) => (set.has(`${flag}+`) ? bits | (1 << at) : bits), 0);
}

function numberIn(pattern: RegExp, lines: readonly string[]): number | null {
  for (const line of lines) {
    const value = decimalIn(pattern, line);
    if (value !== null) return value;
  }
  return null;
}

function decimalIn(pattern: RegExp, text: string): number | null {
  const value = Number(pattern.exec(text)?.[1] ?? Number.NaN);
  return Number.isFinite(value) ? value : null;
}

function hexIn(pattern: RegExp, text: string): number | null {
  const digits = pattern.exec(text)?.[1];
  return digits === undefined ? null : Number.parseInt(digits, 16);
}
