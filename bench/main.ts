/**
 * `npm run bench`: prints how fast the hot paths are, as ratios within this run, and counts that
 * must be the same everywhere; `bench/baseline.json` has those, and `tests/bench.test.ts` holds
 * them to it. Times are for reading, never for passing or failing.
 */

import { attachCycles, plainCycles } from './attachments.ts';
import { BASELINE, type Counts, differencesFrom } from './baseline.ts';
import { dmaCopy, plainCopy } from './copy.ts';
import {
  plainCallbacks,
  plainList,
  RESV_FENCES,
  resv64,
  signalWithWaiters,
  WAITERS,
} from './fences.ts';
import { compare, short } from './measure.ts';
import { emptyGenerator, race, schedulerSteps, tryGetRace } from './scheduler.ts';
import { allPairs } from './verdicts.ts';

function line(what: string, figure: string, note: string): void {
  console.log(`${what.padEnd(34)} ${figure.padStart(16)}   ${note}`);
}

function benchScheduler(): void {
  const steps = compare(schedulerSteps(), emptyGenerator());
  const base = `${short(steps.basePerSecond)} yields/s of an empty generator loop`;
  line('scheduler steps', `${short(steps.perSecond)}/s`, `${steps.ratio.toFixed(3)} of ${base}`);
  const runs = compare(tryGetRace(), emptyGenerator());
  const perYield = `one execution takes ${(1 / runs.ratio).toFixed(0)} yields`;
  line('try-get race, executions', `${short(runs.perSecond)}/s`, perYield);
}

function benchCopy(): void {
  const copy = compare(dmaCopy(), plainCopy());
  const base = `of Uint8Array.set of the same size (aim: at least 0.5)`;
  line(
    'DMA of 1 MiB, one mapping',
    `${short(copy.perSecond)}/s`,
    `${copy.ratio.toFixed(2)} ${base}`,
  );
}

/** What the framework does, each beside the same bookkeeping on plain objects. */
function benchFramework(): void {
  const works = [
    ['attach, map, unmap, detach', attachCycles(), plainCycles()],
    [`callbacks of a fence with ${WAITERS}`, signalWithWaiters(), plainCallbacks()],
    [`fences into a reservation of ${RESV_FENCES}`, resv64(), plainList()],
  ] as const;
  for (const [what, work, plain] of works) {
    const { perSecond, ratio, basePerSecond } = compare(work, plain);
    const base = `${ratio.toPrecision(2)} of ${short(basePerSecond)}/s on plain objects`;
    line(what, `${short(perSecond)}/s`, base);
  }
}

function benchVerdicts(): Counts['allPairs'] {
  const before = process.memoryUsage().heapUsed;
  const begin = performance.now();
  const counts = allPairs(BASELINE.allPairs.asked, BASELINE.allPairs.seed);
  const seconds = (performance.now() - begin) / 1000;
  const heap = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  const { endpoints, pairs, byType } = counts;
  const note = `${short(pairs)} pairs of ${endpoints} endpoints in ${seconds.toFixed(2)} s`;
  line('peer-to-peer verdicts', `${short(pairs / seconds)}/s`, `${note} (aim: under 10 s)`);
  line('', '', `${JSON.stringify(byType)}, heap ${heap.toFixed(0)} MiB more`);
  return counts;
}

function checkCounts(allPairsCounts: Counts['allPairs']): void {
  const { executions, seed } = BASELINE.race;
  const counts = { race: race(executions, seed), allPairs: allPairsCounts };
  const differences = differencesFrom(counts);
  for (const difference of differences) console.error(difference);
  if (differences.length > 0) process.exitCode = 1;
  else line('exact counts', 'as baseline', 'bench/baseline.json');
}

console.log(`peerbuf bench on Node ${process.version}; ratios are of this run\n`);
benchScheduler();
benchCopy();
benchFramework();
checkCounts(benchVerdicts());
