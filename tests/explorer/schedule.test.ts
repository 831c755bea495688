/**
 * Goal: a schedule survives as a short string, and strings that are none are refused in one line.
 * Method: round trips and hostile input.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import {
  decodeSchedule,
  encodeSchedule,
  RandomStrategy,
  RecordingStrategy,
  ReplayStrategy,
  RoundRobinStrategy,
} from '../../src/explorer/index.ts';
import { Scheduler, Shared, type Task } from '../../src/machine/index.ts';

describe('encodeSchedule', () => {
  test('keeps every schedule', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(300), { maxLength: 400 }), (schedule) => {
        expect(decodeSchedule(encodeSchedule(schedule), 'test')).toEqual(schedule);
      }),
    );
  });

  test('writes steps in a row as one pair', () => {
    expect(encodeSchedule([])).toBe('s1-');
    expect(encodeSchedule(Array(1000).fill(2))).toBe('s1-AugH');
  });
});

describe('decodeSchedule', () => {
  test('refuses whatever is not a schedule with one line', () => {
    for (const text of ['', 'x', 's2-AA', 's1-A', 's1-!!', 's1-AAA', 's1-AP__________8B']) {
      expect(() => decodeSchedule(text, '--strategy')).toThrow(InputError);
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          decodeSchedule(`s1-${text}`, 'test');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          expect((error as Error).message).not.toContain('\n');
        }
      }),
    );
  });
});

function* add(counter: Shared<number>, log: string[], name: string): Task {
  for (let round = 0; round < 3; round += 1) {
    const seen = yield* counter.read();
    yield* counter.write(seen + 1);
    log.push(`${name}${seen}`);
  }
}

function world(log: string[]): Scheduler {
  const scheduler = new Scheduler();
  const counter = new Shared(scheduler, 'counter', 0);
  for (const name of ['a', 'b', 'c']) {
    scheduler.spawn(add(counter, log, name), { name, role: 'user' });
  }
  return scheduler;
}

describe('ReplayStrategy', () => {
  test('repeats a random run step by step', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const [first, second]: [string[], string[]] = [[], []];
      const recording = new RecordingStrategy(new RandomStrategy(seed));
      world(first).run(recording);
      world(second).run(new ReplayStrategy(recording.schedule, 'test'));
      expect(second).toEqual(first);
    }
  });

  test('says at which step a schedule does not fit', () => {
    expect(() => world([]).run(new ReplayStrategy([0, 0, 7], 'S'))).toThrow(
      'S: step 3: actor 7 cannot go here, only 0 (a), 1 (b), 2 (c): ' +
        'the schedule is of another story or machine',
    );
  });

  test('gives everybody a turn once the schedule is used up', () => {
    const log: string[] = [];
    expect(world(log).run(new ReplayStrategy([2, 2], 'S')).status).toBe('done');
    expect(log[0]).toBe('c0');
  });
});

describe('RoundRobinStrategy', () => {
  test('gives every actor one step in turn', () => {
    const recording = new RecordingStrategy(new RoundRobinStrategy());
    world([]).run(recording);
    expect(recording.schedule.slice(0, 7)).toEqual([0, 1, 2, 0, 1, 2, 0]);
  });
});

describe('RandomStrategy', () => {
  test('makes the same choices for the same seed and others for another', () => {
    const schedules = [1, 1, 2].map((seed) => {
      const recording = new RecordingStrategy(new RandomStrategy(seed));
      world([]).run(recording);
      return encodeSchedule(recording.schedule);
    });
    expect(schedules[0]).toBe(schedules[1]);
    expect(schedules[0]).not.toBe(schedules[2]);
  });
});
