/**
 * Goal: what the README shows works as it stands. Method: its command lines run in a folder that
 * has the files they name; its programs run against the source, as processes.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { findPreset } from '../src/machine/index.ts';
import { lspciOfMachine } from './doctor/lspci-of-machine.ts';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const MAIN = join(ROOT, 'src/cli/main.ts');
// Inside the repository, so that the programs find its tools.
const folder = mkdtempSync(join(ROOT, 'tests/.readme-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The contents of all fences of a language. */
function fences(language: string): readonly string[] {
  const found = README.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'));
  return [...found].map(([, text]) => text ?? '');
}

const COMMANDS = fences('console')
  .flatMap((text) => text.split('\n'))
  .map((line) => line.replace(/\s+#.*/, ''))
  .filter((line) => line.startsWith('npm run peerbuf -- '))
  .map((line) => line.slice('npm run peerbuf -- '.length));

function node(args: readonly string[]) {
  const tsx = import.meta.resolve('tsx');
  return spawnSync(process.execPath, ['--import', tsx, ...args], { cwd: folder, encoding: 'utf8' });
}

describe('The README', () => {
  test('shows commands and programs', () => {
    expect(COMMANDS.length).toBeGreaterThan(5);
    expect(fences('ts')).not.toEqual([]);
  });

  test.each(COMMANDS)('peerbuf %s: as expected, and says something', (command) => {
    const machine = findPreset('workstation-zen') ?? expect.fail('a preset');
    writeFileSync(join(folder, 'mine.txt'), lspciOfMachine(machine));
    const { status, stdout, stderr } = node([MAIN, ...command.split(' ')]);
    expect(`${status} ${stderr}`).toMatch(/^0 /);
    expect(stdout.length).toBeGreaterThan(100);
    const at = command.split(' ').indexOf('--perfetto');
    if (at >= 0) expect(existsSync(join(folder, command.split(' ')[at + 1] ?? ''))).toBe(true);
  });

  test.each(fences('ts'))('has a program that runs: %#', (program) => {
    const source = program.replaceAll(/'peerbuf\/([a-z]+)'/g, `'${ROOT}src/$1/index.ts'`);
    expect(source).not.toBe(program);
    const file = join(folder, 'program.mts');
    writeFileSync(file, source);
    const { status, stdout, stderr } = node([file]);
    expect(`${status} ${stderr}`).toMatch(/^0 /);
    const expected = [...program.matchAll(/^\/\/ → (.*)$/gm)].map(([, text]) => `${text}\n`);
    expect(expected.length).toBeGreaterThan(0);
    expect(stdout).toBe(expected.join(''));
  });
});
