/** `peerbuf/cli`: the command line as a function. */

export type { CliContext } from './context.ts';
export { runCli } from './program.ts';
