/** Goal: texts fit their columns and lose nothing. Method: cases, and properties of any text. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cutText,
  padText,
  paragraph,
  plainText,
  textWidth,
  wrapText,
} from '../../src/cli/text-wrap.ts';

const TEXT = fc.string({ unit: 'grapheme', maxLength: 60 });

describe('textWidth', () => {
  test.each([
    ['', 0],
    ['abc', 3],
    ['ab…│', 4],
    ['日本', 4],
    ['e\u0301', 1],
    ['✅', 2],
  ])('%j takes %i columns', (text, width) => {
    expect(textWidth(text)).toBe(width);
  });
});

describe('wrapText', () => {
  test.each([
    ['one two three', 7, ['one two', 'three']],
    ['one two three', 80, ['one two three']],
    ['', 5, ['']],
    ['0000:21:00.0', 8, ['0000:21:', '00.0']],
    ['nvme 0000:21:00.0', 12, ['nvme', '0000:21:00.0']],
    ['abcdefgh', 3, ['abc', 'def', 'gh']],
    ['kworker/nic', 9, ['kworker/', 'nic']],
    ['日本語', 4, ['日本', '語']],
    ['日', 1, ['日']],
    ['a  b', 9, ['a b']],
  ] as const)('%j in %i columns is %j', (text, width, lines) => {
    expect(wrapText(text, width)).toEqual(lines);
  });

  test('fits, and loses nothing but blanks', () => {
    fc.assert(
      fc.property(TEXT, fc.integer({ min: 2, max: 30 }), (text, width) => {
        const lines = wrapText(text, width);
        expect(lines.every((line) => textWidth(line) <= width)).toBe(true);
        expect(lines.join('').replace(/\s/gu, '')).toBe(text.replace(/\s/gu, ''));
      }),
    );
  });
});

describe('cutText', () => {
  test('leaves what fits, and shows that something is gone', () => {
    expect(cutText('abc', 3)).toBe('abc');
    expect(cutText('abcd', 3)).toBe('ab…');
    expect(cutText('日本語', 4)).toBe('日…');
    expect(cutText('abc', 0)).toBe('');
    fc.assert(
      fc.property(TEXT, fc.integer({ min: 1, max: 30 }), (text, width) => {
        expect(textWidth(cutText(text, width))).toBeLessThanOrEqual(width);
      }),
    );
  });
});

describe('padText', () => {
  test('fills up, and leaves what is longer', () => {
    expect(padText('日', 4)).toBe('日  ');
    expect(padText('abc', 2)).toBe('abc');
  });
});

describe('paragraph', () => {
  test('has no control character and a line end at every line', () => {
    expect(plainText('a\u001b[2J\r\nb')).toBe('a [2J b');
    expect(paragraph('one\ntwo three', 7, '  ')).toBe('  one\n  two\n  three\n');
  });
});
