/** `peerbuf check`: stories under many random schedules each. */

import type { Command } from 'commander';
import { InputError, SEED_MAX } from '../../base/index.ts';
import { oneLinePath } from '../../doctor/index.ts';
import { SCENARIOS } from '../../scenarios/index.ts';
import { type Checked, checkTable, failuresText, footText } from '../check-text.ts';
import type { CliCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { readCount } from '../count.ts';
import { EXIT } from '../exit-code.ts';
import { exploreInSlices, type SliceOptions } from '../explore-in-slices.ts';
import { addStagingOptions, type StagingFlags } from '../machine-flags.ts';
import { readMachine } from '../machine-source.ts';
import { castableStories } from '../machine-summary.ts';
import { paletteOf } from '../palette.ts';
import { ProgressLine } from '../progress-line.ts';
import { nameSchedule, reportJson } from '../report.ts';
import { readWishes, requireRoles, type Staging, stage } from '../staging.ts';
import { playStory, readStory } from '../story-source.ts';

/** LIMIT: schedules of one story; at a thousand a second, more than a day. */
const SCHEDULES_MAX = 100_000_000;
const SCHEDULES_DEFAULT = '1000';
const SEED_DEFAULT = '1';

/** `peerbuf check`. */
export const checkCommand: CliCommand = {
  name: 'check',
  summary: 'run stories under many random schedules and report what goes wrong',
  define,
  run,
};

interface CheckFlags extends StagingFlags {
  readonly schedules: string;
  readonly seed: string;
  readonly json?: boolean;
}

function define(command: Command): void {
  command.argument('[story...]', 'built-in stories or paths to modules; default: all built-in');
  addStagingOptions(command);
  command
    .option('--schedules <n>', 'random schedules of each story', SCHEDULES_DEFAULT)
    .option('--seed <n>', 'seed of the first schedule; the others follow', SEED_DEFAULT)
    .option('--json', 'print an array of reports as JSON instead')
    .addHelpText(
      'after',
      `
Each story runs on its own machine unless --machine names another. Ctrl-C stops and
reports what there is so far.

Examples:
  peerbuf check
  peerbuf check spdk-reset-during-traffic --machine epyc-2s --schedules 20000
  peerbuf check ./my-story.ts --seed 1000 --json`,
    );
}

async function run(command: Command, context: CliContext): Promise<number> {
  const flags = command.opts<CheckFlags>();
  const executions = readCount(flags.schedules, '--schedules', 1, SCHEDULES_MAX);
  const seed = readCount(flags.seed, '--seed', 0, SEED_MAX - executions);
  const stagings = await stageAll(command.args, flags, context);
  let isInterrupted = false;
  const release = context.onInterrupt(() => {
    isInterrupted = true;
  });
  const checked: Checked[] = [];
  const line = new ProgressLine(context, flags.json !== true);
  try {
    const extent = { executions, seed, now: context.now };
    for (const staging of stagings) {
      if (isInterrupted) break;
      checked.push(await explore(staging, extent, line, () => !isInterrupted));
    }
  } finally {
    release();
  }
  if (flags.json === true) printJson(checked, context);
  else print(checked, context);
  if (isInterrupted) {
    const begun = `${checked.length} of ${stagings.length} stories begun`;
    context.stderr(`peerbuf: interrupted: ${begun}\n`);
  }
  if (checked.some(({ explored }) => explored.failed > 0)) return EXIT.findings;
  return isInterrupted ? EXIT.interrupted : EXIT.expected;
}

/** Puts every story on its machine before any is run, so that what cannot be is known at once. */
async function stageAll(
  names: readonly string[],
  flags: CheckFlags,
  { stderr }: CliContext,
): Promise<readonly Staging[]> {
  const wishes = readWishes(flags.cast ?? []);
  const wanted = names.length > 0 ? names : SCENARIOS.map(({ id }) => id);
  const stories = await Promise.all(wanted.map(readStory));
  requireRoles(wishes, stories);
  const notices = new Set<string>();
  const stagings: Staging[] = [];
  for (const story of stories) {
    const machine = await readMachine(flags.machine ?? story.scenario.machine, flags);
    for (const notice of machine.notices) notices.add(notice);
    const isCastable = castableStories(machine.plan).includes(story.scenario.id);
    if (names.length === 0 && !isCastable) {
      notices.add(`${story.name} is left out: ${machine.name} lacks devices for it`);
    } else stagings.push(stage(story, machine, wishes, flags));
  }
  if (stagings.length === 0) {
    throw new InputError(oneLinePath(flags.machine ?? ''), '', 'it has the devices of no story');
  }
  for (const notice of notices) stderr(`peerbuf: note: ${notice}\n`);
  return stagings;
}

async function explore(
  staging: Staging,
  extent: Omit<SliceOptions, 'progress'>,
  line: ProgressLine,
  goesOn: () => boolean,
): Promise<Checked> {
  const { production, story } = staging;
  const title = `${production.id} on ${production.machine}`;
  line.show(`${title}: begins`);
  const progress = (done: number): boolean => {
    line.show(`${title}: ${done} of ${extent.executions} schedules`);
    return goesOn();
  };
  try {
    const options = { ...extent, progress };
    const explored = await playStory(story, () => exploreInSlices(production, options));
    return { staging, explored };
  } finally {
    line.clear();
  }
}

function print(checked: readonly Checked[], { stdout, columns, color }: CliContext): void {
  const palette = paletteOf(color);
  stdout(checkTable(checked, columns, palette));
  stdout(`\n${footText(checked, columns)}`);
  for (const one of checked) {
    if (one.explored.failed > 0) stdout(failuresText(one, columns, palette));
  }
}

function printJson(checked: readonly Checked[], { stdout }: CliContext): void {
  let separator = '[\n  ';
  for (const { staging, explored } of checked) {
    const { id, machine, cast } = staging.production;
    const failures = explored.failures.map(({ trace, ...rest }) => {
      return { ...rest, trace: nameSchedule(trace, rest.schedule) };
    });
    stdout(separator);
    const report = { scenario: id, machine, cast, ...explored, failures };
    for (const piece of reportJson(report, '  ')) stdout(piece);
    separator = ',\n  ';
  }
  stdout(checked.length === 0 ? '[]\n' : '\n]\n');
}
