/**
 * Writes a `MachineSpec` as JSON for people: every field, always in the same order, ids and
 * addresses in hexadecimal, small objects on one line. `read-machine-spec.ts` reads it back as it
 * was.
 */

import type {
  BarSpec,
  BridgeSpec,
  FunctionSpec,
  HostBridgeSpec,
  MachineSpec,
  WindowSpec,
} from './machine-spec.ts';

const LINE_LENGTH_MAX = 100;

/**
 * Writes `spec` as JSON text, the same text for equal machines.
 *
 * @returns Lines of at most about 100 characters, and a newline at the end. `parseMachineSpec`
 *   makes an equal machine of it.
 */
export function machineSpecToJson(spec: MachineSpec): string {
  const { schema, name, title, cpu, coherentDma, memory, iommu, notes } = spec;
  const json = {
    schema,
    name,
    title,
    cpu: cpu && { arch: cpu.arch, vendor: cpu.vendor, family: cpu.family, model: cpu.model },
    coherentDma,
    memory: memory.map(({ node, start, size }) => ({ node, start: hex(start), size: hex(size) })),
    iommu,
    hostBridges: spec.hostBridges.map(hostBridgeJson),
    functions: spec.functions.map(functionJson),
    notes,
  };
  return `${print(json, '', 0)}\n`;
}

/** What JSON can hold. */
type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

function hostBridgeJson(bridge: HostBridgeSpec): Json {
  return {
    domain: hex(bridge.domain, 4),
    bus: hex(bridge.bus, 2),
    node: bridge.node,
    busOffset: hex(bridge.busOffset),
    dmaOffset: hex(bridge.dmaOffset),
    peerForwarding: bridge.peerForwarding,
  };
}

function functionJson(fn: FunctionSpec): Json {
  const { acs, link } = fn;
  const bits = acs !== null && acs !== 'unknown' ? acs : null;
  return {
    address: fn.address,
    parent: fn.parent,
    vendor: hex(fn.vendor, 4),
    device: hex(fn.device, 4),
    subsystemVendor: hex(fn.subsystemVendor, 4),
    subsystemDevice: hex(fn.subsystemDevice, 4),
    classCode: hex(fn.classCode, 6),
    revision: hex(fn.revision, 2),
    type: fn.type,
    command: hex(fn.command, 4),
    bars: fn.bars.map(barJson),
    bridge: fn.bridge && bridgeJson(fn.bridge),
    acs: bits
      ? { capability: hex(bits.capability, 2), control: hex(bits.control, 2) }
      : (acs as null | 'unknown'),
    link: link && {
      speed: link.speed,
      width: link.width,
      maxSpeed: link.maxSpeed,
      maxWidth: link.maxWidth,
    },
    node: fn.node,
    iommuGroup: fn.iommuGroup,
    driver: fn.driver,
    physicalFunction: fn.physicalFunction,
    config: fn.config,
  };
}

function barJson(bar: BarSpec): Json {
  const { index, kind, prefetchable, is64 } = bar;
  return { index, kind, address: hex(bar.address), size: hex(bar.size), prefetchable, is64 };
}

function bridgeJson(bridge: BridgeSpec): Json {
  return {
    secondary: hex(bridge.secondary, 2),
    subordinate: hex(bridge.subordinate, 2),
    memory: windowJson(bridge.memory),
    prefetch: windowJson(bridge.prefetch),
  };
}

function windowJson(window: WindowSpec | null): Json {
  return window && { base: hex(window.base), limit: hex(window.limit) };
}

function hex(value: number, digits = 1): string {
  const sign = value < 0 ? '-' : '';
  return `${sign}0x${Math.abs(value).toString(16).padStart(digits, '0')}`;
}

/** One line if it fits behind `used` characters, else a line for each item. */
function print(json: Json, indent: string, used: number): string {
  if (typeof json !== 'object' || json === null) return JSON.stringify(json);
  const isList = Array.isArray(json);
  const pairs: (readonly [string, Json])[] = isList
    ? json.map((item: Json) => ['', item] as const)
    : Object.entries(json).map(([name, value]) => [`${JSON.stringify(name)}: `, value] as const);
  const [open, close] = isList ? ['[', ']'] : ['{', '}'];
  if (pairs.length === 0) return open + close;
  if (pairs.every(([, value]) => typeof value !== 'object' || value === null)) {
    const space = isList ? '' : ' ';
    const inside = pairs.map(([label, value]) => label + JSON.stringify(value)).join(', ');
    const line = open + space + inside + space + close;
    if (used + line.length < LINE_LENGTH_MAX) return line;
  }
  const deeper = `${indent}  `;
  const lines = pairs.map(([label, value]) => {
    const text = print(value, deeper, deeper.length + label.length);
    return deeper + label + text;
  });
  return `${open}\n${lines.join(',\n')}\n${indent}${close}`;
}
