/**
 * Goal: whatever takes a VFIO device's memory away revokes its buffers first, and what brings it
 * back restores them. Method: each cause of reference E.1, an importer that gives back at once.
 */

import { describe, expect, test } from 'vitest';
import { VfioPciDevice, vfioPciHotReset } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FakeImporter, PEER, VfioRig } from './vfio-pci-rig.ts';

const PAGE = 4096;

/** A buffer with an importer that has mapped it. */
function boot(rig = new VfioRig()) {
  const buf = rig.do(rig.open([0, 1]));
  const importer = new FakeImporter(rig, rig.at(PEER));
  rig.do(importer.import(buf));
  return { rig, buf, importer };
}

/** What takes the memory away, what brings it back. */
const CAUSES: readonly (readonly [
  string,
  (rig: VfioRig) => Task,
  ((rig: VfioRig) => Task) | null,
])[] = [
  ['a reset', (rig) => rig.vdev.reset(rig.process), null],
  ['a function-level reset by config write', (r) => r.vdev.functionLevelReset(r.process), null],
  ['memory decoding off', (rig) => rig.setMemory(false), (rig) => rig.setMemory(true)],
  [
    'the power state D3hot',
    (rig) => rig.vdev.setPowerState(rig.process, 'd3hot'),
    (rig) => rig.vdev.setPowerState(rig.process, 'd0'),
  ],
  ['low power', (rig) => rig.vdev.lowPowerEntry(), (rig) => rig.vdev.lowPowerExit()],
];

describe('Buffers of VFIO', () => {
  test.each(CAUSES)('are revoked for %s, and restored (E.1)', (_, away, back) => {
    const { rig, buf, importer } = boot();
    rig.do(away(rig));
    expect(importer.tables).toEqual([]);
    expect(rig.isRevoked(buf)).toBe(back !== null);
    if (back !== null) {
      expect(rig.do(importer.mapRefused()).code).toBe('ENODEV');
      rig.do(back(rig));
    }
    rig.do(importer.map());
    // Told when the memory went, and once more when it came back.
    expect(importer.invalidations).toBe(2);
    rig.do(importer.leave());
  });

  test('made while the device sleeps are revoked from the start (E.1)', () => {
    const { rig, importer } = boot();
    rig.do(rig.vdev.setPowerState(rig.process, 'd3hot'));
    const late = rig.do(rig.exportPages([1, 1]));
    expect(rig.isRevoked(late)).toBe(true);
    rig.do(rig.vdev.setPowerState(rig.process, 'd0'));
    expect(rig.isRevoked(late)).toBe(false);
    rig.do(importer.leave());
  });
});

describe('A device that sleeps', () => {
  test('answers nothing, and does with what was written meanwhile when it wakes', () => {
    const { rig, importer } = boot();
    rig.do(importer.leave());
    rig.do(rig.vdev.setPowerState(rig.process, 'd3hot'));
    expect(rig.owned.command.value).toBe(0);
    rig.do(rig.setMemory(true));
    expect(rig.owned.command.value).toBe(0);
    rig.do(rig.vdev.setPowerState(rig.process, 'd0'));
    expect(rig.owned.command.value).toBe(6);
  });

  test('for two reasons needs both to end', () => {
    const { rig, buf, importer } = boot();
    rig.do(rig.vdev.setPowerState(rig.process, 'd3hot'));
    rig.do(rig.vdev.lowPowerEntry());
    rig.do(rig.vdev.setPowerState(rig.process, 'd0'));
    expect(rig.isRevoked(buf)).toBe(true);
    rig.do(rig.vdev.lowPowerExit());
    expect(rig.isRevoked(buf)).toBe(false);
    rig.do(importer.leave());
  });

  test('is woken by a reset', () => {
    const { rig, buf, importer } = boot();
    rig.do(rig.vdev.setPowerState(rig.process, 'd3hot'));
    rig.do(rig.vdev.reset(rig.process));
    expect(rig.isRevoked(buf)).toBe(false);
    expect(rig.owned.command.value).toBe(2);
    rig.do(importer.leave());
  });

  test('says EINVAL to a second low-power entry, and stays revoked (E.1)', () => {
    const { rig, buf, importer } = boot();
    rig.do(rig.vdev.lowPowerEntry());
    const error = rig.do(refused(rig.vdev.lowPowerEntry()));
    expect([error.code, error.reason]).toEqual(['EINVAL', 'low-power-is-engaged-already']);
    expect(rig.isRevoked(buf)).toBe(true);
    rig.do(rig.vdev.lowPowerExit());
    expect(rig.isRevoked(buf)).toBe(false);
    rig.do(rig.vdev.lowPowerExit());
    rig.do(importer.leave());
  });

  test('wakes for nothing when it is closed', () => {
    const { rig, importer } = boot();
    rig.do(importer.leave());
    rig.do(rig.vdev.lowPowerEntry());
    rig.do(rig.vdev.close(rig.process));
    rig.do(rig.vdev.open());
    expect(rig.owned.command.value).toBe(2);
  });
});

describe('A hot reset', () => {
  test('revokes the buffers of every function on the bus, then resets them (E.1)', () => {
    const { rig, buf, importer } = boot();
    const second = new VfioPciDevice(rig.kernel, rig.at('04:00.1'));
    rig.do(second.open());
    const request = { regionIndex: 2, ranges: [{ offset: 0, length: PAGE }] };
    rig.do(second.featureDmaBuf(rig.process, request));
    rig.do(vfioPciHotReset(rig.process, rig.vdev, [second, rig.vdev]));
    expect(importer.invalidations).toBe(2);
    expect(rig.isRevoked(buf)).toBe(false);
    const events = rig.events('buffer.invalidate', 'device.reset');
    expect(events.map((event) => event.kind)).toEqual([
      ...new Array(4).fill('buffer.invalidate'),
      ...new Array(4).fill('device.reset'),
      ...new Array(4).fill('buffer.invalidate'),
    ]);
    rig.do(importer.leave());
  });

  test('is refused if it would hit somebody else: EINVAL, and nothing has changed (E.1)', () => {
    const { rig, importer } = boot();
    const error = rig.do(refused(vfioPciHotReset(rig.process, rig.vdev, [rig.vdev])));
    expect([error.code, error.reason]).toEqual(['EINVAL', 'bus-is-not-all-owned']);
    expect(importer.invalidations).toBe(0);
    rig.do(importer.leave());
  });
});
