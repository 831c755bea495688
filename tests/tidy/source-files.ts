/**
 * The files of the repository and their syntax trees, for the tests that hold the code to its
 * rules.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Every file that git tracks or would track, by its path from the root. */
export const FILES: readonly string[] = execFileSync(
  'git',
  ['ls-files', '--cached', '--others', '--exclude-standard'],
  { cwd: ROOT, encoding: 'utf8' },
)
  .split('\n')
  .filter((path) => path !== '')
  .sort();

/** The text of a file. */
export function textOf(path: string): string {
  return readFileSync(`${ROOT}${path}`, 'utf8');
}

/** TypeScript files below a folder. */
export function sourcesIn(folder: string): readonly string[] {
  return FILES.filter((path) => path.startsWith(`${folder}/`) && path.endsWith('.ts'));
}

/** The syntax tree of a file. */
export function treeOf(path: string): ts.SourceFile {
  return ts.createSourceFile(path, textOf(path), ts.ScriptTarget.ES2023, true);
}

/** Calls `visit` for a node and all below it. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

/** The line of a node, from 1. */
export function lineOf(node: ts.Node): number {
  const file = node.getSourceFile();
  return file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;
}

/** What a file imports: module specifiers, with their lines. */
export function importsOf(path: string): readonly { from: string; line: number }[] {
  const found: { from: string; line: number }[] = [];
  walk(treeOf(path), (node) => {
    const specifier =
      ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
        ? node.moduleSpecifier
        : undefined;
    if (specifier !== undefined && ts.isStringLiteral(specifier)) {
      found.push({ from: specifier.text, line: lineOf(node) });
    }
  });
  return found;
}

/** A program over all sources, with types. */
export function typedProgram(): ts.Program {
  const config = ts.readConfigFile(`${ROOT}tsconfig.node.json`, ts.sys.readFile);
  const parsed = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const roots = parsed.fileNames.filter((name) => name.startsWith(`${ROOT}src/`));
  return ts.createProgram(roots, parsed.options);
}

/** A path from the root. */
export function fromRoot(absolute: string): string {
  return absolute.startsWith(ROOT) ? absolute.slice(ROOT.length) : absolute;
}
