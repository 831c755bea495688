/** Runs command lines: as a function with everything kept, and as real processes. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { type CliContext, runCli } from '../../src/cli/index.ts';
import type { TreeEntry } from '../../src/doctor/index.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** What came of a command line. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line in this process: no terminal, 120 columns, a clock that stands still. */
export async function cli(
  argv: readonly string[],
  changes: Partial<CliContext> = {},
): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runCli(argv, {
    stdout: (text) => out.push(text),
    stderr: (text) => err.push(text),
    isTerminal: false,
    columns: 120,
    color: false,
    now: () => 0,
    onInterrupt: () => () => {},
    ...changes,
  });
  return { code, out: out.join(''), err: err.join('') };
}

/** Runs it as users do: a process of its own, its output in a pipe. */
export function cliProcess(
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Ran {
  const args = ['--import', 'tsx', 'src/cli/main.ts', ...argv];
  const { NO_COLOR: _, FORCE_COLOR: __, ...inherited } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...inherited, ...env },
    maxBuffer: 2 ** 28,
  });
  return { code: status ?? -1, out: stdout, err: stderr };
}

/** Runs a line of shell in the repository, `peerbuf` being the command line. */
export function shell(line: string): Ran {
  const script = `peerbuf() { "${process.execPath}" --import tsx src/cli/main.ts "$@"; }; ${line}`;
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return { code: status ?? -1, out: stdout, err: stderr };
}

/** The path of a story of the tests. */
export function storyPath(name: string): string {
  return fileURLToPath(new URL(`stories/${name}`, import.meta.url));
}

/** A folder for the files of one test file; it goes away at the end. */
export class Folder {
  readonly path: string = mkdtempSync(join(tmpdir(), 'peerbuf-cli-'));

  constructor() {
    afterAll(() => rmSync(this.path, { recursive: true }));
  }

  /** Writes a file and returns its path. */
  file(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  /** Writes a tree and returns its path; a tree of that name is replaced. */
  tree(name: string, entries: readonly TreeEntry[]): string {
    const root = join(this.path, name);
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    for (const entry of entries) {
      const path = join(root, entry.path);
      mkdirSync(dirname(path), { recursive: true });
      if (entry.kind === 'file') writeFileSync(path, entry.bytes);
      else if (entry.kind === 'link') symlinkSync(entry.target, path);
      else mkdirSync(path, { recursive: true });
    }
    return root;
  }
}
