/** A machine in a few words. */

import type { CpuSpec, MachinePlan } from '../machine/index.ts';
import { candidatesFor, ROLES, SCENARIOS } from '../scenarios/index.ts';

/** `AuthenticAMD:25:1`, as `--cpu` takes it. */
export function cpuText(cpu: CpuSpec | null): string {
  return cpu === null ? 'not known' : `${cpu.vendor}:${cpu.family}:${cpu.model}`;
}

/** Ids of the stories that a machine has the devices for. */
export function castableStories(plan: MachinePlan): readonly string[] {
  const fits = ROLES.filter((role) => candidatesFor(plan, role).length > 0);
  return SCENARIOS.filter(({ roles }) => roles.every((role) => fits.includes(role))).map(
    ({ id }) => id,
  );
}
