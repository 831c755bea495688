/**
 * Goal: every way to fail has a name of its own, and a test in which it happens. Method: the third
 * argument of every `new DmaBufError`, followed through small functions that make one.
 */

import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { lineOf, sourcesIn, textOf, treeOf, walk } from './source-files.ts';

const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)+$/;

/** Functions of a file that make an error for a reason that they are given. */
function makersIn(path: string): ReadonlySet<string> {
  const makers = new Set<string>();
  walk(treeOf(path), (node) => {
    if (!ts.isNewExpression(node) || node.expression.getText() !== 'DmaBufError') return;
    const reason = node.arguments?.[2];
    if (reason === undefined || !ts.isIdentifier(reason)) return;
    for (let above: ts.Node = node; above.parent !== undefined; above = above.parent) {
      if (ts.isFunctionDeclaration(above) && above.name) makers.add(above.name.text);
      if (ts.isVariableDeclaration(above)) makers.add(above.name.getText());
    }
  });
  return makers;
}

/** Reasons written out in a call that makes an error. */
function reasonsIn(path: string): readonly { reason: string; at: string }[] {
  const found: { reason: string; at: string }[] = [];
  const makers = makersIn(path);
  walk(treeOf(path), (node) => {
    if (!ts.isCallExpression(node) && !ts.isNewExpression(node)) return;
    const name = node.expression.getText();
    if (name !== 'DmaBufError' && !makers.has(name)) return;
    const strings = [...(node.arguments ?? [])].filter(ts.isStringLiteral);
    const reason = strings.map(({ text }) => text).find((text) => KEBAB.test(text));
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
    // By name, or as it reads in a message.
    const untested = REASONS.filter(
      ({ reason }) =>
        !TESTS.includes(reason) && !TESTS.includes(`: ${reason.replaceAll('-', ' ')}'`),
    );
    expect(untested).toEqual([]);
  });
});
