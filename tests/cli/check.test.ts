/**
 * Goal: `peerbuf check` says of every story what came of it, how often, and how to see a failure
 * again; and stops when it is told to. Method: few schedules of right and of wrong stories.
 */

import { describe, expect, test } from 'vitest';
import { SCENARIOS } from '../../src/scenarios/index.ts';
import { cli, storyPath } from './command-line.ts';

const BUG = storyPath('get-instead-of-try-get.ts');
const LOCKS = storyPath('two-locks.ts');

/** What `check --json` prints of a story. */
interface StoryReport {
  readonly scenario: string;
  readonly machine: string;
  readonly verdict: string;
  readonly executions: number;
  readonly steps: number;
  readonly failed: number;
  readonly results: readonly { readonly text: string; readonly count: number }[];
  readonly findings: readonly {
    readonly rule: string;
    readonly title: string;
    readonly party: string;
    readonly step: number;
    readonly seed: number;
    readonly schedule: string;
    readonly trace: readonly { readonly seq: number; readonly kind: string }[];
  }[];
}

async function reportsOf(...argv: readonly string[]): Promise<readonly StoryReport[]> {
  const { out } = await cli(['check', '--json', ...argv]);
  return JSON.parse(out) as readonly StoryReport[];
}

describe('peerbuf check', () => {
  test('finds every built-in story clean on its own machine', async () => {
    const { code, out, err } = await cli(['check', '--schedules', '20']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    for (const { id, machine } of SCENARIOS) {
      expect(out).toMatch(new RegExp(`^${id} +${machine} +20 +\\d+ +clean +\\w`, 'm'));
    }
    expect(out).toContain('complete: no.');
  });

  test('tells results that differ in numbers as one', async () => {
    const { out } = await cli(['check', 'spdk-reset-during-traffic', '--schedules', '100']);
    expect(out).toMatch(/restored; 0–\d of 4 writes were refused/);
  });

  test('takes a refusal for what is expected, and gives the reason once a machine', async () => {
    const stories = ['spdk-nvme-rdma', 'spdk-exits-during-traffic'];
    const line = ['check', ...stories, '--machine', 'desktop', '--schedules', '5'];
    const { code, out } = await cli(line, { columns: 2000 });
    expect(code).toBe(0);
    expect(out.match(/ clean +refused, EINVAL /g)).toHaveLength(2);
    expect(out.match(/share no bridge/g)).toHaveLength(1);
    expect(out).toContain(`\n${stories.join(', ')}: refused on desktop with EINVAL: `);
  });

  test.each([80, 120, 160])('fits %i columns', async (columns) => {
    const { out } = await cli(['check', '--schedules', '2'], { columns });
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(out).toMatch(/\bclean\b/);
  });

  test('reports the same twice, whatever the clock makes of the slices', async () => {
    let t = 0;
    const line = ['check', 'spdk-exits-during-traffic', LOCKS, '--schedules', '120', '--json'];
    const one = await cli(line);
    const other = await cli(line, {
      now: () => {
        t += 700;
        return t;
      },
    });
    expect(other.out.replace(/"elapsedMs": \d+/g, '"elapsedMs": 0')).toBe(one.out);
    expect(other.out).not.toBe(one.out);
  });
});

describe('peerbuf check --json', () => {
  test('is an array of reports', async () => {
    const reports = await reportsOf('--schedules', '10', '--seed', '3');
    expect(reports.map(({ scenario }) => scenario)).toEqual(SCENARIOS.map(({ id }) => id));
    for (const report of reports) {
      expect(report).toMatchObject({
        schema: 'peerbuf.report/1',
        verdict: 'clean',
        expected: 'clean',
        executions: 10,
        complete: false,
        failed: 0,
        findings: [],
      });
      expect(report.results.reduce((sum, { count }) => sum + count, 0)).toBe(10);
    }
  });

  test('has the seed, the schedule and the trace of every finding', async () => {
    const [report] = await reportsOf(LOCKS, '--schedules', '50', '--seed', '7');
    expect(report).toMatchObject({ scenario: 'two-locks', verdict: 'deadlock', executions: 50 });
    const [finding] = report?.findings ?? [];
    expect(finding).toMatchObject({ rule: 'deadlock', party: '' });
    expect(finding?.seed).toBeGreaterThanOrEqual(7);
    expect(finding?.trace.map(({ seq }) => seq)).toEqual(finding?.trace.map((_, at) => at));
    const again = await cli(['run', LOCKS, '--strategy', finding?.schedule ?? '', '--json']);
    const [other] = (JSON.parse(again.out) as StoryReport).findings;
    expect(other).toEqual({ ...finding, seed: undefined });
    const byDice = await cli(['run', LOCKS, '--seed', String(finding?.seed), '--json']);
    expect((JSON.parse(byDice.out) as StoryReport).findings).toEqual([finding]);
  });
});

describe('peerbuf check of a story with a mistake', () => {
  test('leaves with 1 and says how to see it again', async () => {
    const { code, out } = await cli(['check', BUG, '--schedules', '300']);
    expect(code).toBe(1);
    expect(out).toMatch(/^get-instead-of-try-get +server-switch +300 +\d+ +warn /m);
    expect(out).toContain('incremented from zero');
    const [, replay = ''] = /^ {2}peerbuf (run .*)$/m.exec(out) ?? [];
    const again = await cli(replay.split(' '));
    expect(again.code).toBe(1);
    expect(again.out).toContain('incremented from zero');
  });

  test('shows the end of its timeline, at most 40 rows', async () => {
    const { out } = await cli(['check', LOCKS, '--schedules', '50']);
    expect(out).toMatch(/✗ takes lock [ab]/);
    expect(out).not.toContain('earlier rows');
  });
});

describe('Ctrl-C', () => {
  /** Presses it when the progress line shows `when`. */
  function pressAt(when: string): Parameters<typeof cli>[1] {
    let press = (): void => expect.fail('nobody listens');
    const out: string[] = [];
    return {
      isTerminal: true,
      onInterrupt: (handler) => {
        press = handler;
        return () => {};
      },
      stdout: (text) => {
        out.push(text);
        if (text.includes(when)) press();
      },
    };
  }

  test('stops with what there is so far', async () => {
    const { code, err } = await cli(['check', '--schedules', '5000'], pressAt('8 of 5000'));
    expect(code).toBe(130);
    expect(err).toBe('peerbuf: interrupted: 1 of 4 stories begun\n');
  });

  test('leaves with 1 if something was found before', async () => {
    const { code } = await cli(['check', LOCKS, BUG, '--schedules', '500'], pressAt('try-get on'));
    expect(code).toBe(1);
  });

  test('prints what was done as JSON, too', async () => {
    let press = (): void => {};
    const context = {
      onInterrupt: (handler: () => void) => {
        press = handler;
        return () => {};
      },
      // Every look at the clock is one slice nearer.
      now: () => {
        press();
        return 0;
      },
    };
    const { code, out } = await cli(['check', '--json', '--schedules', '5000'], context);
    expect(code).toBe(130);
    const reports = JSON.parse(out) as readonly StoryReport[];
    expect(reports).toHaveLength(1);
    expect(reports[0]?.executions).toBe(8);
  });
});

describe('The progress line', () => {
  test('is drawn again and again on a terminal, and gone at the end', async () => {
    const { out } = await cli(['check', LOCKS, '--schedules', '30'], { isTerminal: true });
    const parts = out.split('\r\u001b[2K');
    expect(parts[1]).toBe('two-locks on desktop: begins');
    expect(parts.at(-2)).toBe('two-locks on desktop: 30 of 30 schedules');
    expect(parts.at(-1)).toMatch(/^story /);
  });

  test('is not there in a pipe, nor with --json', async () => {
    const piped = await cli(['check', LOCKS, '--schedules', '30']);
    expect(piped.out).not.toContain('\u001b');
    const json = await cli(['check', LOCKS, '--schedules', '30', '--json'], { isTerminal: true });
    expect(json.out).not.toContain('\u001b');
  });
});
