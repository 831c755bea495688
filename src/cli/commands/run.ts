/** `peerbuf run`: one execution of a story, and what happened in it. */

import type { Command } from 'commander';
import { InputError, perfettoToJson, traceToJsonLines, traceToPerfetto } from '../../base/index.ts';
import { type Execution, encodeSchedule, runOnce } from '../../explorer/index.ts';
import type { CliCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { findingsText, replayText } from '../failure-text.ts';
import { addStagingOptions, type StagingFlags } from '../machine-flags.ts';
import { readMachine } from '../machine-source.ts';
import { paletteOf } from '../palette.ts';
import { replayCommand } from '../replay-command.ts';
import { nameSchedule, type Report, refusalIn, reportJson } from '../report.ts';
import { type ChosenStrategy, readStrategy } from '../run-strategy.ts';
import { stageText } from '../stage-text.ts';
import { readWishes, requireRoles, type Staging, stage } from '../staging.ts';
import { playStory, readStory } from '../story-source.ts';
import { paragraph } from '../text-wrap.ts';
import { timelineOf } from '../timeline.ts';
import { drawTimeline } from '../timeline-table.ts';
import { writeWhole } from '../write-file.ts';

/** `peerbuf run`. */
export const runCommand: CliCommand = {
  name: 'run',
  summary: 'run a story once and show what happens, step by step',
  define,
  run,
};

interface RunFlags extends StagingFlags {
  readonly strategy?: string;
  readonly seed?: string;
  readonly trace?: string;
  readonly perfetto?: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** One run, staged and done. */
interface Played {
  readonly staging: Staging;
  readonly chosen: ChosenStrategy;
  readonly execution: Execution;
  readonly schedule: string;
  readonly elapsedMs: number;
}

function define(command: Command): void {
  command.argument(
    '<story>',
    'a built-in story (see peerbuf stories), or a path to a module that exports one as default',
  );
  addStagingOptions(command);
  command
    .option('--strategy <name>', 'who goes next: round-robin, random, or a schedule (s1-…)')
    .option('--seed <n>', 'seed of the random strategy, which it implies')
    .option('--trace <file>', 'write the trace as JSON lines')
    .option('--perfetto <file>', 'write the trace for ui.perfetto.dev')
    .option('--all', 'show every event, locks and scheduling too')
    .option('--json', 'print a report as JSON instead')
    .addHelpText(
      'after',
      `
Examples:
  peerbuf run spdk-nvme-rdma
  peerbuf run spdk-nvme-rdma --machine desktop
  peerbuf run spdk-reset-during-traffic --seed 7 --perfetto reset.json
  peerbuf run ./my-story.ts --machine ./server.tar.gz --cpu AuthenticAMD:25:1`,
    );
}

async function run(command: Command, context: CliContext): Promise<number> {
  const flags = command.opts<RunFlags>();
  const [name = ''] = command.args;
  const chosen = readStrategy(flags.strategy, flags.seed);
  if (flags.trace !== undefined && flags.trace === flags.perfetto) {
    throw new InputError('--perfetto', '', 'expected another file than that of --trace');
  }
  const wishes = readWishes(flags.cast ?? []);
  const story = await readStory(name);
  requireRoles(wishes, [story]);
  const machine = await readMachine(flags.machine ?? story.scenario.machine, flags);
  const staging = stage(story, machine, wishes, flags);
  const played = await play(staging, chosen, context);
  writeFiles(played, flags);
  for (const notice of machine.notices) context.stderr(`peerbuf: note: ${notice}\n`);
  if (flags.json === true) printJson(played, context);
  else print(played, flags.all === true, context);
  return played.execution.findings.length === 0 ? EXIT.expected : EXIT.findings;
}

async function play(
  staging: Staging,
  chosen: ChosenStrategy,
  { now }: CliContext,
): Promise<Played> {
  const { story, production } = staging;
  const begin = now();
  const execution = await playStory(story, () =>
    runOnce(production, { strategy: chosen.strategy, trace: true }),
  );
  const schedule = encodeSchedule(execution.schedule);
  return { staging, chosen, execution, schedule, elapsedMs: now() - begin };
}

function writeFiles({ execution, schedule }: Played, { trace, perfetto }: RunFlags): void {
  const named = nameSchedule(execution.trace, schedule);
  if (trace !== undefined) writeWhole(trace, traceToJsonLines(named));
  if (perfetto !== undefined) writeWhole(perfetto, perfettoToJson(traceToPerfetto(named)));
}

function print(played: Played, all: boolean, { stdout, columns, color }: CliContext): void {
  const { staging, chosen, execution, schedule } = played;
  const { outcome, findings, result } = execution;
  const palette = paletteOf(color);
  const { story, options } = staging;
  stdout(`${stageText(staging, chosen.words, columns, palette)}\n`);
  const lines = drawTimeline(timelineOf(execution.trace, { all }), columns, palette);
  stdout(lines.map((line) => `${line}\n`).join(''));
  if (findings.length === 0) {
    const text = paragraph(`Ends well after ${outcome.steps} steps: ${result}`, columns);
    stdout(`\n${text.replace('Ends well', palette.good('Ends well'))}`);
    return;
  }
  const count = findings.length === 1 ? '1 finding' : `${findings.length} findings`;
  stdout(`\n${palette.trouble('Goes wrong')} after ${outcome.steps} steps: ${count}\n`);
  stdout(findingsText(findings, columns, palette));
  const strategy = chosen.options;
  const replay = replayCommand({ story: story.name, options, schedule, strategy });
  stdout(`\n${replayText(replay, palette)}`);
}

function printJson(played: Played, { stdout }: CliContext): void {
  const { staging, chosen, execution, schedule, elapsedMs } = played;
  const { outcome, findings, result, trace } = execution;
  const { production } = staging;
  const { seed } = chosen;
  const failure = { seed, schedule, findings, trace: nameSchedule(trace, schedule) };
  const report: Report = {
    scenario: production.id,
    machine: production.machine,
    cast: production.cast,
    executions: 1,
    steps: outcome.steps,
    elapsedMs,
    results: new Map(findings.length === 0 ? [[result, 1]] : []),
    failed: findings.length === 0 ? 0 : 1,
    failures: findings.length === 0 ? [] : [failure],
    more: { schedule, result, refusal: refusalIn(trace) },
  };
  for (const piece of reportJson(report)) stdout(piece);
  stdout('\n');
}
