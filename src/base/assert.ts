/**
 * Our own invariants. A failed assertion is a bug in peerbuf, never in the driver under study, and
 * it ends the run. Drivers that break the contract are recorded in the trace instead (see
 * `trace.ts`).
 */

/** Thrown by {@link assert}: peerbuf itself is wrong. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws {@link AssertionError} unless `condition` holds. `message` says what should have been. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Returns `value`, which must be there. */
export function present<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new AssertionError(`missing: ${what}`);
  return value;
}

/** Closes a switch over a union: reaching it means that a case was forgotten. */
export function assertUnreachable(value: never): never {
  throw new AssertionError(`unexpected value: ${String(value)}`);
}
