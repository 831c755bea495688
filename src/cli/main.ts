#!/usr/bin/env node
/** The executable: gives the command line a real process, and ends with its exit code. */

import { type CliContext, COLUMNS_DEFAULT, COLUMNS_MIN, wantsColor } from './context.ts';
import { EXIT } from './exit-code.ts';
import { errorLine, runCli } from './program.ts';

const { argv, env, stderr, stdout } = process;

const context: CliContext = {
  stdout: (text) => {
    stdout.write(text);
  },
  stderr: (text) => {
    stderr.write(text);
  },
  isTerminal: stdout.isTTY === true,
  columns: Math.max(stdout.columns ?? COLUMNS_DEFAULT, COLUMNS_MIN),
  color: wantsColor(env, stdout.isTTY === true),
  now: () => performance.now(),
  onInterrupt: (handler) => {
    // Once only: with no listener left, the second Ctrl-C ends the process.
    process.once('SIGINT', handler);
    return () => process.removeListener('SIGINT', handler);
  },
};

for (const stream of [stdout, stderr]) {
  // Into `head`, for example: nobody is left to be told.
  stream.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? EXIT.brokenPipe : EXIT.internal);
  });
}

// What a story's module left running may still throw; that must not pass for findings.
process.on('uncaughtException', (error) => {
  stderr.write(errorLine(error));
  process.exit(EXIT.internal);
});

const code = await runCli(argv.slice(2), context);
// A module may have left a timer behind; nothing waits for it once all is written.
stdout.write('', () => process.exit(code));
