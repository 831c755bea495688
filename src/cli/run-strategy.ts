/** Which strategy `peerbuf run` is told to use. */

import { InputError, SEED_MAX } from '../base/index.ts';
import {
  decodeSchedule,
  RandomStrategy,
  ReplayStrategy,
  RoundRobinStrategy,
} from '../explorer/index.ts';
import type { Strategy } from '../machine/index.ts';
import { quoted, readCount } from './count.ts';

const SEED_DEFAULT = 1;

/** A strategy, as the user chose it. */
export interface ChosenStrategy {
  readonly strategy: Strategy;
  /** Null unless it rolls dice. */
  readonly seed: number | null;
  /** For people. */
  readonly words: string;
  /** Options that choose it. */
  readonly options: readonly string[];
}

/**
 * Reads `--strategy` and `--seed`. A seed alone means the random strategy; neither, round-robin.
 *
 * @throws {@link InputError} Either says nothing sensible, or they do not go together.
 */
export function readStrategy(
  name: string | undefined,
  seedText: string | undefined,
): ChosenStrategy {
  if (name === 'random' || (name === undefined && seedText !== undefined)) {
    const seed = seedText === undefined ? SEED_DEFAULT : readCount(seedText, '--seed', 0, SEED_MAX);
    const options = ['--strategy', 'random', '--seed', String(seed)];
    return { strategy: new RandomStrategy(seed), seed, words: `random, seed ${seed}`, options };
  }
  if (seedText !== undefined) {
    throw new InputError('--seed', '', 'it goes with --strategy random only');
  }
  if (name === undefined || name === 'round-robin') {
    const words = 'round-robin: everybody in turn, one step each';
    const options = ['--strategy', 'round-robin'];
    return { strategy: new RoundRobinStrategy(), seed: null, words, options };
  }
  if (!name.startsWith('s1-')) {
    const expected = 'expected round-robin, random or a schedule that begins with s1-';
    throw new InputError('--strategy', '', `${expected}, got ${quoted(name)}`);
  }
  const schedule = decodeSchedule(name, '--strategy');
  return {
    strategy: new ReplayStrategy(schedule, '--strategy'),
    seed: null,
    words: `a schedule of ${schedule.length} steps`,
    options: ['--strategy', name],
  };
}
