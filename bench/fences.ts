/** Fences and reservations: the model's beside plain objects that do as much and no more. */

import { RoundRobinStrategy } from '../src/explorer/index.ts';
import { DmaFence, DmaResv, Kernel } from '../src/framework/index.ts';
import {
  type Atomic,
  findPreset,
  Machine,
  MachinePlan,
  Scheduler,
  type Task,
} from '../src/machine/index.ts';
import type { Work } from './measure.ts';

/** Callbacks of the one fence. */
export const WAITERS = 1000;

/** Fences in the one reservation. */
export const RESV_FENCES = 64;

const PRESET = findPreset('desktop');

function boot(): { readonly scheduler: Scheduler; readonly kernel: Kernel } {
  if (PRESET === null) throw new Error('the preset is there');
  const scheduler = new Scheduler();
  const kernel = new Kernel(new Machine(new MachinePlan(PRESET), scheduler));
  return { scheduler, kernel };
}

function fenceOf(kernel: Kernel, context: number): DmaFence {
  return new DmaFence(kernel, { driver: 'bench', timeline: 'bench', context, seqno: 1 });
}

/** Counts what it is called. */
class Tally {
  count = 0;

  *callback(): Atomic {
    this.count += 1;
  }
}

function* addAndSignal(fence: DmaFence, tally: Tally): Task {
  const callback = (): Atomic => tally.callback();
  for (let i = 0; i < WAITERS; i += 1) yield* fence.addCallback(callback);
  yield* fence.signal();
}

/** A fence gets 1,000 callbacks and is signaled. Counts callbacks that ran. */
export function signalWithWaiters(): Work {
  return () => {
    const { scheduler, kernel } = boot();
    const tally = new Tally();
    scheduler.spawn(addAndSignal(fenceOf(kernel, 1), tally), { name: 'bench', role: 'kernel' });
    scheduler.run(new RoundRobinStrategy());
    return tally.count;
  };
}

/** A list of functions that are called. Counts calls. */
export function plainCallbacks(): Work {
  return () => {
    let count = 0;
    const callbacks: (() => void)[] = [];
    for (let i = 0; i < WAITERS; i += 1) {
      callbacks.push(() => {
        count += 1;
      });
    }
    for (const callback of callbacks) callback();
    return count;
  };
}

function* fill(resv: DmaResv, fences: readonly DmaFence[], found: boolean[]): Task {
  yield* resv.lock();
  yield* resv.reserveFences(fences.length);
  for (const fence of fences) {
    yield* resv.addFence(fence, 'bookkeep');
    found.push(yield* resv.testSignaled('read'));
  }
  yield* resv.unlock();
}

/** A reservation gets 64 fences, and is tested after each. Counts fences. */
export function resv64(): Work {
  return () => {
    const { scheduler, kernel } = boot();
    const fences: DmaFence[] = [];
    for (let i = 0; i < RESV_FENCES; i += 1) fences.push(fenceOf(kernel, i + 1));
    const found: boolean[] = [];
    const task = fill(new DmaResv(kernel, 'bench'), fences, found);
    scheduler.spawn(task, { name: 'bench', role: 'kernel' });
    scheduler.run(new RoundRobinStrategy());
    return found.filter((isSignaled) => isSignaled).length;
  };
}

interface PlainFence {
  readonly context: number;
  readonly usage: number;
  readonly signaled: boolean;
}

/** An array that is searched for each addition and each test. Counts additions. */
export function plainList(): Work {
  return () => {
    const list: PlainFence[] = [];
    let count = 0;
    for (let i = 0; i < RESV_FENCES; i += 1) {
      const fence = { context: i, usage: 3, signaled: false };
      const at = list.findIndex((old) => old.signaled || old.context === fence.context);
      if (at < 0) list.push(fence);
      else list[at] = fence;
      if (!list.some((old) => old.usage <= 2 && !old.signaled)) count += 1;
    }
    return count;
  };
}
