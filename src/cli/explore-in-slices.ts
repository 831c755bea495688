/**
 * Explores a story a slice at a time, so that Ctrl-C is heard in between. What comes out does not
 * depend on how it is sliced.
 */

import { setImmediate } from 'node:timers/promises';
import {
  type ExploreOptions,
  exploreRandom,
  type Failure,
  type Program,
} from '../explorer/index.ts';

/** LIMIT: failures kept with their traces, as many as the explorer keeps of one slice. */
const FAILURES_KEPT_MAX = 10;

/** How long a slice should take: short enough to seem to answer at once. */
const SLICE_MS = 200;
const FIRST_SLICE = 8;
const SLICE_MAX = 2000;

/** How to explore in slices. */
export interface SliceOptions extends Pick<ExploreOptions, 'executions' | 'seed'> {
  /** Milliseconds on a clock. */
  readonly now: () => number;
  /** Called after every slice with the executions done. Returning false stops there. */
  readonly progress: (done: number) => boolean;
}

/** What came of it. */
export interface SlicedExploration {
  readonly executions: number;
  readonly steps: number;
  readonly elapsedMs: number;
  readonly results: ReadonlyMap<string, number>;
  readonly failed: number;
  readonly failures: readonly Failure[];
}

/** Runs `program` under `executions` random schedules, seeds ascending from `seed`. */
export async function exploreInSlices(
  program: Program,
  { executions, seed, now, progress }: SliceOptions,
): Promise<SlicedExploration> {
  const begin = now();
  const results = new Map<string, number>();
  const failures: Failure[] = [];
  const kinds = new Set<string>();
  let [done, steps, failed, slice] = [0, 0, 0, FIRST_SLICE];
  while (done < executions) {
    const sliceBegin = now();
    const count = Math.min(slice, executions - done);
    const found = exploreRandom(program, { executions: count, seed: seed + done });
    done += count;
    steps += found.steps;
    failed += found.failed;
    for (const [text, times] of found.results) results.set(text, (results.get(text) ?? 0) + times);
    for (const failure of found.failures) {
      const kind = kindOf(failure);
      if (kinds.has(kind) || failures.length >= FAILURES_KEPT_MAX) continue;
      kinds.add(kind);
      failures.push(failure);
    }
    const speed = SLICE_MS / Math.max(now() - sliceBegin, 1);
    slice = Math.min(Math.max(Math.round(count * speed), 1), SLICE_MAX);
    // Signals are delivered between turns of the event loop only.
    await setImmediate();
    if (!progress(done)) break;
  }
  return { executions: done, steps, elapsedMs: now() - begin, results, failed, failures };
}

function kindOf({ findings }: Failure): string {
  const [first] = findings;
  return `${first?.kind} ${first?.title}`;
}
