/**
 * Goal: a timeline fits its terminal, whatever its width, and says for every row who did it.
 * Method: all stories at many widths, and rows written by hand.
 */

import { describe, expect, test } from 'vitest';
import { paletteOf } from '../../src/cli/palette.ts';
import { textWidth } from '../../src/cli/text-wrap.ts';
import { type Timeline, timelineOf } from '../../src/cli/timeline.ts';
import { drawTimeline } from '../../src/cli/timeline-table.ts';
import { RandomStrategy, runOnce } from '../../src/explorer/index.ts';
import { findPreset, MachinePlan } from '../../src/machine/index.ts';
import { Production, SCENARIOS } from '../../src/scenarios/index.ts';

const PLAIN = paletteOf(false);

function playedOn(machine: string, story: number): Timeline {
  const plan = new MachinePlan(findPreset(machine) ?? expect.fail('the preset is there'));
  const production = new Production(SCENARIOS[story] ?? expect.fail('the story is there'), plan);
  const { trace } = runOnce(production, { strategy: new RandomStrategy(3), trace: true });
  return timelineOf(trace, { all: story === 0 });
}

const TIMELINES = [0, 1, 2, 3].map((story) => playedOn('epyc-2s', story));

describe('A drawn timeline', () => {
  test.each([40, 60, 80, 100, 120, 160, 240])('fits %i columns', (width) => {
    for (const timeline of TIMELINES) {
      const lines = drawTimeline(timeline, width, PLAIN);
      expect(Math.max(...lines.map(textWidth))).toBeLessThanOrEqual(width);
    }
  });

  test.each([80, 120, 160])('at %i columns says every row, in its column', (width) => {
    for (const timeline of TIMELINES) {
      const lines = drawTimeline(timeline, width, PLAIN);
      const rows = lines.filter((line) => /^ *\d+ {2}/.test(line));
      expect(rows.map((line) => Number.parseInt(line, 10))).toEqual(
        timeline.rows.map(({ step }) => step),
      );
      const starts = new Map<number, Set<number>>();
      for (const [at, { actor }] of timeline.rows.entries()) {
        const start = (rows[at] ?? '').slice(6).search(/[^ │]/);
        starts.set(actor, (starts.get(actor) ?? new Set()).add(start));
      }
      expect([...starts.values()].every((set) => set.size === 1)).toBe(true);
      const places = [...starts].sort(([one], [other]) => one - other);
      const columns = places.map(([, set]) => [...set][0] ?? -1);
      expect(columns).toEqual([...columns].sort((one, other) => one - other));
      expect(new Set(columns).size).toBe(timeline.actors.length);
    }
  });

  test('loses no word of what happened', () => {
    for (const timeline of TIMELINES) {
      const text = drawTimeline(timeline, 80, PLAIN)
        .join(' ')
        .replace(/[ │»✗]+/g, '');
      for (const row of timeline.rows) expect(text).toContain(row.text.replace(/[ │»✗]+/g, ''));
    }
  });

  test('draws the lines of the others around a text', () => {
    const timeline: Timeline = {
      actors: ['left', 'middle', 'right'],
      rows: [
        { step: 1, actor: 0, text: 'a', tone: 'plain' },
        { step: 2, actor: 1, text: 'tells a thing that is too long for one line', tone: 'note' },
        { step: 10, actor: 2, text: 'no', tone: 'trouble' },
      ],
      leftOut: 5,
    };
    expect(drawTimeline(timeline, 60, PLAIN)).toEqual([
      'step  left           middle         right',
      '────  ─────────────  ─────────────  ────────────────────────',
      '5 earlier rows are left out',
      '   1  a              │              │',
      '   2  │              » tells a thing that is too long for',
      '      │                one line     │',
      '  10  │              │              ✗ no',
    ]);
  });

  test('puts names in front of the texts where columns would be too narrow', () => {
    const actors = Array.from({ length: 12 }, (_, at) => `actor ${at}`);
    const rows = actors.map(
      (_, actor) => ({ step: actor, actor, text: 'x', tone: 'plain' }) as const,
    );
    const lines = drawTimeline({ actors, rows, leftOut: 0 }, 80, PLAIN);
    expect(lines[0]).toBe('step  who       what');
    expect(lines.at(-1)).toBe('  11  actor 11  x');
  });

  test('is nothing without rows', () => {
    expect(drawTimeline({ actors: [], rows: [], leftOut: 0 }, 80, PLAIN)).toEqual([]);
  });

  test('obeys no escape sequence in a name', () => {
    const rows = [{ step: 0, actor: 0, text: 'a\u001b[2Jb', tone: 'plain' }] as const;
    const lines = drawTimeline({ actors: ['x\u001b[2J'], rows, leftOut: 0 }, 80, PLAIN);
    expect(lines.join('')).not.toContain('\u001b');
  });
});

describe('Colour', () => {
  test('changes no width, and makes faults, refusals and notes stand out', () => {
    const rows = (['plain', 'note', 'refusal', 'trouble'] as const).map((tone, step) => {
      return { step, actor: 0, text: tone, tone };
    });
    const timeline = { actors: ['a', 'b'], rows, leftOut: 0 };
    const coloured = drawTimeline(timeline, 80, paletteOf(true));
    // eslint-disable-next-line no-control-regex -- the sequences are what is meant.
    const bare = coloured.map((line) => line.replace(/\u001b\[\d+m/g, ''));
    expect(bare).toEqual(drawTimeline(timeline, 80, PLAIN));
    const [plain, ...others] = coloured.slice(2);
    expect(plain).not.toMatch(/\[3\dm/);
    for (const [at, paint] of ['\u001b[36m', '\u001b[33m', '\u001b[31m'].entries()) {
      expect(others[at]).toContain(paint);
    }
  });
});
