/**
 * Goal: what must not compile does not. Method: the compiler over `tests/types`, with the flags of
 * the repository; then once more without the directives, to see that each stands over an error of
 * its own, and with one that stands over none.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = `${ROOT}tests/types/`;
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.ts'));
const DIRECTIVE = '// @ts-expect-error';

const UNUSED_DIRECTIVE = 2578;
/** Type, argument, overload, property and assignment errors; no unknown names, no bad syntax. */
const EXPECTED_CODES = [
  2322, 2345, 2339, 2353, 2375, 2540, 2551, 2559, 2739, 2741, 2766, 2769, 2820,
];

const options = optionsOf(`${ROOT}tsconfig.node.json`);

function optionsOf(path: string): ts.CompilerOptions {
  const { config } = ts.readConfigFile(path, ts.sys.readFile);
  return ts.parseJsonConfigFileContent(config, ts.sys, ROOT).options;
}

interface Diagnosis {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly code: number;
  readonly text: string;
}

/** What the compiler says of files of the folder, some of which read otherwise than on the disk. */
function diagnose(texts: ReadonlyMap<string, string>): readonly Diagnosis[] {
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (path) => texts.get(path) ?? readFile(path);
  host.fileExists = (path) => texts.has(path) || fileExists(path);
  const getSourceFile = host.getSourceFile.bind(host);
  host.getSourceFile = (path, version, ...rest) => {
    const text = texts.get(path);
    if (text === undefined) return getSourceFile(path, version, ...rest);
    return ts.createSourceFile(path, text, version, true);
  };
  const program = ts.createProgram([...texts.keys()], options, host);
  return [...texts.keys()].flatMap((path) => {
    const file = program.getSourceFile(path);
    return ts.getPreEmitDiagnostics(program, file).map(({ code, start = 0, messageText }) => ({
      file: path.slice(FOLDER.length),
      line: (file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1,
      code,
      text: ts.flattenDiagnosticMessageText(messageText, ' '),
    }));
  });
}

function textOf(name: string): string {
  return readFileSync(FOLDER + name, 'utf8');
}

/** Where directives stand, as the places of the lines right below them. */
function expectedErrors(): readonly string[] {
  return FILES.flatMap((name) =>
    textOf(name)
      .split('\n')
      .flatMap((line, i) => (line.trim().startsWith(DIRECTIVE) ? [`${name}:${i + 2}`] : [])),
  );
}

describe('The compiler', () => {
  test('finds no error, and an error under every directive', () => {
    const texts = new Map(FILES.map((name) => [FOLDER + name, textOf(name)]));
    expect(diagnose(texts)).toEqual([]);
    expect(expectedErrors().length).toBeGreaterThan(50);
  });

  test('finds each of these errors, and no other, when the directives are taken away', () => {
    const texts = new Map(
      FILES.map((name) => [FOLDER + name, textOf(name).replaceAll(DIRECTIVE, '// Error:')]),
    );
    const found = diagnose(texts);
    const places = new Set(found.map(({ file, line }) => `${file}:${line}`));
    expect([...places]).toEqual(expectedErrors());
    expect(found.filter(({ code }) => !EXPECTED_CODES.includes(code))).toEqual([]);
  });

  test('finds a directive that stands over nothing', () => {
    const path = `${FOLDER}unused-directive.ts`;
    const text = `${DIRECTIVE} Nothing is wrong here.\nexport const nothing: number = 1;\n`;
    expect(diagnose(new Map([[path, text]]))).toMatchObject([
      { file: 'unused-directive.ts', line: 1, code: UNUSED_DIRECTIVE },
    ]);
  });

  test('has the flags of the repository', () => {
    expect(options).toMatchObject({ strict: true, exactOptionalPropertyTypes: true, noEmit: true });
  });
});
