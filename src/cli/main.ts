#!/usr/bin/env node
/** The executable: gives the command line a real process, and ends with its exit code. */

import { InputError } from '../base/index.ts';
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

for (const stream of [stdout, stderr]) stream.on('error', leave);

// What a story's module left running may still throw; that must not pass for findings.
process.on('uncaughtException', (error) => {
  stderr.write(errorLine(error));
  process.exit(EXIT.internal);
});

const code = await runCli(argv.slice(2), context);
// A module may have left a timer behind; nothing waits for it once all is written.
stdout.write('', (error) => {
  if (error) leave(error);
  process.exit(code);
});

/** Ends where output went nowhere: quietly if nobody reads it, as into `head`. */
function leave(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED') {
    process.exit(EXIT.brokenPipe);
  }
  stderr.write(errorLine(new InputError('output', '', `it cannot be written: ${error.code}`)));
  process.exit(EXIT.usage);
}
