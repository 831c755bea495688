/**
 * What a command may do to the world outside: print, and hear that the user has had enough.
 * Commands never touch `process`, so tests run them like functions.
 */

/** Columns of output that no terminal shows. */
export const COLUMNS_DEFAULT = 120;

/** LIMIT: columns below which nothing is laid out; narrower terminals wrap lines themselves. */
export const COLUMNS_MIN = 40;

/** The world as a command sees it. */
export interface CliContext {
  /** Takes what was asked for. */
  readonly stdout: (text: string) => void;
  /** Takes errors and remarks. */
  readonly stderr: (text: string) => void;
  /** True if a person looks at `stdout` while it is written. */
  readonly isTerminal: boolean;
  /** Width of `stdout` in characters; at least {@link COLUMNS_MIN}. */
  readonly columns: number;
  /** True if `stdout` may be coloured. */
  readonly color: boolean;
  /** Milliseconds on a clock that only goes forward; for durations. */
  readonly now: () => number;
  /**
   * Has `handler` called at the first Ctrl-C; the second ends the program.
   *
   * @returns Ends that.
   */
  onInterrupt(handler: () => void): () => void;
}

/**
 * Whether output may be coloured: not with `NO_COLOR`, always with `FORCE_COLOR`, else on terminals
 * that can.
 *
 * @param env - The environment; an empty variable counts as not set.
 * @source no-color.org, force-color.org
 */
export function wantsColor(
  env: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): boolean {
  if ((env.NO_COLOR ?? '') !== '') return false;
  const force = env.FORCE_COLOR ?? '';
  if (force !== '') return force !== '0' && force !== 'false';
  return isTerminal && env.TERM !== 'dumb';
}
