/**
 * Draws a timeline with characters. A text begins in its actor's column and runs on over the
 * columns to its right, which are empty in that row; so most rows are one line even on narrow
 * terminals. That is what table libraries cannot do, so this one is drawn by hand.
 */

import type { Paint, Palette } from './palette.ts';
import { cutText, padText, plainText, textWidth, wrapText } from './text-wrap.ts';
import type { Timeline, TimelineRow, Tone } from './timeline.ts';

/** LIMIT: the narrowest column; below, names stand in front of the texts instead. */
const LANE_MIN = 7;
/** LIMIT: the widest column but the last. */
const LANE_MAX = 24;
/** What the last column gets of the width, and at least. */
const LAST_SHARE = 0.3;
const LAST_MIN = 24;
/** LIMIT: the widest name in front of a text. */
const NAME_MAX = 20;
const STEP_TITLE = 'step';
const GUIDE = '│';

const MARKS: Readonly<Record<Tone, string>> = {
  plain: '',
  note: '» ',
  refusal: '✗ ',
  trouble: '✗ ',
};

/** Where things stand. */
interface Layout {
  readonly width: number;
  readonly stepWidth: number;
  /** Where each actor's column begins; empty if names stand in front of the texts. */
  readonly starts: readonly number[];
  /** Where the texts begin if there are no columns. */
  readonly textStart: number;
}

/**
 * Draws a timeline.
 *
 * @param width - Columns of the terminal; no line is longer.
 * @returns Lines without line ends: a header, then the rows; nothing for a timeline without rows.
 */
export function drawTimeline(
  timeline: Timeline,
  width: number,
  palette: Palette,
): readonly string[] {
  if (timeline.rows.length === 0) return [];
  const layout = layOut(timeline, width);
  const { leftOut } = timeline;
  const earlier = leftOut === 0 ? [] : [`${leftOut} earlier rows are left out`].map(palette.quiet);
  return [
    ...headerOf(timeline, layout, palette),
    ...earlier,
    ...timeline.rows.flatMap((row) => drawRow(row, timeline, layout, palette)),
  ];
}

function layOut({ actors, rows }: Timeline, width: number): Layout {
  const lastStep = rows.at(-1)?.step ?? 0;
  const stepWidth = Math.max(STEP_TITLE.length, String(lastStep).length);
  const first = stepWidth + 2;
  const last = Math.max(LAST_MIN, Math.floor((width - first) * LAST_SHARE));
  const others = actors.length - 1;
  const lane = Math.min(LANE_MAX, Math.floor((width - first - last) / Math.max(others, 1)));
  const hasLanes = width - first >= last && (others === 0 || lane >= LANE_MIN);
  const starts = hasLanes ? actors.map((_, at) => first + at * lane) : [];
  const nameWidth = Math.min(NAME_MAX, Math.max(...actors.map(textWidth)));
  return { width, stepWidth, starts, textStart: first + nameWidth + 2 };
}

function headerOf({ actors }: Timeline, layout: Layout, palette: Palette): readonly string[] {
  const { width, stepWidth, starts } = layout;
  const step = STEP_TITLE.padStart(stepWidth);
  const rule = (from: number, to: number): string => '─'.repeat(Math.max(to - from - 2, 1));
  if (starts.length === 0) {
    const names = `${step}  ${padText('who', layout.textStart - stepWidth - 4)}  what`;
    return [palette.heading(names), palette.quiet('─'.repeat(width))];
  }
  const names = actors.map((name, at) => {
    const end = starts[at + 1] ?? width + 2;
    return wrapText(plainText(name), end - (starts[at] ?? 0) - 2);
  });
  const height = Math.max(...names.map((lines) => lines.length));
  const lines = Array.from({ length: height }, (_, at) => {
    let line = at === height - 1 ? step : '';
    for (const [actor, name] of names.entries()) {
      const text = name[at - height + name.length] ?? '';
      line = padText(line, starts[actor] ?? 0) + text;
    }
    return palette.heading(line.trimEnd());
  });
  const rules = starts.map((start, at) => rule(start, starts[at + 1] ?? width + 2));
  return [...lines, palette.quiet([rule(0, stepWidth + 2), ...rules].join('  '))];
}

function drawRow(
  row: TimelineRow,
  { actors }: Timeline,
  layout: Layout,
  palette: Palette,
): readonly string[] {
  const { width, stepWidth, starts } = layout;
  const hasLanes = starts.length > 0;
  const start = hasLanes ? (starts[row.actor] ?? 0) : layout.textStart;
  const mark = MARKS[row.tone];
  const indent = ' '.repeat(mark.length);
  const name = hasLanes ? '' : cutText(plainText(actors[row.actor] ?? ''), NAME_MAX);
  return wrapText(plainText(row.text), width - start - mark.length).map((text, at) => {
    const step = palette.quiet((at === 0 ? String(row.step) : '').padStart(stepWidth));
    const said = (at === 0 ? mark : indent) + text;
    const painted = paintOf(row.tone, palette)(said);
    if (!hasLanes)
      return `${step}  ${padText(at === 0 ? name : '', start - stepWidth - 4)}  ${painted}`;
    const before = guides(starts.slice(0, row.actor), stepWidth, start);
    const end = start + textWidth(said);
    const after = guides(
      starts.filter((lane) => lane > end),
      end,
      0,
    );
    return step + palette.quiet(before) + painted + palette.quiet(after);
  });
}

/** The lines of those who do nothing, from column `from` on, filled up to column `to`. */
function guides(starts: readonly number[], from: number, to: number): string {
  let line = '';
  for (const start of starts) line = line.padEnd(start - from) + GUIDE;
  return line.padEnd(to - from);
}

function paintOf(tone: Tone, palette: Palette): Paint {
  return tone === 'plain' ? (text) => text : palette[tone];
}
