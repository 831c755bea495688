/** What docs/probe-abi.md says of numbers and structs is what the code has. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  PROBE_IOCTL,
  PROBE_VERSION,
  probeAttach,
  probeCopy,
  probeCpu,
  probeEntry,
  probeEvent,
  probeEvents,
  probeExport,
  probeExportInfo,
  probeFence,
  probeFenceAdd,
  probeFences,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeVersion,
  probeVmap,
} from '../../src/base/index.ts';

const DOC = readFileSync('docs/probe-abi.md', 'utf8');

/** `struct probe_…` by name, as the documentation has it. */
const STRUCTS = {
  probe_version: probeVersion,
  probe_import: probeImport,
  probe_attach: probeAttach,
  probe_map: probeMap,
  probe_entry: probeEntry,
  probe_id: probeId,
  probe_cpu: probeCpu,
  probe_vmap: probeVmap,
  probe_copy: probeCopy,
  probe_events: probeEvents,
  probe_event: probeEvent,
  probe_export: probeExport,
  probe_export_info: probeExportInfo,
  probe_fence_add: probeFenceAdd,
  probe_fence_signal: probeFenceSignal,
  probe_fences: probeFences,
  probe_fence: probeFence,
};

/** `openFlags` as C has it. */
function inC(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What the text says of one struct: the offsets and names of its fields, in order. */
function fieldsInDoc(name: string, size: number): readonly (readonly [number, string])[] {
  const flat = DOC.replaceAll(/\s+/g, ' ');
  const from = flat.indexOf(`\`${name}\` ${size}:`);
  expect([name, from >= 0]).toEqual([name, true]);
  const rest = flat.slice(from + name.length + 4);
  const end = rest.search(/`probe_|##/);
  const text = end < 0 ? rest : rest.slice(0, end);
  return [...text.matchAll(/\b(\d+) (?:u32|u64|s32|char) (\w+)/g)].map(
    ([, offset, field]) => [Number(offset), field ?? ''] as const,
  );
}

describe('The documentation of the probe', () => {
  test.each(Object.entries(PROBE_IOCTL))('has the number of %s', (name, number) => {
    const row = DOC.split('\n').find((line) => line.includes(`| ${name} |`));
    expect(row).toContain(`\`0x${number.toString(16)}\``);
  });

  test.each(Object.entries(STRUCTS))('has every field of %s in its place', (name, layout) => {
    const fields = Object.entries(layout.offsets).map(([field, at]) => [at, inC(field)]);
    expect(fieldsInDoc(name, layout.size)).toEqual(fields);
    expect(layout.size % 8).toBe(0);
  });

  test('is of this version', () => {
    expect(DOC).toContain(`Version ${PROBE_VERSION}.`);
  });
});
