/**
 * Goal: a map that goes wrong at any of its steps takes back what the steps before it did, and says
 * what Linux says. Method: exporters of no memory, with and without hidden pages; reference A.13,
 * A.14, A.14.1.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError } from '../../src/base/index.ts';
import type { Attachment, SgTable } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, PEER_OPS } from './kernel-rig.ts';

function boot(options: { isDynamic: boolean; isStatic: boolean; debug?: boolean }) {
  const rig = new CoreRig({}, { debugDmaBuf: options.debug ?? false });
  const exporter = new FakeExporter({ isDynamic: options.isDynamic });
  const buf = rig.do(rig.export(exporter));
  const importer = options.isStatic ? null : PEER_OPS;
  const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), importer));
  exporter.calls.length = 0;
  return { rig, exporter, buf, attachment };
}

/** Maps with the n-th step that may fail failing, and gives the error back. */
function mapWithout(n: number, rig: CoreRig, attachment: Attachment): DmaBufError {
  Object.assign(rig.scheduler, { failAt: n, fallible: 0 });
  try {
    return rig.do(refused(attachment.mapAttachmentUnlocked('to-device')));
  } finally {
    Object.assign(rig.scheduler, { failAt: 0 });
  }
}

/** The same exporter, whose next map gives what the types forbid. */
function withoutTable(exporter: FakeExporter, attachment: Attachment): void {
  function* mapDmaBuf(): Task<SgTable> {
    exporter.calls.push('map to nothing');
    return null as unknown as SgTable;
  }
  Object.assign(attachment.buf, { ops: { ...exporter.ops, mapDmaBuf } });
}

describe('A map of which the exporter makes nothing (A.2, A.14)', () => {
  test.each([
    { isDynamic: false, isStatic: true, calls: ['map to nothing'] },
    { isDynamic: true, isStatic: false, calls: ['map to nothing'] },
    { isDynamic: true, isStatic: true, calls: ['pin locked', 'map to nothing', 'unpin locked'] },
  ])('is ENOMEM: exporter-mapped-nothing: $calls', ({ calls, ...kind }) => {
    const { rig, exporter, attachment } = boot(kind);
    withoutTable(exporter, attachment);
    const error = rig.do(refused(attachment.mapAttachmentUnlocked('to-device')));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'exporter-mapped-nothing' });
    expect(exporter.calls).toEqual(calls);
    expect(exporter.pins).toBe(0);
    expect(rig.events('attachment.refuse')).toMatchObject([{ call: 'mapAttachment' }]);
    expect(rig.events('attachment.map')).toEqual([]);
  });
});

describe('A map in a kernel that hides pages (A.14.1)', () => {
  const UNDO = ['map to-device locked', 'unmap to-device locked'];

  test.each([
    { isDynamic: false, isStatic: true, calls: UNDO },
    { isDynamic: true, isStatic: false, calls: UNDO },
    { isDynamic: true, isStatic: true, calls: ['pin locked', ...UNDO, 'unpin locked'] },
  ])('is ENOMEM without memory for the copy, and unmaps: $calls', ({ calls, ...kind }) => {
    const { rig, exporter, attachment } = boot({ ...kind, debug: true });
    const error = mapWithout(1, rig, attachment);
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-to-copy-the-table' });
    expect(exporter.calls).toEqual(calls);
    expect([exporter.pins, exporter.tables]).toEqual([0, []]);
    expect(attachment.buf.resv.lockCell.value.owner).toBeNull();
  });

  test('copies after the wait: a static importer whose wait is ended copies nothing', () => {
    const { rig, exporter, buf, attachment } = boot({
      isDynamic: true,
      isStatic: true,
      debug: true,
    });
    rig.do(rig.publish(buf, 'kernel'));
    const codes: string[] = [];
    function* program(): Task {
      codes.push((yield* refused(attachment.mapAttachmentUnlocked('to-device'))).code);
    }
    function* killer(): Task {
      yield* rig.scheduler.sleep(5);
      yield* rig.kernel.signals.kill(thread);
    }
    Object.assign(rig.scheduler, { fallible: 0 });
    const thread = rig.user(program());
    rig.kthread(killer(), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(codes).toEqual(['ERESTARTSYS']);
    expect(rig.scheduler.fallible).toBe(0);
    expect(exporter.calls).toEqual(['pin locked', ...UNDO, 'unpin locked']);
  });
});

describe('A map that fails twice over', () => {
  test('says what the exporter said, unpins once, and can be tried again (A.14)', () => {
    const { rig, exporter, attachment } = boot({ isDynamic: true, isStatic: true });
    const mapError = new DmaBufError('ENODEV', 'map', 'test-gone-for-a-moment');
    Object.assign(exporter.options, { mapError });
    for (let i = 0; i < 2; i += 1) {
      expect(rig.do(refused(attachment.mapAttachmentUnlocked('to-device'))).code).toBe('ENODEV');
    }
    Object.assign(exporter.options, { mapError: undefined });
    const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
    expect(exporter.pins).toBe(1);
    rig.do(attachment.unmapAttachmentUnlocked(table, 'to-device'));
    expect([exporter.pins, exporter.tables]).toEqual([0, []]);
  });

  test('a refused pin of the core is no pin: nothing is mapped, nothing unpinned (A.14)', () => {
    const { rig, exporter, attachment } = boot({ isDynamic: true, isStatic: true });
    const pinError = new DmaBufError('ENOSPC', 'pin', 'test-no-place-to-stay');
    Object.assign(exporter.options, { pinError });
    expect(rig.do(refused(attachment.mapAttachmentUnlocked('to-device'))).code).toBe('ENOSPC');
    expect(exporter.calls).toEqual(['pin locked']);
    // Only EBUSY is worth a warning: it says that the exporter breaks the rules.
    expect(rig.warnings).toEqual([]);
  });
});
