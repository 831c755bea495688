/** What `peerbuf check` prints: a table of stories, then every failure with what led to it. */

import type { SlicedExploration } from './explore-in-slices.ts';
import { findingsText, replayText } from './failure-text.ts';
import type { Palette } from './palette.ts';
import { type Column, drawTable, type Row, WIDE_TABLE } from './plain-table.ts';
import { replayCommand } from './replay-command.ts';
import { verdictOf } from './report.ts';
import { groupResults, refusedResult } from './results.ts';
import type { Staging } from './staging.ts';
import { paragraph } from './text-wrap.ts';
import { timelineOf } from './timeline.ts';
import { drawTimeline } from './timeline-table.ts';

/** LIMIT: different results of one story that are shown. */
const RESULTS_SHOWN_MAX = 8;
/** LIMIT: rows of a failure's timeline; what went wrong stands at its end. */
const ROWS_SHOWN_MAX = 40;

const COLUMNS: readonly Column[] = [
  { title: 'story', widthMin: 14 },
  { title: 'machine', widthMin: 9 },
  { title: 'schedules', align: 'right' },
  { title: 'steps', align: 'right' },
  { title: 'verdict' },
];
const RESULTS: Column = { title: 'results', widthMin: 24 };
const TIME: Column = { title: 'time', align: 'right' };

/** A story that was explored. */
export interface Checked {
  readonly staging: Staging;
  readonly explored: SlicedExploration;
}

/** The table, a row a story. */
export function checkTable(checked: readonly Checked[], width: number, palette: Palette): string {
  const isWide = width >= WIDE_TABLE;
  const rows = checked.flatMap(({ staging, explored }): Row[] => {
    const { executions, steps, elapsedMs } = explored;
    const { id, machine } = staging.production;
    const counts = [String(executions), String(steps), verdictOf(explored)];
    const time = `${(elapsedMs / 1000).toFixed(1)} s`;
    const results = resultLines(explored);
    if (isWide) return [[id, machine, ...counts, results, time]];
    return [[id, machine, ...counts, time], ...results.map((below) => ({ below }))];
  });
  const columns = isWide ? [...COLUMNS, RESULTS, TIME] : [...COLUMNS, TIME];
  const paint = (cell: string) => {
    if (cell === 'clean') return palette.good;
    return checked.some(({ explored }) => explored.failed > 0 && verdictOf(explored) === cell)
      ? palette.trouble
      : null;
  };
  return drawTable(columns, rows, { width, palette, paint });
}

/** What the table has no room for: why stories were refused, and what none of this proves. */
export function footText(checked: readonly Checked[], width: number): string {
  const reasons = new Map<string, Set<string>>();
  for (const { staging, explored } of checked) {
    for (const text of explored.results.keys()) {
      const refused = refusedResult(text);
      if (refused === null) continue;
      const { id, machine } = staging.production;
      const told = `refused on ${machine} with ${refused.code}: ${refused.reason}`;
      reasons.set(told, (reasons.get(told) ?? new Set()).add(id));
    }
  }
  const why = [...reasons].map(([told, ids]) =>
    paragraph(`${[...ids].join(', ')}: ${told}`, width),
  );
  const limits =
    'complete: no. These are random schedules, not all schedules: that nothing was found does ' +
    'not prove that nothing is there.';
  return [...why, paragraph(limits, width)].join('\n');
}

/** Every kind of failure of a story: what was found, how to see it again, and what led to it. */
export function failuresText(
  { staging, explored }: Checked,
  width: number,
  palette: Palette,
): string {
  const { id, machine } = staging.production;
  const { failed, failures, executions } = explored;
  const shown =
    failures.length === 1 ? 'one of them' : `the first of each of ${failures.length} kinds`;
  const title = `${id} on ${machine}: ${failed} of ${executions} schedules go wrong; ${shown}:`;
  const texts = failures.map(({ seed, schedule, findings, trace }) => {
    const { story, options } = staging;
    const strategy = ['--strategy', 'random', '--seed', String(seed)];
    const replay = replayCommand({ story: story.name, options, schedule, strategy });
    const timeline = timelineOf(trace, { rowsMax: ROWS_SHOWN_MAX });
    const lines = drawTimeline(timeline, width, palette).map((line) => `${line}\n`);
    return [
      `\nseed ${seed}\n`,
      findingsText(findings, width, palette),
      replayText(replay, palette),
      '\n',
      ...lines,
    ].join('');
  });
  return `\n${palette.heading(paragraph(title, width).trimEnd())}\n${texts.join('')}`;
}

function resultLines({ results, failed }: SlicedExploration): readonly string[] {
  const groups = groupResults(shortened(results));
  const isOne = groups.length === 1 && failed === 0;
  const lines = groups
    .slice(0, RESULTS_SHOWN_MAX)
    .map(({ text, count }) => (isOne ? text : `${count} × ${text}`));
  const more = groups.length - lines.length;
  return [
    ...lines,
    ...(more > 0 ? [`and ${more} more`] : []),
    ...(failed > 0 ? [`${failed} × went wrong`] : []),
  ];
}

/** Refusals without their reason, which stands below the table. */
function shortened(results: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const short = new Map<string, number>();
  for (const [text, count] of results) {
    const refused = refusedResult(text);
    const key = refused === null ? text : `refused, ${refused.code}`;
    short.set(key, (short.get(key) ?? 0) + count);
  }
  return short;
}
