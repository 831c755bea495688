/**
 * Goal: the walk over exported buffers is right in every schedule, and each mistake of one line is
 * shown by a short trace. Method: the exhaustive search, on the race alone, first in its smallest
 * form and then with the VFIO driver; what random schedules find must be among what it finds.
 */

import { describe, expect, test } from 'vitest';
import { VfioPciDevice } from '../../src/drivers/index.ts';
import {
  decodeSchedule,
  type ExhaustiveExploration,
  exploreAll,
  exploreRandom,
  type Program,
  ReplayStrategy,
  runOnce,
} from '../../src/explorer/index.ts';
import { Production } from '../../src/scenarios/index.ts';
import { vfioCloseRacesReset } from '../../src/scenarios/vfio-close-races-reset.ts';
import { findPreset, MachinePlan } from '../../src/machine/index.ts';
import {
  SmallFreeFirst,
  SmallGet,
  SmallNoLock,
  smallRace,
  SmallRace,
  VfioFreeFirst,
  VfioGet,
  VfioNoLock,
  vfioRace,
} from './try-get-exhaustive-world.ts';

/** Searches through all of a program, and says so. */
function all(name: string, program: Program): ExhaustiveExploration {
  const found = exploreAll(program, { executionsMax: 50_000 });
  const { executions, abandoned, complete, failed, failures } = found;
  const [shortest] = failures;
  process.stdout.write(
    `${name}: ${executions} executions (+${abandoned} abandoned), ` +
      `${complete ? 'complete' : 'not complete'}, ${failed} failed` +
      `${shortest === undefined ? '' : `, in ${shortest.steps} steps: ${shortest.title}`}\n`,
  );
  expect(complete).toBe(true);
  return found;
}

/** The mistake is found, by a trace of at most 30 steps that can be replayed. */
function expectCaught(found: ExhaustiveExploration, program: Program, title: RegExp): void {
  const [shortest] = found.failures;
  expect(shortest?.title).toMatch(title);
  expect(shortest?.steps).toBeLessThanOrEqual(30);
  const schedule = decodeSchedule(shortest?.schedule ?? '', 'the shortest failure');
  expect(schedule.length).toBe(shortest?.steps);
  const again = runOnce(program, { strategy: new ReplayStrategy(schedule, 'test') });
  const titles = again.findings.map((finding) => `${finding.kind}: ${finding.title}`);
  expect(titles).toContain(shortest?.title);
  expect(shortest?.trace.at(0)?.kind).toBe('run.begin');
}

describe('The walk over exported buffers, two buffers and three threads', () => {
  test('meets buffers in all three cases, rightly (AC-16, S003-13, S003-14, S003-15)', () => {
    const found = all('smallest form', smallRace(SmallRace, 2));
    expect(found.failed).toBe(0);
    const cases = ['live', 'dying', 'gone'];
    const expected = cases.flatMap((one) => cases.map((other) => `${one} ${other}`));
    expect([...found.results.keys()].sort()).toEqual(expected.sort());
  });

  test('is right with three buffers and four threads, too (AC-16)', () => {
    const found = all('smallest form, three buffers', smallRace(SmallRace, 3));
    expect(found.failed).toBe(0);
    expect(found.results.size).toBe(27);
  });

  test.each([
    ['get for try-get', SmallGet, /incremented from zero/],
    ['no lock around the walk', SmallNoLock, /use after free/],
    ['a release that frees first', SmallFreeFirst, /use after free/],
  ] as const)('is caught with %s in at most 30 steps (AC-16)', (name, Race, title) => {
    const program = smallRace(Race, 2);
    expectCaught(all(`smallest form, ${name}`, program), program, title);
  });
});

describe('The same walk of the VFIO driver', () => {
  test('is right in every schedule (AC-16, S003-13, S003-14, S003-15)', () => {
    const found = all('VFIO', vfioRace(VfioPciDevice, 2));
    expect(found.failed).toBe(0);
    expect([...found.results.keys()]).toEqual([
      'every buffer was released once, and none was touched after',
    ]);
  });

  test('is right in every schedule of the story that exports the buffers first (AC-16)', () => {
    const plan = new MachinePlan(findPreset('server-switch') ?? expect.fail('the preset is there'));
    const found = all('VFIO, the whole story', new Production(vfioCloseRacesReset, plan));
    expect(found.failed).toBe(0);
  });

  test.each([
    ['get for try-get', VfioGet, /incremented from zero/],
    ['no lock around the walk', VfioNoLock, /use after free/],
    ['a release that frees first', VfioFreeFirst, /use after free/],
  ] as const)('is caught with %s in at most 30 steps (AC-16)', (name, Device, title) => {
    const program = vfioRace(Device, 2);
    const found = all(`VFIO, ${name}`, program);
    expectCaught(found, program, title);
    const random = exploreRandom(program, { executions: 500, seed: 1 });
    for (const { findings } of random.failures) {
      for (const finding of findings) {
        expect([...found.findings.keys()]).toContain(`${finding.kind}: ${finding.title}`);
      }
    }
  });
});
