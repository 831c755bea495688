/**
 * Goal: a tree in memory answers as a file system would, and nothing leads out of it. Method: trees
 * of a few entries, and random ones.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import {
  asciiText,
  findSysRoot,
  linkName,
  MapTree,
  readText,
  resolvePath,
  type TreeEntry,
} from '../../src/doctor/sys-tree.ts';
import { textFile } from './fixture.ts';

function tree(...entries: TreeEntry[]): MapTree {
  return new MapTree('test', entries);
}

function link(path: string, target: string): TreeEntry {
  return { kind: 'link', path, target };
}

describe('MapTree', () => {
  test('makes the directories above an entry', () => {
    const made = tree(textFile('./sys//a/b', 'x'), { kind: 'directory', path: 'sys/c/' });
    expect(made.list('')).toEqual(['sys']);
    expect(made.list('sys')).toEqual(['a', 'c']);
    expect(made.list('sys/c')).toEqual([]);
    expect(asciiText(made.read('sys/a/b') ?? new Uint8Array())).toBe('x');
  });

  test('says null of what is absent or of another kind', () => {
    const made = tree(textFile('a/b', 'x'), link('l', 'a'));
    expect(made.read('a')).toBeNull();
    expect(made.list('a/b')).toBeNull();
    expect(made.link('a/b')).toBeNull();
    expect(made.read('none')).toBeNull();
    expect(made.list('l')).toBeNull();
    expect(made.link('l')).toBe('a');
  });

  test('takes the later of two entries for one path', () => {
    expect(readText(tree(textFile('a', 'old'), textFile('a', 'new')), 'a')).toBe('new');
  });

  test.each([
    ['../a', '../a: expected a path inside the archive'],
    ['a/../../b', 'expected a path inside the archive'],
    ['file/below', 'file: expected a directory, found a file or a link'],
  ])('refuses the path %s', (path, message) => {
    expect(() => tree(textFile('file', ''), textFile(path, ''))).toThrow(message);
  });

  test('takes any entries or refuses them in one line', () => {
    const name = fc.constantFrom('a', 'b', '..', '.', '', 'sys', '\n', '\u202e');
    const path = fc.array(name, { maxLength: 5 }).map((parts) => parts.join('/'));
    const entry: fc.Arbitrary<TreeEntry> = fc.oneof(
      path.map((at) => textFile(at, 'x')),
      fc.tuple(path, path).map(([at, target]) => link(at, target)),
      path.map((at): TreeEntry => ({ kind: 'directory', path: at })),
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), path, (entries, wanted) => {
        try {
          const made = tree(...entries);
          const resolved = resolvePath(made, wanted);
          if (resolved !== null) expect(resolved.split('/')).not.toContain('..');
          findSysRoot(made)?.list('sys');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
          expect(String(error)).not.toMatch(/\n/);
        }
      }),
    );
  });
});

describe('resolvePath', () => {
  const made = tree(
    link('sys/bus/pci/devices/x', '../../../devices/x'),
    link('sys/devices/x', 'y/'),
    link('abs', '/sys/devices/y'),
    link('out', '../../etc'),
    link('one', 'two'),
    link('two', 'one'),
    textFile('sys/devices/y/vendor', '0x1'),
  );

  test('follows links to links, relative and absolute', () => {
    expect(resolvePath(made, 'sys/bus/pci/devices/x/vendor')).toBe('sys/devices/y/vendor');
    expect(resolvePath(made, 'abs/vendor')).toBe('sys/devices/y/vendor');
  });

  test('stops where links lead out of the tree or in a circle', () => {
    expect(resolvePath(made, 'out')).toBeNull();
    expect(resolvePath(made, 'one')).toBeNull();
    expect(resolvePath(made, '..')).toBeNull();
  });

  test('resolves what does not exist', () => {
    expect(resolvePath(made, 'sys/./none//here')).toBe('sys/none/here');
  });
});

describe('findSysRoot', () => {
  const vendor = 'devices/pci0000:00/0000:00:00.0/vendor';

  test.each([
    ['the top itself', `sys/${vendor}`],
    ['the inside of sys', vendor],
    ['a folder in the top', `box/sys/${vendor}`],
    ['a folder deep down', `a/b/c/sys/${vendor}`],
    ['the inside of sys in a folder', `box/${vendor}`],
    ['a platform bus', 'sys/devices/platform/pcie/x'],
  ])('finds %s', (_, path) => {
    expect(findSysRoot(tree(textFile(path, '')))?.list('sys/devices')).not.toBeNull();
  });

  test('finds the directory of links', () => {
    expect(findSysRoot(tree({ kind: 'directory', path: 'x/sys/bus/pci/devices' }))).not.toBeNull();
  });

  test('finds nothing in other trees', () => {
    expect(findSysRoot(tree(textFile('a/b/c/d/e/f', '')))).toBeNull();
    expect(findSysRoot(tree())).toBeNull();
  });

  test('shows nothing beside the inside of sys', () => {
    const root = findSysRoot(tree(textFile(vendor, ''), textFile('proc/cpuinfo', 'x')));
    expect(root?.read('proc/cpuinfo')).toBeNull();
    expect(root?.list('')).toBeNull();
  });
});

describe('the text of a file', () => {
  test('ends at the zeros that tar pads with', () => {
    expect(readText(tree(textFile('a', '0x8086\n\0\0\0')), 'a')).toBe('0x8086');
  });

  test('is ASCII, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const text = asciiText(bytes);
        expect(text).toHaveLength(bytes.length);
        expect(text).toBe(
          [...bytes].map((byte) => (byte < 128 ? String.fromCharCode(byte) : '\ufffd')).join(''),
        );
      }),
    );
  });

  test('of a link is its last part', () => {
    const made = tree(link('driver', '../../bus/drivers/nvme'), link('bad', 'x/'));
    expect(linkName(made, 'driver')).toBe('nvme');
    expect(linkName(made, 'bad')).toBeNull();
    expect(linkName(made, 'none')).toBeNull();
  });
});
