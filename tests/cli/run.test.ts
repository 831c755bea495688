/**
 * Goal: `peerbuf run` tells the same story on every machine, repeats it from what it printed, and
 * writes files that others can read. Method: every story on every preset.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseTrace } from '../../src/base/index.ts';
import { PRESETS } from '../../src/machine/index.ts';
import { SCENARIOS } from '../../src/scenarios/index.ts';
import { problemsOf } from '../base/perfetto-format.ts';
import { cli, Folder } from './command-line.ts';

const folder = new Folder();
const pathOf = (name: string): string => join(folder.path, name);
const textOf = (name: string): string => readFileSync(pathOf(name), 'utf8');

/** What `run --json` prints. */
interface RunReport {
  readonly schema: string;
  readonly verdict: string;
  readonly executions: number;
  readonly steps: number;
  readonly schedule: string;
  readonly result: string;
  readonly refusal: { readonly code: string; readonly detail: { readonly why: string } } | null;
  readonly results: readonly { readonly text: string; readonly count: number }[];
  readonly findings: readonly unknown[];
}

describe('peerbuf run', () => {
  const pairs = SCENARIOS.flatMap(({ id }) => PRESETS.map(({ name }) => [id, name] as const));

  test.each(pairs)('tells %s on %s', async (story, machine) => {
    const { code, out, err } = await cli(['run', story, '--machine', machine]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const { title } = SCENARIOS.find(({ id }) => id === story) ?? expect.fail();
    expect(out.startsWith(`${story}: ${title}\n\n`)).toBe(true);
    expect(out).toContain(`\nmachine   ${machine}: `);
    expect(out).toMatch(/\ncast {6}nvme-drive is 0000:[0-9a-f:.]{7} \(144d:/);
    expect(out).toContain('\nstrategy  round-robin: ');
    expect(out).toMatch(/\nstep {2}/);
    expect(out).toMatch(/\nEnds well after \d+ steps: [\w, ]/);
  });

  test.each(pairs)('reports %s on %s as JSON', async (story, machine) => {
    const { code, out } = await cli(['run', story, '--machine', machine, '--json']);
    expect(code).toBe(0);
    const report = JSON.parse(out) as RunReport;
    expect(report).toMatchObject({
      schema: 'peerbuf.report/1',
      scenario: story,
      machine,
      verdict: 'clean',
      expected: 'clean',
      executions: 1,
      complete: false,
      elapsedMs: 0,
      failed: 0,
      findings: [],
    });
    expect(report.results).toEqual([{ text: report.result, count: 1 }]);
    expect(report.steps).toBeGreaterThan(10);
    expect(report.schedule).toMatch(/^s1-[\w-]+$/);
    const isRefused = report.result.startsWith('refused with EINVAL');
    expect(report.refusal?.code ?? null).toBe(isRefused ? 'EINVAL' : null);
    if (isRefused) expect(report.result).toContain(report.refusal?.detail.why);
  });

  test('says the route in words where there are two devices', async () => {
    const wayOn = async (machine: string): Promise<string> => {
      const { out } = await cli(['run', 'spdk-nvme-rdma', '--machine', machine]);
      return /\nroute {5}([^(]*) \(/.exec(out)?.[1] ?? '';
    };
    expect(await wayOn('server-switch')).toBe(
      'straight through the switch, by bus address, distance 4',
    );
    expect(await wayOn('epyc-2s')).toBe('through the host bridge, distance 4');
    expect(await wayOn('desktop')).toBe('none that Linux trusts, so a mapping is refused');
  });

  test('gives the parts to those who are wished for', async () => {
    const wishes = ['--cast', 'nvme-drive=a1:00.0', '--cast', 'network-card=0000:81:00.0'];
    const { code, out } = await cli(['run', 'spdk-nvme-rdma', '--machine', 'epyc-2s', ...wishes]);
    expect(code).toBe(0);
    expect(out).toContain('nvme-drive is 0000:a1:00.0');
    expect(out).toContain('network-card is 0000:81:00.0');
  });

  test('shows more events with --all, and tells accesses in a row as one without', async () => {
    const { out: short } = await cli(['run', 'spdk-nvme-rdma']);
    const { out: long } = await cli(['run', 'spdk-nvme-rdma', '--all']);
    expect(short).toMatch(/\d+ accesses to 0000:05:00\.0 \(MMIO\)/);
    expect(short).not.toContain('blocks on');
    expect(long).not.toContain('accesses to');
    expect(long).toContain('blocks on');
    expect(long.length).toBeGreaterThan(2 * short.length);
  });

  test('a seed alone means random schedules', async () => {
    const { out } = await cli(['run', 'vfio-close-races-reset', '--seed', '5']);
    const named = ['--strategy', 'random', '--seed', '5'];
    expect(out).toContain('\nstrategy  random, seed 5\n');
    expect((await cli(['run', 'vfio-close-races-reset', ...named])).out).toBe(out);
    expect((await cli(['run', 'vfio-close-races-reset', '--seed', '6'])).out).not.toBe(out);
  });
});

describe('peerbuf run --trace', () => {
  test.each(SCENARIOS.map(({ id }) => id))(
    'writes %s so that its schedule gives the same bytes',
    async (id) => {
      const trace = pathOf('a.jsonl');
      expect((await cli(['run', id, '--seed', '11', '--trace', trace])).code).toBe(0);
      const first = textOf('a.jsonl');
      const [begin] = parseTrace(first, trace);
      const schedule = begin?.kind === 'run.begin' ? begin.strategy : '';
      expect(schedule).toMatch(/^s1-/);
      const again = ['run', id, '--strategy', schedule, '--trace', pathOf('b.jsonl')];
      expect((await cli(again)).code).toBe(0);
      expect(textOf('b.jsonl')).toBe(first);
    },
  );

  test('leaves nothing half-written, and what was there as it was', async () => {
    const path = folder.file('taken/trace/inside', 'x');
    const { code, out, err } = await cli([
      'run',
      'vfio-close-races-reset',
      '--trace',
      join(path, '..'),
    ]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toBe(
      `peerbuf: ${join(path, '..')}: expected to be allowed to write it, found EISDIR\n`,
    );
    expect(readdirSync(pathOf('taken'))).toEqual(['trace']);
    expect(readFileSync(path, 'utf8')).toBe('x');
  });

  test('writes into what is no regular file where it is', async () => {
    expect((await cli(['run', 'vfio-close-races-reset', '--trace', '/dev/null'])).code).toBe(0);
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });
});

describe('peerbuf run --perfetto', () => {
  test.each(PRESETS.map(({ name }) => name))('writes what Perfetto reads, on %s', async (name) => {
    const files = ['--perfetto', pathOf('p.json'), '--trace', pathOf('p.jsonl')];
    const line = ['run', 'spdk-reset-during-traffic', '--machine', name, ...files];
    expect((await cli(line)).code).toBe(0);
    const perfetto = JSON.parse(textOf('p.json')) as {
      readonly traceEvents: readonly { readonly args?: { readonly seq?: number } }[];
    };
    expect(problemsOf(perfetto)).toEqual([]);
    const seqs = perfetto.traceEvents.flatMap(({ args }) => args?.seq ?? []);
    const trace = parseTrace(textOf('p.jsonl'), 'p.jsonl');
    expect(seqs.toSorted((one, other) => one - other)).toEqual(trace.map(({ seq }) => seq));
  });
});
