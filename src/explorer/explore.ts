/**
 * Runs a program many times, each time in another order, and keeps what went wrong. Here the orders
 * are random; every execution has a seed of its own, so each can be repeated by itself.
 *
 * Not exhaustive: that nothing was found proves nothing.
 */

import { assert, TRACE_SCHEMA, type Trace, type TraceEvent } from '../base/index.ts';
import {
  type Finding,
  isWrongResult,
  type Outcome,
  Scheduler,
  type Strategy,
} from '../machine/index.ts';
import { encodeSchedule, type Schedule } from './schedule.ts';
import { RandomStrategy } from './strategies/random.ts';
import { RecordingStrategy } from './strategies/recording.ts';

/** Something that can be run again and again, always from the same start. */
export interface Program {
  /** `spdk-nvme-rdma`. */
  readonly id: string;
  /** The machine it runs on: `epyc-2s`. */
  readonly machine: string;
  /** Builds the world on a fresh scheduler and spawns the actors. */
  boot(scheduler: Scheduler): ProgramRun;
}

/** One run of a program. */
export interface ProgramRun {
  /**
   * Looks at the end whether all is as it must be, and says what came out.
   *
   * @throws {@link WrongResult} it is not.
   */
  conclude(outcome: Outcome): string;
}

/** One execution, looked at. */
export interface Execution {
  readonly outcome: Outcome;
  /** What came out, in a line; empty if the run ended badly. */
  readonly result: string;
  /** Everything that must not happen and did. */
  readonly findings: readonly Finding[];
  /** Who took each step. */
  readonly schedule: Schedule;
  /** What happened; empty unless asked for. */
  readonly trace: Trace;
}

/** How to run once. */
export interface RunOptions {
  readonly strategy: Strategy;
  /** Keep the trace. Default false. */
  readonly trace?: boolean;
  /** Steps after which a run is cut. */
  readonly stepsMax?: number;
}

/** Runs a program once. */
export function runOnce(program: Program, options: RunOptions): Execution {
  const trace: TraceEvent[] = [];
  const strategy = new RecordingStrategy(options.strategy);
  const scheduler = new Scheduler({
    ...(options.trace === true ? { sink: (event: TraceEvent) => trace.push(event) } : {}),
    ...(options.stepsMax === undefined ? {} : { stepsMax: options.stepsMax }),
  });
  scheduler.record?.({
    kind: 'run.begin',
    schema: TRACE_SCHEMA,
    scenario: program.id,
    machine: program.machine,
    strategy: strategy.name,
  });
  const run = program.boot(scheduler);
  const outcome = scheduler.run(strategy);
  const { result, findings } = conclude(run, outcome);
  return { outcome, result, findings, schedule: strategy.schedule, trace };
}

/** What a run came to: the program's own word counts only if nothing went wrong before. */
export function conclude(
  run: ProgramRun,
  outcome: Outcome,
): { readonly result: string; readonly findings: readonly Finding[] } {
  if (outcome.findings.length > 0) return { result: '', findings: outcome.findings };
  try {
    return { result: run.conclude(outcome), findings: [] };
  } catch (error) {
    if (!isWrongResult(error)) throw error;
    const title = error.message;
    const finding: Finding = { kind: 'wrong-result', title, party: '', step: outcome.steps };
    return { result: '', findings: [finding] };
  }
}

/** An execution that went wrong, with what is needed to see it again. */
export interface Failure {
  readonly seed: number;
  /** Who took each step, as a string that can be replayed. */
  readonly schedule: string;
  readonly findings: readonly Finding[];
  readonly trace: Trace;
}

/** What came of many executions. */
export interface Exploration {
  readonly program: string;
  readonly machine: string;
  readonly executions: number;
  /** Random orders are never all orders. */
  readonly complete: false;
  /** Steps of all executions together. */
  readonly steps: number;
  /** The different results, with how often each came. */
  readonly results: ReadonlyMap<string, number>;
  /** Executions that went wrong; those kept are the first of each kind of finding. */
  readonly failed: number;
  readonly failures: readonly Failure[];
}

/** How to explore. */
export interface ExploreOptions {
  /** Executions. */
  readonly executions: number;
  /** Seed of the first; the others follow. */
  readonly seed: number;
  readonly stepsMax?: number;
  /** Called now and then with the executions done. Returning false stops with what there is. */
  readonly progress?: (done: number) => boolean;
}

/** LIMIT: failures kept with their traces; what comes after is only counted. */
const FAILURES_KEPT_MAX = 10;

/** Executions between two calls of `progress`. */
const PROGRESS_EVERY = 100;

/**
 * Runs a program under many random schedules. The first is run twice, to make sure that nothing but
 * the schedule decides what happens.
 */
export function exploreRandom(program: Program, options: ExploreOptions): Exploration {
  const results = new Map<string, number>();
  const failures: Failure[] = [];
  const titles = new Set<string>();
  let executions = 0;
  let steps = 0;
  let failed = 0;
  checkDeterminism(program, options.seed);
  while (executions < options.executions) {
    const seed = options.seed + executions;
    const execution = runOnce(program, runOptions(seed, options, false));
    executions += 1;
    steps += execution.outcome.steps;
    const [first] = execution.findings;
    if (first === undefined) {
      results.set(execution.result, (results.get(execution.result) ?? 0) + 1);
    } else {
      failed += 1;
      const title = `${first.kind} ${first.title}`;
      if (!titles.has(title) && failures.length < FAILURES_KEPT_MAX) {
        titles.add(title);
        failures.push(seeAgain(program, seed, options));
      }
    }
    const report = executions % PROGRESS_EVERY === 0;
    if (report && options.progress?.(executions) === false) break;
  }
  const { id, machine } = program;
  return { program: id, machine, executions, complete: false, steps, results, failed, failures };
}

function runOptions(seed: number, { stepsMax }: ExploreOptions, trace: boolean): RunOptions {
  const strategy = new RandomStrategy(seed);
  return { strategy, trace, ...(stepsMax === undefined ? {} : { stepsMax }) };
}

function seeAgain(program: Program, seed: number, options: ExploreOptions): Failure {
  const { schedule, findings, trace } = runOnce(program, runOptions(seed, options, true));
  return { seed, schedule: encodeSchedule(schedule), findings, trace };
}

function checkDeterminism(program: Program, seed: number): void {
  const [one, other] = [0, 1].map(() => runOnce(program, { strategy: new RandomStrategy(seed) }));
  assert(
    one?.schedule.join() === other?.schedule.join() && one?.result === other?.result,
    `${program.id} is decided by the schedule alone: seed ${seed} went two ways`,
  );
}
