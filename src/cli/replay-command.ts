/** The command line that runs an execution again, to be pasted into a shell. */

/** LIMIT: characters of an argument; Linux takes 128 KiB, `MAX_ARG_STRLEN`. */
const ARGUMENT_MAX = 100_000;

/** A run, as a command line names it. */
export interface ReplayedRun {
  /** As the user named the story. */
  readonly story: string;
  /** Options beside the strategy, each followed by its value. */
  readonly options: readonly string[];
  /** The schedule as a string. */
  readonly schedule: string;
  /** Options that choose the same strategy, for schedules that fit into no argument. */
  readonly strategy: readonly string[];
}

/** The line, quoted for a POSIX shell where it must be. */
export function replayCommand({ story, options, schedule, strategy }: ReplayedRun): string {
  const chosen = schedule.length <= ARGUMENT_MAX ? ['--strategy', schedule] : strategy;
  return ['peerbuf', 'run', story, ...options, ...chosen].map(shellQuoted).join(' ');
}

function shellQuoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
