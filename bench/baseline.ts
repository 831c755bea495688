/**
 * Counts that do not depend on the machine. If one changes, the program changed: a search takes
 * other steps, a rule says something else. Whoever means that writes `bench/baseline.json` anew:
 * `UPDATE=1 npx vitest run tests/bench`.
 */

import { readFileSync } from 'node:fs';
import type { RaceCounts } from './scheduler.ts';
import type { VerdictCounts } from './verdicts.ts';

/** Where the counts stand. */
export const BASELINE_FILE: URL = new URL('baseline.json', import.meta.url);

/** What is counted. */
export interface Counts {
  readonly race: RaceCounts;
  readonly allPairs: VerdictCounts;
}

/** The counts as committed. */
export const BASELINE: Counts = JSON.parse(readFileSync(BASELINE_FILE, 'utf8'));

/** A line for each part of `counts` that is not as committed. */
export function differencesFrom(counts: Counts): readonly string[] {
  return (['race', 'allPairs'] as const)
    .map((part) => [part, JSON.stringify(BASELINE[part]), JSON.stringify(counts[part])] as const)
    .filter(([, expected, got]) => expected !== got)
    .map(([part, expected, got]) => `${part}: expected ${expected}, got ${got}`);
}
