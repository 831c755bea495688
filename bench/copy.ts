/** Simulated DMA against a plain copy of the same size. */

import { RoundRobinStrategy } from '../src/explorer/index.ts';
import { dmaMapPhys } from '../src/framework/index.ts';
import { findPreset, Machine, MachinePlan, Scheduler, type Task } from '../src/machine/index.ts';
import type { Work } from './measure.ts';

const SIZE = 2 ** 20;

/** Copies a MiB by DMA through one mapping of the IOMMU, again and again. Counts copies. */
export function dmaCopy(): Work {
  const spec = findPreset('epyc-2s');
  if (spec === null) throw new Error('the preset epyc-2s is there');
  const plan = new MachinePlan(spec);
  const card = plan.tree.nodes.find(({ spec: fn }) => fn.classCode >>> 16 === 0x02);
  const bytes = new Uint8Array(SIZE).fill(7);
  return () => {
    const scheduler = new Scheduler();
    const machine = new Machine(plan, scheduler);
    const fn = machine.function(card?.address ?? '');
    let copies = 0;
    function* copy(): Task {
      const phys = yield* machine.memory.allocate(SIZE / 4096);
      if (phys === null) throw new Error('there is a MiB');
      const range = { phys, size: SIZE };
      const address = yield* dmaMapPhys(machine, fn, range, 'from-device', 'ram');
      for (let i = 0; i < 50; i += 1) {
        yield* machine.dma.write(fn, address, bytes);
        copies += 1;
      }
    }
    scheduler.spawn(copy(), { name: 'card', role: 'device' });
    scheduler.run(new RoundRobinStrategy());
    return copies;
  };
}

/** Copies a MiB with `Uint8Array.set`. Counts copies. */
export function plainCopy(): Work {
  const from = new Uint8Array(SIZE).fill(7);
  const to = new Uint8Array(SIZE);
  return () => {
    for (let i = 0; i < 50; i += 1) to.set(from);
    return 50;
  };
}
