/**
 * Vector clocks: how many events of each actor must come before something, by the actors' indices.
 */

/** A clock. An actor that it does not reach counts 0. */
export type VectorClock = readonly number[];

/** The later of two clocks, actor by actor. */
export function join(one: VectorClock, other: VectorClock): VectorClock {
  const joined: number[] = [];
  const length = Math.max(one.length, other.length);
  for (let i = 0; i < length; i += 1) joined.push(Math.max(one[i] ?? 0, other[i] ?? 0));
  return joined;
}

/** The clock of the `nth` event of `actor`, from 1, when `past` comes before it. */
export function tick(past: VectorClock, actor: number, nth: number): VectorClock {
  const own: number[] = [];
  for (let i = 0; i < actor; i += 1) own.push(0);
  own.push(nth);
  return join(past, own);
}

/** True if the `nth` event of `actor`, from 1, is in the past that the clock says. */
export function covers(clock: VectorClock, actor: number, nth: number): boolean {
  return (clock[actor] ?? 0) >= nth;
}

/** How many events the clock says. */
export function eventsIn(clock: VectorClock): number {
  return clock.reduce((sum, count) => sum + count, 0);
}
