/** What the program says to the shell when it ends. */

/** Exit codes. */
export const EXIT = {
  /** All is as expected. */
  expected: 0,
  /** Something was found. */
  findings: 1,
  /** The command line is wrong, or input cannot be used. */
  usage: 2,
  /** A bug in peerbuf: `EX_SOFTWARE` of `sysexits.h`. */
  internal: 70,
  /** Ctrl-C before the end, with nothing found so far: 128 and `SIGINT`. */
  interrupted: 130,
  /** Whoever read the output went away: 128 and `SIGPIPE`. */
  brokenPipe: 141,
} as const;
