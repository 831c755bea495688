/**
 * Goal: each lock and counter does what its kernel model does, and what it says about commuting is
 * true. Method: for every pair of operations at every small state, if the declared classes commute,
 * both orders give the same state and the same answers; plus the cases of the reference by hand.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy, RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  type AcquireContext,
  type Actor,
  type Cell,
  Completion,
  commute,
  Mutex,
  NOW,
  RefCount,
  RwSemaphore,
  Scheduler,
  Shared,
  type Step,
  type Task,
  WwClass,
  WwMutex,
} from '../../src/machine/index.ts';

function* idle(cell: Shared<number>): Task {
  yield* cell.read();
}

/** Two actors to act as owners, and a scheduler to make cells on. */
function stage(): { scheduler: Scheduler; actors: readonly Actor[] } {
  const scheduler = new Scheduler();
  const cell = new Shared(scheduler, 'idle', 0);
  const actors = ['a', 'b'].map((name) => scheduler.spawn(idle(cell), { name, role: 'user' }));
  return { scheduler, actors };
}

/** A kind of cell: how to make one, the states to try, and the operations on it. */
interface Family {
  readonly name: string;
  make(scheduler: Scheduler): Cell;
  values(actors: readonly Actor[]): readonly unknown[];
  readonly steps: readonly ((cell: never) => Step)[];
}

function family<C extends Cell>(
  name: string,
  make: (scheduler: Scheduler) => C,
  values: (actors: readonly Actor[]) => readonly C['value'][],
  steps: readonly ((cell: C) => Step)[],
): Family {
  return { name, make, values, steps: steps as Family['steps'] };
}

const FAMILIES: readonly Family[] = [
  family(
    'Mutex',
    (s) => new Mutex(s, 'm'),
    ([a, b]) => [null, a ?? null, b ?? null],
    [(m) => m.lock(), (m) => m.unlock()],
  ),
  family(
    'RwSemaphore',
    (s) => new RwSemaphore(s, 'rw'),
    ([a, b]) => [
      { writer: null, readers: [] },
      { writer: null, readers: [a as Actor] },
      { writer: null, readers: [a as Actor, b as Actor] },
      { writer: a ?? null, readers: [] },
    ],
    [(rw) => rw.downRead(), (rw) => rw.upRead(), (rw) => rw.downWrite(), (rw) => rw.upWrite()],
  ),
  family(
    'RefCount',
    (s) => new RefCount(s, 'r'),
    () => [0, 1, 2, 3],
    [(r) => r.get(), (r) => r.getUnlessZero(), (r) => r.put(), (r) => r.reset()],
  ),
  family(
    'RefCount of which both actors have a share',
    (s) => new RefCount(s, 'r'),
    () => [2, 3],
    [(r) => r.getHeld(), (r) => r.getUnlessZero(), (r) => r.put()],
  ),
  family(
    'Completion',
    (s) => new Completion(s, 'c'),
    () => [0, 1, 2],
    [(c) => c.complete(), (c) => c.wait(), (c) => c.reinit()],
  ),
  family(
    'Shared',
    (s) => new Shared<number>(s, 'x', 0),
    () => [0, 1],
    [(x) => x.read(), (x) => x.write(0), (x) => x.write(1), (x) => x.until((v) => v > 0)],
  ),
];

/**
 * Does both steps in this order from a state; undefined if one is not enabled when its turn comes.
 */
function inOrder(
  kind: Family,
  value: unknown,
  order: readonly [number, number],
  ops: readonly number[],
) {
  const { scheduler, actors } = stage();
  const cell = kind.make(scheduler);
  // The second stage's actors stand for the first's: values that hold actors are made by each anew.
  cell.value = kind.values(actors)[value as number];
  const answers: unknown[] = [undefined, undefined];
  for (const who of order) {
    const actor = actors[who] as Actor;
    scheduler.current = actor;
    const step = (kind.steps[ops[who] as number] as (cell: Cell) => Step)(cell as never);
    if (!step.guard(NOW, actor)) return undefined;
    answers[who] = step.apply(actor);
  }
  return {
    value: plain(cell.value),
    answers,
    findings: scheduler.findings.map((f) => f.title).sort(),
  };
}

function plain(value: unknown): string {
  return JSON.stringify(value, (_, v) => {
    if (Array.isArray(v)) return v.map((actor: Actor) => actor.name).sort();
    return typeof v === 'object' && v !== null && 'name' in v ? v.name : v;
  });
}

describe('Commutativity of what the primitives declare', () => {
  for (const kind of FAMILIES) {
    test(`${kind.name}: operations whose classes commute do so, in every small state`, () => {
      let commuting = 0;
      const { actors, scheduler } = stage();
      const cell = kind.make(scheduler);
      for (const [v, value] of kind.values(actors).entries()) {
        for (const one of kind.steps.keys()) {
          for (const other of kind.steps.keys()) {
            cell.value = value;
            const classes = [one, other].map((op, who) => {
              const step = (kind.steps[op] as (cell: Cell) => Step)(cell as never);
              const actor = actors[who] as Actor;
              if (!step.guard(NOW, actor)) return undefined;
              const declared = step.accesses(NOW, actor)[0]?.class;
              scheduler.current = actor;
              step.apply(actor);
              return declared;
            });
            const [mine, others] = classes;
            if (mine === undefined || others === undefined || !commute(mine, others)) continue;
            commuting += 1;
            const ops = [one, other];
            expect(inOrder(kind, v, [0, 1], ops)).toEqual(inOrder(kind, v, [1, 0], ops));
            expect(inOrder(kind, v, [0, 1], ops)).toBeDefined();
          }
        }
      }
      if (kind.name !== 'Mutex' && kind.name !== 'RefCount') expect(commuting).toBeGreaterThan(0);
    });
  }

  test('commuting is symmetric', () => {
    const classes = ['R', 'W', 'S', 'G', 'U', 'P', 'A'] as const;
    for (const one of classes) {
      for (const other of classes) expect(commute(one, other)).toBe(commute(other, one));
    }
  });
});

describe('RefCount', () => {
  test('a get on a dead count is a kernel warning and does not revive it (DB-003)', () => {
    const { scheduler, actors } = stage();
    const [a] = actors as [Actor];
    const refs = new RefCount(scheduler, 'file');
    expect(refs.put().apply(a)).toBe(true);
    refs.get().apply(a);
    expect(refs.value).toBe(0);
    expect(refs.getUnlessZero().apply(a)).toBe(false);
    expect(scheduler.findings.map((finding) => finding.kind)).toEqual(['warn']);
  });

  test('a put on a dead count is a kernel warning and releases nothing twice', () => {
    const { scheduler, actors } = stage();
    const refs = new RefCount(scheduler, 'file');
    refs.put().apply(actors[0] as Actor);
    expect(refs.put().apply(actors[0] as Actor)).toBe(false);
    expect(scheduler.findings).toHaveLength(1);
  });
});

function* takeAll(cls: WwClass, locks: readonly WwMutex[], log: string[], name: string): Task {
  const ctx = yield* cls.acquireInit();
  let held: WwMutex[] = [];
  let slow: WwMutex | null = null;
  for (;;) {
    const contended: WwMutex | null = yield* tryAll(locks, ctx, held, slow);
    if (contended === null) break;
    log.push(`${name} backs off`);
    for (const lock of held) yield* lock.unlock();
    held = [];
    slow = contended;
  }
  log.push(`${name} has all`);
  for (const lock of locks) yield* lock.unlock();
}

function* tryAll(
  locks: readonly WwMutex[],
  ctx: AcquireContext,
  held: WwMutex[],
  slow: WwMutex | null,
): Task<WwMutex | null> {
  if (slow !== null) {
    yield* slow.lockSlow(ctx);
    held.push(slow);
  }
  for (const lock of locks) {
    if (lock === slow) continue;
    const result = yield* lock.lock(ctx);
    if (result === 'EDEADLK') return lock;
    held.push(lock);
  }
  return null;
}

describe('WwMutex', () => {
  test('lets opposite orders through by backing off, in 1,000 schedules, without deadlock', () => {
    let backoffs = 0;
    for (let seed = 0; seed < 1000; seed += 1) {
      const scheduler = new Scheduler();
      const cls = new WwClass(scheduler, 'class');
      const [x, y, z] = ['x', 'y', 'z'].map((name) => new WwMutex(scheduler, name)) as [
        WwMutex,
        WwMutex,
        WwMutex,
      ];
      const log: string[] = [];
      scheduler.spawn(takeAll(cls, [x, y, z], log, 'a'), { name: 'a', role: 'user' });
      scheduler.spawn(takeAll(cls, [z, y, x], log, 'b'), { name: 'b', role: 'user' });
      scheduler.spawn(takeAll(cls, [y, z, x], log, 'c'), { name: 'c', role: 'user' });
      const outcome = scheduler.run(new RandomStrategy(seed));
      expect(outcome.findings).toEqual([]);
      expect(log.filter((line) => line.endsWith('has all'))).toHaveLength(3);
      backoffs += log.length - 3;
    }
    expect(backoffs).toBeGreaterThan(0);
  });

  test('tells the younger of two contexts to back off, never the older', () => {
    const { scheduler, actors } = stage();
    const [a, b] = actors as [Actor, Actor];
    const [x, y] = [new WwMutex(scheduler, 'x'), new WwMutex(scheduler, 'y')];
    const cls = new WwClass(scheduler, 'class');
    const older = cls.acquireInit().apply(a);
    const younger = cls.acquireInit().apply(b);
    expect(x.lock(older).apply(a)).toBe('locked');
    expect(y.lock(younger).apply(b)).toBe('locked');
    expect(x.lock(younger).guard(NOW, b)).toBe(true);
    expect(x.lock(younger).apply(b)).toBe('EDEADLK');
    expect(y.lock(older).guard(NOW, a)).toBe(false);
    expect(x.lock(older).apply(a)).toBe('EALREADY');
  });

  test('a context that holds nothing waits for an older one instead of backing off', () => {
    const { scheduler, actors } = stage();
    const [a, b] = actors as [Actor, Actor];
    const x = new WwMutex(scheduler, 'x');
    const cls = new WwClass(scheduler, 'class');
    const older = cls.acquireInit().apply(a);
    const younger = cls.acquireInit().apply(b);
    x.lock(older).apply(a);
    expect(x.lock(younger).guard(NOW, b)).toBe(false);
    expect(x.lock(null).guard(NOW, b)).toBe(false);
  });

  test('a plain lock taken twice by one actor waits for ever', () => {
    const scheduler = new Scheduler();
    const x = new WwMutex(scheduler, 'x');
    scheduler.spawn(lockTwice(x), { name: 'a', role: 'user' });
    expect(scheduler.run(new RoundRobinStrategy()).status).toBe('deadlock');
  });
});

function* lockTwice(x: WwMutex): Task {
  yield* x.lock(null);
  yield* x.lock(null);
}

describe('Unlocking what is not held', () => {
  test('is a kernel warning for each sort of lock, and changes nothing', () => {
    const { scheduler, actors } = stage();
    const [a] = actors as [Actor];
    const mutex = new Mutex(scheduler, 'mutex');
    const rw = new RwSemaphore(scheduler, 'rw');
    const ww = new WwMutex(scheduler, 'ww');
    mutex.unlock().apply(a);
    rw.upRead().apply(a);
    rw.upWrite().apply(a);
    ww.unlock().apply(a);
    expect(scheduler.findings.map((finding) => finding.title)).toEqual([
      'mutex_unlock: mutex is not held by a',
      'up_read: rw is not held by a',
      'up_write: rw is not held by a',
      'ww_mutex_unlock: ww is not held by a',
    ]);
    expect([mutex.value, rw.value.readers, ww.value.owner]).toEqual([null, [], null]);
  });
});
