/** Steps and executions: the scheduler against an empty generator loop. */

import { RandomStrategy } from '../src/explorer/index.ts';
import { Allocation, Mutex, RefCount, Scheduler, Shared, type Task } from '../src/machine/index.ts';
import type { Work } from './measure.ts';

const ACTORS = 3;
const READS = 32;

function* reads(cell: Shared<number>): Task {
  for (let i = 0; i < READS; i += 1) yield* cell.read();
}

/** Three actors that read a cell each, in random order. Counts steps. */
export function schedulerSteps(): Work {
  const strategy = new RandomStrategy(1);
  return () => {
    let steps = 0;
    for (let run = 0; run < 100; run += 1) {
      const scheduler = new Scheduler();
      for (let i = 0; i < ACTORS; i += 1) {
        const cell = new Shared(scheduler, 'cell', 0);
        scheduler.spawn(reads(cell), { name: NAMES[i] ?? '', role: 'user' });
      }
      steps += scheduler.run(strategy).steps;
    }
    return steps;
  };
}

function* counts(limit: number): Generator<number, void, unknown> {
  for (let i = 0; i < limit; i += 1) yield i;
}

/** A generator that yields and does nothing else. Counts yields. */
export function emptyGenerator(): Work {
  return () => {
    let yields = 0;
    const generator = counts(10_000);
    while (generator.next().done !== true) yields += 1;
    return yields;
  };
}

const NAMES = ['a', 'b', 'c'];

/** The try-get race in its smallest form: one walks a list, others drop the last references. */
class TryGetRace {
  private readonly lock: Mutex;
  private readonly refs: RefCount[] = [];
  private readonly listed: Shared<boolean>[] = [];
  private readonly memory: Allocation[] = [];

  constructor(scheduler: Scheduler, buffers: number) {
    this.lock = new Mutex(scheduler, 'memory_lock');
    for (let i = 0; i < buffers; i += 1) {
      this.refs.push(new RefCount(scheduler, 'file'));
      this.listed.push(new Shared(scheduler, 'listed', true));
      this.memory.push(new Allocation(scheduler, 'priv'));
    }
    scheduler.spawn(this.walk(buffers), { name: 'walker', role: 'user' });
    for (let i = 0; i < buffers; i += 1) {
      scheduler.spawn(this.close(i), { name: NAMES[i] ?? '', role: 'user' });
    }
  }

  private *walk(buffers: number): Task {
    const released: number[] = [];
    yield* this.lock.lock();
    for (let i = 0; i < buffers; i += 1) {
      const { refs, listed } = this;
      if (!(yield* (listed[i] as Shared<boolean>).read())) continue;
      if (!(yield* (refs[i] as RefCount).getUnlessZero())) continue;
      if (yield* (refs[i] as RefCount).put()) released.push(i);
    }
    yield* this.lock.unlock();
    for (const i of released) yield* this.release(i);
  }

  private *close(index: number): Task {
    if (yield* (this.refs[index] as RefCount).put()) yield* this.release(index);
  }

  private *release(index: number): Task {
    yield* this.lock.lock();
    yield* (this.listed[index] as Shared<boolean>).write(false);
    yield* this.lock.unlock();
    yield* (this.memory[index] as Allocation).free();
  }
}

/** What the race came to: exact numbers, the same on every machine. */
export interface RaceCounts {
  readonly executions: number;
  readonly seed: number;
  readonly steps: number;
  readonly findings: number;
}

/** Runs the race under many schedules of one seed. */
export function race(executions: number, seed: number): RaceCounts {
  const strategy = new RandomStrategy(seed);
  let steps = 0;
  let findings = 0;
  for (let i = 0; i < executions; i += 1) {
    const scheduler = new Scheduler();
    new TryGetRace(scheduler, 2);
    const outcome = scheduler.run(strategy);
    steps += outcome.steps;
    findings += outcome.findings.length;
  }
  return { executions, seed, steps, findings };
}

/** The race again and again. Counts executions. */
export function tryGetRace(): Work {
  return () => race(200, 7).executions;
}
