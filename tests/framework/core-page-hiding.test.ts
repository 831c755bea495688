/**
 * Goal: no importer of ours needs more of a mapping than device addresses. Method: every story in a
 * kernel that hides pages, under random schedules.
 */

import { describe, expect, test } from 'vitest';
import { exploreRandom } from '../../src/explorer/index.ts';
import { MachinePlan, PRESETS } from '../../src/machine/index.ts';
import { Production, type Scenario, SCENARIOS } from '../../src/scenarios/index.ts';

/** The same story in a kernel with CONFIG_DMABUF_DEBUG. */
function hidden(scenario: Scenario): Scenario {
  return {
    ...scenario,
    boot: (stage) => {
      Object.assign(stage.kernel, { debugDmaBuf: true });
      return scenario.boot(stage);
    },
  };
}

describe('With pages hidden (AC-17)', () => {
  test.each(SCENARIOS.map((scenario) => [scenario.id, scenario] as const))(
    '%s goes as it goes without',
    (_, scenario) => {
      for (const spec of PRESETS.slice(0, 3)) {
        const production = new Production(hidden(scenario), new MachinePlan(spec));
        expect(exploreRandom(production, { executions: 5, seed: 3 }).failures).toEqual([]);
      }
    },
  );
});
