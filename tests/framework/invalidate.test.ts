/**
 * Goal: when the exporter says so, every importer that can follow hears that its mappings are
 * stale: newest first, under the lock, once. Method: three importers; reference A.17.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import type { Attachment, AttachOps, SgTable } from '../../src/framework/index.ts';
import { DmaFence } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { FakeExporter, KernelRig, locked } from './kernel-rig.ts';

/** An importer that writes down what it hears. */
function fakeImporter(heard: string[], body?: (attachment: Attachment) => Task): AttachOps {
  return {
    allowPeer2Peer: true,
    *invalidateMappings(attachment): Task {
      const { owner } = attachment.buf.resv.lockCell.value;
      heard.push(`${attachment.device.name} by ${owner?.name ?? 'nobody'}`);
      if (body !== undefined) yield* body(attachment);
    },
  };
}

describe('Invalidating (A.17)', () => {
  test('tells the newest attachment first, skips who cannot follow, all under the lock', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const heard: string[] = [];
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), fakeImporter(heard)));
    rig.do(buf.attach(rig.at('04:00.0')));
    rig.do(buf.dynamicAttach(rig.at('07:00.0'), { allowPeer2Peer: true }));
    rig.do(buf.dynamicAttach(rig.at('08:00.0'), fakeImporter(heard)));
    rig.kthread(locked(buf.resv, buf.invalidateMappings()), 'mover');
    expect(rig.run().findings).toEqual([]);
    expect(heard).toEqual(['0000:08:00.0 by mover', '0000:03:00.0 by mover']);
    const events = rig.events('buffer.invalidate', 'attachment.invalidate');
    expect(events).toMatchObject([
      { kind: 'buffer.invalidate', buffer: 1, phase: 'begin' },
      { kind: 'attachment.invalidate', attachment: 4, phase: 'begin' },
      { kind: 'attachment.invalidate', attachment: 4, phase: 'end' },
      { kind: 'attachment.invalidate', attachment: 1, phase: 'begin' },
      { kind: 'attachment.invalidate', attachment: 1, phase: 'end' },
      { kind: 'buffer.invalidate', buffer: 1, phase: 'end' },
    ]);
  });

  test('lets an importer unmap and unpin right there', () => {
    const rig = new KernelRig();
    const exporter = new FakeExporter({ isDynamic: true });
    const buf = rig.do(rig.export(exporter));
    let table: SgTable | null = null;
    function* giveBack(attachment: Attachment): Task {
      if (table !== null) yield* attachment.unmapAttachment(table, 'to-device');
      yield* attachment.unpin();
    }
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), fakeImporter([], giveBack)));
    rig.do(locked(buf.resv, attachment.pin()));
    table = rig.do(locked(buf.resv, attachment.mapAttachment('to-device')));
    rig.do(locked(buf.resv, buf.invalidateMappings()));
    expect([exporter.pins, exporter.tables, rig.warnings]).toEqual([0, [], []]);
  });

  test('reaches nobody who has left', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const heard: string[] = [];
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), fakeImporter(heard)));
    rig.do(buf.detach(attachment));
    rig.do(locked(buf.resv, buf.invalidateMappings()));
    expect(heard).toEqual([]);
  });

  test('and attaching exclude each other: an importer is told, or comes after', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 100; seed += 1) {
      const rig = new KernelRig();
      const buf = rig.do(rig.export());
      const heard: string[] = [];
      function* importer(): Task {
        yield* buf.dynamicAttach(rig.at('03:00.0'), fakeImporter(heard));
      }
      rig.kthread(importer(), 'importer');
      rig.kthread(locked(buf.resv, buf.invalidateMappings()), 'mover');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      seen.add(heard.join());
    }
    expect([...seen].sort()).toEqual(['', '0000:03:00.0 by mover']);
  });
});

describe('A move', () => {
  test('waits for the work of importers up to bookkeep before it takes the memory (RV-001)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const order: string[] = [];
    const origin = { driver: 'card', timeline: 'jobs', context: 1, seqno: 1 };
    const fence = new DmaFence(rig.kernel, origin);
    function* coverWork({ buf: { resv } }: Attachment): Task {
      yield* resv.reserveFences(1);
      yield* resv.addFence(fence, 'bookkeep');
    }
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), fakeImporter(order, coverWork)));
    function* move(): Task {
      yield* buf.invalidateMappings();
      yield* buf.resv.wait('bookkeep');
      order.push('memory is free');
    }
    function* finish(): Task {
      yield* rig.scheduler.sleep(50);
      order.push('work is done');
      yield* fence.signal();
    }
    rig.kthread(locked(buf.resv, move()), 'mover');
    rig.kthread(finish(), 'card');
    expect(rig.run().findings).toEqual([]);
    expect(order).toEqual(['0000:03:00.0 by mover', 'work is done', 'memory is free']);
  });
});
