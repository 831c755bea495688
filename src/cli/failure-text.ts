/** A run that went wrong, told: what was found, how to see it again. */

import type { Finding } from '../machine/index.ts';
import type { Palette } from './palette.ts';
import { FINDINGS_MAX } from './report.ts';
import { paragraph, plainText } from './text-wrap.ts';

/** The findings of one execution, a paragraph each, with kind, party and step. */
export function findingsText(
  findings: readonly Finding[],
  width: number,
  palette: Palette,
): string {
  const told = findings.slice(0, FINDINGS_MAX).map(({ kind, title, party, step }) => {
    const who = party === '' ? '' : ` by ${party}`;
    const text = paragraph(`${kind}${who} at step ${step}: ${title}`, width, '  ');
    return text.replace(kind, palette.trouble(kind));
  });
  const more = findings.length - told.length;
  return told.join('') + (more > 0 ? `  and ${more} more\n` : '');
}

/** How to run it again. One line however long: it is to be copied. */
export function replayText(command: string, palette: Palette): string {
  return `To see it again:\n  ${palette.heading(plainText(command))}\n`;
}
