/**
 * One execution of an exhaustive search: goes the way that the tree says, then on by itself, and
 * notes in the tree which pairs of events could have come in the other order.
 *
 * Guarantee: over all executions, one of each class of schedules that differ only in the order of
 * steps that do not touch the same things.
 */

import { assert } from '../../base/index.ts';
import type { Actor, Cell, Look, Scheduler, Step, Strategy } from '../../machine/index.ts';
import { covers, join, tick, type VectorClock } from './clock.ts';
import { conflict, type Footprint, type Probe, probe, sameFootprint } from './footprint.ts';
import type { Frame, Pending, SearchEvent, SearchTree } from './search-tree.ts';

/** Thrown out of a run in which all that could go on sleeps: it has been seen before. */
export class SeenBefore extends Error {}

/** Thrown where a guard asks for a value that cannot be told. */
class UnknownValue extends Error {}

/** A value that a step was about to change. */
interface Change {
  readonly depth: number;
  readonly value: unknown;
}

/** Goes one way through the tree. */
export class SearchStrategy implements Strategy {
  readonly name = 'exhaustive';
  /** Steps taken before the one that showed the first finding; null while there is none. */
  failedAt: number | null = null;
  private readonly tree: SearchTree;
  private readonly scheduler: Scheduler;
  /** Places up to here were passed in an earlier execution. */
  private readonly known: number;
  private depth = 0;
  private t: number;
  /** What must come before each actor's next event but for its own conflicts. */
  private readonly clocks: VectorClock[] = [];
  private readonly counts: number[] = [];
  private readonly changes = new Map<Cell, Change[]>();

  constructor(tree: SearchTree, scheduler: Scheduler) {
    this.tree = tree;
    this.scheduler = scheduler;
    this.known = tree.frames.length - 1;
    this.t = scheduler.t;
  }

  pick(enabled: readonly Actor[], last: Actor | null): number {
    const { depth, scheduler, tree } = this;
    if (this.failedAt === null && scheduler.findings.length > 0) this.failedAt = depth - 1;
    this.meetSpawned();
    if (scheduler.t !== this.t) this.passTime();
    if (depth === tree.frames.length) tree.frames.push(this.newFrame(enabled, last));
    const frame = tree.frames[depth] as Frame;
    const choice = enabled.findIndex((actor) => actor.index === frame.chosen);
    assert(choice >= 0, 'nothing but the schedule decides who can go');
    this.take(enabled[choice] as Actor, frame);
    return choice;
  }

  /**
   * When the run is over: those who wait, or whom the end of the run kept from going on, may go
   * earlier on another way.
   */
  end(halted: boolean): void {
    const { tree } = this;
    const last = tree.frames.at(-1)?.event?.actor;
    this.meetSpawned();
    if (halted) tree.halted();
    for (const actor of this.scheduler.actors) {
      if (actor.step === null || (halted && actor.index === last)) continue;
      if (halted || !actor.step.guard((cell) => cell.value, actor)) {
        this.race(actor, actor.step, probe(actor.step, actor).footprint);
      }
    }
  }

  private newFrame(enabled: readonly Actor[], last: Actor | null): Frame {
    const sleep = this.tree.sleepBelow(this.depth);
    const awake = enabled.filter((actor) => !sleep.has(actor.index));
    const [first] = awake;
    if (first === undefined) throw new SeenBefore();
    const chosen = (awake.find((actor) => actor === last) ?? first).index;
    const pending = new Map<number, Pending>();
    for (const actor of this.scheduler.actors) {
      if (actor.step === null) continue;
      const { footprint } = probe(actor.step, actor);
      pending.set(actor.index, { enabled: enabled.includes(actor), footprint });
    }
    return { sleep, toTry: new Set([chosen]), pending, chosen, event: null };
  }

  private take(actor: Actor, frame: Frame): void {
    const { index } = actor;
    const step = actor.step as Step;
    const looked = probe(step, actor);
    if (frame.event === null) {
      this.race(actor, step, looked.footprint);
      frame.event = this.eventOf(actor, looked.footprint);
    } else {
      const { footprint } = frame.event;
      assert(
        footprint.everything || sameFootprint(footprint, looked.footprint),
        `nothing but the schedule decides what ${actor.name} does: ${step.verb} ${step.cell.name}`,
      );
    }
    this.noteChanges(looked);
    this.counts[index] = frame.event.nth;
    this.clocks[index] = frame.event.clock;
    this.depth += 1;
  }

  private eventOf(actor: Actor, footprint: Footprint): SearchEvent {
    const { index } = actor;
    const nth = (this.counts[index] ?? 0) + 1;
    let clock = this.clocks[index] as VectorClock;
    for (let d = this.depth - 1; d >= 0; d -= 1) {
      const event = this.tree.eventAt(d);
      if (covers(clock, event.actor, event.nth)) continue;
      if (conflict(event.footprint, footprint)) clock = join(clock, event.clock);
    }
    return { actor: index, nth, footprint, clock: tick(clock, index, nth) };
  }

  private noteChanges({ changes }: Probe): void {
    for (const { cell, value } of changes) {
      const known = this.changes.get(cell);
      if (known === undefined) this.changes.set(cell, [{ depth: this.depth, value }]);
      else known.push({ depth: this.depth, value });
    }
  }

  /** Has every event tried after `step`, too, that it conflicts with and that could come after. */
  private race(actor: Actor, step: Step, footprint: Footprint): void {
    const { tree } = this;
    let clock = this.clocks[actor.index] as VectorClock;
    for (let d = this.depth - 1; d >= 0; d -= 1) {
      const event = tree.eventAt(d);
      if (covers(clock, event.actor, event.nth)) continue;
      if (!conflict(event.footprint, footprint)) continue;
      const can = this.canGoWithout(d, actor, step);
      // It was this event that let the step go: the race is with one further back.
      if (can === 'no') continue;
      tree.reverse(d, actor.index, this.depth);
      if (can === 'yes') clock = join(clock, event.clock);
    }
  }

  /** Could the step be taken if the event at a depth, and what depends on it, had not been? */
  private canGoWithout(depth: number, actor: Actor, step: Step): 'yes' | 'no' | 'unknown' {
    const look: Look = (cell) => this.valueWithout(depth, cell);
    try {
      return step.guard(look, actor) ? 'yes' : 'no';
    } catch (error) {
      if (!(error instanceof UnknownValue)) throw error;
      return 'unknown';
    }
  }

  private valueWithout<V>(depth: number, cell: Cell<V>): V {
    // Time has gone on already when those who waited for it are looked at.
    if ((cell as Cell) === (this.scheduler.clock as Cell)) return this.t as V;
    const { actor, nth } = this.tree.eventAt(depth);
    let value: V | undefined;
    let gone = false;
    for (const change of this.changes.get(cell as Cell) ?? []) {
      if (change.depth < depth) continue;
      const depends = covers(this.tree.eventAt(change.depth).clock, actor, nth);
      if (gone && !depends) throw new UnknownValue();
      if (depends && !gone) value = change.value as V;
      gone ||= depends;
    }
    return gone ? (value as V) : cell.value;
  }

  /** Actors are spawned by the last event, or at boot. */
  private meetSpawned(): void {
    const { clocks, depth, tree } = this;
    const parent = depth === 0 ? [] : tree.eventAt(depth - 1).clock;
    while (clocks.length < this.scheduler.actors.length) clocks.push(parent);
  }

  /** Nobody could go on, so time passed: everything so far comes before everything from here on. */
  private passTime(): void {
    if (this.depth > this.known) {
      for (const actor of this.scheduler.actors) {
        if (actor.step === null) continue;
        this.race(actor, actor.step, probe(actor.step, actor).footprint);
      }
    }
    this.t = this.scheduler.t;
    let all: VectorClock = [];
    for (let d = 0; d < this.depth; d += 1) all = join(all, this.tree.eventAt(d).clock);
    for (const actor of this.scheduler.actors) this.clocks[actor.index] = all;
  }
}
