/** Tables without lines, as wide as the terminal at most. */

import Table from 'cli-table3';
import type { Paint, Palette } from './palette.ts';
import { plainText, textWidth, wrapText } from './text-wrap.ts';

const GAP = 2;
const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
} as const;

/** A column. */
export interface Column {
  readonly title: string;
  /** Numbers stand right. Default left. */
  readonly align?: 'left' | 'right';
  /** How narrow it may become; by default it does not. */
  readonly widthMin?: number;
}

/** Columns of a terminal from which on long texts stand beside other cells, and not below them. */
export const WIDE_TABLE = 110;

/** A cell: its text, or texts below each other. */
export type Cell = string | readonly string[];

/** A row of cells, or a text under all of them. */
export type Row = readonly Cell[] | { readonly below: string };

/** How to draw. */
export interface TableOptions {
  /** Columns of the terminal; what does not fit is wrapped. */
  readonly width: number;
  readonly palette: Palette;
  /** Colours a cell by its whole text. */
  readonly paint?: (cell: string) => Paint | null;
}

/** Draws a table, each line with its line end. */
export function drawTable(
  columns: readonly Column[],
  rows: readonly Row[],
  options: TableOptions,
): string {
  const { palette, paint = () => null } = options;
  const widths = widthsOf(columns, rows, options.width);
  const table = new Table({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': GAP, head: [], border: [], compact: true },
    colWidths: widths.map((width) => width + GAP),
    colAligns: columns.map(({ align = 'left' }) => align),
  });
  table.push(columns.map(({ title }) => palette.heading(title)));
  table.push(widths.map((width) => palette.quiet('─'.repeat(width))));
  for (const row of rows) {
    if ('below' in row) {
      const room = widths.reduce((sum, width) => sum + width + GAP, -GAP);
      const lines = wrapText(plainText(row.below), room - GAP).map((line) => `  ${line}`);
      table.push([{ colSpan: columns.length, content: lines.join('\n') }]);
      continue;
    }
    table.push(
      row.map((cell, at) => {
        const colour = paint(linesOf(cell).join('\n')) ?? ((text: string) => text);
        const lines = linesOf(cell).flatMap((line) => wrapText(line, widths[at] ?? 1));
        return lines.map(colour).join('\n');
      }),
    );
  }
  return `${table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}

/** The widths that the texts want; as far as that is too much, the widest gives way. */
function widthsOf(columns: readonly Column[], rows: readonly Row[], width: number): number[] {
  const widths = columns.map(({ title }, at) => {
    const cells = rows.flatMap((row) => ('below' in row ? [] : linesOf(row[at] ?? '')));
    return cells.reduce((most, text) => Math.max(most, textWidth(text)), textWidth(title));
  });
  const room = width - GAP * (columns.length - 1);
  for (let sum = widths.reduce((one, other) => one + other, 0); sum > room; sum -= 1) {
    let widest = -1;
    for (const [at, { widthMin = Number.POSITIVE_INFINITY }] of columns.entries()) {
      const own = widths[at] ?? 0;
      if (own > widthMin && own > (widths[widest] ?? 0)) widest = at;
    }
    if (widest < 0) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

function linesOf(cell: Cell): readonly string[] {
  return (typeof cell === 'string' ? [cell] : cell).map(plainText);
}
