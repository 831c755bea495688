/** `peerbuf/scenarios`: stories on a machine, each with what must come of it. */

import type { Scenario } from './scenario.ts';
import { spdkExitsDuringTraffic } from './spdk-exits-during-traffic.ts';
import { spdkNvmeRdma } from './spdk-nvme-rdma.ts';
import { spdkResetDuringTraffic } from './spdk-reset-during-traffic.ts';
import { vfioCloseRacesReset } from './vfio-close-races-reset.ts';

export { type Cast, candidatesFor, castFor, ROLES, type Role } from './cast.ts';
export { defineScenario, type Ending, Production, type Scenario, type Stage } from './scenario.ts';

/** Every built-in story, in the order in which lists show them. */
export const SCENARIOS: readonly Scenario[] = [
  spdkNvmeRdma,
  spdkResetDuringTraffic,
  spdkExitsDuringTraffic,
  vfioCloseRacesReset,
];

/** The built-in story called `id`; null if there is none. */
export function findScenario(id: string): Scenario | null {
  return SCENARIOS.find((scenario) => scenario.id === id) ?? null;
}
