/** Facts that hold for every machine that works: for presets and generated ones. */

import { expect } from 'vitest';
import { present } from '../../src/base/index.ts';
import type {
  BarSpec,
  FunctionSpec,
  HostBridgeSpec,
  MachineSpec,
  WindowSpec,
} from '../../src/machine/spec/machine-spec.ts';

/** The bridges above a function, the nearest first. */
export function bridgesAbove(
  byAddress: ReadonlyMap<string, FunctionSpec>,
  fn: FunctionSpec,
): FunctionSpec[] {
  const above: FunctionSpec[] = [];
  for (let at = fn.parent; at !== null;) {
    const bridge = present(byAddress.get(at), at);
    above.push(bridge);
    at = bridge.parent;
  }
  return above;
}

/** The functions of a machine by address. */
export function functionsOf(machine: MachineSpec): Map<string, FunctionSpec> {
  return new Map(machine.functions.map((fn) => [fn.address, fn]));
}

/** The host bridge whose root bus is above `fn`. */
export function hostBridgeOf(
  machine: MachineSpec,
  byAddress: ReadonlyMap<string, FunctionSpec>,
  fn: FunctionSpec,
): HostBridgeSpec {
  const top = bridgesAbove(byAddress, fn).at(-1) ?? fn;
  const [domain, bus] = top.address.split(':').map((digits) => Number.parseInt(digits, 16));
  const found = machine.hostBridges.find((root) => root.domain === domain && root.bus === bus);
  return present(found, `host bridge of ${top.address}`);
}

/** Expects every memory BAR to lie in a window of every bridge above it, and apart from RAM. */
export function expectReachable(machine: MachineSpec): void {
  const byAddress = functionsOf(machine);
  const roots = new Map<string, HostBridgeSpec>();
  for (const fn of machine.functions) {
    const above = bridgesAbove(byAddress, fn);
    const top = above.at(-1) ?? fn;
    const root = roots.get(top.address) ?? hostBridgeOf(machine, byAddress, fn);
    roots.set(top.address, root);
    for (const bar of fn.bars) {
      if (bar.kind !== 'memory') continue;
      const first = bar.address + root.busOffset;
      const range = { base: first, limit: first + bar.size - 1 };
      for (const { bridge } of above) {
        const window = isHigh(bar) ? bridge?.prefetch : bridge?.memory;
        if (!isWithin(range, window ?? null))
          expect.fail(`no window lets ${fn.address} be reached`);
      }
      for (const { start, size } of machine.memory) {
        const seen = start + root.dmaOffset;
        const isApart = range.base >= seen + size || range.limit < seen;
        if (!isApart) expect.fail(`a device sees RAM where ${fn.address} is`);
      }
    }
  }
}

function isHigh(bar: BarSpec): boolean {
  return bar.prefetchable && bar.is64;
}

function isWithin(range: WindowSpec, window: WindowSpec | null): boolean {
  return window !== null && range.base >= window.base && range.limit <= window.limit;
}
