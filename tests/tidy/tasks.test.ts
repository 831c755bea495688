/**
 * Goal: no task is made and forgotten: calling a generator or making a step without `yield*` does
 * nothing. Method: the type of every expression that stands alone.
 */

import ts from 'typescript';
import { expect, test } from 'vitest';
import { fromRoot, lineOf, typedProgram, walk } from './source-files.ts';

test('every task and every step that is made is also taken', () => {
  const program = typedProgram();
  const checker = program.getTypeChecker();
  const forgotten: string[] = [];
  let statements = 0;
  for (const file of program.getSourceFiles()) {
    if (!fromRoot(file.fileName).startsWith('src/')) continue;
    walk(file, (node) => {
      if (!ts.isExpressionStatement(node)) return;
      statements += 1;
      const call = ts.isVoidExpression(node.expression)
        ? node.expression.expression
        : node.expression;
      if (!ts.isCallExpression(call) && !ts.isNewExpression(call)) return;
      const type = checker.getTypeAtLocation(call);
      if (isTask(type)) forgotten.push(`${fromRoot(file.fileName)}:${lineOf(node)}`);
    });
  }
  expect(forgotten).toEqual([]);
  expect(statements).toBeGreaterThan(500);
});

/** Generators and steps: things with `[Symbol.iterator]` and `next`. */
function isTask(type: ts.Type): boolean {
  const name = type.getSymbol()?.getName() ?? '';
  if (name === 'Generator') return true;
  const bases = type.isClass() ? (type.getBaseTypes() ?? []) : [];
  const own = ['Step', 'PreemptStep', 'SleepStep'].includes(name);
  return own || bases.some((base) => isTask(base));
}
