/**
 * Goal: a drive's memory that is lent to a card, step by step refused something, is given back
 * whole. Method: open, export, register and close, once for each step that can fail.
 */

import { expect, test } from 'vitest';
import { isDmaBufError } from '../../src/base/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import { findPreset, MachinePlan, Scheduler, type Task } from '../../src/machine/index.ts';
import { defineScenario, Production } from '../../src/scenarios/index.ts';
import { SpdkTarget } from '../../src/scenarios/spdk/target.ts';

const ended: string[] = [];

const lendAndClose = defineScenario({
  id: 'lend-and-close',
  title: 'a drive lends its memory and takes it back',
  story: 'SPDK exports controller memory, a card registers it, and both are closed.',
  machine: 'epyc-2s',
  roles: ['nvme-drive', 'network-card'],
  boot: (stage) => {
    const target = new SpdkTarget(stage);
    function* spdk(): Task {
      try {
        yield* target.open();
        yield* target.lend();
        ended.push('well');
      } catch (error) {
        if (!isDmaBufError(error)) throw error;
        ended.push(`${error.code} ${error.reason}`);
      }
      yield* target.exit();
    }
    stage.scheduler.spawn(spdk(), { name: 'spdk', role: 'user' });
    return {
      conclude: (): string => {
        target.checkNothingLeft();
        return 'nothing is left';
      },
    };
  },
});

test('Whatever is lacking while memory is lent ends one call, and leaves nothing', () => {
  const machine = findPreset('epyc-2s') ?? expect.fail('a preset');
  const production = new Production(lendAndClose, new MachinePlan(machine));
  const run = (failAt: number) => {
    const scheduler = new Scheduler({ failAt });
    const story = production.boot(scheduler);
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome, `step ${failAt}`).toMatchObject({ status: 'done', findings: [] });
    expect(story.conclude(outcome), `step ${failAt}`).toBe('nothing is left');
    return scheduler.fallible;
  };
  const fallible = run(Number.POSITIVE_INFINITY);
  expect(ended.splice(0)).toEqual(['well']);
  for (let failAt = 1; failAt <= fallible; failAt += 1) run(failAt);
  expect(ended).toHaveLength(fallible);
  expect(ended[0]).toBe('ENOMEM no-memory-for-a-vfio-buffer');
  console.log(`lend and close: ${fallible} failures: ${ended.join(', ')}`);
});
