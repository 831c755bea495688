/** One importer's cycle of attach, map, unmap and detach, against the same on plain objects. */

import { dmaAddr } from '../src/base/index.ts';
import { RoundRobinStrategy } from '../src/explorer/index.ts';
import { DmaBuf, type DmaBufOps, Kernel, type SgTable } from '../src/framework/index.ts';
import { findPreset, Machine, MachinePlan, Scheduler, type Task } from '../src/machine/index.ts';
import type { Work } from './measure.ts';

const CYCLES = 200;
const SIZE = 4096;
const TABLE: SgTable = { entries: [{ address: dmaAddr(0x1000), length: SIZE }] };

const OPS: DmaBufOps<string> = {
  *mapDmaBuf(): Task<SgTable> {
    return TABLE;
  },
  *unmapDmaBuf(): Task {},
  *release(): Task {},
};

function machinePlan(): MachinePlan {
  const spec = findPreset('server-switch');
  if (spec === null) throw new Error('the preset is there');
  return new MachinePlan(spec);
}

function* cycles(kernel: Kernel, address: string): Task<number> {
  const device = kernel.machine.function(address);
  const info = { exporterName: 'bench', ops: OPS, size: SIZE, priv: 'bench' };
  const buf = yield* DmaBuf.export(kernel, info);
  for (let i = 0; i < CYCLES; i += 1) {
    const attachment = yield* buf.attach(device);
    yield* buf.resv.lock();
    const table = yield* attachment.mapAttachment('bidirectional');
    yield* attachment.unmapAttachment(table, 'bidirectional');
    yield* buf.resv.unlock();
    yield* buf.detach(attachment);
  }
  yield* buf.put();
  return CYCLES;
}

/** Cycles of a static importer in the modelled kernel. Counts cycles. */
export function attachCycles(): Work {
  const plan = machinePlan();
  return () => {
    const scheduler = new Scheduler();
    const kernel = new Kernel(new Machine(plan, scheduler));
    const actor = scheduler.spawn(cycles(kernel, '0000:04:00.0'), { name: 'a', role: 'kernel' });
    const { findings } = scheduler.run(new RoundRobinStrategy());
    if (findings.length > 0) throw new Error(findings[0]?.title);
    return actor.result as number;
  };
}

/** The same bookkeeping without a kernel: a list, a flag for the lock, a count. */
export function plainCycles(): Work {
  return () => {
    const buf = { attachments: [] as object[], isLocked: false, mapped: 0 };
    for (let i = 0; i < CYCLES; i += 1) {
      const attachment = { device: i, table: null as SgTable | null };
      buf.isLocked = true;
      buf.attachments = [attachment, ...buf.attachments];
      attachment.table = TABLE;
      buf.mapped += 1;
      buf.mapped -= 1;
      attachment.table = null;
      buf.attachments = buf.attachments.filter((other) => other !== attachment);
      buf.isLocked = false;
    }
    return CYCLES;
  };
}
