/**
 * Goal: leaving out schedules that come to the same loses nothing. Method: tiny random programs,
 * run in every order without any cleverness and by the search: the same results, the same findings,
 * with locks, counts, conditions, time, memory that is freed, bytes, and actors that spawn actors.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exploreAll, type Program } from '../../src/explorer/index.ts';
import {
  type Access,
  type Actor,
  Allocation,
  Cell,
  Completion,
  Fifo,
  type Look,
  Mutex,
  PreemptStep,
  RefCount,
  RwSemaphore,
  Scheduler,
  Shared,
  SleepStep,
  type Strategy,
  type Task,
  wholeCell,
  WrongResult,
} from '../../src/machine/index.ts';

/** What a thread may do; numbers choose among two objects of each kind. */
const OPS = [
  'read', 'write', 'copy', 'wait', 'locked', 'nested', 'shared', 'exclusive', 'tryGet', 'put',
  'get', 'free', 'touch', 'sleep', 'complete', 'await', 'push', 'take', 'spawn', 'byte', 'expect',
  'timed',
] as const; // prettier-ignore

type Op = readonly [(typeof OPS)[number], number];

/** Writes one byte of several, or reads them all. */
class Bytes extends PreemptStep<string> {
  readonly cell: Cell<readonly string[]>;
  private readonly index: number;

  constructor(cell: Cell<readonly string[]>, index: number) {
    super();
    this.cell = cell;
    this.index = index;
  }

  get verb(): string {
    return 'byte';
  }

  override accesses(): readonly Access[] {
    const { cell, index } = this;
    if (index === 3) return [{ cell, class: 'R', from: 1, to: 3 }];
    return [{ cell, class: 'W', from: index, to: index + 1 }];
  }

  apply(actor: Actor): string {
    const { cell, index } = this;
    if (index === 3) return cell.value.slice(1, 3).join('');
    cell.value = cell.value.with(index, actor.name);
    return '';
  }
}

/** Takes a gate if it is open, or goes away without it when its time has come. */
class TimedTake extends SleepStep<boolean> {
  readonly cell: Shared<number>;
  private readonly scheduler: Scheduler;
  private readonly until: number;

  constructor(scheduler: Scheduler, cell: Shared<number>, ns: number) {
    super();
    this.scheduler = scheduler;
    this.cell = cell;
    this.until = scheduler.t + ns;
  }

  get verb(): string {
    return 'take in time';
  }

  override guard(look: Look): boolean {
    return look(this.cell) === 0 || look(this.scheduler.clock) >= this.until;
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look(this.cell) === 0 ? 'W' : 'R')];
  }

  override deadline(): number {
    return this.until;
  }

  apply(): boolean {
    if (this.cell.value !== 0) return false;
    this.cell.value = 1;
    return true;
  }
}

class RandomWorld {
  readonly logs = new Map<string, string[]>();
  private readonly scheduler: Scheduler;
  private readonly vars: readonly Shared<number>[];
  private readonly gate: Shared<number>;
  private readonly locks: readonly Mutex[];
  private readonly rw: RwSemaphore;
  private readonly refs: RefCount;
  private readonly memory: Allocation;
  private readonly inside: Shared<number>;
  private readonly done: Completion;
  private readonly queue: Fifo<number>;
  private readonly bytes: Cell<readonly string[]>;

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler;
    this.vars = [new Shared<number>(scheduler, 'x', 0), new Shared<number>(scheduler, 'y', 0)];
    this.gate = new Shared<number>(scheduler, 'gate', 0);
    this.locks = [new Mutex(scheduler, 'm'), new Mutex(scheduler, 'n')];
    this.rw = new RwSemaphore(scheduler, 'rw');
    this.refs = new RefCount(scheduler, 'refs');
    this.refs.value = 2;
    this.memory = new Allocation(scheduler, 'memory');
    this.inside = new Shared<number>(scheduler, 'inside', 0, this.memory);
    this.done = new Completion(scheduler, 'done');
    this.queue = new Fifo<number>(scheduler, 'queue', []);
    this.bytes = new Cell<readonly string[]>(scheduler, 'bytes', ['', '', '']);
  }

  *thread(name: string, ops: readonly Op[], depth: number): Task {
    const log: string[] = [];
    this.logs.set(name, log);
    for (const [i, [op, n]] of ops.entries()) {
      if (op === 'spawn') {
        if (depth > 0) continue;
        const child = `${name}.${i}`;
        const task = this.thread(child, ops.slice(i + 1), 1);
        yield* this.var(n).read();
        this.scheduler.spawn(task, { name: child, role: 'user' });
        return;
      }
      log.push(`${yield* this.plain(op, n, name)}`);
    }
  }

  conclude(): string {
    const { vars, gate, refs, memory, inside, queue, bytes, scheduler } = this;
    const cells = [...vars, gate, refs, memory, inside, queue, bytes].map(
      ({ value }) => `${value}`,
    );
    const logs = [...this.logs].map(([name, log]) => `${name}:${log.join()}`).sort();
    return [...cells, ...logs, scheduler.t].join(' ');
  }

  private var(n: number): Shared<number> {
    return this.vars[n % 2] as Shared<number>;
  }

  private *plain(op: Op[0], n: number, name: string): Task<unknown> {
    const x = this.var(n);
    const y = this.var(n + 1);
    if (op === 'read') return yield* x.read();
    if (op === 'write') return yield* x.write(n);
    if (op === 'copy') return yield* y.write((yield* x.read()) + 1);
    if (op === 'wait') return yield* x.until((value) => value > 0);
    if (op === 'sleep') return yield* this.scheduler.sleep(1 + (n % 2));
    if (op === 'timed') {
      const took = yield* new TimedTake(this.scheduler, this.gate, 1 + (n % 2));
      if (took && n < 2) yield* this.gate.write(0);
      return took;
    }
    if (op === 'byte') return yield* new Bytes(this.bytes, n);
    if (op === 'expect') {
      if ((yield* x.read()) === 3) throw new WrongResult(`${name} reads 3`);
      return '';
    }
    return yield* this.synchronized(op, n, x);
  }

  private *synchronized(op: Op[0], n: number, x: Shared<number>): Task<unknown> {
    const { refs, rw, memory, inside, done, queue } = this;
    if (op === 'tryGet') return yield* refs.getUnlessZero();
    if (op === 'get') return yield* refs.get();
    if (op === 'put') return yield* refs.put();
    if (op === 'free') return yield* memory.free();
    if (op === 'touch') return n < 2 ? yield* inside.read() : yield* inside.write(n);
    if (op === 'complete') return yield* done.complete();
    if (op === 'await') return yield* done.wait();
    if (op === 'push') return yield* queue.push(n);
    if (op === 'take') return yield* queue.take();
    const [one, other] = n % 2 === 0 ? this.locks : this.locks.toReversed();
    if (op === 'nested') yield* (other as Mutex).lock();
    if (op === 'nested' || op === 'locked') yield* (one as Mutex).lock();
    if (op === 'shared') yield* rw.downRead();
    if (op === 'exclusive') yield* rw.downWrite();
    const seen = n < 2 ? yield* x.read() : yield* x.write(n);
    if (op === 'shared') yield* rw.upRead();
    if (op === 'exclusive') yield* rw.upWrite();
    if (op === 'nested' || op === 'locked') yield* (one as Mutex).unlock();
    if (op === 'nested') yield* (other as Mutex).unlock();
    return seen;
  }
}

function programOf(threads: readonly (readonly Op[])[]): Program {
  return {
    id: 'random',
    machine: 'none',
    boot(scheduler) {
      const world = new RandomWorld(scheduler);
      for (const [i, ops] of threads.entries()) {
        scheduler.spawn(world.thread(`t${i}`, ops, 0), { name: `t${i}`, role: 'user' });
      }
      return { conclude: () => world.conclude() };
    },
  };
}

/** What came out of every single order; null if there are too many. */
interface Everything {
  readonly results: ReadonlySet<string>;
  readonly findings: ReadonlySet<string>;
  readonly executions: number;
}

/** Tries every choice at every step. */
function naively(program: Program, max: number): Everything | null {
  const results = new Set<string>();
  const findings = new Set<string>();
  const path: { choice: number; of: number }[] = [];
  for (let executions = 1; executions <= max; executions += 1) {
    let depth = 0;
    const strategy: Strategy = {
      name: 'naive',
      pick(enabled) {
        path[depth] ??= { choice: 0, of: enabled.length };
        depth += 1;
        return (path[depth - 1] as { choice: number }).choice;
      },
    };
    const scheduler = new Scheduler();
    const end = program.boot(scheduler);
    const outcome = scheduler.run(strategy);
    for (const { kind, title } of outcome.findings) findings.add(`${kind}: ${title}`);
    if (outcome.findings.length === 0) results.add(end.conclude(outcome));
    for (let last = path.at(-1); last !== undefined; last = path.at(-1)) {
      last.choice += 1;
      if (last.choice < last.of) break;
      path.pop();
    }
    if (path.length === 0) return { results, findings, executions };
  }
  return null;
}

/** Programs that use few kinds of steps, so that these meet. */
const programs: fc.Arbitrary<readonly (readonly Op[])[]> = fc
  .subarray([...OPS], { minLength: 1, maxLength: 4 })
  .chain((kinds) => {
    const op: fc.Arbitrary<Op> = fc.tuple(fc.constantFrom(...kinds), fc.nat(3));
    const thread = fc.array(op, { minLength: 1, maxLength: 3 });
    return fc.array(thread, { minLength: 2, maxLength: 3 });
  });

/** A deadlock names those who wait in the order of spawning, which says nothing. */
function sorted(titles: Iterable<string>): readonly string[] {
  const plain = [...titles].map((title) => {
    return title.replace('deadlock: ', '').split('; ').sort().join('; ');
  });
  return [...new Set(plain)].sort();
}

/** Compares; says how many executions each needed. */
function compare(threads: readonly (readonly Op[])[], max: number): readonly [number, number] {
  const program = programOf(threads);
  const all = naively(program, max);
  if (all === null) return [0, 0];
  const found = exploreAll(program, { executionsMax: 1_000_000 });
  expect(found.complete).toBe(true);
  expect([...found.results.keys()].sort()).toEqual([...all.results].sort());
  expect(sorted(found.findings.keys())).toEqual(sorted(all.findings));
  return [all.executions, found.executions];
}

const RUNS = Number(process.env['PEERBUF_FUZZ_RUNS'] ?? 400);

describe('The exhaustive search', () => {
  test('finds every result and every finding of tiny random programs', () => {
    const sum = [0, 0];
    fc.assert(
      fc.property(programs, (threads) => {
        const counts = compare(threads, 3000);
        for (const [i, count] of counts.entries()) sum[i] = (sum[i] ?? 0) + count;
      }),
      { numRuns: RUNS, ...(RUNS === 400 ? { seed: 16 } : {}) },
    );
    process.stdout.write(`random programs: ${sum[0]} orders, ${sum[1]} executions\n`);
  });
});
