/**
 * Runs a program in every order that can make a difference. Two schedules that differ only in the
 * order of steps that do not touch the same things come to the same, and one of them is run.
 *
 * If it is complete and nothing was found, nothing can go wrong in this program: as far as its
 * steps say truly what they touch, and with time passing only when nobody can go on.
 */

import { assert, TRACE_SCHEMA, type Trace, type TraceEvent } from '../base/index.ts';
import {
  ActorIds,
  type Finding,
  type Outcome,
  Scheduler,
  type SchedulerOptions,
  type Strategy,
} from '../machine/index.ts';
import { conclude, type Program, type ProgramRun } from './explore.ts';
import { encodeSchedule } from './schedule.ts';
import { covers, eventsIn } from './search/clock.ts';
import { EndOfPath, PathStrategy } from './search/path-strategy.ts';
import { SearchStrategy, SeenBefore } from './search/search-strategy.ts';
import { type SearchEvent, SearchTree } from './search/search-tree.ts';

/** How to search. */
export interface ExploreAllOptions {
  /** Executions after which the search gives up; those that had been seen before count, too. */
  readonly executionsMax: number;
  /** Steps after which one execution is cut; the search is then not complete. */
  readonly stepsMax?: number;
  /** Stop at the first execution that goes wrong. Default false. */
  readonly stopAtFirst?: boolean;
}

/** A way to go wrong: of all ways found to a finding, the one with the fewest steps. */
export interface ShortFailure {
  /** The finding's kind and title. */
  readonly title: string;
  /** Steps up to and with the one that shows it; nothing in them can be left out. */
  readonly steps: number;
  /** Who took them, as a string that can be replayed. */
  readonly schedule: string;
  readonly findings: readonly Finding[];
  /** What happened up to there. */
  readonly trace: Trace;
}

/** What came of a search. */
export interface ExhaustiveExploration {
  readonly program: string;
  readonly machine: string;
  /** Executions that came to an end; no two differ only in the order of unrelated steps. */
  readonly executions: number;
  /** Executions given up because what would follow had been seen already. */
  readonly abandoned: number;
  /** True if every order was run, or one that comes to the same. */
  readonly complete: boolean;
  /** Steps of all executions together. */
  readonly steps: number;
  /** The different results, with how often each came. */
  readonly results: ReadonlyMap<string, number>;
  /** The different findings, by kind and title, with how many executions showed each. */
  readonly findings: ReadonlyMap<string, number>;
  /** Executions that went wrong. */
  readonly failed: number;
  /** One for each first finding of an execution, shortest first. */
  readonly failures: readonly ShortFailure[];
}

/** LIMIT: first findings that are kept with their traces. */
const FAILURES_KEPT_MAX = 10;

/** Findings that show only when the run is over: the whole of it leads there. */
const SEEN_AT_THE_END: ReadonlySet<Finding['kind']> = new Set(['deadlock', 'leak', 'step-limit']);

/**
 * Runs a program under every schedule but for those that come to the same.
 *
 * When a step ends the run, orders in which it comes before steps that it has nothing to do with
 * are left out: what they could show is seen where it comes after them.
 */
export function exploreAll(program: Program, options: ExploreAllOptions): ExhaustiveExploration {
  return new ExhaustiveSearch(program, options).run();
}

class ExhaustiveSearch {
  private readonly program: Program;
  private readonly options: ExploreAllOptions;
  private readonly tree = new SearchTree();
  private readonly ids = new ActorIds();
  private readonly results = new Map<string, number>();
  private readonly found = new Map<string, number>();
  private readonly shortest = new Map<string, readonly number[]>();
  private executions = 0;
  private abandoned = 0;
  private steps = 0;
  private failed = 0;
  private isCut = false;
  private readonly schedulerOptions: SchedulerOptions;

  constructor(program: Program, options: ExploreAllOptions) {
    const { stepsMax } = options;
    this.program = program;
    this.options = options;
    this.schedulerOptions = { ids: this.ids, ...(stepsMax === undefined ? {} : { stepsMax }) };
  }

  run(): ExhaustiveExploration {
    const { executionsMax, stopAtFirst } = this.options;
    let isOver = false;
    while (!isOver && this.executions + this.abandoned < executionsMax) {
      this.execute();
      if (stopAtFirst === true && this.failed > 0) break;
      isOver = !this.tree.backtrack();
    }
    const { executions, abandoned, steps, results, failed, found } = this;
    const failures = [...this.shortest].map(([title, ids]) => this.seeAgain(title, ids));
    failures.sort((one, other) => one.steps - other.steps);
    const { id, machine } = this.program;
    const complete = isOver && !this.isCut;
    const counts = { executions, abandoned, complete, steps, failed };
    return { program: id, machine, ...counts, results, findings: found, failures };
  }

  private execute(): void {
    const scheduler = new Scheduler(this.schedulerOptions);
    const run = this.program.boot(scheduler);
    const strategy = new SearchStrategy(this.tree, scheduler);
    const outcome = runUnless(SeenBefore, scheduler, strategy);
    this.steps += scheduler.steps;
    strategy.end(outcome?.status === 'oops');
    if (outcome === null) this.abandoned += 1;
    else this.note(scheduler, strategy, outcome, run);
  }

  private note(
    scheduler: Scheduler,
    strategy: SearchStrategy,
    outcome: Outcome,
    run: ProgramRun,
  ): void {
    this.executions += 1;
    if (outcome.status === 'step-limit') this.isCut = true;
    const { result, findings } = conclude(run, outcome);
    for (const title of new Set(findings.map(titleOf))) increment(this.found, title);
    const [first] = findings;
    if (first === undefined) {
      increment(this.results, result);
      return;
    }
    this.failed += 1;
    const steps = outcome.steps;
    const isWhole = SEEN_AT_THE_END.has(first.kind) || outcome.findings.length === 0;
    const at = isWhole ? null : (strategy.failedAt ?? steps - 1);
    this.keepShorter(titleOf(first), at, scheduler);
  }

  /** @param at - Depth of the step that showed it; null: the whole run leads there. */
  private keepShorter(title: string, at: number | null, scheduler: Scheduler): void {
    const { tree, shortest } = this;
    const known = shortest.get(title);
    if (known === undefined && shortest.size >= FAILURES_KEPT_MAX) return;
    const events = tree.frames.map((frame) => frame.event as SearchEvent);
    const failing = at === null ? undefined : events[at];
    const length = failing === undefined ? events.length : eventsIn(failing.clock);
    if (known !== undefined && known.length <= length) return;
    const past =
      failing === undefined
        ? events
        : events.filter(({ actor, nth }) => covers(failing.clock, actor, nth));
    const ids = past.map(({ actor }) => scheduler.actors[actor]?.id ?? 0);
    shortest.set(title, ids);
  }

  /** Runs what led to a finding once more, and nothing else. */
  private seeAgain(title: string, ids: readonly number[]): ShortFailure {
    const { id: scenario, machine } = this.program;
    const trace: TraceEvent[] = [];
    const sink = (event: TraceEvent): unknown => trace.push(event);
    const scheduler = new Scheduler({ ...this.schedulerOptions, sink });
    const strategy = new PathStrategy(ids);
    const run = { kind: 'run.begin', schema: TRACE_SCHEMA, strategy: strategy.name } as const;
    scheduler.record?.({ ...run, scenario, machine });
    const end = this.program.boot(scheduler);
    const outcome = runUnless(EndOfPath, scheduler, strategy);
    const findings = outcome === null ? scheduler.findings : conclude(end, outcome).findings;
    assert(
      findings.some((finding) => titleOf(finding) === title),
      `what is left of a way leads to the same finding: ${title}`,
    );
    const schedule = encodeSchedule(strategy.schedule);
    return { title, steps: ids.length, schedule, findings, trace };
  }
}

/** Null if the run was given up by an error of the class that its strategy throws. */
function runUnless(
  GivenUp: typeof EndOfPath | typeof SeenBefore,
  scheduler: Scheduler,
  strategy: Strategy,
): Outcome | null {
  try {
    return scheduler.run(strategy);
  } catch (error) {
    if (error instanceof GivenUp) return null;
    throw error;
  }
}

function titleOf({ kind, title }: Finding): string {
  return `${kind}: ${title}`;
}

function increment(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
