/**
 * Goal: whenever the device's memory goes away every importer is told first, waited for, and finds
 * nothing more; and it comes back. Method: importers that give memory back at once, late and never;
 * many schedules; the bytes that arrive in the BAR. Reference A.17, E.1.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import type { DmaBuf } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { FakeImporter, OTHER_PEER, PEER, VfioRig } from './vfio-pci-rig.ts';

function boot(habit: 'at-once' | 'late' | 'never') {
  const rig = new VfioRig();
  const buf = rig.do(rig.open([0, 1]));
  const importer = new FakeImporter(rig, rig.at(PEER), habit);
  rig.do(importer.import(buf));
  return { rig, buf, importer };
}

/** The ways to take the memory away. */
const WAYS = [
  ['a reset', (rig: VfioRig) => rig.vdev.reset(rig.process), 2],
  ['switching memory decoding off', (rig: VfioRig) => rig.setMemory(false), 1],
  ['a close', (rig: VfioRig) => rig.vdev.close(rig.process), 1],
] as const;

describe('Taking the memory away', () => {
  test.each(WAYS)(
    'by %s tells the importer and waits for its unmap (S003-1, S003-16)',
    (_, away, told) => {
      const { rig, buf, importer } = boot('at-once');
      rig.do(away(rig));
      expect(importer.invalidations).toBe(told);
      expect(importer.tables).toEqual([]);
      expect(rig.warnings).toEqual([]);
      expect(buf.attachments.value).toHaveLength(1);
    },
  );

  test.each(WAYS)(
    'by %s waits for work under way, and then for a late unmap (RV-003)',
    (_, away) => {
      const { rig, importer } = boot('late');
      const order: string[] = [];
      function* takeAway(): Task {
        yield* away(rig);
        order.push('gone');
      }
      rig.user(takeAway(), 'owner');
      rig.kthread(importer.finishLate(100, 100, order), 'card');
      expect(rig.run().status).toBe('done');
      expect(order).toEqual(['work is done', 'unmaps', 'gone']);
      const [wait] = rig.events('fence.wait');
      expect(wait).toMatchObject({ phase: 'begin', task: 'owner' });
    },
  );

  test.each(WAYS)('by %s never ends if one never unmaps, and the report says where', (_, away) => {
    const { rig } = boot('never');
    rig.user(away(rig), 'owner');
    const outcome = rig.run();
    expect(outcome.status).toBe('deadlock');
    expect(outcome.findings).toMatchObject([
      {
        kind: 'deadlock',
        title:
          'owner waits for ever to wait_for_completion vfio_pci_dma_buf.comp ' +
          `(because of: 0000:${PEER}) holding vfio_pci.memory_lock`,
      },
    ]);
  });

  test('that never ends names the importer that does not unmap (AC-13)', () => {
    const { rig } = boot('never');
    rig.user(rig.vdev.reset(rig.process), 'owner');
    expect(rig.run().findings[0]?.title).toContain(PEER);
  });

  test('waits for every mapping of every importer', () => {
    const { rig, buf, importer } = boot('never');
    const other = new FakeImporter(rig, rig.at(OTHER_PEER), 'never');
    rig.do(other.import(buf));
    rig.do(importer.map());
    const order: string[] = [];
    function* reset(): Task {
      yield* rig.vdev.reset(rig.process);
      order.push('reset');
    }
    function* unmapBoth(): Task {
      for (const one of [other, importer]) {
        yield* rig.scheduler.sleep(100);
        order.push(`${one.tables.length} of ${one.device.name}`);
        yield* one.unmap();
      }
    }
    rig.user(reset(), 'owner');
    rig.kthread(unmapBoth(), 'cards');
    expect(rig.run().status).toBe('done');
    expect(order).toEqual(['1 of 0000:07:00.0', '2 of 0000:03:00.0', 'reset']);
  });

  test('goes through every buffer of the device, and no other (S003-11)', () => {
    const { rig, buf, importer } = boot('at-once');
    const second = rig.do(rig.exportPages([1, 1]));
    const other = new FakeImporter(rig, rig.at(OTHER_PEER));
    rig.do(other.import(second));
    const stranger = rig.do(rig.export());
    rig.do(rig.setMemory(false));
    expect([importer.invalidations, other.invalidations]).toEqual([1, 1]);
    expect([rig.isRevoked(buf), rig.isRevoked(second)]).toEqual([true, true]);
    const told = rig.events('buffer.invalidate').map((event) => 'buffer' in event && event.buffer);
    expect(told).not.toContain(stranger.number);
  });

  test('is done once: a second time nobody is told', () => {
    const { rig, importer } = boot('at-once');
    rig.do(rig.setMemory(false));
    rig.do(rig.setMemory(false));
    expect(importer.invalidations).toBe(1);
    rig.do(rig.vdev.reset(rig.process));
    expect(importer.invalidations).toBe(1);
  });

  test('is not done by a write that leaves memory decoding on', () => {
    const { rig, buf, importer } = boot('at-once');
    rig.do(rig.vdev.writeCommand(rig.process, 2));
    rig.do(rig.vdev.writeCommand(rig.process, 6));
    expect(importer.invalidations).toBe(0);
    expect(rig.isRevoked(buf)).toBe(false);
    expect(importer.tables).toHaveLength(1);
  });
});

describe('A mapping', () => {
  test('is ENODEV while the memory is off, and works once it is on (N32, RV-005)', () => {
    const { rig, importer } = boot('at-once');
    rig.do(rig.setMemory(false));
    const error = rig.do(importer.mapRefused());
    expect(error).toMatchObject({ code: 'ENODEV', reason: 'map-of-revoked-memory' });
    expect(error.detail).toMatchObject({ refusedBy: 'exporter', client: '0000:03:00.0' });
    rig.do(rig.setMemory(true));
    rig.do(importer.map());
    expect(importer.tables).toHaveLength(1);
  });

  test('comes back after a reset; importers learn of it when they map again (AC-15)', () => {
    const { rig, buf, importer } = boot('at-once');
    const late = new FakeImporter(rig, rig.at(OTHER_PEER), 'late');
    rig.do(late.import(buf));
    rig.user(rig.vdev.reset(rig.process), 'owner');
    rig.kthread(late.finishLate(10, 10), 'late card');
    rig.run();
    for (const one of [importer, late]) {
      expect(one.tables).toEqual([]);
      rig.do(one.map());
      const address = one.tables[0]?.entries[0]?.address ?? 0;
      rig.write(one.device, address, [1]);
    }
    expect(rig.arrived).toHaveLength(2);
    expect(rig.machine.faults).toEqual([]);
    // And all of it once more: the count of mappings starts anew.
    rig.user(rig.vdev.reset(rig.process), 'owner 2');
    rig.kthread(late.finishLate(10, 10), 'late card 2');
    expect(rig.run().status).toBe('done');
    expect([importer.tables, late.tables]).toEqual([[], []]);
  });

  test('does not come back if memory decoding was off before the reset', () => {
    const { rig, buf } = boot('at-once');
    rig.do(rig.setMemory(false));
    rig.do(rig.vdev.reset(rig.process));
    expect(rig.isRevoked(buf)).toBe(true);
  });
});

/** Writes and reads through a mapping until told, and a little longer. */
function* useUntilStale(rig: VfioRig, importer: FakeImporter, more: number): Task {
  const { dma } = rig.machine;
  const address = importer.tables[0]?.entries[0]?.address;
  if (address === undefined) return;
  for (let left = more; left > 0;) {
    if (yield* importer.stale.read()) left -= 1;
    yield* dma.write(importer.device, address, Uint8Array.of(1));
  }
  if (importer.fence !== null) yield* importer.fence.signal();
  // Until it unmaps the device may still read, and throw away what it reads.
  for (let i = 0; i < more; i += 1) yield* dma.read(importer.device, address, 1);
  yield* importer.unmap();
}

describe('After the fences nobody writes, after the unmaps nobody reads', () => {
  /** Faults, that is accesses to a device in reset, in many schedules of a reset under traffic. */
  function faultsIn(habit: 'late' | 'at-once', seeds: number): number {
    let faults = 0;
    for (let seed = 0; seed < seeds; seed += 1) {
      const { rig, importer } = boot(habit);
      rig.user(rig.vdev.reset(rig.process), 'owner');
      rig.kthread(useUntilStale(rig, importer, 3), 'card');
      expect(rig.run(new RandomStrategy(seed)).status).toBe('done');
      faults += rig.machine.faults.length;
      const transfers = rig.events('device.reset', 'dma.write', 'dma.read');
      const [begin, end] = [0, 1].map((nth) =>
        transfers.findIndex(
          (event) => event.kind === 'device.reset' && event.phase === (nth === 0 ? 'begin' : 'end'),
        ),
      );
      if (habit === 'late') expect(end).toBe((begin ?? 0) + 1);
    }
    return faults;
  }

  test('in 300 schedules, for an importer that covers its work by a fence (AC-14)', () => {
    expect(faultsIn('late', 300)).toBe(0);
  });

  test('and not so for one that unmaps while its device still works (RV-004, MP-004)', () => {
    expect(faultsIn('at-once', 300)).toBeGreaterThan(0);
  });
});

describe('An importer that comes while the memory goes', () => {
  test('is told, or refused at attach, or at map: never left with a mapping (RV-005)', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 500; seed += 1) {
      const rig = new VfioRig();
      const buf = rig.do(rig.open([0, 1]));
      const importer = new FakeImporter(rig, rig.at(PEER));
      const answers: string[] = [];
      rig.kthread(tryImport(importer, buf, answers), 'importer');
      rig.user(rig.setMemory(false), 'owner');
      expect(rig.run(new RandomStrategy(seed)).status).toBe('done');
      expect(importer.tables).toEqual([]);
      seen.add([...answers, `told ${importer.invalidations}`].join());
    }
    expect([...seen].sort()).toEqual([
      'attach ENODEV,told 0',
      'attached,map ENODEV,told 0',
      'attached,map ENODEV,told 1',
      'attached,mapped,told 1',
    ]);
  });
});

function* tryImport(importer: FakeImporter, buf: DmaBuf, answers: string[]): Task {
  try {
    yield* importer.attach(buf);
  } catch (error) {
    answers.push(`attach ${(error as { readonly code: string }).code}`);
    return;
  }
  answers.push('attached');
  try {
    yield* importer.map();
    answers.push('mapped');
  } catch (error) {
    answers.push(`map ${(error as { readonly code: string }).code}`);
  }
}

describe('A closed device', () => {
  test('leaves descriptors that are valid and dead: attach and map are ENODEV', () => {
    const { rig, buf, importer } = boot('at-once');
    rig.do(rig.vdev.close(rig.process));
    expect(rig.vdev.dmabufs.value).toEqual([]);
    expect(rig.do(importer.mapRefused()).code).toBe('ENODEV');
    const other = new FakeImporter(rig, rig.at(OTHER_PEER));
    const answers: string[] = [];
    rig.do(tryImport(other, buf, answers));
    expect(answers).toEqual(['attach ENODEV']);
    expect(rig.owned.command.value).toBe(0);
  });

  test('does not revive them when it is opened again', () => {
    const { rig, buf, importer } = boot('at-once');
    rig.do(rig.vdev.close(rig.process));
    rig.do(rig.vdev.open());
    rig.do(rig.setMemory(true));
    expect(rig.isRevoked(buf)).toBe(true);
    expect(rig.do(importer.mapRefused()).code).toBe('ENODEV');
  });

  test.each(['before', 'after'] as const)('frees a buffer that is closed %s it', (when) => {
    const { rig, importer } = boot('at-once');
    if (when === 'after') rig.do(rig.vdev.close(rig.process));
    rig.do(importer.leave());
    rig.user(rig.process.close(3));
    rig.run();
    if (when === 'before') rig.user(rig.vdev.close(rig.process), 'owner');
    expect(rig.run().findings).toEqual([]);
    expect(rig.kernel.bufferList.value).toBe(0);
    expect(rig.vdev.dmabufs.value).toEqual([]);
  });

  test('and a last descriptor closed at the same time free it once, in 300 schedules', () => {
    for (let seed = 0; seed < 300; seed += 1) {
      const { rig, importer } = boot('at-once');
      rig.do(importer.leave());
      rig.user(rig.vdev.close(rig.process), 'owner');
      rig.user(rig.process.close(3), 'closer');
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
      expect(rig.vdev.dmabufs.value).toEqual([]);
    }
  });
});
