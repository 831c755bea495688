/**
 * Goal: what comes of an exploration does not depend on how it is sliced. Method: what the explorer
 * itself finds, and slices of every size that a clock can cause.
 */

import { describe, expect, test } from 'vitest';
import { exploreInSlices } from '../../src/cli/explore-in-slices.ts';
import { exploreRandom, type Program } from '../../src/explorer/index.ts';
import { findPreset, MachinePlan } from '../../src/machine/index.ts';
import { Production } from '../../src/scenarios/index.ts';
import bug from './stories/get-instead-of-try-get.ts';

const PLAN = new MachinePlan(findPreset('server-switch') ?? expect.fail('the preset is there'));
const PROGRAM: Program = new Production(bug, PLAN);
const EXTENT = { executions: 240, seed: 9 };

/** A clock that goes forward by `ms` at every look. */
function clock(ms: number): () => number {
  let t = 0;
  return () => {
    t += ms;
    return t;
  };
}

describe('exploreInSlices', () => {
  test.each([0, 1, 30, 200, 5000])('finds what the explorer finds, at %i ms a look', async (ms) => {
    const slices: number[] = [];
    const progress = (done: number): boolean => slices.push(done) > 0;
    const found = await exploreInSlices(PROGRAM, { ...EXTENT, now: clock(ms), progress });
    const { executions, steps, results, failed, failures } = exploreRandom(PROGRAM, EXTENT);
    expect(found).toMatchObject({ executions, steps, failed });
    expect([...found.results]).toEqual([...results]);
    expect(found.failures).toEqual(failures);
    expect(failures.length).toBeGreaterThan(0);
    expect(slices.at(-1)).toBe(240);
  });

  test('stops after the slice in which it is told to', async () => {
    const progress = (): boolean => false;
    const found = await exploreInSlices(PROGRAM, { ...EXTENT, now: clock(0), progress });
    expect(found.executions).toBe(8);
  });
});
