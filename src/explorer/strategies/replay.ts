/**
 * The same choices again. Guarantee: the same run, step by step, if program and machine are the
 * same.
 */

import { InputError } from '../../base/index.ts';
import type { Actor, Strategy } from '../../machine/index.ts';
import type { Schedule } from '../schedule.ts';

/** Follows a schedule to its end, and from there gives everybody a turn. */
export class ReplayStrategy implements Strategy {
  readonly name = 'replay';
  private readonly schedule: Schedule;
  private readonly source: string;
  private at = 0;

  /** @param source - What the user called the schedule, for the error. */
  constructor(schedule: Schedule, source: string) {
    this.schedule = schedule;
    this.source = source;
  }

  /** @throws {@link InputError} the actor that the schedule names cannot take a step now. */
  pick(enabled: readonly Actor[], last: Actor | null): number {
    const wanted = this.schedule[this.at];
    this.at += 1;
    if (wanted === undefined) {
      const next = enabled.findIndex((actor) => actor.index > (last?.index ?? -1));
      return Math.max(next, 0);
    }
    const choice = enabled.findIndex((actor) => actor.index === wanted);
    if (choice >= 0) return choice;
    const able = enabled.map((actor) => `${actor.index} (${actor.name})`).join(', ');
    throw new InputError(
      this.source,
      `step ${this.at}`,
      `actor ${wanted} cannot go here, only ${able}: the schedule is of another story or machine`,
    );
  }
}
