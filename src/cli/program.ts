/** The command line: finds the command, runs it, and turns what is thrown into a line. */

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { isInputError } from '../base/index.ts';
import { oneLine } from '../doctor/index.ts';
import type { CliCommand } from './command.ts';
import { checkCommand } from './commands/check.ts';
import { machineCommand } from './commands/machine.ts';
import { machinesCommand } from './commands/machines.ts';
import { runCommand } from './commands/run.ts';
import { storiesCommand } from './commands/stories.ts';
import type { CliContext } from './context.ts';
import { EXIT } from './exit-code.ts';
import { StoryError } from './story-source.ts';

/** LIMIT: characters of an error's line. */
const LINE_MAX = 1200;

const COMMANDS: readonly CliCommand[] = [
  runCommand,
  checkCommand,
  storiesCommand,
  machinesCommand,
  machineCommand,
];

/**
 * Runs a command line.
 *
 * @param argv - The words behind the program's name.
 * @returns The exit code: 0 all as expected, 1 findings, 2 usage or unreadable input, 130
 *   interrupted with nothing found, 70 a bug in peerbuf. Whatever goes wrong is one line on
 *   `stderr`.
 */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let code: number = EXIT.expected;
  const program = buildProgram(context, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    return failed(error, argv.includes('--verbose'), context);
  }
}

/** The line that tells of an error, whatever it is. */
export function errorLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const text = error instanceof CommanderError ? message.replace(/^error: /, '') : message;
  const what = isInput(error) ? text : `internal error (--verbose shows where): ${text}`;
  return `peerbuf: ${oneLine(what.replace(/\s*\n\s*/g, ' '), LINE_MAX)}\n`;
}

function buildProgram(context: CliContext, done: (code: number) => void): Command {
  const program = new Command('peerbuf')
    .description("Linux's dma-buf made executable: run sharing stories, look for a bad order.")
    .version(versionOf(), '--version', 'print the version')
    .helpOption('--help', 'show help')
    .option('--verbose', 'show where an error comes from')
    .exitOverride()
    .configureOutput({
      writeOut: context.stdout,
      writeErr: context.stderr,
      outputError: () => {},
      getOutHelpWidth: () => context.columns,
      getErrHelpWidth: () => context.columns,
    })
    .addHelpText('after', HELP);
  for (const { name, summary, define, run } of COMMANDS) {
    const command = program.command(name).summary(summary).description(summary);
    define(command);
    command.action(async () => done(await run(command, context)));
  }
  return program;
}

const HELP = `
Examples:
  peerbuf check                          every story under 1000 random schedules each
  peerbuf run spdk-nvme-rdma             one run, told step by step
  peerbuf machine ./server.tar.gz        a captured machine, and who reaches whom

Exit codes: 0 as expected, 1 findings, 2 usage or unreadable input, 130 interrupted.`;

function failed(error: unknown, isVerbose: boolean, { stderr }: CliContext): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.expected;
    // The help that stands for a missing command has been printed.
    if (error.code === 'commander.help') return EXIT.usage;
    stderr(errorLine(error));
    return EXIT.usage;
  }
  stderr(errorLine(error));
  if (isVerbose) stderr(`${stackOf(error)}\n`);
  return isInput(error) ? EXIT.usage : EXIT.internal;
}

function isInput(error: unknown): boolean {
  return isInputError(error) || error instanceof StoryError || error instanceof CommanderError;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

/** Of the package that this file belongs to, as source or as built. */
function versionOf(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}
