/**
 * Goal: what CONTRIBUTING.md asks of a file, a function and a comment holds everywhere. Method:
 * syntax trees.
 */

import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { FILES, lineOf, sourcesIn, textOf, treeOf, walk } from './source-files.ts';

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 60;
const COLUMNS_MAX = 100;

const PURE = ['base', 'machine', 'framework', 'drivers', 'scenarios', 'explorer', 'doctor'];

const SOURCES = sourcesIn('src');
const PURE_SOURCES = SOURCES.filter((path) => PURE.includes(path.split('/')[1] ?? ''));

function isExported(node: ts.Node): boolean {
  return (
    ts.canHaveModifiers(node) &&
    (ts.getModifiers(node) ?? []).some((m) => m.kind === ts.SyntaxKind.ExportKeyword)
  );
}

function hasModifier(node: ts.HasModifiers, ...kinds: readonly ts.SyntaxKind[]): boolean {
  return (ts.getModifiers(node) ?? []).some((modifier) => kinds.includes(modifier.kind));
}

function docOf(node: ts.Node): string {
  return ts
    .getJSDocCommentsAndTags(node)
    .map((doc) => doc.getFullText())
    .join('\n');
}

function nameOf(node: ts.Node): string {
  if (ts.isVariableStatement(node)) {
    return node.declarationList.declarations.map((d) => d.name.getText()).join(', ');
  }
  return (node as ts.NamedDeclaration).name?.getText() ?? '';
}

describe('A source file', () => {
  test('begins with a comment that says what it is', () => {
    const bare = SOURCES.filter((path) => !/^(#!.*\n)?\/\*\*/.test(textOf(path)));
    expect(bare).toEqual([]);
  });

  test(`has at most ${FILE_LINES_MAX} lines, and lines of ${COLUMNS_MAX} columns`, () => {
    const long = [...SOURCES, ...sourcesIn('tests'), ...sourcesIn('bench')].flatMap((path) => {
      const lines = textOf(path).split('\n');
      const wide = lines.findIndex((line) => line.length > COLUMNS_MAX);
      const tooLong = path.startsWith('src/') && lines.length > FILE_LINES_MAX + 1;
      return [
        ...(tooLong ? [`${path}: ${lines.length} lines`] : []),
        ...(wide >= 0 ? [`${path}:${wide + 1}: ${lines[wide]?.length} columns`] : []),
      ];
    });
    expect(long).toEqual([]);
  });

  test('has no default export and no export *', () => {
    const wrong = SOURCES.filter((path) => /^export (default|\*)/m.test(textOf(path)));
    expect(wrong).toEqual([]);
  });

  test('of the pure folders uses no clock, no dice and no timer of the platform', () => {
    const banned = /\b(new Date|Date\.now|Math\.random|setTimeout|setInterval|performance\.)\b/;
    const wrong = PURE_SOURCES.filter((path) =>
      banned.test(textOf(path).replace(/\/\*[\s\S]*?\*\//g, '')),
    );
    expect(wrong).toEqual([]);
  });

  test('changes no module state: nothing at the top level is declared with let', () => {
    const wrong = SOURCES.filter((path) => /^(export )?let /m.test(textOf(path)));
    expect(wrong).toEqual([]);
  });
});

describe('A function', () => {
  test(`has at most ${FUNCTION_LINES_MAX} lines`, () => {
    const long: string[] = [];
    for (const path of SOURCES) {
      walk(treeOf(path), (node) => {
        if (!ts.isFunctionLike(node) || ts.isConstructorTypeNode(node)) return;
        const lines = node.getText().split('\n').length;
        if (lines > FUNCTION_LINES_MAX) long.push(`${path}:${lineOf(node)}: ${lines} lines`);
      });
    }
    expect(long).toEqual([]);
  });
});

describe('An export', () => {
  test('has a docstring', () => {
    const bare: string[] = [];
    for (const path of SOURCES) {
      for (const node of treeOf(path).statements) {
        if (!isExported(node) || ts.isExportDeclaration(node)) continue;
        if (docOf(node) === '') bare.push(`${path}:${lineOf(node)}: ${nameOf(node)}`);
      }
    }
    expect(bare).toEqual([]);
  });

  test('of framework and drivers says in which context its tasks run', () => {
    const bare: string[] = [];
    for (const path of [...sourcesIn('src/framework'), ...sourcesIn('src/drivers')]) {
      walk(treeOf(path), (node) => {
        const task =
          (ts.isFunctionDeclaration(node) && isExported(node)) ||
          (ts.isMethodDeclaration(node) &&
            ts.isClassDeclaration(node.parent) &&
            isExported(node.parent) &&
            !hasModifier(node, ts.SyntaxKind.PrivateKeyword, ts.SyntaxKind.OverrideKeyword));
        if (!task || node.asteriskToken === undefined) return;
        if (!docOf(node).includes('@context'))
          bare.push(`${path}:${lineOf(node)}: ${nameOf(node)}`);
      });
    }
    expect(bare).toEqual([]);
  });
});

describe('A comment', () => {
  test('carries only the tags that are agreed, and a TODO names its issue', () => {
    const wrong = SOURCES.flatMap((path) =>
      textOf(path)
        .split('\n')
        .flatMap((line, i) =>
          /\b(FIXME|XXX|HACK)\b|TODO(?!\(#\d+\))/.test(line) ? [`${path}:${i + 1}`] : [],
        ),
    );
    expect(wrong).toEqual([]);
  });
});

describe('The repository', () => {
  test('has no absolute path of a machine and no host of a registry in any file', () => {
    const machine =
      /(^|[\s"'(=])\/(work|home|root|Users)\/|registry\.|deb\.debian\.org|https?:\/\/[^/\s]*mirror/;
    const wrong = FILES.filter(
      (path) => !path.endsWith('.png') && path !== 'tests/tidy/style.test.ts',
    ).flatMap((path) =>
      textOf(path)
        .split('\n')
        .flatMap((line, i) => (machine.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [])),
    );
    expect(wrong).toEqual([]);
  });

  test('has one title in every Markdown file', () => {
    const wrong = FILES.filter((path) => path.endsWith('.md')).filter((path) => {
      const text = textOf(path).replace(/```[\s\S]*?```/g, '');
      return (text.match(/^# /gm) ?? []).length !== 1;
    });
    expect(wrong).toEqual([]);
  });
});
