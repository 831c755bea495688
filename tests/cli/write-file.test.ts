/** Goal: a file is there as a whole or as it was. Method: places where it cannot be. */

import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { writeWhole } from '../../src/cli/write-file.ts';
import { Folder } from './command-line.ts';

const folder = new Folder();

describe('writeWhole', () => {
  test('makes a file, and takes the place of an older one', () => {
    const path = join(folder.path, 'new');
    writeWhole(path, 'one');
    writeWhole(path, 'two');
    expect(readFileSync(path, 'utf8')).toBe('two');
    expect(readdirSync(folder.path)).toEqual(['new']);
  });

  test('follows a link to a file and leaves the link', () => {
    const target = folder.file('there/target', 'old');
    const link = join(folder.path, 'there', 'link');
    symlinkSync(target, link);
    writeWhole(link, 'new');
    expect(readFileSync(target, 'utf8')).toBe('new');
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  });

  test('takes a name that leaves no room for a longer one', () => {
    const path = join(folder.path, 'x'.repeat(255));
    writeWhole(path, 'long');
    expect(readFileSync(path, 'utf8')).toBe('long');
  });

  test.each([
    ['a folder', 'folder', 'EISDIR'],
    ['in no folder', 'none/file', 'ENOENT'],
    ['below a file', 'file/below', 'ENOTDIR'],
    ['with a name that is too long', 'y'.repeat(256), 'ENAMETOOLONG'],
  ])('refuses a place that is %s, and leaves nothing there', (_, name, code) => {
    const place = join(folder.path, 'refused');
    mkdirSync(join(place, 'folder'), { recursive: true });
    folder.file('refused/file', 'as it was');
    const write = (): void => writeWhole(join(place, name), 'text');
    expect(write).toThrow(InputError);
    expect(write).toThrow(`expected to be allowed to write it, found ${code}`);
    expect(readdirSync(place).sort()).toEqual(['file', 'folder']);
    expect(readFileSync(join(place, 'file'), 'utf8')).toBe('as it was');
  });
});
