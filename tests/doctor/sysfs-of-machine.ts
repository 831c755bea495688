/** A `MachineSpec` as the sysfs that Linux would show of it: the inverse of `machineFromSysfs`. */

import type { TreeEntry } from '../../src/doctor/index.ts';
import { type FunctionSpec, formatBdf, type MachineSpec } from '../../src/machine/index.ts';
import { encodeConfig } from '../../src/machine/pci/encode-config.ts';
import { textFile } from './fixture.ts';

/** What differs between the copies that people make. */
export interface CopyOptions {
  /** Whether `sys/bus/pci/devices` is in the copy. */
  readonly hasLinks: boolean;
  /** Whether the link speed files are there; old kernels have none. */
  readonly hasSpeeds: boolean;
}

/** The entries of a copy of /sys made by root. */
export function sysfsOfMachine(spec: MachineSpec, options: CopyOptions): TreeEntry[] {
  const byAddress = new Map(spec.functions.map((fn) => [fn.address, fn]));
  const entries: TreeEntry[] = [];
  for (const fn of spec.functions) {
    const path = pathOf(fn, byAddress);
    entries.push(...filesOf(fn, path, offsetOf(fn, spec, byAddress), options));
    if (!options.hasLinks) continue;
    const target = path.replace(/^sys/, '../../..');
    entries.push({ kind: 'link', path: `sys/bus/pci/devices/${fn.address}`, target });
  }
  return entries;
}

function filesOf(
  fn: FunctionSpec,
  path: string,
  busOffset: number,
  options: CopyOptions,
): TreeEntry[] {
  const hex = (value: number, digits: number): string =>
    `0x${value.toString(16).padStart(digits, '0')}\n`;
  const file = (name: string, text: string): TreeEntry => textFile(`${path}/${name}`, text);
  const link = (name: string, target: string): TreeEntry => ({
    kind: 'link',
    path: `${path}/${name}`,
    target,
  });
  const entries = [
    file('vendor', hex(fn.vendor, 4)),
    file('device', hex(fn.device, 4)),
    file('subsystem_vendor', hex(fn.subsystemVendor, 4)),
    file('subsystem_device', hex(fn.subsystemDevice, 4)),
    file('class', hex(fn.classCode, 6)),
    file('revision', hex(fn.revision, 2)),
    file('numa_node', `${fn.node ?? -1}\n`),
    file('resource', resourceOf(fn)),
    { kind: 'file', path: `${path}/config`, bytes: encodeConfig(fn, busOffset) } as const,
  ];
  if (fn.driver !== null) entries.push(link('driver', `../bus/pci/drivers/${fn.driver}`));
  if (fn.iommuGroup !== null) {
    entries.push(link('iommu_group', `../kernel/iommu_groups/${fn.iommuGroup}`));
  }
  if (fn.physicalFunction !== null) entries.push(link('physfn', `../${fn.physicalFunction}`));
  if (!options.hasSpeeds || fn.link === null) return entries;
  const speed = (value: number | null): string =>
    value === null ? 'Unknown\n' : `${value.toFixed(1)} GT/s PCIe\n`;
  const width = (value: number | null): string => `${value ?? 255}\n`;
  return [
    ...entries,
    file('current_link_speed', speed(fn.link.speed)),
    file('current_link_width', width(fn.link.width)),
    file('max_link_speed', speed(fn.link.maxSpeed)),
    file('max_link_width', width(fn.link.maxWidth)),
  ];
}

/** 13 lines; 17 for a bridge, with its windows. */
function resourceOf({ bars, bridge }: FunctionSpec): string {
  const line = (start: number, end: number, flags: number): string =>
    [start, end, flags].map((value) => `0x${value.toString(16).padStart(16, '0')}`).join(' ');
  const lines: string[] = Array.from({ length: bridge === null ? 13 : 17 }, () => line(0, 0, 0));
  for (const { index, kind, address, size, prefetchable, is64 } of bars) {
    const flags =
      (kind === 'io' ? 0x40101 : 0x40200) |
      (prefetchable ? 0x2008 : 0) |
      (is64 ? 0x100004 : 0) |
      (address === 0 ? 0x20000000 : 0);
    lines[index] = line(address, address + size - 1, flags);
  }
  return `${lines.join('\n')}\n`;
}

function pathOf(fn: FunctionSpec, byAddress: ReadonlyMap<string, FunctionSpec>): string {
  const above = byAddress.get(fn.parent ?? '');
  if (above !== undefined) return `${pathOf(above, byAddress)}/${fn.address}`;
  const shown = fn.physicalFunction ?? fn.address;
  return `sys/devices/pci${shown.slice(0, -'00.0'.length - 1)}/${fn.address}`;
}

function offsetOf(
  fn: FunctionSpec,
  spec: MachineSpec,
  byAddress: ReadonlyMap<string, FunctionSpec>,
): number {
  let top = fn;
  for (;;) {
    const above = byAddress.get(top.parent ?? top.physicalFunction ?? '');
    if (above === undefined) break;
    top = above;
  }
  const bridge = spec.hostBridges.find(({ domain, bus }) =>
    top.address.startsWith(formatBdf({ domain, bus, device: 0, function: 0 }).slice(0, -4)),
  );
  return bridge?.busOffset ?? 0;
}
