/** `peerbuf stories`: the built-in stories. */

import type { Command } from 'commander';
import { SCENARIOS } from '../../scenarios/index.ts';
import type { CliCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { paletteOf } from '../palette.ts';
import { drawTable, type Row, WIDE_TABLE } from '../plain-table.ts';

/** `peerbuf stories`. */
export const storiesCommand: CliCommand = {
  name: 'stories',
  summary: 'list the built-in stories',
  define,
  run,
};

function define(command: Command): void {
  command
    .option('--long', 'with what happens in each')
    .option('--json', 'print JSON instead')
    .addHelpText('after', '\nExample:\n  peerbuf stories --long');
}

async function run(command: Command, context: CliContext): Promise<number> {
  const flags = command.opts<{ readonly long?: boolean; readonly json?: boolean }>();
  const { stdout, columns, color } = context;
  if (flags.json === true) {
    const stories = SCENARIOS.map(({ id, title, story, machine, roles }) => {
      return { id, title, story, machine, roles };
    });
    stdout(`${JSON.stringify(stories, null, 2)}\n`);
    return EXIT.expected;
  }
  const isWide = columns >= WIDE_TABLE;
  const rows = SCENARIOS.flatMap(({ id, title, story, machine, roles }): Row[] => [
    isWide ? [id, title, machine, roles.join(', ')] : [id, machine, roles.join(', ')],
    ...(isWide ? [] : [{ below: title }]),
    ...(flags.long === true ? [{ below: story }] : []),
  ]);
  const table = drawTable(
    [
      { title: 'story', widthMin: 16 },
      ...(isWide ? [{ title: 'what it is about', widthMin: 20 }] : []),
      { title: 'machine' },
      { title: 'devices', widthMin: 13 },
    ],
    rows,
    { width: columns, palette: paletteOf(color) },
  );
  stdout(table);
  return EXIT.expected;
}
