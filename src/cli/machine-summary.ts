/** A machine in a few words. */

import { InputError } from '../base/index.ts';
import type { CpuSpec, MachinePlan } from '../machine/index.ts';
import { castFor, SCENARIOS } from '../scenarios/index.ts';

/** `AuthenticAMD:25:1`, as `--cpu` takes it. */
export function cpuText(cpu: CpuSpec | null): string {
  return cpu === null ? 'not known' : `${cpu.vendor}:${cpu.family}:${cpu.model}`;
}

/** Ids of the stories that a machine has the devices for. */
export function castableStories(plan: MachinePlan): readonly string[] {
  return SCENARIOS.filter(({ roles }) => {
    try {
      castFor(plan, roles);
      return true;
    } catch (error) {
      if (error instanceof InputError) return false;
      throw error;
    }
  }).map(({ id }) => id);
}
