/**
 * Goal: every step that may be refused can be made to fail once, and only once. Method: a task that
 * takes memory, pages and an I/O address; a run for each of its fallible steps.
 */

import { expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  IommuDomain,
  Machine,
  MachinePlan,
  Scheduler,
  Slab,
  type Task,
} from '../../src/machine/index.ts';
import { wideMachine } from './test-machines.ts';

/** What came of each attempt: true if it was granted. */
function attempts(failAt: number): { readonly got: readonly boolean[]; readonly fallible: number } {
  const scheduler = new Scheduler({ failAt });
  const machine = new Machine(new MachinePlan(wideMachine()), scheduler);
  const slab = new Slab(scheduler);
  const domain = new IommuDomain(scheduler, 'domain');
  const got: boolean[] = [];
  function* task(): Task {
    got.push(yield* slab.alloc());
    got.push((yield* machine.memory.allocate(1)) !== null);
    const page = { phys: physAddr(0x100000), size: 4096 };
    got.push((yield* domain.mapAnywhere([page], { readable: true, writable: true })) !== null);
    got.push(yield* slab.alloc());
  }
  scheduler.spawn(task(), { name: 'task', role: 'kernel' });
  scheduler.run(new RoundRobinStrategy());
  return { got, fallible: scheduler.fallible };
}

test('Counting fails nothing', () => {
  expect(attempts(Number.POSITIVE_INFINITY)).toEqual({
    got: [true, true, true, true],
    fallible: 4,
  });
});

test.each([1, 2, 3, 4])('The step that is to fail does, alone: number %d', (failAt) => {
  const { got } = attempts(failAt);
  expect(got).toEqual([1, 2, 3, 4].map((at) => at !== failAt));
});
