import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type PerfettoEvent,
  perfettoToJson,
  type Trace,
  type TraceEvent,
  traceToPerfetto,
} from '../../src/base/index.ts';
import { problemsOf } from './perfetto-format.ts';
import { arbitraryTrace, type Entry, EVERY_KIND, NARROW, traceOf, WIDE } from './trace-samples.ts';

/** Draws a trace; the file is valid and has every event once. */
function drawn(trace: Trace): readonly PerfettoEvent[] {
  const perfetto = traceToPerfetto(trace);
  expect(problemsOf(JSON.parse(perfettoToJson(perfetto)))).toEqual([]);
  const seqs = perfetto.traceEvents.flatMap((entry) => {
    const seq =
      'args' in entry && entry.ph !== 'M' && entry.ph !== 'C' ? entry.args?.seq : undefined;
    return seq === undefined ? [] : [seq as number];
  });
  expect(seqs.toSorted((a, b) => a - b)).toEqual(trace.map((event) => event.seq));
  return perfetto.traceEvents;
}

function draw(entries: readonly Entry[]): readonly PerfettoEvent[] {
  return drawn(traceOf(entries));
}

/** Phase, name and time of all entries but metadata. */
function outline(entries: readonly PerfettoEvent[]): string[] {
  return entries.flatMap((entry) =>
    entry.ph === 'M' ? [] : [`${entry.ph} ${entry.ts} ${entry.name}`],
  );
}

function wait(task: string, phase: 'begin' | 'end'): Entry {
  return { kind: 'fence.wait', task, fence: 1, phase };
}

const SIGNAL: Entry = { kind: 'fence.signal', task: 'gpu', fence: 1, error: 0 };

describe('traceToPerfetto', () => {
  test('draws every kind of event', () => {
    const phases = new Set(drawn(EVERY_KIND).map((entry) => entry.ph));
    expect([...phases].sort().join('')).toBe('BCEMbefis');
  });

  test('draws any trace', () => {
    for (const parts of [NARROW, WIDE]) {
      fc.assert(
        fc.property(arbitraryTrace(parts), (trace) => void drawn(trace)),
        { numRuns: 500 },
      );
    }
  });

  test('draws any trace of spans, waits and packets', () => {
    const trace = arbitraryTrace(NARROW, [
      'task.block',
      'lock.acquire',
      'lock.release',
      'attachment.map',
      'attachment.unmap',
      'buffer.release',
      'buffer.invalidate',
      'attachment.invalidate',
      'device.reset',
      'fence.wait',
      'fence.signal',
      'wire.send',
      'wire.receive',
    ]);
    fc.assert(
      fc.property(trace, (events) => void drawn(events)),
      { numRuns: 1000 },
    );
  });

  test('draws the middle of a run', () => {
    const trace = arbitraryTrace(NARROW);
    fc.assert(
      fc.property(trace, fc.nat(60), (whole, from) => {
        drawn(whole.slice(from));
      }),
      { numRuns: 300 },
    );
  });

  test('gives each role a process and each actor a thread, in order of spawning', () => {
    const names = drawn(EVERY_KIND).flatMap((entry) =>
      entry.ph === 'M'
        ? [`${entry.pid} ${entry.tid} ${entry.name} ${Object.values(entry.args)[0]}`]
        : [],
    );
    expect(names.filter((name) => name.includes('process_name'))).toEqual([
      '5 11 process_name machine',
      '1 12 process_name user',
      '2 13 process_name kernel',
      '3 14 process_name device',
      '4 15 process_name remote',
    ]);
    expect(names.filter((name) => name.includes('thread'))).toEqual([
      '5 11 thread_name machine',
      '5 11 thread_sort_index 11',
      '1 12 thread_name app',
      '1 12 thread_sort_index 12',
      '2 13 thread_name worker',
      '2 13 thread_sort_index 13',
      '3 14 thread_name nic',
      '3 14 thread_sort_index 14',
      '4 15 thread_name peer',
      '4 15 thread_sort_index 15',
    ]);
  });

  test('shows a step as a microsecond that its events share', () => {
    const note = (step: number): Entry => ({ kind: 'story.note', step, text: 'n' });
    expect(outline(draw([note(0), note(3), note(3), note(3), note(4)]))).toEqual([
      'i 0 n',
      'i 3 n',
      'i 3.333 n',
      'i 3.666 n',
      'i 4 n',
    ]);
  });

  test('widens the steps when one holds more events than a microsecond', () => {
    const notes = Array.from({ length: 1001 }, (): Entry => ({ kind: 'story.note', text: 'n' }));
    const events = [...notes, SIGNAL, { kind: 'story.note', step: 1, text: 'n' } as const];
    const perfetto = traceToPerfetto(traceOf(events));
    expect(perfetto.otherData.stepUs).toBe('10');
    expect(outline(drawn(traceOf(events))).at(-1)).toBe('i 10 n');
    expect(traceToPerfetto(traceOf(notes.slice(1))).otherData.stepUs).toBe('1');
  });

  test('nests calls on their thread and keeps locks beside it', () => {
    const lock = { lock: 'l', id: 1 } as const;
    const entries: Entry[] = [
      { kind: 'device.reset', task: 'a', device: 'd', phase: 'begin' },
      { kind: 'lock.acquire', step: 1, mode: 'exclusive', ...lock },
      { kind: 'device.reset', step: 2, device: 'd', phase: 'end' },
      { kind: 'lock.release', step: 3, ...lock },
    ];
    expect(outline(draw(entries))).toEqual([
      'B 0 resets d',
      'b 1 holds l',
      'E 2 resets d',
      'e 3 holds l',
    ]);
  });

  test('keeps both ends of a mapping that another actor undoes in one process', () => {
    const map = { attachment: 1, buffer: 1, device: 'd' } as const;
    const entries = draw([
      { kind: 'task.spawn', child: 'a', role: 'kernel', daemon: false },
      { kind: 'task.spawn', child: 'b', role: 'user', daemon: false },
      { kind: 'attachment.map', task: 'a', direction: 'to-device', entries: [], ...map },
      { kind: 'attachment.unmap', task: 'b', step: 1, t: 7, ...map },
    ]);
    const ends = entries.flatMap((entry) => ('id2' in entry ? [entry] : []));
    expect(ends.map(({ pid, tid, id2 }) => [pid, tid, id2.local])).toEqual([
      [2, 12, '0x2'],
      [2, 12, '0x2'],
    ]);
    expect(ends[1]?.args).toEqual({ seq: 3, beganSeq: 2, endT: 7, endTask: 'b' });
  });

  test('shows an actor as blocked up to its next event', () => {
    const entries: Entry[] = [
      { kind: 'task.block', task: 'a', on: 'l', verb: 'lock' },
      { kind: 'story.note', task: 'b', step: 1, text: 'n' },
      { kind: 'story.note', task: 'a', step: 2, text: 'm' },
    ];
    expect(outline(draw(entries))).toEqual([
      'B 0 blocked: lock l',
      'i 1 n',
      'E 2 blocked: lock l',
      'i 2 m',
    ]);
  });

  test('draws an arrow from a signal to the end of each wait', () => {
    const signal = { ...SIGNAL, step: 1 };
    const entries = [wait('a', 'begin'), signal, { ...wait('a', 'end'), step: 2 }];
    expect(outline(draw(entries))).toEqual([
      'B 0 waits for fence 1',
      'B 1 signals fence 1',
      's 1 arrow',
      'E 2 signals fence 1',
      'E 2 waits for fence 1',
      'B 2 has waited for fence 1',
      'f 2 arrow',
      'E 3 has waited for fence 1',
    ]);
  });

  test('draws as many arrows as waits end', () => {
    const tasks = ['a', 'b', 'c'];
    const begins = tasks.map((task) => wait(task, 'begin'));
    const ends = tasks.map((task) => wait(task, 'end'));
    const flows = draw([...begins, SIGNAL, ...ends]).filter((entry) => 'id' in entry);
    expect(flows.map(({ ph, id }) => `${ph} ${id}`)).toEqual([
      's 0x1',
      's 0x2',
      's 0x3',
      'f 0x1',
      'f 0x2',
      'f 0x3',
    ]);
  });

  test('ends at the end of the run what never ends', () => {
    const entries = draw([
      wait('a', 'begin'),
      { kind: 'task.block', task: 'a', on: 'fence 1', verb: 'wait' },
      { kind: 'lock.acquire', task: 'b', lock: 'l', id: 1, mode: 'shared' },
      { kind: 'run.end', task: '', step: 5, status: 'deadlock', steps: 5, findings: 1 },
    ]);
    const ends = entries.flatMap((entry) => (entry.ph === 'e' || entry.ph === 'E' ? [entry] : []));
    expect(ends.map(({ name, ts, args }) => [name, ts, args])).toEqual([
      ['holds l', 6, { neverEnds: true }],
      ['blocked: wait fence 1', 6, { neverEnds: true }],
      ['waits for fence 1', 6, { neverEnds: true }],
    ]);
  });

  test('counts what is live', () => {
    const counts = drawn(EVERY_KIND).flatMap((entry) => (entry.ph === 'C' ? [entry.args] : []));
    expect(counts).toEqual([
      { buffers: 1, mappings: 0 },
      { buffers: 1, mappings: 1 },
      { buffers: 1, mappings: 0 },
      { buffers: 0, mappings: 0 },
    ]);
  });

  test('puts actors that were not spawned with the machine', () => {
    const [, , , , process] = draw([{ kind: 'story.note', task: 'stranger', text: 'n' }]);
    expect(process).toMatchObject({ ph: 'M', pid: 5, tid: 12, args: { name: 'stranger' } });
  });

  test('names the run', () => {
    expect(traceToPerfetto(EVERY_KIND).otherData).toEqual({
      schema: 'peerbuf.trace/1',
      scenario: 'peer-write',
      machine: 'two-socket',
      strategy: 'round-robin',
      stepUs: '1',
    });
    expect(outline(drawn([]))).toEqual([]);
  });
});

describe('perfettoToJson', () => {
  test('gives the same bytes for the same trace, an entry a line', () => {
    const text = perfettoToJson(traceToPerfetto(EVERY_KIND));
    expect(perfettoToJson(traceToPerfetto(structuredClone(EVERY_KIND) as TraceEvent[]))).toBe(text);
    const entries = traceToPerfetto(EVERY_KIND).traceEvents.length;
    expect(text.split('\n')).toHaveLength(entries + 3);
  });
});
