/**
 * Goal: mapping does for static and dynamic importers of static and dynamic exporters what Linux's
 * matrix says, and takes everything back when it fails. Method: the four combinations; reference
 * A.14.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError } from '../../src/base/index.ts';
import { DmaFence, type SgTable } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

/** Who imports from whom, and what the exporter is asked for each map and unmap. */
const MATRIX = [
  ['static', 'static', ['map to-device locked'], ['unmap to-device locked']],
  ['dynamic', 'static', ['map to-device locked'], ['unmap to-device locked']],
  [
    'static',
    'dynamic',
    ['pin locked', 'map to-device locked'],
    ['unmap to-device locked', 'unpin locked'],
  ],
  ['dynamic', 'dynamic', ['map to-device locked'], ['unmap to-device locked']],
] as const;

type Kind = 'static' | 'dynamic';

function boot(importer: Kind, exporter: FakeExporter) {
  const rig = new KernelRig();
  const buf = rig.do(rig.export(exporter));
  const ops = importer === 'dynamic' ? PEER_OPS : null;
  const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
  exporter.calls.splice(0);
  return { rig, buf, attachment, exporter };
}

function bootPair(importer: Kind, exporter: Kind) {
  return boot(importer, new FakeExporter({ isDynamic: exporter === 'dynamic' }));
}

describe('Mapping (A.14)', () => {
  test.each(MATRIX)('for a %s importer of a %s exporter', (importer, kind, mapped, unmapped) => {
    const { rig, buf, attachment, exporter } = bootPair(importer, kind);
    const table = rig.do(locked(buf.resv, attachment.mapAttachment('to-device')));
    expect(exporter.calls).toEqual(mapped);
    expect(exporter.pins).toBe(mapped.length - 1);
    exporter.calls.splice(0);
    rig.do(locked(buf.resv, attachment.unmapAttachment(table, 'to-device')));
    expect(exporter.calls).toEqual(unmapped);
    expect([exporter.pins, exporter.tables]).toEqual([0, []]);
    expect(rig.warnings).toEqual([]);
    expect(rig.events('attachment.map', 'attachment.unmap')).toMatchObject([
      { kind: 'attachment.map', attachment: 1, buffer: 1, direction: 'to-device' },
      { kind: 'attachment.unmap', attachment: 1, buffer: 1, device: '0000:03:00.0' },
    ]);
  });

  test('twice gives two tables and, of a static importer, two pins (N36)', () => {
    const { rig, buf, attachment, exporter } = bootPair('static', 'dynamic');
    const [one, other] = [0, 1].map(() =>
      rig.do(locked(buf.resv, attachment.mapAttachment('bidirectional'))),
    );
    expect(one).not.toBe(other);
    expect(exporter.pins).toBe(2);
    rig.do(locked(buf.resv, attachment.unmapAttachment(one as SgTable, 'bidirectional')));
    expect([exporter.pins, exporter.tables]).toEqual([1, [other]]);
  });

  test('shows the importer addresses and lengths, nothing else (S000-7, S002-3, S003-7)', () => {
    const { rig, buf, attachment } = bootPair('dynamic', 'static');
    const table = rig.do(locked(buf.resv, attachment.mapAttachment('from-device')));
    expect(Object.keys(table)).toEqual(['entries']);
    expect(table.entries.map((entry) => Object.keys(entry))).toEqual([['address', 'length']]);
    expect(rig.events('attachment.map')).toMatchObject([{ entries: table.entries }]);
  });
});

describe('A mapping that fails (A.14)', () => {
  const mapError = new DmaBufError('ENOMEM', 'map', 'test-no-room-to-map');

  test.each(MATRIX)(
    'for a %s importer of a %s exporter leaves no pin',
    (importer, kind, mapped) => {
      const options = { isDynamic: kind === 'dynamic', mapError };
      const { rig, buf, attachment, exporter } = boot(importer, new FakeExporter(options));
      const map = locked(buf.resv, attachment.mapAttachment('to-device'));
      expect(rig.do(refused(map))).toBe(mapError);
      const undone = mapped.length > 1 ? ['unpin locked'] : [];
      expect(exporter.calls).toEqual([...mapped, ...undone]);
      expect(exporter.pins).toBe(0);
      expect(rig.events('attachment.map', 'attachment.refuse')).toMatchObject([
        {
          kind: 'attachment.refuse',
          call: 'mapAttachment',
          code: 'ENOMEM',
          device: '0000:03:00.0',
        },
      ]);
      expect(buf.attachments.value).toEqual([attachment]);
    },
  );

  test('because the memory cannot be pinned does not map', () => {
    const pinError = new DmaBufError('ENOMEM', 'pin', 'test-no-room-to-pin');
    const exporter = new FakeExporter({ isDynamic: true, pinError });
    const { rig, buf, attachment } = boot('static', exporter);
    const map = locked(buf.resv, attachment.mapAttachment('to-device'));
    expect(rig.do(refused(map))).toBe(pinError);
    expect(exporter.calls).toEqual(['pin locked']);
    expect(rig.events('attachment.refuse')).toMatchObject([{ call: 'mapAttachment' }]);
  });

  test('because the pin says EBUSY is a kernel warning', () => {
    const pinError = new DmaBufError('EBUSY', 'pin', 'test-busy-elsewhere');
    const exporter = new FakeExporter({ isDynamic: true, pinError });
    const { rig, buf, attachment } = boot('static', exporter);
    rig.do(refused(locked(buf.resv, attachment.mapAttachment('to-device'))));
    expect(rig.warnings).toHaveLength(1);
  });
});

describe('A fence of a move under way', () => {
  /** Maps while a fence of some usage is pending, and notes what comes first. */
  function mapWhilePending(importer: Kind, usage: 'kernel' | 'write') {
    const { rig, buf, attachment } = bootPair(importer, 'static');
    const origin = { driver: 'mover', timeline: 'copy', context: 1, seqno: 1 };
    const fence = new DmaFence(rig.kernel, origin);
    function* publish(): Task {
      yield* buf.resv.reserveFences(1);
      yield* buf.resv.addFence(fence, usage);
    }
    rig.do(locked(buf.resv, publish()));
    const order: string[] = [];
    function* map(): Task {
      yield* locked(buf.resv, attachment.mapAttachment('to-device'));
      order.push('mapped');
    }
    function* move(): Task {
      yield* rig.scheduler.sleep(100);
      order.push('moved');
      yield* fence.signal();
    }
    rig.kthread(map(), 'importer');
    rig.kthread(move(), 'mover');
    expect(rig.run().findings).toEqual([]);
    return order;
  }

  test('is waited for when a static importer maps', () => {
    expect(mapWhilePending('static', 'kernel')).toEqual(['moved', 'mapped']);
  });

  test('is left to a dynamic importer to wait for (N37)', () => {
    expect(mapWhilePending('dynamic', 'kernel')).toEqual(['mapped', 'moved']);
  });

  test('is what a static importer waits for; work of others is not', () => {
    expect(mapWhilePending('static', 'write')).toEqual(['mapped', 'moved']);
  });

  test('does not fail the map with its error', () => {
    const { rig, buf, attachment } = bootPair('static', 'static');
    const origin = { driver: 'mover', timeline: 'copy', context: 1, seqno: 1 };
    const fence = new DmaFence(rig.kernel, origin);
    function* program(): Task<SgTable> {
      yield* buf.resv.reserveFences(1);
      yield* buf.resv.addFence(fence, 'kernel');
      yield* fence.signal(-5);
      return yield* attachment.mapAttachment('to-device');
    }
    expect(rig.do(locked(buf.resv, program())).entries).toHaveLength(1);
  });
});

describe('A static importer that gets a signal while it maps', () => {
  test.each(['static', 'dynamic'] as const)(
    'of a %s exporter gets ERESTARTSYS, and all is taken back (N38)',
    (kind) => {
      const { rig, buf, attachment, exporter } = bootPair('static', kind);
      const origin = { driver: 'mover', timeline: 'copy', context: 1, seqno: 1 };
      const fence = new DmaFence(rig.kernel, origin);
      const codes: string[] = [];
      function* publish(): Task {
        yield* buf.resv.reserveFences(1);
        yield* buf.resv.addFence(fence, 'kernel');
      }
      rig.do(locked(buf.resv, publish()));
      function* map(): Task {
        codes.push((yield* refused(attachment.mapAttachmentUnlocked('to-device'))).code);
      }
      const thread = rig.user(map());
      function* kill(): Task {
        yield* rig.scheduler.sleep(5);
        yield* rig.kernel.signals.kill(thread);
      }
      rig.kthread(kill(), 'killer');
      expect(rig.run().findings).toEqual([]);
      expect(codes).toEqual(['ERESTARTSYS']);
      expect([exporter.pins, exporter.tables]).toEqual([0, []]);
      const undone = ['unmap to-device locked', ...(kind === 'static' ? [] : ['unpin locked'])];
      expect(exporter.calls.slice(-undone.length)).toEqual(undone);
      expect(rig.events('attachment.map', 'attachment.refuse')).toMatchObject([
        { kind: 'attachment.refuse', call: 'mapAttachment', code: 'ERESTARTSYS' },
      ]);
      expect(buf.resv.lockCell.value.owner).toBeNull();
    },
  );
});

describe('Mapping without the reservation (A.14)', () => {
  test('takes it, and gives it back also if the map fails', () => {
    const mapError = new DmaBufError('ENOMEM', 'map', 'test-no-room-to-map');
    const { rig, buf, attachment, exporter } = bootPair('static', 'dynamic');
    const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
    rig.do(attachment.unmapAttachmentUnlocked(table, 'to-device'));
    expect(exporter.calls.every((call) => call.endsWith('locked'))).toBe(true);
    expect(rig.warnings).toEqual([]);
    const failing = boot('static', new FakeExporter({ mapError }));
    failing.rig.do(refused(failing.attachment.mapAttachmentUnlocked('to-device')));
    expect([buf, failing.buf].map(({ resv }) => resv.lockCell.value.owner)).toEqual([null, null]);
  });
});
