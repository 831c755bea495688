/**
 * Measuring by comparison: what is to be known runs beside a plain loop in the same process, and
 * the ratio of the two is the figure. Machines are fast or slow; a ratio moves little.
 */

/** A piece of work that does `count` of something and says how many it did. */
export type Work = () => number;

/** Rounds of each work; the median counts. */
const ROUNDS = 7;

/** Milliseconds that a round shall take at least. */
const ROUND_MS = 80;

/** Something a second, of a work and of what it is compared with. */
export interface Comparison {
  readonly perSecond: number;
  readonly basePerSecond: number;
  /** The first by the second. */
  readonly ratio: number;
}

/** Runs two works in turn and compares their rates. */
export function compare(work: Work, base: Work): Comparison {
  const rates: number[] = [];
  const baseRates: number[] = [];
  rateOf(work);
  rateOf(base);
  for (let round = 0; round < ROUNDS; round += 1) {
    rates.push(rateOf(work));
    baseRates.push(rateOf(base));
  }
  const perSecond = median(rates);
  const basePerSecond = median(baseRates);
  return { perSecond, basePerSecond, ratio: perSecond / basePerSecond };
}

/** Runs a work for a while; how many a second it did. */
export function rateOf(work: Work): number {
  const begin = performance.now();
  let count = 0;
  let elapsedMs = 0;
  while (elapsedMs < ROUND_MS) {
    count += work();
    elapsedMs = performance.now() - begin;
  }
  return (count / elapsedMs) * 1000;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** `1.2 M`, `340 k`. */
export function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e3) return `${(value / 1e3).toPrecision(3)} k`;
  return value.toPrecision(3);
}
