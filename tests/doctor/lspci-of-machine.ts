/**
 * A `MachineSpec` as `lspci -vvvxxxx` would print it: regions, node, group and driver, and the
 * bytes.
 */

import { type FunctionSpec, type MachineSpec, parseBdf } from '../../src/machine/index.ts';
import { encodeConfig } from '../../src/machine/pci/encode-config.ts';

/** Virtual functions are left out, for `encodeConfig` writes no SR-IOV capability. */
export function lspciOfMachine(spec: MachineSpec): string {
  const byAddress = new Map(spec.functions.map((fn) => [fn.address, fn]));
  return spec.functions
    .filter((fn) => fn.physicalFunction === null)
    .map((fn) => functionText(fn, offsetOf(fn, spec, byAddress)))
    .join('\n');
}

function functionText(fn: FunctionSpec, busOffset: number): string {
  const lines = [`${fn.address} Class 0000: Device ffff:ffff`, '\tControl: I/O- Mem-'];
  if (fn.node !== null) lines.push(`\tNUMA node: ${fn.node}`);
  if (fn.iommuGroup !== null) lines.push(`\tIOMMU group: ${fn.iommuGroup}`);
  for (const { index, kind, address, size, prefetchable, is64 } of fn.bars) {
    const at = address === 0 ? '<unassigned>' : address.toString(16);
    const flags = `(${is64 ? '64' : '32'}-bit, ${prefetchable ? '' : 'non-'}prefetchable)`;
    const what = kind === 'io' ? `I/O ports at ${at}` : `Memory at ${at} ${flags}`;
    lines.push(`\tRegion ${index}: ${what} [size=${sizeText(size)}]`);
  }
  if (fn.driver !== null) lines.push(`\tKernel driver in use: ${fn.driver}`);
  const bytes = encodeConfig(fn, busOffset);
  for (let start = 0; start < bytes.length; start += 16) {
    const hex = Array.from(bytes.subarray(start, start + 16), (byte) =>
      byte.toString(16).padStart(2, '0'),
    );
    lines.push(`${start.toString(16).padStart(2, '0')}: ${hex.join(' ')}`);
  }
  return `${lines.join('\n')}\n`;
}

/** As `lspci` prints it: the largest unit that divides it. */
function sizeText(size: number): string {
  let rest = size;
  for (const unit of ['', 'K', 'M', 'G']) {
    if (rest % 1024 !== 0) return `${rest}${unit}`;
    rest /= 1024;
  }
  return `${rest}T`;
}

function offsetOf(
  fn: FunctionSpec,
  spec: MachineSpec,
  byAddress: ReadonlyMap<string, FunctionSpec>,
): number {
  let top = fn;
  for (let above = byAddress.get(fn.parent ?? ''); above !== undefined;) {
    top = above;
    above = byAddress.get(above.parent ?? '');
  }
  const bdf = parseBdf(top.address);
  const bridge = spec.hostBridges.find(
    ({ domain, bus }) => domain === bdf?.domain && bus === bdf.bus,
  );
  return bridge?.busOffset ?? 0;
}
