/**
 * Runs one execution: actors take steps, one at a time, in the order that a strategy chooses. Time
 * is virtual and passes only when nobody can go on otherwise.
 *
 * An execution is a pure function of the program and the choices. Nothing here looks at the real
 * clock or at real randomness; a search starts a fresh scheduler for every execution.
 *
 * @source reference/explorer.md 5, 8
 */

import {
  type ActorRole,
  assert,
  isDmaBufError,
  type TraceBody,
  type TraceEvent,
  type TraceSink,
} from '../base/index.ts';
import { Actor, type ActorIds } from './actor.ts';
import { Cell, type CellNumbers } from './cell.ts';
import {
  type BlockedActor,
  type Finding,
  isWrongResult,
  type Outcome,
  type RunStatus,
} from './outcome.ts';
import type { Strategy } from './strategy.ts';
import { type Access, type Look, NOW, SleepStep, type Step, type Task, wholeCell } from './task.ts';

/** LIMIT: a run that takes more steps than this is cut and reported as a possible livelock. */
export const STEPS_MAX_DEFAULT = 100_000;

/** Cells that one actor may make; keeps cell ids exact. */
const CELLS_PER_ACTOR = 2 ** 24;

/** What a scheduler may be given. */
export interface SchedulerOptions {
  /** Takes events; without one nothing is recorded. */
  readonly sink?: TraceSink;
  /** Steps after which the run is cut. Default {@link STEPS_MAX_DEFAULT}. */
  readonly stepsMax?: number;
  /**
   * Makes the n-th step that can fail for want of something fail, from 1, as Linux's fault
   * injection does; Infinity only counts them in {@link Scheduler.fallible}. Default: none.
   */
  readonly failAt?: number;
  /** Actor numbers shared between the executions of a search. Default: its own. */
  readonly ids?: ActorIds;
}

/** How to spawn an actor. */
export interface SpawnOptions {
  readonly name: string;
  readonly role: ActorRole;
  /** May be left waiting when the run ends. Default false. */
  readonly daemon?: boolean;
}

/** One execution: its actors, its clock, its findings. */
export class Scheduler implements CellNumbers {
  /** Records an event; undefined while nobody listens. Call as `scheduler.record?.({…})`, so that
   *  the event is not even built then. */
  readonly record: ((body: TraceBody) => void) | undefined;
  /** Virtual nanoseconds since boot. */
  readonly clock: Cell<number>;
  /** Who is running; null at boot. */
  current: Actor | null = null;
  /** Steps taken. */
  steps = 0;
  /** Steps that could have failed for want of something, so far; counted with `failAt` only. */
  fallible = 0;
  /** Everything that must not happen and did. */
  readonly findings: Finding[] = [];
  /** Kernel memory ever allocated; what is still live, null, when a run ends well has leaked. */
  readonly allocations: Cell<string | null>[] = [];
  /** All actors, in order of spawning. */
  readonly actors: Actor[] = [];
  /** Those of them that have not ended. */
  private readonly live: Actor[] = [];
  private readonly ids: ActorIds | null;
  private readonly stepsMax: number;
  private readonly failAt: number;
  private bootCells = 0;
  private halted = false;
  private seq = 0;

  constructor(options: SchedulerOptions = {}) {
    this.ids = options.ids ?? null;
    this.stepsMax = options.stepsMax ?? STEPS_MAX_DEFAULT;
    this.failAt = options.failAt ?? 0;
    const sink = options.sink;
    this.record = sink === undefined ? undefined : (body) => sink(this.stamp(body));
    this.clock = new Cell<number>(this, 'clock', 0);
  }

  /** Virtual nanoseconds since boot. */
  get t(): number {
    return this.clock.value;
  }

  nextCellId(): number {
    const actor = this.current;
    if (actor === null) {
      this.bootCells += 1;
      return this.bootCells;
    }
    actor.cellsMade += 1;
    assert(actor.cellsMade < CELLS_PER_ACTOR, `${actor.name} makes at most 2^24 cells`);
    return actor.id * CELLS_PER_ACTOR + actor.cellsMade;
  }

  /** Adds an actor. Its task runs at once up to its first step, which must touch nothing shared. */
  spawn(task: Task<unknown>, options: SpawnOptions): Actor {
    const parent = this.current;
    assert(
      this.actors.every((actor) => actor.name !== options.name),
      `an actor's name is unique: ${options.name}`,
    );
    const id = this.actorId(parent);
    const daemon = options.daemon ?? false;
    const actor = new Actor(this.actors.length, id, options.name, options.role, daemon, task);
    this.actors.push(actor);
    this.record?.({ kind: 'task.spawn', child: actor.name, role: actor.role, daemon });
    this.resume(actor, undefined);
    if (actor.step !== null) this.live.push(actor);
    this.current = parent;
    return actor;
  }

  /**
   * Runs until nobody can take a step, even by waiting.
   *
   * @returns `done` if every actor but the daemons ended; `deadlock` if one waits for what cannot
   *   come; `oops` after a fatal error in the modelled kernel; `step-limit` if the run was cut.
   */
  run(strategy: Strategy): Outcome {
    const enabled: Actor[] = [];
    let last: Actor | null = null;
    while (!this.halted && this.steps < this.stepsMax) {
      this.collectEnabled(enabled);
      if (enabled.length === 0) {
        if (!this.advanceClock()) break;
        continue;
      }
      last = enabled[strategy.pick(enabled, last)] as Actor;
      this.perform(last, strategy);
    }
    this.current = null;
    const outcome = this.outcome();
    this.record?.({
      kind: 'run.end',
      status: outcome.status,
      steps: outcome.steps,
      findings: outcome.findings.length,
    });
    strategy.finish?.(outcome, this.actors);
    return outcome;
  }

  /** A step that waits until virtual time has reached `t`. */
  sleepUntil(t: number): SleepStep<void> {
    return new SleepUntil(this.clock, t);
  }

  /** A step that waits `ns` nanoseconds of virtual time. */
  sleep(ns: number): SleepStep<void> {
    return new SleepUntil(this.clock, this.clock.value + ns);
  }

  /** The kernel's `WARN_ON`: somebody broke a rule; the run goes on. */
  warn(call: string, text: string): void {
    this.record?.({ kind: 'kernel.warn', call, text });
    this.find('warn', `${call}: ${text}`);
  }

  /** The kernel's `BUG`, or an access that would crash it: the run ends after this step. */
  oops(text: string): void {
    this.record?.({ kind: 'kernel.oops', text });
    this.find('oops', text);
    this.halted = true;
  }

  /** Keeps a finding of the actor that is running. */
  find(kind: Finding['kind'], title: string): void {
    this.findings.push({ kind, title, party: this.current?.name ?? '', step: this.steps });
  }

  private collectEnabled(enabled: Actor[]): void {
    const { live } = this;
    let count = 0;
    for (let i = 0; i < live.length; i += 1) {
      const actor = live[i] as Actor;
      if ((actor.step as Step).guard(NOW, actor)) {
        enabled[count] = actor;
        count += 1;
      }
    }
    if (enabled.length !== count) enabled.length = count;
  }

  private actorId(parent: Actor | null): number {
    const nth = parent === null ? this.actors.length + 1 : ++parent.spawned;
    if (this.ids === null) return this.actors.length + 1;
    return this.ids.of(parent === null ? 0 : parent.id, nth);
  }

  private perform(actor: Actor, strategy: Strategy): void {
    const step = actor.step as Step;
    strategy.before?.(actor, step);
    this.current = actor;
    const refused = this.failAt !== 0 && step.failure !== undefined && this.failsNow();
    const result = refused ? step.failure?.() : step.apply(actor);
    this.steps += 1;
    if (this.halted) return;
    this.resume(actor, result);
    if (actor.step === null) this.live.splice(this.live.indexOf(actor), 1);
  }

  /** True for the one fallible step that is to fail. */
  private failsNow(): boolean {
    this.fallible += 1;
    return this.fallible === this.failAt;
  }

  private resume(actor: Actor, sent: unknown): void {
    this.current = actor;
    try {
      actor.resume(sent);
    } catch (error) {
      actor.step = null;
      this.failed(error);
      return;
    }
    if (this.record === undefined) return;
    const step = actor.step;
    if (step === null) this.record({ kind: 'task.end', failed: null });
    else if (!step.guard(NOW, actor)) {
      this.record({ kind: 'task.block', on: step.cell.name, verb: step.verb });
    }
  }

  /**
   * An error that left a task: the story's or the modelled world's is a finding, ours goes on up.
   */
  private failed(error: unknown): void {
    const wrong = isWrongResult(error);
    if (!wrong && !isDmaBufError(error)) throw error;
    if (wrong) this.record?.({ kind: 'story.fail', text: error.message });
    this.record?.({ kind: 'task.end', failed: error.message });
    this.find(wrong ? 'wrong-result' : 'failure', error.message);
  }

  private advanceClock(): boolean {
    let next = Number.POSITIVE_INFINITY;
    for (const actor of this.actors) {
      const deadline = actor.step?.deadline();
      if (deadline !== undefined && deadline < next) next = deadline;
    }
    if (next === Number.POSITIVE_INFINITY) return false;
    assert(next > this.clock.value, 'a deadline that has passed does not block');
    this.current = null;
    this.clock.value = next;
    this.record?.({ kind: 'clock.advance', to: next });
    return true;
  }

  private outcome(): Outcome {
    const blocked: BlockedActor[] = [];
    let stuck = false;
    for (const actor of this.live) {
      if (actor.step === null) continue;
      // A daemon may wait for work, but not with a lock in its hand.
      if (!actor.daemon || actor.held.length > 0) stuck = true;
      blocked.push({
        actor: actor.name,
        verb: actor.step.verb,
        cell: actor.step.cell.name,
        holds: actor.held.map((cell) => cell.name),
        waitsFor: actor.step.waitsFor(),
      });
    }
    const status = this.status(stuck);
    if (status === 'deadlock') this.find('deadlock', describeDeadlock(blocked, this.live));
    if (status === 'step-limit') {
      this.find('step-limit', `cut after ${this.steps} steps: a possible livelock`);
    }
    if (status === 'done') {
      for (const { name, value } of this.allocations) {
        if (value === null) this.find('leak', `${name} is not freed`);
      }
    }
    return { status, steps: this.steps, t: this.t, findings: this.findings, blocked };
  }

  private status(stuck: boolean): RunStatus {
    if (this.halted) return 'oops';
    if (this.steps >= this.stepsMax) return 'step-limit';
    return stuck ? 'deadlock' : 'done';
  }

  private stamp(body: TraceBody): TraceEvent {
    const { seq, steps: step, t } = this;
    this.seq += 1;
    return { seq, step, t, task: this.current?.name ?? '', ...body };
  }
}

/** One clause for each actor that is stuck; daemons that merely wait for work are left out. */
function describeDeadlock(blocked: readonly BlockedActor[], live: readonly Actor[]): string {
  const idle = new Set(live.filter((a) => a.daemon && a.held.length === 0).map((a) => a.name));
  const parts = blocked
    .filter((b) => !idle.has(b.actor))
    .map((b) => {
      const holds = b.holds.length > 0 ? ` holding ${b.holds.join(', ')}` : '';
      const owner = b.waitsFor.length > 0 ? ` (because of: ${b.waitsFor.join(', ')})` : '';
      return `${b.actor} waits for ever to ${b.verb} ${b.cell}${owner}${holds}`;
    });
  return parts.join('; ');
}

class SleepUntil extends SleepStep<void> {
  get verb(): string {
    return 'sleep';
  }

  readonly cell: Cell<number>;
  private readonly until: number;

  constructor(clock: Cell<number>, until: number) {
    super();
    this.cell = clock;
    this.until = until;
  }

  override guard(look: Look): boolean {
    return look(this.cell) >= this.until;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  override deadline(): number {
    return this.until;
  }

  apply(): void {}
}
