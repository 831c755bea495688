/**
 * Goal: whatever the kernel cannot get, memory, a descriptor, an I/O address, the call that needed
 * it fails and nothing else happens: nothing leaks, hangs or warns. Method: programs of system
 * calls; one run for each step of theirs that can fail, in which that step does; afterwards the
 * program ends and the books must balance.
 */

import { describe, expect, test } from 'vitest';
import { EveryDriver, type Left, NOTHING } from './every-driver-rig.ts';
import { Program } from './failure-program.ts';
import { PROGRAMS } from './failure-programs.ts';

/** Warnings that Linux has in these places, too. */
const ALLOWED = ['dma_buf_vmap: the exporter cannot map'];

/** One run, in which the given step fails. */
function run(name: string, failAt: number): { ended: string; fallible: number; left: Left } {
  const body = PROGRAMS[name] ?? expect.fail('a program');
  const rig = new EveryDriver(failAt);
  const ended = rig.run((sys) => body(new Program(sys)));
  const findings = rig.left.findings.filter((title) => !ALLOWED.includes(title));
  return { ended, fallible: rig.scheduler.fallible, left: { ...rig.left, findings } };
}

/** What some programs end with in one run or another. */
const REASONS: Readonly<Record<string, readonly string[]>> = {
  'memory of a VFIO device in an I/O address space': [
    'ENOMEM no-memory-for-an-address-space',
    'ENOMEM no-memory-for-mapped-pages',
  ],
  'pages of another guest': ['ENOMEM no-memory-for-lent-pages'],
  'a buffer lent to another guest': ['ENOMEM no-memory-for-pages-to-lend'],
};

describe('A kernel that lacks something once', () => {
  test.each(Object.keys(PROGRAMS))('refuses one call and leaves nothing of %s', (name) => {
    const well = run(name, Number.POSITIVE_INFINITY);
    expect(well).toMatchObject({ ended: 'well', left: NOTHING });
    const endings = new Map<string, number>();
    for (let failAt = 1; failAt <= well.fallible; failAt += 1) {
      const { ended, left } = run(name, failAt);
      expect(left, `${name}: step ${failAt} of ${well.fallible}: ${ended}`).toEqual(NOTHING);
      endings.set(ended, (endings.get(ended) ?? 0) + 1);
    }
    console.log(`${name}: ${well.fallible} failures: ${JSON.stringify([...endings])}`);
    expect([...endings.keys()]).toEqual(expect.arrayContaining([...(REASONS[name] ?? [])]));
    expect(well.fallible).toBeGreaterThanOrEqual(8);
  });
});
