/**
 * Which function of a machine plays which role. A captured machine's functions are played by our
 * device models; what makes one fit is its class and its BARs.
 */

import { InputError } from '../base/index.ts';
import { p2pDistance, p2pFactsAtBoot, p2pRoute } from '../framework/index.ts';
import type { FunctionSpec, MachinePlan, PciNode } from '../machine/index.ts';

/** A part to be played. */
export type Role = 'nvme-drive' | 'network-card';

/** The function for each role that a story needs. */
export type Cast = Readonly<Partial<Record<Role, string>>>;

/** Every role there is. */
export const ROLES: readonly Role[] = ['nvme-drive', 'network-card'];

/** LIMIT: registers, doorbells and two pages of controller memory. */
const DRIVE_BAR0_SIZE_MIN = 16 * 1024;

const FITS: Readonly<Record<Role, (spec: FunctionSpec) => boolean>> = {
  'nvme-drive': (spec) => spec.classCode >>> 8 === 0x0108 && hasRegisters(spec),
  'network-card': (spec) => spec.classCode >>> 16 === 0x02 && spec.bridge === null,
};

const WANTED: Readonly<Record<Role, string>> = {
  'nvme-drive': 'an NVMe drive (class 0108) with a memory BAR0 of at least 16 KiB',
  'network-card': 'a network card (class 02)',
};

function hasRegisters({ bars }: FunctionSpec): boolean {
  const bar0 = bars.find(({ index }) => index === 0);
  return bar0?.kind === 'memory' && bar0.address !== 0 && bar0.size >= DRIVE_BAR0_SIZE_MIN;
}

/** LIMIT: functions for one role that are compared; the first ones by address. */
const COMPARED_MAX = 500;

/** The functions that could play a role, by ascending address. */
export function candidatesFor(plan: MachinePlan, role: Role): readonly PciNode[] {
  return plan.tree.nodes.filter(({ spec }) => FITS[role](spec));
}

/**
 * Finds a function for each role. Of several drives and cards the pair that the kernel lets meet,
 * and then the nearest, is taken; `wishes` override that.
 *
 * @throws {@link InputError} the machine lacks a device, or a wished one does not fit.
 */
export function castFor(
  plan: MachinePlan,
  roles: readonly Role[],
  wishes: Partial<Cast> = {},
): Cast {
  const choices = roles.map((role) => [role, choicesFor(plan, role, wishes[role])] as const);
  const [first, second] = choices;
  if (first === undefined) return {};
  if (second === undefined) return { [first[0]]: first[1][0]?.address };
  let best: { readonly cast: Cast; readonly rank: number } | null = null;
  for (const one of first[1].slice(0, COMPARED_MAX)) {
    for (const other of second[1].slice(0, COMPARED_MAX)) {
      const rank = rankOf(plan, one, other);
      const better = best === null || rank < best.rank;
      if (better) best = { cast: { [first[0]]: one.address, [second[0]]: other.address }, rank };
    }
  }
  return best?.cast ?? {};
}

function choicesFor(plan: MachinePlan, role: Role, wish: string | undefined): readonly PciNode[] {
  const source = plan.spec.name;
  const fitting = candidatesFor(plan, role);
  if (wish === undefined) {
    if (fitting.length > 0) return fitting;
    throw new InputError(source, '', `the story needs ${WANTED[role]}, and this machine has none`);
  }
  const wished = plan.tree.find(wish);
  if (wished === null) throw new InputError(source, wish, 'there is no such function');
  if (fitting.includes(wished)) return [wished];
  throw new InputError(source, wish, `it cannot play ${role}: expected ${WANTED[role]}`);
}

/** Lower is better: routes that work first, then short ones. */
function rankOf(plan: MachinePlan, provider: PciNode, client: PciNode): number {
  const route = p2pRoute(provider, client, p2pFactsAtBoot(plan.spec));
  const distance = p2pDistance(route);
  return distance < 0 || route.mapType === 'unknown' ? 1000 + route.distance : distance;
}
