/** Goal: a thousand results are told in few lines that are true. Method: cases. */

import { describe, expect, test } from 'vitest';
import { groupResults, refusedResult } from '../../src/cli/results.ts';

const groupsOf = (...results: readonly (readonly [string, number])[]) =>
  groupResults(new Map(results)).map(({ text, count }) => `${count} ${text}`);

describe('groupResults', () => {
  test('puts results together that differ in numbers only', () => {
    expect(
      groupsOf(['0 of 4 refused', 3], ['stored', 9], ['3 of 4 refused', 2], ['1 of 4 refused', 1]),
    ).toEqual(['9 stored', '6 0–3 of 4 refused']);
  });

  test('leaves addresses, hexadecimal numbers and names alone', () => {
    expect(groupsOf(['0000:01:00.0 met', 1], ['0000:02:00.0 met', 1])).toHaveLength(2);
    expect(groupsOf(['at 0x10', 1], ['at 0x20', 1])).toHaveLength(2);
    expect(groupsOf(['mr2 is gone', 1], ['mr3 is gone', 1])).toHaveLength(2);
    expect(groupsOf(['1.5 s', 1], ['1.6 s', 1])).toHaveLength(2);
  });

  test('takes a number for itself, and not for a sign that stands for one', () => {
    expect(groupsOf(['# 1', 1], ['2 1', 1])).toHaveLength(2);
  });

  test('copes with as many results as there are executions', () => {
    const results = Array.from({ length: 200_000 }, (_, at) => [`after ${at} steps`, 1] as const);
    const text = 'after 0–199999 steps';
    expect(groupResults(new Map(results))).toEqual([{ text, count: 200_000 }]);
  });
});

describe('refusedResult', () => {
  test('tells errno and reason', () => {
    expect(refusedResult('refused with EINVAL: no way: none')).toEqual({
      code: 'EINVAL',
      reason: 'no way: none',
    });
    expect(refusedResult('stored')).toBeNull();
    expect(refusedResult('2 were refused with EINVAL: x')).toBeNull();
  });
});
