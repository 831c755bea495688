/**
 * Goal: the rule gives Linux 7.2's own answer, distance and map type, for every ordered pair of
 * functions. Method: twenty fabrics that Linux 7.2.12 was booted on, read from their sysfs copies
 * and again from their lspci listings; the kernel printed its verdicts.
 */

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { type P2pFacts, p2pDistance, p2pRoute } from '../../src/framework/index.ts';
import { type MachineSpec, PciTree } from '../../src/machine/index.ts';
import { BOOTED, printSkips, readBooted, sharedPath } from '../linux/shared-captures.ts';

/** `enum pci_p2pdma_map_type` of 7.2; -1: the provider has no memory BAR. */
const MAP_TYPES = { 'not-supported': 2, 'bus-address': 3, 'through-host-bridge': 4, unknown: 0 };

/** What the kernel said, one line a pair: provider, client, distance, map type. */
function kernelVerdicts(name: string): readonly string[] {
  const text = readFileSync(sharedPath(`vm-topologies/${name}/verdict.txt`), 'latin1');
  return text.trim().split('\n');
}

/** What we say of the same pair, in the same form. */
function ourVerdict(line: string, tree: PciTree, spec: MachineSpec): string {
  const [provider = '', client = ''] = line.split(' ');
  const owner = tree.at(provider);
  const facts: P2pFacts = {
    cpu: spec.cpu,
    acsControl: ({ spec: { acs } }) => (acs === null || acs === 'unknown' ? acs : acs.control),
  };
  const route = p2pRoute(owner, tree.at(client), facts);
  const type = owner.memoryBars.length === 0 ? -1 : MAP_TYPES[route.mapType];
  return `${provider} ${client} ${p2pDistance(route)} ${type}`;
}

const FILES = ['sysfs.tar.gz', 'lspci.txt.gz'];

let pairs = 0;

describe.skipIf(BOOTED.length === 0)('p2pRoute against Linux 7.2 (AC-11, N39, N40)', () => {
  for (const name of BOOTED) {
    test.each(FILES)(`machine ${name} from %s: every pair`, async (file) => {
      const spec = await readBooted(name, file);
      const tree = new PciTree(spec);
      const kernel = kernelVerdicts(name);
      expect(kernel.map((line) => ourVerdict(line, tree, spec))).toEqual(kernel);
      if (file === 'sysfs.tar.gz') pairs += kernel.length;
    });
  }

  afterAll(() => {
    console.log(`${pairs} ordered pairs on ${BOOTED.length} machines equal Linux 7.2`);
  });
});

test('the twenty machines hold 2,552 ordered pairs', () => {
  printSkips();
  const count = BOOTED.reduce((sum, name) => sum + kernelVerdicts(name).length, 0);
  expect([0, 2552]).toContain(count);
});
