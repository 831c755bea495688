/**
 * Goal: a timeline has a column for everybody who did something and a row for everything that one
 * wants to see. Method: traces written by hand.
 */

import { describe, expect, test } from 'vitest';
import type { ActorRole, Trace, TraceBody } from '../../src/base/index.ts';
import { type Timeline, timelineOf } from '../../src/cli/timeline.ts';

type Step = readonly [task: string, body: TraceBody];

/** A trace of what each did, one step after the other. */
function traceOf(...steps: readonly Step[]): Trace {
  return steps.map(([task, body], seq) => ({ seq, step: seq, t: 0, task, ...body }));
}

const spawn = (child: string, role: ActorRole, daemon = false): Step => [
  '',
  { kind: 'task.spawn', child, role, daemon },
];
const note = (task: string, text: string): Step => [task, { kind: 'story.note', text }];
const access = (task: string, device: string, result: 'done' | 'fault' = 'done'): Step => [
  task,
  { kind: 'mmio.read', target: `${device} BAR0+0x14`, length: 4, result },
];
const take = (task: string, id: number): Step => [
  task,
  { kind: 'lock.acquire', lock: `lock ${id}`, id, mode: 'exclusive' },
];
const give = (task: string, id: number): Step => [
  task,
  { kind: 'lock.release', lock: `lock ${id}`, id },
];
const end = (status: string): Step => ['', { kind: 'run.end', status, steps: 9, findings: 0 }];

/** Rows as `actor: text`. */
function linesOf({ actors, rows }: Timeline): readonly string[] {
  return rows.map(({ actor, text }) => `${actors[actor]}: ${text}`);
}

describe('Columns', () => {
  test('stand by role, and within a role in order of spawning', () => {
    const trace = traceOf(
      spawn('card', 'device'),
      spawn('peer', 'remote'),
      spawn('app', 'user'),
      spawn('kworker', 'kernel'),
      spawn('drive', 'device'),
      ...['peer', 'drive', 'kworker', 'card', 'app'].map((task) => note(task, 'x')),
    );
    expect(timelineOf(trace).actors).toEqual(['app', 'kworker', 'card', 'drive', 'peer']);
  });

  test('are there only for those who have something to show', () => {
    const trace = traceOf(spawn('a', 'user'), spawn('b', 'user'), take('a', 1), note('b', 'x'));
    expect(timelineOf(trace).actors).toEqual(['b']);
    expect(timelineOf(trace, { all: true }).actors).toEqual(['a', 'b', 'machine']);
  });

  test('are there also for those whom nobody spawned', () => {
    const trace = traceOf(
      note('stranger', 'x'),
      spawn('a', 'remote'),
      note('a', 'y'),
      note('', 'z'),
    );
    expect(timelineOf(trace).actors).toEqual(['a', 'machine', 'stranger']);
  });
});

describe('Rows', () => {
  test('are milestones, and everything on demand', () => {
    const begin: Step = [
      '',
      {
        kind: 'run.begin',
        schema: 'peerbuf.trace/1',
        scenario: 's',
        machine: 'm',
        strategy: 'round-robin',
      },
    ];
    const trace = traceOf(begin, spawn('a', 'user'), take('a', 1), note('a', 'x'), end('done'));
    expect(linesOf(timelineOf(trace))).toEqual(['a: x']);
    expect(linesOf(timelineOf(trace, { all: true }))).toEqual([
      'machine: begins s on m, strategy round-robin',
      'machine: starts a (user)',
      'a: takes lock 1',
      'a: x',
      'machine: ends: done, 9 steps, 0 findings',
    ]);
    expect(timelineOf(trace).rows.map(({ step }) => step)).toEqual([3]);
  });

  test('tell three accesses in a row as one, by one actor and to one device', () => {
    const [a, b] = [access('a', 'x'), access('b', 'x')];
    const lines = (...steps: readonly Step[]) => linesOf(timelineOf(traceOf(...steps)));
    expect(lines(a, a, a, a)).toEqual(['a: 4 accesses to x (MMIO)']);
    expect(lines(a, a)).toHaveLength(2);
    expect(lines(a, a, b, a)).toHaveLength(4);
    expect(lines(a, a, a, access('a', 'y'))).toHaveLength(2);
    expect(lines(a, a, a, note('b', 'n'), a)).toEqual([
      'a: 3 accesses to x (MMIO)',
      'b: n',
      'a: reads 4 B (MMIO) from x BAR0+0x14',
    ]);
  });

  test('never hide an access that failed', () => {
    const [done, fault] = [access('a', 'x'), access('a', 'x', 'fault')];
    const { rows } = timelineOf(traceOf(done, done, done, fault, done));
    expect(rows.map(({ tone }) => tone)).toEqual(['plain', 'trouble', 'plain']);
  });

  test('have the tone of what happens', () => {
    const refuse: Step = [
      'a',
      {
        kind: 'attachment.refuse',
        buffer: 1,
        device: 'd',
        call: 'map',
        code: 'EINVAL',
        reason: 'no-way',
        detail: {},
      },
    ];
    const fault: Step = [
      'a',
      { kind: 'iommu.fault', device: 'd', address: 0, access: 'read', why: 'not mapped' },
    ];
    const trace = traceOf(
      note('a', 'x'),
      refuse,
      fault,
      ['a', { kind: 'kernel.warn', call: 'c', text: 't' }],
      ['a', { kind: 'kernel.oops', text: 't' }],
      ['a', { kind: 'story.fail', text: 't' }],
      ['a', { kind: 'task.end', failed: 'EIO' }],
      ['a', { kind: 'buffer.get', buffer: 1 }],
    );
    expect(timelineOf(trace).rows.map(({ tone }) => tone)).toEqual([
      'note',
      'refusal',
      ...Array(5).fill('trouble'),
      'plain',
    ]);
  });

  test('are the last ones if there are too many, with columns for these only', () => {
    const trace = traceOf(note('a', '1'), note('b', '2'), note('c', '3'));
    const timeline = timelineOf(trace, { rowsMax: 2 });
    expect(timeline.leftOut).toBe(1);
    expect(linesOf(timeline)).toEqual(['b: 2', 'c: 3']);
  });
});

describe('A deadlock', () => {
  const blocks = (task: string, on: string): Step => [
    task,
    { kind: 'task.block', on, verb: 'lock' },
  ];
  const story = [
    spawn('idle', 'kernel', true),
    blocks('idle', 'work'),
    take('a', 1),
    take('b', 2),
    take('b', 3),
    give('b', 3),
    blocks('a', 'lock 2'),
    blocks('b', 'lock 1'),
  ];

  test('shows who waits and which locks are never given back, and no daemon', () => {
    const timeline = timelineOf(traceOf(...story, end('deadlock')));
    expect(linesOf(timeline)).toEqual([
      'a: takes lock 1',
      'b: takes lock 2',
      'a: blocks on lock 2 (lock)',
      'b: blocks on lock 1 (lock)',
    ]);
    expect(timeline.rows.every(({ tone }) => tone === 'trouble')).toBe(true);
  });

  test('is nothing that other runs show', () => {
    expect(timelineOf(traceOf(...story, end('done'))).rows).toEqual([]);
  });
});
