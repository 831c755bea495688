/**
 * What peerbuf says of input that it cannot use: a torn capture, a trace that is none, a wrong
 * flag. One line that names the source, the place in it and what was expected there.
 */

const MARK: symbol = Symbol.for('peerbuf.InputError');

/** Input that cannot be used. The command line prints it as one line and leaves with status 2. */
export class InputError extends Error {
  override readonly name = 'InputError';
  /** File, option or other origin, as the user named it. */
  readonly source: string;
  /** Where in the source: `line 12`, `functions[3].bars[0].size`; empty for the whole. */
  readonly place: string;
  /** What should have stood there, and what did. */
  readonly problem: string;

  constructor(source: string, place: string, problem: string) {
    super(place === '' ? `${source}: ${problem}` : `${source}: ${place}: ${problem}`);
    Object.defineProperty(this, MARK, { value: true });
    this.source = source;
    this.place = place;
    this.problem = problem;
  }
}

/** True for an {@link InputError}, also of another copy of this package. */
export function isInputError(error: unknown): error is InputError {
  return typeof error === 'object' && error !== null && MARK in error;
}
