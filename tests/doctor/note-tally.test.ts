/** Goal: what is assumed is said once. Method: remarks that repeat, and too many different ones. */

import { describe, expect, test } from 'vitest';
import { NoteTally } from '../../src/doctor/note-tally.ts';
import { oneLine, oneLinePath } from '../../src/doctor/one-line.ts';

describe('NoteTally', () => {
  test('gives one sentence for each remark, and counts functions', () => {
    const tally = new NoteTally();
    tally.add('a', 'x is odd');
    tally.add('a', 'x is odd');
    tally.add('a', 'y is odd');
    tally.add('b', 'x is odd');
    tally.add('c', 'x is odd');
    expect(tally.notes()).toEqual(['a and 2 more: x is odd.', 'a: y is odd.']);
  });

  test('stops at a hundred sentences', () => {
    const tally = new NoteTally();
    for (let number = 0; number < 150; number += 1) tally.add('a', `remark ${number}`);
    expect(tally.notes()).toHaveLength(101);
    expect(tally.notes().at(-1)).toBe('50 more remarks of other kinds are left out.');
  });
});

describe('oneLine', () => {
  test('replaces what breaks a line or a terminal, and cuts', () => {
    expect(oneLine('a\nb\u001bc\u2028d\u202ee')).toBe('a?b?c?d?e');
    expect(oneLine('x'.repeat(100))).toBe(`${'x'.repeat(80)}…`);
    expect(oneLine('äß – ok')).toBe('äß – ok');
    expect(oneLinePath(`${'a/'.repeat(400)}b\n`)).toMatch(/^…a\/[a/]*\/b\?$/);
  });
});
