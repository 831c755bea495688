/**
 * What a function is, told from its place: for captures by ordinary users, who see 64 bytes of
 * configuration space and so no PCI Express capability.
 */

import { bridgeRule, type PciType } from '../machine/index.ts';

/** What is needed of a function. */
export interface TypedFunction {
  readonly address: string;
  readonly parent: string | null;
  readonly isBridge: boolean;
  readonly classCode: number;
  /** Null: to be told. */
  readonly type: PciType | null;
  /** True if the source shows a link. */
  readonly isExpress: boolean;
}

/** A PCI-to-PCI bridge that takes what nobody else claims; only conventional ones do. */
const CLASS_SUBTRACTIVE_BRIDGE = 0x06_04_01;

/**
 * The type of every function by address. Parents must be among `functions`, and not in a circle.
 */
export function guessTypes(functions: readonly TypedFunction[]): ReadonlyMap<string, PciType> {
  const below = new Map<string | null, TypedFunction[]>();
  for (const fn of functions) {
    const siblings = below.get(fn.parent);
    if (siblings === undefined) below.set(fn.parent, [fn]);
    else siblings.push(fn);
  }
  const types = new Map<string, PciType>();
  const ready = [...(below.get(null) ?? [])];
  for (let fn = ready.pop(); fn !== undefined; fn = ready.pop()) {
    const children = below.get(fn.address) ?? [];
    const above = fn.parent === null ? null : (types.get(fn.parent) ?? null);
    types.set(fn.address, agreed(fn.type ?? guess(fn, above, children), fn.isBridge));
    ready.push(...children);
  }
  return types;
}

/** A type that says port of what is no bridge is not believed, nor the other way round. */
function agreed(type: PciType, isBridge: boolean): PciType {
  const rule = bridgeRule(type);
  if (rule === 'maybe' || (rule === 'always') === isBridge) return type;
  return isBridge ? 'conventional' : 'endpoint';
}

function guess(
  fn: TypedFunction,
  above: PciType | null,
  children: readonly TypedFunction[],
): PciType {
  if (!fn.isBridge) return guessEndpoint(fn, above);
  if (fn.classCode === CLASS_SUBTRACTIVE_BRIDGE) return 'conventional';
  if (above === null) return 'root-port';
  if (above === 'upstream-port') return 'downstream-port';
  if (above !== 'root-port' && above !== 'downstream-port') return 'conventional';
  // Below the upstream port of a switch there are its downstream ports and nothing else.
  return children.every((child) => child.isBridge) ? 'upstream-port' : 'pcie-to-pci-bridge';
}

function guessEndpoint(fn: TypedFunction, above: PciType | null): PciType {
  if (above === null) return fn.isExpress ? 'root-complex-endpoint' : 'conventional';
  const isPort = above === 'root-port' || above === 'upstream-port' || above === 'downstream-port';
  return isPort ? 'endpoint' : 'conventional';
}
