/**
 * Goal: the scheduler runs tasks step by step as the strategy says, in virtual time, and reports
 * how a run ended. Method: small tasks over one or two cells.
 */

import { describe, expect, test } from 'vitest';
import type { TraceEvent } from '../../src/base/index.ts';
import { DmaBufError } from '../../src/base/index.ts';
import { RandomStrategy, RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  type Actor,
  ActorIds,
  Allocation,
  type Atomic,
  Mutex,
  NOW,
  Scheduler,
  Shared,
  type Step,
  type Strategy,
  type Task,
  WrongResult,
} from '../../src/machine/index.ts';

function* addTwice(counter: Shared<number>): Task {
  for (let round = 0; round < 2; round += 1) {
    const seen = yield* counter.read();
    yield* counter.write(seen + 1);
  }
}

function* lockedAdd(lock: Mutex, counter: Shared<number>): Task {
  yield* lock.lock();
  const seen = yield* counter.read();
  yield* counter.write(seen + 1);
  yield* lock.unlock();
}

function* lockBoth(first: Mutex, second: Mutex): Task {
  yield* first.lock();
  yield* second.lock();
  yield* second.unlock();
  yield* first.unlock();
}

function* sleeper(scheduler: Scheduler, ns: number, woken: string[], name: string): Task {
  yield* scheduler.sleep(ns);
  woken.push(`${name} at ${scheduler.t}`);
}

function* readForEver(cell: Shared<number>): Task {
  for (;;) yield* cell.read();
}

function* waitForEver(cell: Shared<number>): Task {
  yield* cell.until((value) => value < 0);
}

function* waitHolding(lock: Mutex, cell: Shared<number>): Task {
  yield* lock.lock();
  yield* cell.until((value) => value < 0);
}

function* fails(cell: Shared<number>, error: Error): Task {
  yield* cell.read();
  throw error;
}

function* freeTwice(memory: Allocation): Task {
  yield* memory.free();
  yield* memory.free();
}

function* useAfterFree(memory: Allocation, field: Shared<number>): Task {
  yield* memory.free();
  yield* field.read();
}

function twoAdders(): { scheduler: Scheduler; counter: Shared<number> } {
  const scheduler = new Scheduler();
  const counter = new Shared(scheduler, 'counter', 0);
  scheduler.spawn(addTwice(counter), { name: 'a', role: 'user' });
  scheduler.spawn(addTwice(counter), { name: 'b', role: 'user' });
  return { scheduler, counter };
}

describe('Scheduler', () => {
  test('runs every task to its end and counts the steps', () => {
    const { scheduler } = twoAdders();
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome).toMatchObject({ status: 'done', steps: 8, findings: [], blocked: [] });
  });

  test('lets unlocked read-modify-write lose updates in some schedules and not in others', () => {
    const sums = new Set<number>();
    for (let seed = 0; seed < 200; seed += 1) {
      const { scheduler, counter } = twoAdders();
      scheduler.run(new RandomStrategy(seed));
      sums.add(counter.value);
    }
    expect([...sums].sort()).toEqual([2, 3, 4]);
  });

  test('loses no update under a lock, in any of 500 schedules', () => {
    for (let seed = 0; seed < 500; seed += 1) {
      const scheduler = new Scheduler();
      const lock = new Mutex(scheduler, 'lock');
      const counter = new Shared(scheduler, 'counter', 0);
      for (const name of ['a', 'b', 'c']) {
        scheduler.spawn(lockedAdd(lock, counter), { name, role: 'user' });
      }
      expect(scheduler.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(counter.value).toBe(3);
    }
  });

  test('reports a circle of locks as a deadlock, with who holds and who waits', () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 50; seed += 1) {
      const scheduler = new Scheduler();
      const [one, two] = [new Mutex(scheduler, 'one'), new Mutex(scheduler, 'two')];
      scheduler.spawn(lockBoth(one, two), { name: 'a', role: 'user' });
      scheduler.spawn(lockBoth(two, one), { name: 'b', role: 'user' });
      const outcome = scheduler.run(new RandomStrategy(seed));
      outcomes.add(outcome.status);
      if (outcome.status !== 'deadlock') continue;
      expect(outcome.findings).toHaveLength(1);
      expect(outcome.findings[0]?.title).toBe(
        'a waits for ever to lock two (because of: b) holding one; ' +
          'b waits for ever to lock one (because of: a) holding two',
      );
    }
    expect([...outcomes].sort()).toEqual(['deadlock', 'done']);
  });

  test('is done when only daemons are left waiting', () => {
    const scheduler = new Scheduler();
    const cell = new Shared(scheduler, 'cell', 0);
    scheduler.spawn(waitForEver(cell), { name: 'worker', role: 'kernel', daemon: true });
    scheduler.spawn(addTwice(cell), { name: 'a', role: 'user' });
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome.status).toBe('done');
    expect(outcome.blocked.map((blocked) => blocked.actor)).toEqual(['worker']);
  });

  test('counts a daemon that waits with a lock in its hand as stuck', () => {
    const scheduler = new Scheduler();
    const cell = new Shared(scheduler, 'cell', 0);
    const lock = new Mutex(scheduler, 'lock');
    scheduler.spawn(waitHolding(lock, cell), { name: 'worker', role: 'kernel', daemon: true });
    expect(scheduler.run(new RoundRobinStrategy())).toMatchObject({
      status: 'deadlock',
      findings: [{ title: 'worker waits for ever to wait cell holding lock' }],
    });
  });

  test('lets virtual time pass only when nobody can go on otherwise', () => {
    const scheduler = new Scheduler();
    const woken: string[] = [];
    const counter = new Shared(scheduler, 'counter', 0);
    scheduler.spawn(sleeper(scheduler, 500, woken, 'late'), { name: 'late', role: 'user' });
    scheduler.spawn(sleeper(scheduler, 20, woken, 'early'), { name: 'early', role: 'user' });
    scheduler.spawn(addTwice(counter), { name: 'busy', role: 'user' });
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(woken).toEqual(['early at 20', 'late at 500']);
    expect(outcome.t).toBe(500);
  });

  test('cuts a run that does not end and says so', () => {
    const scheduler = new Scheduler({ stepsMax: 1000 });
    scheduler.spawn(readForEver(new Shared(scheduler, 'cell', 0)), { name: 'a', role: 'user' });
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome).toMatchObject({ status: 'step-limit', steps: 1000 });
    expect(outcome.findings[0]?.kind).toBe('step-limit');
  });

  test('keeps an error that leaves a task as a finding of that actor', () => {
    const scheduler = new Scheduler();
    const cell = new Shared(scheduler, 'cell', 0);
    const refused = new DmaBufError('ENODEV', 'map', 'test-of-an-uncaught-error');
    scheduler.spawn(fails(cell, refused), { name: 'a', role: 'user' });
    scheduler.spawn(fails(cell, new WrongResult('bytes differ')), { name: 'b', role: 'user' });
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome.findings).toEqual([
      { kind: 'failure', title: refused.message, party: 'a', step: 1 },
      { kind: 'wrong-result', title: 'bytes differ', party: 'b', step: 2 },
    ]);
  });

  test('passes an error of our own on', () => {
    const scheduler = new Scheduler();
    const cell = new Shared(scheduler, 'cell', 0);
    scheduler.spawn(fails(cell, new TypeError('ours')), { name: 'a', role: 'user' });
    expect(() => scheduler.run(new RoundRobinStrategy())).toThrow('ours');
  });

  test('finds memory that is left when a run ends well', () => {
    const scheduler = new Scheduler();
    new Allocation(scheduler, 'priv');
    expect(scheduler.run(new RoundRobinStrategy()).findings).toMatchObject([
      { kind: 'leak', title: 'priv is not freed' },
    ]);
  });

  test('ends a run at a double free and at a use after free', () => {
    const one = new Scheduler();
    one.spawn(freeTwice(new Allocation(one, 'priv')), { name: 'a', role: 'user' });
    expect(one.run(new RoundRobinStrategy())).toMatchObject({
      status: 'oops',
      findings: [{ title: 'double free: a frees priv, as a did' }],
    });
    const two = new Scheduler();
    const memory = new Allocation(two, 'priv');
    const field = new Shared(two, 'size', 1, memory);
    two.spawn(useAfterFree(memory, field), { name: 'a', role: 'user' });
    expect(two.run(new RoundRobinStrategy())).toMatchObject({
      status: 'oops',
      findings: [{ title: 'use after free: a touches size of priv, which a freed' }],
    });
  });

  test('shows a strategy each step before it takes effect, with the cells as it finds them', () => {
    const { scheduler, counter } = twoAdders();
    const seen: string[] = [];
    const strategy: Strategy = {
      name: 'first',
      pick: () => 0,
      before: (actor: Actor, step: Step) => {
        const [access] = step.accesses(NOW, actor);
        seen.push(`${actor.name} ${step.verb} ${access?.class} at ${counter.value}`);
      },
    };
    scheduler.run(strategy);
    expect(seen.slice(0, 4)).toEqual([
      'a read R at 0',
      'a write W at 0',
      'a read R at 1',
      'a write W at 1',
    ]);
  });

  test('gives the same ids to the same cells whatever others did before', () => {
    const ids = new ActorIds();
    const seen = [0, 1].map((first) => {
      const scheduler = new Scheduler({ ids });
      const made: number[][] = [[], []];
      for (const which of [0, 1]) {
        scheduler.spawn(makesCells(scheduler, made[which] ?? []), {
          name: `actor${which}`,
          role: 'user',
        });
      }
      scheduler.run({
        name: 'one first',
        pick: (enabled) => (first === 0 ? 0 : enabled.length - 1),
      });
      return made;
    });
    expect(seen[0]).toEqual(seen[1]);
    expect(new Set(seen[0]?.flat()).size).toBe(6);
  });

  test('records nothing, and builds no event, while nobody listens', () => {
    const { scheduler } = twoAdders();
    expect(scheduler.record).toBeUndefined();
  });

  test('stamps events with position, steps, time and actor', () => {
    const events: TraceEvent[] = [];
    const scheduler = new Scheduler({ sink: (event) => events.push(event) });
    const lock = new Mutex(scheduler, 'lock');
    const counter = new Shared(scheduler, 'counter', 0);
    scheduler.spawn(lockedAdd(lock, counter), { name: 'a', role: 'user' });
    scheduler.run(new RoundRobinStrategy());
    expect(events.map((event) => event.kind)).toEqual([
      'task.spawn',
      'lock.acquire',
      'lock.release',
      'task.end',
      'run.end',
    ]);
    expect(events[2]).toEqual({
      seq: 2,
      step: 3,
      t: 0,
      task: 'a',
      kind: 'lock.release',
      lock: 'lock',
      id: lock.id,
    });
  });
});

function* makesCells(scheduler: Scheduler, made: number[]): Atomic {
  const gate = new Shared(scheduler, 'gate', 0);
  made.push(gate.id);
  for (let i = 0; i < 2; i += 1) {
    yield* gate.read();
    made.push(new Shared(scheduler, 'more', 0).id);
  }
}
