/**
 * Goal: the work that the benches time is the same everywhere, and the counts of it are committed.
 * Method: run it once, compare exactly. Times are never compared.
 */

import { writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BASELINE, BASELINE_FILE, differencesFrom } from '../bench/baseline.ts';
import { dmaCopy, plainCopy } from '../bench/copy.ts';
import { emptyGenerator, race, schedulerSteps } from '../bench/scheduler.ts';
import { allPairs } from '../bench/verdicts.ts';

test('the counts of the benches are those of bench/baseline.json', () => {
  const { race: raced, allPairs: judged } = BASELINE;
  const counts = {
    race: race(raced.executions, raced.seed),
    allPairs: allPairs(judged.asked, judged.seed),
  };
  if (process.env.UPDATE === '1') {
    writeFileSync(BASELINE_FILE, `${JSON.stringify(counts, null, 2)}\n`);
    return;
  }
  expect(differencesFrom(counts)).toEqual([]);
  expect(counts.race.findings).toBe(0);
});

test('every work does what it counts', () => {
  expect(emptyGenerator()()).toBe(10_000);
  expect(schedulerSteps()()).toBe(100 * 3 * 32);
  expect([dmaCopy()(), plainCopy()()].every((count) => count > 0)).toBe(true);
});
