/**
 * What a function is, as its PCI Express capability codes it.
 *
 * @source reference/p2p-topology.md 3.3
 */

import type { PciType } from '../spec/machine-spec.ts';

/** The codes of the flags register, bits 7:4. 2 and 3 are reserved, and so is all from 11. */
const CODES: readonly (readonly [number, PciType])[] = [
  [0, 'endpoint'],
  [1, 'legacy-endpoint'],
  [4, 'root-port'],
  [5, 'upstream-port'],
  [6, 'downstream-port'],
  [7, 'pcie-to-pci-bridge'],
  [8, 'pci-to-pcie-bridge'],
  [9, 'root-complex-endpoint'],
  [10, 'root-complex-event-collector'],
];

const TYPE_OF_CODE: ReadonlyMap<number, PciType> = new Map(CODES);
const CODE_OF_TYPE: ReadonlyMap<PciType, number> = new Map(
  CODES.map(([code, type]) => [type, code]),
);

/** Every type, in the order of the codes; `conventional`, which has none, first. */
export const PCI_TYPES: readonly PciType[] = ['conventional', ...CODES.map(([, type]) => type)];

/** The type for a code; null if the code is reserved. */
export function typeOfCode(code: number): PciType | null {
  return TYPE_OF_CODE.get(code) ?? null;
}

/** The code for a type; null for `conventional`. */
export function codeOfType(type: PciType): number | null {
  return CODE_OF_TYPE.get(type) ?? null;
}

/**
 * Whether functions of this type have a bridge header, with buses below. A conventional function
 * may; so may a root port, for Intel's host bridges are root ports whose link leads to the chipset.
 */
export function bridgeRule(type: PciType): 'always' | 'never' | 'maybe' {
  if (type === 'conventional' || type === 'root-port') return 'maybe';
  const code = codeOfType(type) ?? 0;
  return code >= 5 && code <= 8 ? 'always' : 'never';
}

/**
 * True if functions of this type have link registers; what is built into the root complex has none.
 */
export function hasLink(type: PciType): boolean {
  const code = codeOfType(type);
  return code !== null && code <= 8;
}
