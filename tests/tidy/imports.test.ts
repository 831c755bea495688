/**
 * Goal: the code is layered as ARCHITECTURE.md says. Method: read the table there and every import.
 */

import { dirname, join } from 'node:path/posix';
import { describe, expect, test } from 'vitest';
import { FILES, importsOf, sourcesIn, textOf } from './source-files.ts';

interface Row {
  readonly folder: string;
  readonly mayImport: readonly string[];
  readonly realm: string;
}

/** The rows of the table "Who may import whom". */
const TABLE: readonly Row[] = textOf('ARCHITECTURE.md')
  .split('\n')
  .flatMap((line) => {
    const [, folder = '', imports = '', realm = ''] = line.split('|').map((cell) => cell.trim());
    const name = /^`([a-z]+)`$/.exec(folder)?.[1];
    if (name === undefined) return [];
    return [
      {
        folder: name,
        mayImport: [...imports.matchAll(/`([a-z]+)`/g)].map((m) => m[1] ?? ''),
        realm,
      },
    ];
  });

const PACKAGES = Object.keys(
  (JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> }).dependencies,
);

/** `src/drivers/nvme/x.ts` is of the leaf `nvme`; `src/drivers/gpu.ts` of `gpu.ts`. */
function leafOf(path: string, parent: string): string {
  return path.slice(parent.length + 1).split('/')[0] ?? '';
}

describe('Imports', () => {
  test('the table names every folder of src, and each has a subpath export', () => {
    const folders = [...new Set(sourcesIn('src').map((path) => path.split('/')[1] ?? ''))].sort();
    expect(TABLE.map((row) => row.folder).sort()).toEqual(folders);
    const { exports } = JSON.parse(textOf('package.json')) as { exports: Record<string, unknown> };
    for (const folder of folders) {
      expect(Object.keys(exports)).toContain(`./${folder}`);
      expect(FILES).toContain(`src/${folder}/index.ts`);
    }
  });

  for (const { folder, mayImport, realm } of TABLE) {
    test(`${folder} imports only ${mayImport.join(', ') || 'itself'}, through index.ts`, () => {
      const wrong: string[] = [];
      for (const path of sourcesIn(`src/${folder}`)) {
        for (const { from, line } of importsOf(path)) {
          if (!isAllowed(path, from, folder, mayImport, realm))
            wrong.push(`${path}:${line}: ${from}`);
        }
      }
      expect(wrong).toEqual([]);
    });
  }

  test.each([
    ['src/drivers', 'driver'],
    ['src/explorer/strategies', 'strategy'],
    ['src/cli/commands', 'command'],
  ])('in %s no %s imports another', (parent) => {
    expect(strangers(sourcesIn(parent), parent)).toEqual([]);
  });

  test('no story imports another', () => {
    const stories = sourcesIn('src/scenarios').filter((path) =>
      textOf(path).includes('= defineScenario({'),
    );
    expect(stories.length).toBeGreaterThan(2);
    expect(importsAmong(stories)).toEqual([]);
  });

  test('no preset imports another', () => {
    const presets = sourcesIn('src/machine/presets').filter((path) =>
      / [A-Z0-9_]+: MachineSpec =/.test(textOf(path)),
    );
    expect(presets.length).toBeGreaterThan(4);
    expect(importsAmong(presets)).toEqual([]);
  });

  test('a file of a drawer has no name: no utils, helpers, common, types or constants', () => {
    const drawers = /(^|\/)(utils?|helpers?|common|misc|types|constants)(\.ts|\/)/;
    expect(FILES.filter((path) => path.startsWith('src/') && drawers.test(path))).toEqual([]);
  });
});

function isAllowed(
  path: string,
  from: string,
  folder: string,
  mayImport: readonly string[],
  realm: string,
): boolean {
  if (!from.startsWith('.')) {
    return realm === 'Node' && (from.startsWith('node:') || PACKAGES.includes(from));
  }
  const target = join(dirname(path), from);
  const [, other = ''] = target.split('/');
  if (other === folder) return true;
  return mayImport.includes(other) && target === `src/${other}/index.ts`;
}

/** Imports from one leaf of a folder into another; `index.ts` may see all. */
function strangers(paths: readonly string[], parent: string): readonly string[] {
  const wrong: string[] = [];
  for (const path of paths) {
    const own = leafOf(path, parent);
    if (own === 'index.ts') continue;
    for (const { from } of importsOf(path)) {
      if (!from.startsWith('.')) continue;
      const target = join(dirname(path), from);
      if (target.startsWith(`${parent}/`) && leafOf(target, parent) !== own) {
        wrong.push(`${path}: ${from}`);
      }
    }
  }
  return wrong;
}

function importsAmong(paths: readonly string[]): readonly string[] {
  return paths.flatMap((path) =>
    importsOf(path)
      .map(({ from }) => join(dirname(path), from))
      .filter((target) => paths.includes(target))
      .map((target) => `${path}: ${target}`),
  );
}
