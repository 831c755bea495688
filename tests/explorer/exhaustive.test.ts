/**
 * Goal: the exhaustive search runs one execution of each class of schedules, no more and no less.
 * Method: the numbers that are known of small protocols (reference/explorer.md 12, shared/models),
 * confirmed by other model checkers.
 */

import { describe, expect, test } from 'vitest';
import { exploreAll, type Program } from '../../src/explorer/index.ts';
import {
  getPutPut,
  increments,
  lastPut,
  lastZero,
  lockCounter,
  philosophers,
  readers,
  readWrite,
  storeBuffer,
  tryGetModel,
} from './exhaustive-models.ts';

/** Program, executions, and how many of them go wrong. */
const KNOWN: readonly (readonly [Program, number, number])[] = [
  [readers(2), 4, 0],
  [readers(8), 256, 0],
  [lastZero(3), 12, 0],
  [lastZero(5), 64, 0],
  [lastZero(8), 704, 0],
  [increments(5, true), 120, 0],
  [increments(2, false), 4, 0],
  [increments(3, false), 36, 0],
  [increments(4, false), 576, 0],
  [storeBuffer(2), 3, 0],
  [storeBuffer(4), 15, 0],
  [storeBuffer(8), 255, 0],
  [lockCounter(4, 1), 24, 0],
  [lockCounter(6, 1), 720, 0],
  [lockCounter(3, 2), 90, 0],
  [lockCounter(3, 3), 1680, 0],
  [philosophers(2, false), 3, 1],
  [philosophers(4, false), 15, 1],
  [philosophers(3, true), 6, 0],
  [philosophers(4, true), 14, 0],
  [tryGetModel(1), 4, 0],
  [tryGetModel(2), 25, 0],
  [tryGetModel(3), 214, 0],
  [readWrite(2, 1), 4, 0],
  [readWrite(3, 1), 8, 0],
  [readWrite(2, 2), 18, 0],
  [readWrite(3, 2), 54, 0],
  [getPutPut(2), 6, 0],
  [getPutPut(3), 90, 0],
  [lastPut(1), 3, 0],
  [lastPut(2), 19, 0],
  [lastPut(3), 247, 0],
];

describe('The exhaustive search', () => {
  for (const [program, executions, failed] of KNOWN) {
    test(`runs ${program.id} in ${executions} ways, of which ${failed} fail`, () => {
      const found = exploreAll(program, { executionsMax: 100_000 });
      expect(found).toMatchObject({ complete: true, executions, failed });
    });
  }

  test('finds the deadlock of a release inside the walk', () => {
    const found = exploreAll(tryGetModel(2, true), { executionsMax: 10_000 });
    expect(found.complete).toBe(true);
    expect([...found.findings.keys()].every((title) => title.startsWith('deadlock'))).toBe(true);
    expect(found.failed).toBeGreaterThan(0);
  });

  test('gives up after as many executions as it may run', () => {
    const found = exploreAll(storeBuffer(4), { executionsMax: 10 });
    expect(found).toMatchObject({ complete: false, executions: 10 });
  });

  test('stops at the first failure if told to', () => {
    const found = exploreAll(philosophers(4, false), { executionsMax: 1000, stopAtFirst: true });
    expect(found).toMatchObject({ complete: false, failed: 1 });
    expect(found.failures[0]?.title).toContain('deadlock');
  });

  test('is not complete if an execution was cut', () => {
    const found = exploreAll(lockCounter(2, 2), { executionsMax: 1000, stepsMax: 6 });
    expect(found.complete).toBe(false);
    expect(found.failures[0]?.title).toContain('step-limit');
  });
});
