/**
 * The part of the tree of all executions that a depth-first search has before it: the way to where
 * it is now, and at each step of the way who has been tried, who must be tried and who sleeps.
 *
 * A sleeping actor need not be tried: its step was taken from here, or from further up, and nothing
 * since then had to do with it, so all that could follow has been seen already.
 *
 * @source Abdulla, Aronis, Jonsson, Sagonas: source sets (POPL 2014); reference/explorer.md 6
 */

import { covers, type VectorClock } from './clock.ts';
import { conflict, EVERYTHING, type Footprint } from './footprint.ts';

/** A step that was taken. */
export interface SearchEvent {
  /** Index of the actor. */
  readonly actor: number;
  /** Which of the actor's steps it is, from 1. */
  readonly nth: number;
  readonly footprint: Footprint;
  /** What must come before it, with itself. */
  readonly clock: VectorClock;
}

/** What an actor wants to do next. */
export interface Pending {
  readonly enabled: boolean;
  readonly footprint: Footprint;
}

/** A place on the way. */
export interface Frame {
  /** Who need not be tried here, and what they would touch. */
  readonly sleep: Map<number, Footprint>;
  /** Who must be tried here, or has been. */
  readonly toTry: Set<number>;
  /** What everybody wants here, by the actor's index. */
  readonly pending: ReadonlyMap<number, Pending>;
  /** Who is tried now. */
  chosen: number;
  /** What that one did; null until done. */
  event: SearchEvent | null;
}

/** The way, and what is still to be tried beside it. */
export class SearchTree {
  readonly frames: Frame[] = [];

  /** The event at a depth that has been passed in this execution. */
  eventAt(depth: number): SearchEvent {
    return this.frames[depth]?.event as SearchEvent;
  }

  /** Who sleeps at the next place. */
  sleepBelow(depth: number): Map<number, Footprint> {
    const sleep = new Map<number, Footprint>();
    const above = this.frames[depth - 1];
    if (above === undefined) return sleep;
    const event = this.eventAt(depth - 1);
    for (const [actor, footprint] of above.sleep) {
      const woken = actor === event.actor || conflict(footprint, event.footprint);
      if (!woken) sleep.set(actor, footprint);
    }
    return sleep;
  }

  /** Says that the last step ended the run. */
  halted(): void {
    const frame = this.frames.at(-1);
    if (frame === undefined || frame.event === null) return;
    frame.event = { ...frame.event, footprint: EVERYTHING };
  }

  /**
   * Sees to it that the event at `depth` and a later one are also tried in the other order.
   *
   * @param later - Who takes the later one; it need not have been taken.
   * @param end - Depth of the later event.
   */
  reverse(depth: number, later: number, end: number): void {
    const frame = this.frames[depth] as Frame;
    const initials = this.initials(depth, later, end);
    if (initials.some((actor) => frame.sleep.has(actor) || frame.toTry.has(actor))) return;
    // The last is the actor of the later event, if it can go first: the shortest way.
    const actor = initials.at(-1);
    if (actor !== undefined) frame.toTry.add(actor);
  }

  /**
   * Goes back to the deepest place where somebody is still to be tried.
   *
   * @returns False: there is no such place, the search is over.
   */
  backtrack(): boolean {
    for (let frame = this.frames.at(-1); frame !== undefined; frame = this.frames.at(-1)) {
      const { event, sleep, toTry } = frame;
      if (event !== null) sleep.set(event.actor, event.footprint);
      for (const actor of toTry) {
        if (sleep.has(actor)) continue;
        frame.chosen = actor;
        frame.event = null;
        return true;
      }
      this.frames.pop();
    }
    return false;
  }

  /**
   * Who can go first at `depth` on a way on which the later event comes without the one at `depth`:
   * of what happened in between and does not depend on that one, whatever depends on nothing else.
   */
  private initials(depth: number, later: number, end: number): readonly number[] {
    const first = this.eventAt(depth);
    const kept: SearchEvent[] = [];
    const initials: number[] = [];
    const met = new Set<number>();
    for (let d = depth + 1; d < end; d += 1) {
      const event = this.eventAt(d);
      if (covers(event.clock, first.actor, first.nth)) continue;
      const isFirst = !met.has(event.actor);
      met.add(event.actor);
      if (isFirst && !kept.some((e) => covers(event.clock, e.actor, e.nth))) {
        initials.push(event.actor);
      }
      kept.push(event);
    }
    if (met.has(later)) return initials;
    // What it touches here, not what it touched after it had lost the race.
    const pending = this.frames[depth]?.pending.get(later);
    if (pending?.enabled !== true) return initials;
    if (!kept.some((event) => conflict(event.footprint, pending.footprint))) initials.push(later);
    return initials;
  }
}
