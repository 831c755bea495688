/**
 * Goal: everybody can see which rows of the reference are shown by a test, and which are left out
 * and why. Method: row ids are looked for in the names of tests; `docs/coverage.md` is written from
 * what is found.
 */

import { writeFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { COVERAGE_ROWS } from './coverage-rows.ts';
import { FILES, textOf, treeOf, walk } from './source-files.ts';

const PAGE = 'docs/coverage.md';

const HEAD = `# Coverage of the reference

Which rows of the reference are shown by a test whose name carries the row's id, and which are left
out and why. Generated: \`UPDATE=1 npx vitest run tests/tidy/coverage\`.

| Row | What | Shown by |
| --- | --- | --- |
`;

/** Names of tests and groups in a file: what `test`, `describe` and their like are called with. */
function namesIn(path: string): readonly string[] {
  const names: string[] = [];
  walk(treeOf(path), (node) => {
    if (!ts.isCallExpression(node) || !isTestCall(node.expression)) return;
    const [name] = node.arguments;
    if (name !== undefined && (ts.isStringLiteralLike(name) || ts.isTemplateExpression(name))) {
      names.push(name.getText());
    }
  });
  return names;
}

/** True for `test`, `test.skipIf(…)`, `describe.each(…)` and the like. */
function isTestCall(callee: ts.Expression): boolean {
  if (ts.isIdentifier(callee)) return callee.text === 'test' || callee.text === 'describe';
  if (ts.isPropertyAccessExpression(callee)) return isTestCall(callee.expression);
  return ts.isCallExpression(callee) && isTestCall(callee.expression);
}

/** The ids that a name carries: `S000-1 to S000-3` is three. */
function idsIn(name: string): readonly string[] {
  return name.match(/\b(?:S\d{3}-\d+|AC-\d+|N\d+|[A-I]\.\d+)\b/g) ?? [];
}

/** For each id, the files whose tests carry it. */
function shownBy(): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, Set<string>>();
  for (const path of FILES.filter((file) => file.endsWith('.test.ts'))) {
    for (const id of namesIn(path).flatMap(idsIn)) {
      found.set(id, (found.get(id) ?? new Set()).add(path.replace('tests/', '')));
    }
  }
  return new Map([...found].map(([id, files]) => [id, [...files].sort()]));
}

/** LIMIT: files that a row names; more say no more. */
const FILES_NAMED_MAX = 3;

function cell(files: readonly string[]): string {
  const named = files.slice(0, FILES_NAMED_MAX).map((file) => `\`${file}\``);
  const more = files.length > FILES_NAMED_MAX ? [`${files.length - FILES_NAMED_MAX} more`] : [];
  return [...named, ...more].join(', ');
}

describe('docs/coverage.md', () => {
  test('says what the names of tests say', () => {
    const tests = shownBy();
    const rows = COVERAGE_ROWS.map(({ id, what, leftOut }) => {
      const files = tests.get(id) ?? [];
      const shown = files.length > 0 ? cell(files) : `left out: ${leftOut ?? 'not yet'}`;
      return `| ${id} | ${what} | ${shown} |`;
    });
    const shown = COVERAGE_ROWS.filter(({ id }) => tests.has(id)).length;
    const sum = `\n${shown} of ${COVERAGE_ROWS.length} rows are shown by tests.\n`;
    const page = `${HEAD}${rows.join('\n')}\n${sum}`;
    if (process.env.UPDATE === '1') writeFileSync(new URL(`../../${PAGE}`, import.meta.url), page);
    expect(FILES).toContain(PAGE);
    expect(textOf(PAGE)).toBe(page);
  });

  test('lists no row as left out that a test shows', () => {
    const tests = shownBy();
    const both = COVERAGE_ROWS.filter(({ id, leftOut }) => leftOut !== undefined && tests.has(id));
    expect(both.map(({ id }) => id)).toEqual([]);
  });
});
