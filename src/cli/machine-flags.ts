/** The options by which commands are told which machine, and who plays what on it. */

import type { Command } from 'commander';

/** What the user said of the machine, unread. */
export interface MachineFlags {
  readonly machine?: string;
  readonly cpu?: string;
  readonly cmdline?: string;
  readonly assumeAcs?: string;
}

/** What the user said of the stage, unread. */
export interface StagingFlags extends MachineFlags {
  readonly cast?: readonly string[];
}

/** Adds what the source of a machine may lack. */
export function addFactOptions(command: Command): void {
  command
    .option(
      '--cpu <cpu>',
      'the CPU, if the source does not say: VENDOR:FAMILY[:MODEL] such as AuthenticAMD:25:1, or ' +
        'a file with /proc/cpuinfo or lscpu output',
    )
    .option(
      '--cmdline <text>',
      'the kernel command line, if the capture has none: the text, or a file with it',
    )
    .option('--assume-acs <clear|redirect>', 'what to take for ACS that the capture could not see');
}

/** Adds `--machine` and what its source may lack. */
function addMachineOptions(command: Command): void {
  command.option(
    '--machine <name>',
    'a preset (see peerbuf machines), or else a file or directory: a machine in JSON, a copy of ' +
      '/sys, lspci -vvvxxxx output. A path with a slash in it is never a preset',
  );
  addFactOptions(command);
}

/** Adds `--machine`, `--cast` and what the machine's source may lack. */
export function addStagingOptions(command: Command): void {
  addMachineOptions(command);
  command.option(
    '--cast <role=address>',
    'who plays a role, as in nvme-drive=0000:41:00.0; once for each role. Others are found',
    (text: string, earlier: readonly string[] = []) => [...earlier, text],
  );
}
