/** `peerbuf/explorer`: running a program in many orders. */

export {
  type ExhaustiveExploration,
  exploreAll,
  type ExploreAllOptions,
  type ShortFailure,
} from './explore-all.ts';
export {
  type Execution,
  type Exploration,
  type ExploreOptions,
  exploreRandom,
  type Failure,
  type Program,
  type ProgramRun,
  type RunOptions,
  runOnce,
} from './explore.ts';
export { decodeSchedule, encodeSchedule, type Schedule } from './schedule.ts';
export { RandomStrategy } from './strategies/random.ts';
export { RecordingStrategy } from './strategies/recording.ts';
export { ReplayStrategy } from './strategies/replay.ts';
export { RoundRobinStrategy } from './strategies/round-robin.ts';
