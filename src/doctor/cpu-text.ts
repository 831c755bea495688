/** Which CPU a machine has, from what its tools print: `/proc/cpuinfo`, `lscpu`, or three words. */

import type { CpuSpec } from '../machine/index.ts';

/** LIMIT: characters looked at. The first processor stands first; a big machine lists hundreds. */
const TEXT_MAX = 65_536;

/** Vendors whose CPUs are x86, as they name themselves. */
const X86_VENDORS: ReadonlySet<string> = new Set([
  'AuthenticAMD',
  'CentaurHauls',
  'GenuineIntel',
  'HygonGenuine',
  'Shanghai',
]);

/** Makers of Arm CPUs by the number in the main id register, named as `lscpu` names them. */
const ARM_IMPLEMENTERS: ReadonlyMap<number, string> = new Map([
  [0x41, 'ARM'],
  [0x42, 'Broadcom'],
  [0x43, 'Cavium'],
  [0x46, 'FUJITSU'],
  [0x48, 'HiSilicon'],
  [0x4e, 'NVIDIA'],
  [0x50, 'APM'],
  [0x51, 'Qualcomm'],
  [0x53, 'Samsung'],
  [0x56, 'Marvell'],
  [0x61, 'Apple'],
  [0x6d, 'Microsoft'],
  [0x70, 'Phytium'],
  [0xc0, 'Ampere'],
]);

/** Fields of the first processor, by name in lower case. */
type CpuFields = ReadonlyMap<string, string>;

/**
 * Reads the CPU out of `text`: a `/proc/cpuinfo` (its first processor), the output of `lscpu` or
 * `lscpu -J`, or the short form `AuthenticAMD:25:1`, which is vendor, family and, if known, model.
 *
 * @returns Null if `text` is none of these. Arm CPUs have family 0; their model is the part number
 *   in `/proc/cpuinfo`, the variant in `lscpu`.
 */
export function parseCpuText(text: string): CpuSpec | null {
  const head = text.slice(0, TEXT_MAX);
  const short = shortForm(head.trim());
  if (short !== null) return short;
  const fields = /^\s*\{/.test(head) ? jsonFields(head) : textFields(head);
  return fromCpuinfo(fields) ?? fromLscpu(fields);
}

function shortForm(text: string): CpuSpec | null {
  const match = /^([A-Za-z]+):(0x[0-9a-f]{1,4}|\d{1,5})(?::(0x[0-9a-f]{1,4}|\d{1,5}))?$/i.exec(
    text,
  );
  if (match === null) return null;
  const [, vendor = '', family = '', model = '0'] = match;
  const arch = archOfVendor(vendor);
  return arch === null ? null : { arch, vendor, family: Number(family), model: Number(model) };
}

function archOfVendor(vendor: string): string | null {
  if (X86_VENDORS.has(vendor)) return 'x86_64';
  return [...ARM_IMPLEMENTERS.values()].includes(vendor) ? 'arm64' : null;
}

function textFields(text: string): CpuFields {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    if (name === 'processor' && fields.has('processor')) break;
    if (!fields.has(name)) fields.set(name, line.slice(colon + 1).trim());
  }
  return fields;
}

function jsonFields(text: string): CpuFields {
  const fields = new Map<string, string>();
  for (const match of text.matchAll(/"field"\s*:\s*"([^"]+?):?"\s*,\s*"data"\s*:\s*"([^"]*)"/g)) {
    const [, name = '', data = ''] = match;
    if (!fields.has(name.toLowerCase())) fields.set(name.toLowerCase(), data.trim());
  }
  return fields;
}

function fromCpuinfo(fields: CpuFields): CpuSpec | null {
  const vendor = fields.get('vendor_id');
  const family = count(fields.get('cpu family'));
  if (vendor !== undefined && family !== null) {
    const flags = fields.get('flags')?.split(' ') ?? ['lm'];
    const arch = flags.includes('lm') ? 'x86_64' : 'i686';
    return { arch, vendor, family, model: count(fields.get('model')) ?? 0 };
  }
  const implementer = count(fields.get('cpu implementer'));
  if (implementer === null) return null;
  const maker = ARM_IMPLEMENTERS.get(implementer) ?? `0x${implementer.toString(16)}`;
  return { arch: 'arm64', vendor: maker, family: 0, model: count(fields.get('cpu part')) ?? 0 };
}

function fromLscpu(fields: CpuFields): CpuSpec | null {
  const machine = fields.get('architecture');
  const vendor = fields.get('vendor id');
  if (machine === undefined || vendor === undefined || vendor === '') return null;
  return {
    arch: machine === 'aarch64' ? 'arm64' : machine,
    vendor,
    family: count(fields.get('cpu family')) ?? 0,
    model: count(fields.get('model')) ?? 0,
  };
}

function count(text: string | undefined): number | null {
  return text !== undefined && /^(?:0x[0-9a-f]{1,8}|\d{1,9})$/i.test(text) ? Number(text) : null;
}
