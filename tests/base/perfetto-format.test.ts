import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { problemsOf } from './perfetto-format.ts';

type Fields = Record<string, unknown>;

const APP = { pid: 1, tid: 11 };
const GPU = { pid: 2, tid: 12 };

function named(on: Fields, process: string, thread: string): Fields[] {
  return [
    { ph: 'M', ...on, name: 'process_name', args: { name: process } },
    { ph: 'M', ...on, name: 'process_sort_index', args: { sort_index: 1 } },
    { ph: 'M', ...on, name: 'thread_name', args: { name: thread } },
    { ph: 'M', ...on, name: 'thread_sort_index', args: { sort_index: 1 } },
  ];
}

/** A file as the documents want it; made by hand, not by our writer. */
function goodFile(): { traceEvents: Fields[]; displayTimeUnit: string; otherData: Fields } {
  const c = { cat: 'c' };
  return {
    traceEvents: [
      ...named(APP, 'user', 'app'),
      ...named(GPU, 'device', 'gpu'),
      { ph: 'i', s: 't', ...APP, ...c, name: 'starts', ts: 0, args: { seq: 0 } },
      { ph: 'B', ...APP, ...c, name: 'outer', ts: 0.5, args: { seq: 1 } },
      { ph: 'b', ...APP, ...c, name: 'lock', ts: 0.5, id2: { local: '0x1' } },
      { ph: 'B', ...APP, ...c, name: 'inner', ts: 1 },
      { ph: 'B', ...GPU, ...c, name: 'signals', ts: 1 },
      { ph: 's', ...GPU, ...c, name: 'arrow', ts: 1, id: '0x1' },
      { ph: 'E', ...GPU, ...c, name: 'signals', ts: 1.5 },
      { ph: 'E', ...APP, ...c, name: 'inner', ts: 2 },
      { ph: 'B', ...APP, ...c, name: 'wakes', ts: 2 },
      { ph: 'f', bp: 'e', ...APP, ...c, name: 'arrow', ts: 2, id: '0x1' },
      { ph: 'E', ...APP, ...c, name: 'wakes', ts: 2.001 },
      { ph: 'E', ...APP, ...c, name: 'outer', ts: 3 },
      { ph: 'e', ...APP, ...c, name: 'lock', ts: 4, id2: { local: '0x1' } },
      { ph: 'C', ...GPU, ...c, name: 'live', ts: 4, args: { buffers: 1 } },
    ],
    displayTimeUnit: 'ns',
    otherData: {},
  };
}

/** The problems of the good file after a change. */
function changed(change: (entries: Fields[]) => void): string[] {
  const file = goodFile();
  change(file.traceEvents);
  return problemsOf(file);
}

/** The entries of a phase, of that name if one is given. */
function pick(entries: readonly Fields[], ph: string, name?: string): Fields {
  const found = entries.find(
    (entry) => entry.ph === ph && (name === undefined || entry.name === name),
  );
  return found ?? expect.fail(`no ${ph} in the file`);
}

describe('the validator', () => {
  test('takes a good file', () => {
    expect(problemsOf(goodFile())).toEqual([]);
    expect(problemsOf({ ...goodFile(), traceEvents: [] })).toEqual([]);
  });

  test.each([[null], [[]], ['{}'], [7]])('refuses %j for a file', (file) => {
    expect(problemsOf(file)).toEqual(['the file is not an object']);
  });

  test('refuses a file without what every file has', () => {
    const { traceEvents, displayTimeUnit, otherData } = goodFile();
    expect(problemsOf({ displayTimeUnit, otherData })).toEqual(['traceEvents is not an array']);
    expect(problemsOf({ traceEvents, otherData })).toEqual([
      'displayTimeUnit is neither ns nor ms',
    ]);
    expect(problemsOf({ traceEvents, displayTimeUnit })).toEqual(['otherData is not an object']);
    expect(problemsOf({ ...goodFile(), more: 1 })).toEqual(['unknown key more']);
  });

  test('misses every entry that is taken out, but for instants and counters', () => {
    const isNeeded = ({ ph }: Fields): boolean => ph !== 'i' && ph !== 'C';
    for (const [index, entry] of goodFile().traceEvents.entries()) {
      const problems = changed((entries) => entries.splice(index, 1));
      expect(problems.length > 0, JSON.stringify(entry)).toBe(isNeeded(entry));
    }
  });

  test('misses every field that is taken out, but for optional arguments', () => {
    for (const [index, entry] of goodFile().traceEvents.entries()) {
      for (const field of Object.keys(entry)) {
        const isNeeded = field !== 'args' || entry.ph === 'M' || entry.ph === 'C';
        const problems = changed((entries) => delete entries[index]?.[field]);
        expect(problems.length > 0, `${field} of ${JSON.stringify(entry)}`).toBe(isNeeded);
      }
    }
  });

  test('refuses a value of another type in any field', () => {
    const wrong = fc.constantFrom<unknown>(null, true, -1, 0.5, '', [], [1], Number.NaN);
    const { traceEvents } = goodFile();
    fc.assert(
      fc.property(fc.nat(traceEvents.length - 1), fc.nat(9), wrong, (index, nth, value) => {
        const fields = Object.keys(traceEvents[index] as Fields);
        const field = fields[nth % fields.length] as string;
        fc.pre(!(field === 'ts' && value === 0.5));
        const problems = changed((entries) => {
          entries[index] = { ...entries[index], [field]: value };
        });
        expect(problems, field).not.toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });

  test.each<[string, (entries: Fields[]) => void, RegExp]>([
    ['an unknown phase', (e) => Object.assign(pick(e, 'i'), { ph: 'Z' }), /unknown phase Z/],
    ['an unknown field', (e) => Object.assign(pick(e, 'B'), { dur: 1 }), /unknown field dur/],
    ['an unknown scope', (e) => Object.assign(pick(e, 'i'), { s: 'x' }), /s is no scope/],
    ['a number as text', (e) => Object.assign(pick(e, 'B'), { ts: '1' }), /ts is no time/],
    ['process number 0', (e) => Object.assign(pick(e, 'i'), { pid: 0 }), /pid is not a number/],
    [
      'an empty name',
      (e) => Object.assign(pick(e, 'M', 'thread_name'), { args: { name: '' } }),
      /no name/,
    ],
    [
      'unknown metadata',
      (e) => Object.assign(pick(e, 'M'), { name: 'colour' }),
      /unknown metadata/,
    ],
    [
      'a place that is text',
      (e) => Object.assign(pick(e, 'M', 'thread_sort_index'), { args: { sort_index: '1' } }),
      /no integer/,
    ],
    [
      'a second name',
      (e) => e.push({ ...pick(e, 'M', 'thread_name') }),
      /2 times thread_name of 1\/11/,
    ],
    [
      'a thread without name',
      (e) => Object.assign(pick(e, 'i'), { tid: 13 }),
      /0 times thread_name of 1\/13/,
    ],
    [
      'a main thread',
      (e) => e.push(...named({ pid: 9, tid: 9 }, 'p', 't')),
      /number of its process/,
    ],
    ['a counter of text', (e) => Object.assign(pick(e, 'C'), { args: { n: '1' } }), /no number/],
    ['a counter of nothing', (e) => Object.assign(pick(e, 'C'), { args: {} }), /without values/],
    ['a decimal arrow', (e) => Object.assign(pick(e, 's'), { id: '12' }), /id is not hex/],
    [
      'a global span',
      (e) => Object.assign(pick(e, 'b'), { id2: { global: '1' } }),
      /id2 is not local/,
    ],
    [
      'slices that cross',
      (e) => swapNames(pick(e, 'E', 'inner'), pick(e, 'E', 'outer')),
      /ends outer in inner/,
    ],
    [
      'a slice that begins late',
      (e) => Object.assign(pick(e, 'B', 'wakes'), { ts: 2.5 }),
      /backwards/,
    ],
    [
      'a slice of no length',
      (e) => Object.assign(pick(e, 'E', 'wakes'), { ts: 2 }),
      /ends wakes in/,
    ],
    [
      'a slice below a nanosecond',
      (e) => Object.assign(pick(e, 'E', 'wakes'), { ts: 2.0001 }),
      /ends wakes in/,
    ],
    ['a span of another name', (e) => Object.assign(pick(e, 'e'), { name: 'x' }), /not open/],
    ['a span of another category', (e) => Object.assign(pick(e, 'e'), { cat: 'x' }), /not open/],
    [
      'a span of another id',
      (e) => Object.assign(pick(e, 'e'), { id2: { local: '0x2' } }),
      /not open/,
    ],
    ['a span of another process', (e) => Object.assign(pick(e, 'e'), GPU), /not open/],
    ['a span that begins twice', (e) => e.splice(10, 0, { ...pick(e, 'b') }), /begins twice/],
    [
      'an arrow of another id',
      (e) => Object.assign(pick(e, 'f'), { id: '0x2' }),
      /has not started/,
    ],
    [
      'an arrow of another name',
      (e) => Object.assign(pick(e, 'f'), { name: 'x' }),
      /has not started/,
    ],
    ['an arrow that starts twice', (e) => e.splice(14, 0, { ...pick(e, 's') }), /starts twice/],
    [
      'an arrow from no slice',
      (e) => Object.assign(pick(e, 's'), { ts: 1.5 }),
      /starts at no slice|backwards/,
    ],
    ['an arrow that points back', (e) => move(e, pick(e, 'f'), 1.5, 'inner'), /points back/],
  ])('refuses %s', (_what, change, problem) => {
    expect(changed(change).join('\n')).toMatch(problem);
  });
});

function swapNames(one: Fields, other: Fields): void {
  [one.name, other.name] = [other.name, one.name];
}

/** Puts an entry before the end of the slice `within`, which began before the arrow. */
function move(entries: Fields[], entry: Fields, ts: number, within: string): void {
  Object.assign(pick(entries, 'B', within), { ts: 0.9 });
  entries.splice(entries.indexOf(entry), 1);
  entries.splice(entries.indexOf(pick(entries, 'E', within)), 0, { ...entry, ts });
}
