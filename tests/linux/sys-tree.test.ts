/**
 * Goal: a directory is read as it is, and nothing outside of it. Method: a directory of our own
 * with links out of it, a pipe, and files of odd sizes.
 */

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { DirectoryTree } from '../../src/linux/index.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'peerbuf-'));
const ROOT = join(FOLDER, 'root');
/** The user id that owns nothing. */
const NOBODY = 65_534;

mkdirSync(join(ROOT, 'sys/devices'), { recursive: true });
mkdirSync(join(FOLDER, 'outside'));
writeFileSync(join(FOLDER, 'outside/secret'), 'secret');
writeFileSync(join(ROOT, 'sys/devices/vendor'), '0x8086\n');
writeFileSync(join(ROOT, 'sys/empty'), '');
writeFileSync(join(ROOT, 'sys/large'), '');
truncateSync(join(ROOT, 'sys/large'), 2 ** 25);
symlinkSync('devices', join(ROOT, 'sys/inside'));
symlinkSync('../../outside', join(ROOT, 'sys/out'));
symlinkSync('../../outside/secret', join(ROOT, 'sys/secret'));
symlinkSync('loop', join(ROOT, 'sys/loop'));
symlinkSync(ROOT, join(FOLDER, 'entrance'));
afterAll(() => rmSync(FOLDER, { recursive: true }));

describe('DirectoryTree', () => {
  const tree = new DirectoryTree(ROOT);

  test('reads files, lists directories and shows links', () => {
    expect(Buffer.from(tree.read('sys/devices/vendor') ?? []).toString()).toBe('0x8086\n');
    expect(tree.read('sys/empty')).toHaveLength(0);
    expect(tree.list('')).toEqual(['sys']);
    expect(tree.list('sys/devices')).toEqual(['vendor']);
    expect(tree.link('sys/inside')).toBe('devices');
  });

  test('says null of what is absent or of another kind', () => {
    expect(tree.read('sys/devices')).toBeNull();
    expect(tree.list('sys/empty')).toBeNull();
    expect(tree.link('sys/empty')).toBeNull();
    expect(tree.read('sys/none')).toBeNull();
    expect(tree.list('none')).toBeNull();
    expect(tree.read('sys/empty/below')).toBeNull();
    expect(tree.read('sys/\0')).toBeNull();
  });

  test('never follows a link', () => {
    expect(tree.read('sys/inside/vendor')).toBeNull();
    expect(tree.list('sys/inside')).toBeNull();
    expect(tree.read('sys/out/secret')).toBeNull();
    expect(tree.list('sys/out')).toBeNull();
    expect(tree.read('sys/secret')).toBeNull();
    expect(tree.read('sys/loop')).toBeNull();
    expect(tree.link('sys/loop')).toBe('loop');
  });

  test('never leaves its directory', () => {
    expect(tree.read('../outside/secret')).toBeNull();
    expect(tree.list('../outside')).toBeNull();
    expect(tree.read('sys/../../outside/secret')).toBeNull();
  });

  test('does not read what is too large', () => {
    expect(tree.read('sys/large')).toBeNull();
  });

  test('does not wait for a pipe', () => {
    const pipe = join(ROOT, 'sys/pipe');
    try {
      execFileSync('mkfifo', [pipe]);
    } catch {
      console.log('skipped: there is no mkfifo');
      return;
    }
    expect(tree.read('sys/pipe')).toBeNull();
  });

  test('may itself be reached by a link', () => {
    expect(new DirectoryTree(join(FOLDER, 'entrance')).list('sys/devices')).toEqual(['vendor']);
  });

  test('counts what may not be read, and says null', () => {
    chmodSync(FOLDER, 0o755);
    writeFileSync(join(ROOT, 'sys/closed'), 'closed');
    chmodSync(join(ROOT, 'sys/closed'), 0);
    const isRoot = process.geteuid?.() === 0;
    try {
      if (isRoot) process.seteuid?.(NOBODY);
    } catch (error) {
      console.log(`skipped: cannot become another user: ${String(error)}`);
      return;
    }
    try {
      const other = new DirectoryTree(ROOT);
      expect(other.read('sys/closed')).toBeNull();
      expect(other.read('sys/none')).toBeNull();
      expect(other.deniedCount).toBe(1);
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  test('must exist', () => {
    expect(() => new DirectoryTree(join(FOLDER, 'none'))).toThrow('ENOENT');
  });

  test('reads this machine', () => {
    const machine = new DirectoryTree('/');
    const cpuinfo = machine.read('proc/cpuinfo');
    if (cpuinfo === null) console.log('skipped: there is no /proc/cpuinfo');
    else expect(cpuinfo.length).toBeGreaterThan(0);
  });
});
