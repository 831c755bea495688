/**
 * IOMMU groups as Linux forms them at boot: functions that could reach each other without passing
 * the IOMMU share one. Evidence for a doctor who cannot see ACS.
 *
 * DIFFERS: aliases of conventional bridges and the quirks of devices that lie about isolation are
 * left out; no preset has either.
 *
 * @source `pci_device_group()`, drivers/iommu/iommu.c; reference/p2p-topology.md 1.6
 */

import type { Placed } from './build.ts';

/** SV, RR, CR, UF: what isolates. */
const ACS_ISOLATES = 0x1d;

/** Numbers the groups of `functions`, which come by ascending address. */
export function groupNumbers(functions: readonly Placed[]): ReadonlyMap<Placed, number> {
  const groups = new Map<Placed, number>();
  const slots = new Map<string, Placed[]>();
  for (const fn of functions) {
    const key = slotKey(fn);
    slots.set(key, [...(slots.get(key) ?? []), fn]);
  }
  let next = 0;
  for (const fn of functions) {
    const lead = leadOf(fn, slots);
    const group = groups.get(lead) ?? neighbourGroup(lead, slots, groups) ?? next++;
    groups.set(lead, group);
    groups.set(fn, group);
  }
  return groups;
}

/**
 * Goes up while a bridge on the way does not isolate: the group is that of the highest such bridge.
 */
function leadOf(fn: Placed, slots: ReadonlyMap<string, Placed[]>): Placed {
  let lead = fn;
  for (let at = fn.parent; at !== null; at = at.parent) {
    if (!isIsolating(at, slots)) lead = at;
  }
  return lead;
}

/** Functions of one slot that do not isolate share a group; virtual ones have one each. */
function neighbourGroup(
  fn: Placed,
  slots: ReadonlyMap<string, Placed[]>,
  groups: ReadonlyMap<Placed, number>,
): number | null {
  if (isIsolating(fn, slots)) return null;
  for (const other of slots.get(slotKey(fn)) ?? []) {
    const group = groups.get(other);
    if (group !== undefined && !isIsolating(other, slots)) return group;
  }
  return null;
}

/** `pci_acs_enabled()`: a function that is alone in its slot has no neighbour to isolate from. */
function isIsolating(fn: Placed, slots: ReadonlyMap<string, Placed[]>): boolean {
  if (fn.physical !== null) return true;
  const { type, part } = fn.plan;
  const control = fn.acsControl ?? 0;
  const isEnabled =
    part.acs !== null && (control & part.acs & ACS_ISOLATES) === (part.acs & ACS_ISOLATES);
  if (type === 'conventional') return false;
  if (type === 'root-port' || type === 'downstream-port') return isEnabled;
  const isAlone = (slots.get(slotKey(fn)) ?? []).every((other) => other === fn || other.physical);
  return isAlone || isEnabled;
}

function slotKey({ root, bus, slot }: Placed): string {
  return `${root.domain ?? 0}:${bus}:${slot >> 3}`;
}
