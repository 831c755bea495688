/** What stands above a run: the story, the machine, who plays what. */

import type { Palette } from './palette.ts';
import { routeInWords } from './route-words.ts';
import type { Staging } from './staging.ts';
import { padText, paragraph, plainText, wrapText } from './text-wrap.ts';

const LABEL_WIDTH = 10;

/**
 * Tells where a story plays and who plays in it.
 *
 * @param strategy - In words.
 */
export function stageText(
  { story, machine, production, route }: Staging,
  strategy: string,
  width: number,
  palette: Palette,
): string {
  const { scenario } = story;
  const { spec, tree } = machine.plan;
  const players = scenario.roles.map((role) => {
    const node = tree.at(production.cast[role] ?? '');
    const { vendor, device, driver } = node.spec;
    const owner = driver === null ? '' : `, driver ${driver}`;
    return `${role} is ${node.address} (${hex4(vendor)}:${hex4(device)}${owner})`;
  });
  const way = route === null ? null : routeInWords(route.provider, route.client, route.route);
  const notes = spec.notes.length;
  return [
    headed(scenario.id, scenario.title, width, palette),
    '\n',
    paragraph(scenario.story, width),
    '\n',
    labelled('machine', `${spec.name}: ${spec.title}`, width, palette),
    notes === 0 ? '' : labelled('', notesText(notes, machine.name), width, palette),
    ...players.map((text, at) => labelled(at === 0 ? 'cast' : '', text, width, palette)),
    way === null ? '' : labelled('route', way, width, palette),
    labelled('strategy', strategy, width, palette),
  ].join('');
}

/** `name: title`, the name as a heading. */
export function headed(name: string, title: string, width: number, palette: Palette): string {
  const text = paragraph(`${name}: ${title}`, width);
  return text.replace(plainText(name), palette.heading);
}

function notesText(count: number, machine: string): string {
  const what = count === 1 ? '1 note on how it was read' : `${count} notes on how it was read`;
  return `${what}; peerbuf machine ${machine} shows ${count === 1 ? 'it' : 'them'}`;
}

/** A paragraph with a word in the margin. */
function labelled(label: string, text: string, width: number, palette: Palette): string {
  return wrapText(plainText(text), width - LABEL_WIDTH)
    .map((line, at) => {
      const margin = padText(at === 0 ? label : '', LABEL_WIDTH);
      return `${palette.quiet(margin)}${line}\n`;
    })
    .join('');
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
