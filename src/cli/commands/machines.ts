/** `peerbuf machines`: the machines that come with peerbuf. */

import type { Command } from 'commander';
import { MachinePlan, PRESETS } from '../../machine/index.ts';
import { SCENARIOS } from '../../scenarios/index.ts';
import type { CliCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { castableStories, cpuText } from '../machine-summary.ts';
import { paletteOf } from '../palette.ts';
import { drawTable, type Row, WIDE_TABLE } from '../plain-table.ts';

/** `peerbuf machines`. */
export const machinesCommand: CliCommand = {
  name: 'machines',
  summary: 'list the machines that come with peerbuf',
  define,
  run,
};

function define(command: Command): void {
  command
    .option('--json', 'print JSON instead')
    .addHelpText('after', '\nExample:\n  peerbuf machines --json');
}

async function run(command: Command, context: CliContext): Promise<number> {
  const { json } = command.opts<{ readonly json?: boolean }>();
  const { stdout, columns, color } = context;
  const machines = PRESETS.map((spec) => {
    const { name, title, cpu, iommu, functions } = spec;
    const stories = castableStories(new MachinePlan(spec));
    return { name, title, cpu, iommu, functions: functions.length, stories };
  });
  if (json === true) {
    stdout(`${JSON.stringify(machines, null, 2)}\n`);
    return EXIT.expected;
  }
  const isWide = columns >= WIDE_TABLE;
  const rows = machines.flatMap(({ name, title, cpu, iommu, functions, stories }): Row[] => {
    const castable = stories.length === SCENARIOS.length ? 'all' : stories.join(', ') || 'none';
    const facts = [cpuText(cpu), iommu, String(functions), castable];
    return isWide ? [[name, title, ...facts]] : [[name, ...facts], { below: title }];
  });
  const table = drawTable(
    [
      { title: 'machine' },
      ...(isWide ? [{ title: 'what it is', widthMin: 20 }] : []),
      { title: 'CPU' },
      { title: 'IOMMU' },
      { title: 'functions', align: 'right' },
      { title: 'stories', widthMin: 12 },
    ],
    rows,
    { width: columns, palette: paletteOf(color) },
  );
  stdout(table);
  return EXIT.expected;
}
