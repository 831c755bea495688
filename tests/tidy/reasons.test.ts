/**
 * Goal: every way to fail has a name of its own, and a test in which it happens. Method: the third
 * argument of every `new DmaBufError`, followed through small functions that make one.
 */

import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { lineOf, sourcesIn, textOf, treeOf, walk } from './source-files.ts';

const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)+$/;

/** Reasons written out in a call that makes an error: kebab-case strings among its arguments. */
function reasonsIn(path: string): readonly { reason: string; at: string }[] {
  const found: { reason: string; at: string }[] = [];
  walk(treeOf(path), (node) => {
    if (!ts.isCallExpression(node) && !ts.isNewExpression(node)) return;
    const args = [...(node.arguments ?? [])].filter(ts.isStringLiteral).map((arg) => arg.text);
    if (!args.some((text) => /^E[A-Z0-9]+$/.test(text))) return;
    const reason = args.find((text) => KEBAB.test(text));
    if (reason !== undefined) found.push({ reason, at: `${path}:${lineOf(node)}` });
  });
  return found;
}

const REASONS = sourcesIn('src').flatMap(reasonsIn);
const TESTS = sourcesIn('tests')
  .filter((path) => !path.startsWith('tests/tidy/'))
  .map(textOf)
  .join('\n');

describe('The reason of an error', () => {
  test('is unique in the tree', () => {
    const places = new Map<string, string[]>();
    for (const { reason, at } of REASONS) places.set(reason, [...(places.get(reason) ?? []), at]);
    expect([...places].filter(([, at]) => at.length > 1)).toEqual([]);
    expect(REASONS.length).toBeGreaterThan(30);
  });

  test('appears in a test', () => {
    const untested = REASONS.filter(({ reason }) => !TESTS.includes(reason));
    expect(untested).toEqual([]);
  });
});
