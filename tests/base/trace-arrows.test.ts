import { describe, expect, test } from 'vitest';
import { canHaveArrow, traceArrows } from '../../src/base/trace-arrows.ts';
import { type Entry, EVERY_KIND, traceOf } from './trace-samples.ts';

/** The arrows of a trace as pairs of indices, in order of their ends. */
function arrowsOf(entries: readonly Entry[]): [number, number][] {
  const { starts, ends } = traceArrows(traceOf(entries));
  const startOf = new Map([...starts].flatMap(([at, ids]) => ids.map((id) => [id, at] as const)));
  return [...ends].map(([at, id]) => [startOf.get(id) as number, at]);
}

function wait(task: string, phase: 'begin' | 'end'): Entry {
  return { kind: 'fence.wait', task, fence: 1, phase };
}

function packet(kind: 'wire.send' | 'wire.receive', name: string): Entry {
  return { kind, wire: 'w', packet: name, length: 1 };
}

const SIGNAL: Entry = { kind: 'fence.signal', fence: 1, error: 0 };

describe('traceArrows', () => {
  test('joins a signal to the end of each wait', () => {
    const entries = [
      wait('a', 'begin'),
      wait('b', 'begin'),
      SIGNAL,
      wait('b', 'end'),
      wait('a', 'end'),
    ];
    expect(arrowsOf(entries)).toEqual([
      [2, 3],
      [2, 4],
    ]);
  });

  test('joins a wait that came late to the signal that was there', () => {
    expect(arrowsOf([SIGNAL, wait('a', 'begin'), wait('a', 'end')])).toEqual([[0, 2]]);
  });

  test('has none for a wait that ends without a signal, or on another fence', () => {
    const other: Entry = { kind: 'fence.signal', fence: 2, error: 0 };
    expect(arrowsOf([other, wait('a', 'begin'), wait('a', 'end'), SIGNAL])).toEqual([]);
  });

  test('joins packets of one name in order', () => {
    const entries = [
      packet('wire.receive', 'x'),
      packet('wire.send', 'x'),
      packet('wire.send', 'y'),
      packet('wire.send', 'x'),
      packet('wire.receive', 'y'),
      packet('wire.receive', 'x'),
      packet('wire.receive', 'x'),
      packet('wire.receive', 'x'),
    ];
    expect(arrowsOf(entries)).toEqual([
      [2, 4],
      [1, 5],
      [3, 6],
    ]);
  });
});

describe('canHaveArrow', () => {
  test('is true for every event that an arrow touches', () => {
    const { starts, ends } = traceArrows(EVERY_KIND);
    const touched = [...starts.keys(), ...ends.keys()].sort((a, b) => a - b);
    const able = [...EVERY_KIND.keys()].filter((at) => canHaveArrow(EVERY_KIND[at] as never));
    expect(touched).toEqual(able);
    expect(touched).toHaveLength(4);
  });
});
