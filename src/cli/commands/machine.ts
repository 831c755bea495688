/** `peerbuf machine`: one machine, and which of its network cards reach which of its drives. */

import type { Command } from 'commander';
import type { P2pAdvice } from '../../framework/index.ts';
import { type MachineSpec, machineSpecToJson } from '../../machine/index.ts';
import { classInWords } from '../class-words.ts';
import type { CliCommand } from '../command.ts';
import type { CliContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { addFactOptions, type MachineFlags } from '../machine-flags.ts';
import { type MachineSource, readMachine } from '../machine-source.ts';
import { castableStories, cpuText } from '../machine-summary.ts';
import { type Paint, type Palette, paletteOf } from '../palette.ts';
import { drawPciTree, redirects } from '../pci-tree-text.ts';
import { drawTable, type Row, WIDE_TABLE } from '../plain-table.ts';
import { type Pair, pairCount, pairsOf } from '../route-words.ts';
import { headed } from '../stage-text.ts';
import { paragraph } from '../text-wrap.ts';

/** Version of what `--json` prints; a change of meaning changes the number. */
const MACHINE_REPORT_SCHEMA = 'peerbuf.machine-report/1';

/** LIMIT: pairs that are shown as text. */
const PAIRS_SHOWN_MAX = 40;

/** LIMIT: pairs in JSON; a machine with ten thousand drives and cards has too many for a file. */
const PAIRS_MAX = 100_000;

/** `peerbuf machine`. */
export const machineCommand: CliCommand = {
  name: 'machine',
  summary: 'show a machine: its PCI tree, and which network cards reach which drives',
  define,
  run,
};

interface ShowFlags extends MachineFlags {
  readonly json?: boolean;
  readonly spec?: boolean;
}

function define(command: Command): void {
  command.argument(
    '<machine>',
    'a preset (see peerbuf machines), or a file or directory: a machine in JSON, a copy of /sys, ' +
      'lspci -vvvxxxx output; / is the machine that this runs on',
  );
  addFactOptions(command);
  command
    .option('--json', 'print JSON instead')
    .option('--spec', 'print the machine itself as JSON, to be edited and used as --machine')
    .addHelpText(
      'after',
      `
Examples:
  peerbuf machine server-switch
  peerbuf machine ./server.tar.gz --cpu AuthenticAMD:25:1
  peerbuf machine desktop --spec > mine.json`,
    );
}

async function run(command: Command, context: CliContext): Promise<number> {
  const flags = command.opts<ShowFlags>();
  const { stdout, stderr } = context;
  const machine = await readMachine(command.args[0] ?? '', flags);
  for (const notice of machine.notices) stderr(`peerbuf: note: ${notice}\n`);
  if (flags.spec === true) stdout(machineSpecToJson(machine.plan.spec));
  else if (flags.json === true) stdout(`${JSON.stringify(jsonOf(machine), null, 2)}\n`);
  else print(machine, context);
  return EXIT.expected;
}

function print({ plan }: MachineSource, { stdout, columns, color }: CliContext): void {
  const palette = paletteOf(color);
  const { spec, tree } = plan;
  const pairs = pairsOf(plan, PAIRS_SHOWN_MAX);
  stdout(headed(spec.name, spec.title, columns, palette));
  stdout(paragraph(factsText(spec), columns));
  stdout(`\n${drawPciTree(tree, columns, palette).join('\n')}\n`);
  if (spec.notes.length > 0) stdout(`\n${palette.heading('Notes')}\n`);
  for (const note of spec.notes) stdout(paragraph(`- ${note}`, columns));
  stdout(`\n${palette.heading('Drives, and the network cards that may reach them')}\n`);
  if (pairs.length === 0) {
    stdout(paragraph('There is no pair of an NVMe drive and a network card.', columns));
    return;
  }
  stdout(pairTable(pairs, columns, palette));
  const more = pairCount(plan) - pairs.length;
  if (more > 0) stdout(`and ${more} more; --json has up to ${PAIRS_MAX}\n`);
  for (const text of adviceIn(pairs)) stdout(paragraph(`What would help: ${text}.`, columns));
}

function factsText({ cpu, iommu, memory, functions, hostBridges }: MachineSpec): string {
  const ram = memory.reduce((sum, { size }) => sum + size, 0);
  const nodes = new Set(memory.map(({ node }) => node)).size;
  return [
    `CPU ${cpuText(cpu)}`,
    `IOMMU ${iommu}`,
    `${Math.round((ram / 2 ** 30) * 10) / 10} GiB of RAM in ${plural(nodes, 'node')}`,
    `${plural(functions.length, 'function')} below ${plural(hostBridges.length, 'host bridge')}`,
  ].join('; ');
}

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

function pairTable(pairs: readonly Pair[], width: number, palette: Palette): string {
  const isWide = width >= WIDE_TABLE;
  const rows = pairs.flatMap(({ provider, client, verdict, distance, why }): Row[] => {
    const cells = [provider, client, verdict, distance === null ? '' : String(distance)];
    return isWide ? [[...cells, why]] : [cells, { below: why }];
  });
  return drawTable(
    [
      { title: 'drive' },
      { title: 'card' },
      { title: 'verdict' },
      { title: 'distance', align: 'right' },
      ...(isWide ? [{ title: 'why', widthMin: 20 }] : []),
    ],
    rows,
    { width, palette, paint: (cell) => paintOfVerdict(cell, palette) },
  );
}

function paintOfVerdict(cell: string, palette: Palette): Paint | null {
  if (cell === 'bus-address' || cell === 'host-bridge') return palette.good;
  return cell === 'not-supported' || cell === 'unknown' ? palette.refusal : null;
}

/** What would help any of the pairs, each once. */
function adviceIn(pairs: readonly Pair[]): readonly string[] {
  const advice: readonly P2pAdvice[] = pairs.flatMap((pair) => pair.advice);
  return [...new Set(advice.map(({ text }) => text))];
}

function jsonOf({ kind, plan }: MachineSource): unknown {
  const { spec } = plan;
  const { name, title, cpu, iommu, hostBridges, notes } = spec;
  const functions = spec.functions.map((fn) => ({
    bdf: fn.address,
    parent: fn.parent,
    vendor: fn.vendor,
    device: fn.device,
    class: fn.classCode,
    className: classInWords(fn.classCode),
    type: fn.type,
    driver: fn.driver,
    numaNode: fn.node,
    link: fn.link,
    acs: fn.acs,
    acsRedirects: redirects(fn),
  }));
  const stories = castableStories(plan);
  const pairs = pairsOf(plan, PAIRS_MAX);
  const head = { schema: MACHINE_REPORT_SCHEMA, name, title, kind, cpu, iommu };
  return { ...head, stories, hostBridges, functions, pairCount: pairCount(plan), pairs, notes };
}
