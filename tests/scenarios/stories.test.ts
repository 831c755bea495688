/**
 * Goal: every story goes as it must on every machine: stored and read back where Linux lets the
 * devices meet, refused with Linux's errno where not. Method: presets under random schedules;
 * captured machines against the verdict that Linux 7.2 printed there; a box with known facts.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { assumeForwarding, parseCpuText } from '../../src/doctor/index.ts';
import { exploreRandom, RoundRobinStrategy, runOnce } from '../../src/explorer/index.ts';
import { readCapture } from '../../src/linux/index.ts';
import { MachinePlan, type MachineSpec, PRESETS } from '../../src/machine/index.ts';
import { candidatesFor, findScenario, Production, SCENARIOS } from '../../src/scenarios/index.ts';
import {
  BOOTED,
  HAS_CAPTURES,
  printSkips,
  readBooted,
  sharedPath,
} from '../linux/shared-captures.ts';

printSkips();

const story = findScenario('spdk-nvme-rdma') ?? expect.fail('the story is there');

/** What came of the story for each drive and card of a machine: `drive card stored|refused`. */
function outcomes(spec: MachineSpec): readonly string[] {
  const plan = new MachinePlan(assumeForwarding(spec));
  return candidatesFor(plan, 'nvme-drive').flatMap((drive) =>
    candidatesFor(plan, 'network-card').map((card) => {
      const wishes = { 'nvme-drive': drive.address, 'network-card': card.address };
      const production = new Production(story, plan, wishes);
      const { findings, result } = runOnce(production, { strategy: new RoundRobinStrategy() });
      expect(findings).toEqual([]);
      const [word] = result.split(' ');
      return `${drive.address} ${card.address} ${word}`;
    }),
  );
}

describe('Every story on every preset', () => {
  for (const scenario of SCENARIOS) {
    test.each(PRESETS.map(({ name }) => name))(`${scenario.id} goes well on %s`, (name) => {
      const spec = PRESETS.find((preset) => preset.name === name) ?? expect.fail('a preset');
      const production = new Production(scenario, new MachinePlan(spec));
      const exploration = exploreRandom(production, { executions: 40, seed: 1 });
      expect(exploration.failures).toEqual([]);
      expect(exploration.failed).toBe(0);
    });
  }

  test('spdk-nvme-rdma is refused on desktop and server-switch-acs, and stored elsewhere', () => {
    const words = PRESETS.map((spec) => {
      const production = new Production(story, new MachinePlan(spec));
      return [spec.name, runOnce(production, { strategy: new RoundRobinStrategy() }).result];
    });
    expect(
      words.map(([name, result]) => `${name}: ${result?.split(' ').slice(0, 3).join(' ')}`),
    ).toEqual([
      'desktop: refused with EINVAL:',
      'server-switch: stored and read',
      'server-switch-acs: refused with EINVAL:',
      'epyc-2s: stored and read',
      'icelake-2s: stored and read',
      'arm-soc: stored and read',
      'workstation-zen: stored and read',
    ]);
  });
});

describe.skipIf(!HAS_CAPTURES)(
  'spdk-nvme-rdma on captured machines (S003-2, S003-4, S003-5)',
  () => {
    test('is stored or refused as Linux 7.2 judged each pair of drive and card', async () => {
      let machines = 0;
      let pairs = 0;
      for (const name of BOOTED) {
        const text = readFileSync(sharedPath(`vm-topologies/${name}/verdict.txt`), 'latin1');
        const types = new Map(
          text.split('\n').map((line) => {
            const [provider, client, , type] = line.split(' ');
            return [`${provider} ${client}`, type];
          }),
        );
        const seen = outcomes(await readBooted(name, 'sysfs.tar.gz'));
        const expected = seen.map((line) => {
          const [drive, card] = line.split(' ');
          const type = types.get(`${drive} ${card}`);
          return `${drive} ${card} ${type === '2' ? 'refused' : 'stored'}`;
        });
        expect(seen, name).toEqual(expected);
        machines += seen.length > 0 ? 1 : 0;
        pairs += seen.length;
      }
      console.log(
        `spdk-nvme-rdma: ${pairs} pairs on ${machines} of ${BOOTED.length} captured machines`,
      );
      expect(machines).toBeGreaterThan(0);
    });

    test('is stored on the ASUS box for every pair, as its CPU allows it', async () => {
      const box = sharedPath('topologies/boxes/asus-esc8000a-e13p/');
      const cpu = parseCpuText(readFileSync(`${box}lscpu.log`, 'latin1'));
      const spec = await readCapture(`${box}lspci_full.log`, {
        cmdline: readFileSync(`${box}cmdline.log`, 'latin1'),
        ...(cpu === null ? {} : { cpu }),
      });
      const seen = outcomes(spec);
      expect(seen.length).toBeGreaterThan(0);
      expect(seen.filter((line) => !line.endsWith(' stored'))).toEqual([]);
    });
  },
);
