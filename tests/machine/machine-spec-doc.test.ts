/** Goal: docs/machine-spec.md says what the reader does. Method: read it, and ask the reader. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import {
  MACHINE_FIELDS,
  parseMachineSpec,
  readMachineSpec,
} from '../../src/machine/spec/read-machine-spec.ts';

const DOC = readFileSync(new URL('../../docs/machine-spec.md', import.meta.url), 'utf8');

/** The table of one object: the default of each field, null where it must be there. */
function tableOf(object: string): Map<string, string | null> {
  const section = DOC.split(`\n## \`${object}\`\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = section.matchAll(/^\| `(\w+)` +\| .+? \| (—|`[^`]+`) +\| .+ \|$/gm);
  return new Map(
    [...rows].map(([, field = '', value = '']) => [
      field,
      value === '—' ? null : value.slice(1, -1),
    ]),
  );
}

type Json = Record<string, unknown>;

/** A machine in which every object has every field, and may lose any that has a default. */
function sample(): Json {
  return {
    schema: 'peerbuf.machine/1',
    name: 'sample',
    title: 'A sample',
    cpu: { arch: 'arm64', vendor: 'ARM', family: 1, model: 2 },
    coherentDma: false,
    memory: [{ node: 3, start: 0, size: 4096 }],
    iommu: 'translated',
    hostBridges: [
      { domain: 0, bus: 0, node: 3, busOffset: 0, dmaOffset: 4096, peerForwarding: 'all' },
    ],
    functions: [
      {
        address: '0000:00:01.0',
        parent: null,
        vendor: 1,
        device: 2,
        subsystemVendor: 3,
        subsystemDevice: 4,
        classCode: 5,
        revision: 6,
        type: 'conventional',
        command: 7,
        bars: [
          {
            index: 0,
            kind: 'memory',
            address: 0x10000,
            size: 0x1000,
            prefetchable: true,
            is64: true,
          },
        ],
        bridge: {
          secondary: 1,
          subordinate: 2,
          memory: { base: 0x100000, limit: 0x1fffff },
          prefetch: { base: 0x200000, limit: 0x2fffff },
        },
        acs: { capability: 0x7f, control: 0x1d },
        link: { speed: 8, width: 4, maxSpeed: 16, maxWidth: 8 },
        node: 3,
        iommuGroup: 9,
        driver: 'driver',
        physicalFunction: null,
        config: '00'.repeat(64),
      },
    ],
    notes: ['A note.'],
  };
}

/** The path to an instance of each object in the sample. */
const PATHS: Record<string, readonly (string | number)[]> = {
  machine: [],
  cpu: ['cpu'],
  memory: ['memory', 0],
  hostBridge: ['hostBridges', 0],
  function: ['functions', 0],
  bar: ['functions', 0, 'bars', 0],
  bridge: ['functions', 0, 'bridge'],
  window: ['functions', 0, 'bridge', 'memory'],
  acs: ['functions', 0, 'acs'],
  link: ['functions', 0, 'link'],
};

function at(root: unknown, path: readonly (string | number)[]): Json {
  return path.reduce((value, step) => (value as Json)[step], root) as Json;
}

function pathText(path: readonly (string | number)[], field: string): string {
  const steps = [...path, field].map((step) =>
    typeof step === 'number' ? `[${step}]` : `.${step}`,
  );
  return steps.join('').slice(1);
}

describe('docs/machine-spec.md', () => {
  test('holds an example that is a valid machine', () => {
    const [, example = ''] = /```json\n([\s\S]+?)```/.exec(DOC) ?? [];
    const machine = parseMachineSpec(example, 'docs/machine-spec.md');
    expect(machine.functions).toHaveLength(6);
  });

  test('has a table for every object that the reader knows', () => {
    expect(Object.keys(PATHS)).toEqual([...MACHINE_FIELDS.keys()]);
  });

  test.each([...MACHINE_FIELDS])(
    'has the fields of %s in the order of the reader',
    (object, fields) => {
      expect([...tableOf(object).keys()]).toEqual([...fields]);
    },
  );

  test('is illustrated by a sample that is valid as it stands', () => {
    expect(readMachineSpec(sample(), 'sample')).toEqual(sample());
  });

  const cases = [...MACHINE_FIELDS.keys()].flatMap((object) =>
    [...tableOf(object)].map(([field, value]) => ({ object, field, value })),
  );

  test.each(cases)(
    'says of $object.$field that its default is $value',
    ({ object, field, value }) => {
      const path = PATHS[object] ?? [];
      const machine = sample();
      Reflect.deleteProperty(at(machine, path), field);
      if (value === null) {
        const place = pathText(path, field);
        const read = (): unknown => readMachineSpec(machine, 'sample');
        expect(read).toThrow(InputError);
        expect(read).toThrow(`sample: ${place}: `);
      } else {
        expect(at(readMachineSpec(machine, 'sample'), path)[field]).toEqual(JSON.parse(value));
      }
    },
  );
});
