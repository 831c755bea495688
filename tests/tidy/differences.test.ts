/**
 * Goal: `docs/differences.md` lists every place where we depart from Linux or from hardware on
 * purpose. Method: it is generated from the `DIFFERS:` comments; with `UPDATE=1` this test writes
 * it.
 */

import { writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FILES, sourcesIn, textOf } from './source-files.ts';

const PAGE = 'docs/differences.md';

const HEAD = `# Differences

Where peerbuf departs from Linux 7.2 or from hardware on purpose, and why. Generated from the
\`DIFFERS:\` comments in the code (\`UPDATE=1 npx vitest run tests/tidy/differences\`). What is left
out altogether is in \`limits.md\`.
`;

/** The sentences behind `DIFFERS:`, up to the end of their paragraph. */
function differencesIn(path: string): readonly string[] {
  return [
    ...textOf(path).matchAll(
      /DIFFERS: ([\s\S]*?)(?=\n\s*\*?\s*\n|\n\s*\*\s*@|\*\/|\n\s*(?!\*|\/\/)\S)/g,
    ),
  ]
    .map((match) =>
      (match[1] ?? '')
        .split('\n')
        .map((line) => line.replace(/^\s*(\*|\/\/)\s?/, '').trim())
        .join(' ')
        .trim(),
    )
    .filter((text) => text !== '');
}

test('docs/differences.md says what the DIFFERS comments say', () => {
  const rows = sourcesIn('src').flatMap((path) =>
    differencesIn(path).map((text) => `- \`${path}\`: ${text}`),
  );
  const page = `${HEAD}\n${rows.join('\n')}\n`;
  if (process.env.UPDATE === '1') writeFileSync(new URL(`../../${PAGE}`, import.meta.url), page);
  expect(FILES).toContain(PAGE);
  expect(textOf(PAGE)).toBe(page);
  expect(rows.length).toBeGreaterThan(5);
});
