/** Goal: a table fits its terminal and loses nothing. Method: cases, and any cells at all. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { paletteOf } from '../../src/cli/palette.ts';
import { drawTable } from '../../src/cli/plain-table.ts';
import { textWidth } from '../../src/cli/text-wrap.ts';

const PLAIN = paletteOf(false);
const COLUMNS = [
  { title: 'name' },
  { title: 'what it is', widthMin: 10 },
  { title: 'n', align: 'right' },
] as const;

describe('drawTable', () => {
  test('is as wide as its texts, and numbers stand right', () => {
    const rows = [
      ['a', 'first', '1'],
      ['bbb', 'second', '200'],
    ];
    expect(drawTable(COLUMNS, rows, { width: 80, palette: PLAIN })).toBe(
      [
        'name  what it is    n',
        '────  ──────────  ───',
        'a     first         1',
        'bbb   second      200',
        '',
      ].join('\n'),
    );
  });

  test('wraps where it must, and where it may', () => {
    const rows = [['abc', 'one two three four', '1'], { below: 'a text that stands under all' }];
    expect(drawTable(COLUMNS, rows, { width: 21, palette: PLAIN })).toBe(
      [
        'name  what it is    n',
        '────  ────────────  ─',
        'abc   one two       1',
        '      three four',
        '  a text that stands',
        '  under all',
        '',
      ].join('\n'),
    );
  });

  test('puts texts below each other in a cell', () => {
    const text = drawTable(COLUMNS, [['a', ['one', 'two'], '1']], { width: 80, palette: PLAIN });
    expect(text.split('\n').slice(2)).toEqual(['a     one         1', '      two', '']);
  });

  test('colours a cell by its text, line by line, and changes no width', () => {
    const rows = [['bad', 'some words that are wrapped', '1']];
    const paint = (cell: string) =>
      cell === 'bad' || cell.startsWith('some') ? paletteOf(true).trouble : null;
    const coloured = drawTable(COLUMNS, rows, { width: 24, palette: PLAIN, paint });
    // eslint-disable-next-line no-control-regex -- the sequences are what is meant.
    const bare = coloured.replace(/\u001b\[\d+m/g, '');
    const lines = (text: string) => text.split('\n').map((line) => line.trimEnd());
    expect(lines(bare)).toEqual(lines(drawTable(COLUMNS, rows, { width: 24, palette: PLAIN })));
    expect(coloured.split('\u001b[31m').length).toBeGreaterThan(3);
  });

  test('fits any width that its columns can take', () => {
    const cell = fc.string({ unit: 'grapheme', maxLength: 40 });
    fc.assert(
      fc.property(
        fc.array(cell, { maxLength: 5 }),
        fc.integer({ min: 30, max: 90 }),
        (cells, width) => {
          const rows = cells.flatMap((text) => [['a', text, '1'], { below: text }]);
          const lines = drawTable(COLUMNS, rows, { width, palette: PLAIN }).split('\n');
          for (const line of lines) expect(textWidth(line)).toBeLessThanOrEqual(width);
        },
      ),
    );
  });
});
