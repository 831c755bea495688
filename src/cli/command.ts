/** What a command is to the program. */

import type { Command } from 'commander';
import type { CliContext } from './context.ts';

/** A command. */
export interface CliCommand {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  /** Adds arguments, options and help. */
  define(command: Command): void;
  /**
   * Does it.
   *
   * @param command - The parsed command line: `args` and `opts()`.
   * @returns The exit code.
   * @throws {@link InputError} What the user gave cannot be used; nothing is on `stdout` by then.
   */
  run(command: Command, context: CliContext): Promise<number>;
}
