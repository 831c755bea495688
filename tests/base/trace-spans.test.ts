import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type TraceSpan, traceSpans } from '../../src/base/trace-spans.ts';
import { arbitraryTrace, type Entry, EVERY_KIND, NARROW, traceOf } from './trace-samples.ts';

/** The spans of a trace, in order of their beginnings. */
function spansOf(entries: readonly Entry[]): TraceSpan[] {
  return [...traceSpans(traceOf(entries)).byBegin.values()];
}

function reset(task: string, device: string, phase: 'begin' | 'end'): Entry {
  return { kind: 'device.reset', task, device, phase };
}

describe('traceSpans', () => {
  test('pairs the ends of every kind of span', () => {
    const spans = traceSpans(EVERY_KIND).byBegin.values();
    const kinds = [...spans].map(({ begin, end, nests }) => {
      return [EVERY_KIND[begin]?.kind, end === null ? null : EVERY_KIND[end]?.kind, nests];
    });
    expect(kinds).toEqual([
      ['lock.acquire', 'lock.release', false],
      ['lock.acquire', 'lock.release', false],
      ['attachment.map', 'attachment.unmap', false],
      ['fence.wait', 'fence.wait', true],
      ['device.reset', 'device.reset', true],
      ['buffer.invalidate', 'buffer.invalidate', true],
      ['attachment.invalidate', 'attachment.invalidate', true],
      ['buffer.release', 'buffer.release', true],
    ]);
  });

  test('gives a shared lock back for the task that holds it', () => {
    const lock = { lock: 'l', id: 1 } as const;
    const spans = spansOf([
      { kind: 'lock.acquire', task: 'a', mode: 'shared', ...lock },
      { kind: 'lock.acquire', task: 'b', mode: 'shared', ...lock },
      { kind: 'lock.release', task: 'a', ...lock },
      { kind: 'lock.release', task: 'b', ...lock },
    ]);
    expect(spans.map(({ begin, end }) => [begin, end])).toEqual([
      [0, 2],
      [1, 3],
    ]);
  });

  test('lets another task end a span, which then does not nest', () => {
    expect(spansOf([reset('a', 'd', 'begin'), reset('b', 'd', 'end')])).toEqual([
      { begin: 0, end: 1, nests: false },
    ]);
  });

  test('does not nest spans that cross', () => {
    const spans = spansOf([
      reset('a', 'd', 'begin'),
      reset('a', 'e', 'begin'),
      reset('a', 'd', 'end'),
      reset('a', 'e', 'end'),
    ]);
    expect(spans).toEqual([
      { begin: 0, end: 2, nests: false },
      { begin: 1, end: 3, nests: true },
    ]);
  });

  test('lets a span that does not nest spoil no other', () => {
    const crossed = spansOf([
      reset('a', 'outer', 'begin'),
      reset('a', 'd', 'begin'),
      reset('a', 'e', 'begin'),
      reset('a', 'd', 'end'),
      reset('a', 'e', 'end'),
      reset('a', 'outer', 'end'),
    ]);
    expect(crossed.map(({ nests }) => nests)).toEqual([true, false, true]);
    const handedOver = spansOf([
      reset('a', 'outer', 'begin'),
      reset('a', 'd', 'begin'),
      reset('a', 'outer', 'end'),
      reset('b', 'd', 'end'),
    ]);
    expect(handedOver.map(({ nests }) => nests)).toEqual([true, false]);
  });

  test('ends a span once', () => {
    const entries = [reset('a', 'd', 'begin'), reset('a', 'd', 'end')];
    for (const task of ['a', 'b']) {
      expect(spansOf([...entries, reset(task, 'd', 'end')])).toEqual([
        { begin: 0, end: 1, nests: true },
      ]);
    }
  });

  test('nests spans of two tasks that cross', () => {
    const spans = spansOf([
      reset('a', 'd', 'begin'),
      reset('b', 'e', 'begin'),
      reset('a', 'd', 'end'),
      reset('b', 'e', 'end'),
    ]);
    expect(spans.map(({ nests }) => nests)).toEqual([true, true]);
  });

  test('knows spans that never end, and ends without a beginning', () => {
    expect(spansOf([reset('a', 'd', 'end'), reset('a', 'd', 'begin')])).toEqual([
      { begin: 1, end: null, nests: true },
    ]);
  });

  test('never lets nesting spans of one task cross', () => {
    fc.assert(
      fc.property(arbitraryTrace(NARROW), (trace) => {
        const { byBegin, byEnd } = traceSpans(trace);
        const open = new Map<string, TraceSpan[]>();
        for (const [index, { task }] of trace.entries()) {
          const stack = open.get(task) ?? [];
          open.set(task, stack);
          const begun = byBegin.get(index);
          if (begun?.nests) stack.push(begun);
          const ended = byEnd.get(index);
          if (ended?.nests) expect(stack.pop()).toBe(ended);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('pairs a great many spans that others end', () => {
    const count = 50_000;
    const map = { attachment: 1, buffer: 1, device: 'd' } as const;
    const maps: Entry[] = Array.from({ length: count }, () => ({
      kind: 'attachment.map',
      task: 'a',
      direction: 'to-device',
      entries: [],
      ...map,
    }));
    const unmaps: Entry[] = Array.from({ length: count }, () => ({
      kind: 'attachment.unmap',
      task: 'b',
      ...map,
    }));
    expect(traceSpans(traceOf([...maps, ...unmaps])).byEnd.size).toBe(count);
  });
});
