/**
 * Goal: a device is let in once the core and the exporter agree, and whoever is refused leaves
 * nothing behind. Method: an exporter that writes down what it is asked; reference A.12, A.13.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError } from '../../src/base/index.ts';
import type { Attachment, AttachOps, DmaBuf } from '../../src/framework/index.ts';
import { PlatformDevice, type Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

const NO_PEER_OPS: AttachOps = { allowPeer2Peer: false };

type Buffer = DmaBuf<FakeExporter>;

/** Every way to attach. */
const ENTRY_POINTS: readonly (readonly [
  string,
  (buf: Buffer, device: PlatformDevice | null) => Task<Attachment>,
])[] = [
  ['attach', (buf, device) => buf.attach(device)],
  ['dynamicAttach with operations', (buf, device) => buf.dynamicAttach(device, PEER_OPS)],
  ['dynamicAttach without', (buf, device) => buf.dynamicAttach(device, null)],
];

function boot(exporter = new FakeExporter()) {
  const rig = new KernelRig();
  return { rig, buf: rig.do(rig.export(exporter)), exporter };
}

describe('A device that does no DMA', () => {
  test.each(ENTRY_POINTS)('is refused by %s (N35, S000-2, S000-3)', (_, attach) => {
    const { rig, buf, exporter } = boot();
    const error = rig.do(refused(attach(buf, null)));
    expect(error).toMatchObject({
      code: 'EINVAL',
      call: 'dynamicAttach',
      reason: 'no-dma-device',
      detail: { refusedBy: 'core', class: 'importer-bug' },
    });
    expect(rig.warnings).toEqual(['dma_buf_dynamic_attach: no device']);
    expect(buf.attachments.value).toEqual([]);
    expect(buf.file.refs.value).toBe(1);
    expect(exporter.calls).toEqual([]);
    expect(rig.events('attachment.refuse', 'attachment.attach')).toMatchObject([
      { kind: 'attachment.refuse', buffer: 1, device: '', code: 'EINVAL', reason: 'no-dma-device' },
    ]);
  });
});

describe('Attaching (A.12)', () => {
  test('asks the exporter without the lock and before the device is on the list', () => {
    const seen: number[] = [];
    const { rig, buf, exporter } = boot(
      new FakeExporter({
        *onAttach(on, attachment): Task {
          seen.push(on.attachments.value.length);
          attachment.priv = 'mine';
        },
      }),
    );
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS, 'importer'));
    expect(exporter.calls).toEqual(['attach 0000:03:00.0']);
    expect(seen).toEqual([0]);
    expect(buf.attachments.value).toEqual([attachment]);
    expect([attachment.priv, attachment.importerPriv]).toEqual(['mine', 'importer']);
    expect(attachment.buf).toBe(buf);
    expect(rig.events('attachment.attach')).toMatchObject([
      { attachment: 1, buffer: 1, device: '0000:03:00.0', dynamic: true, peer2peer: true },
    ]);
    expect(buf.file.refs.value).toBe(1);
  });

  test('takes a device as often as it comes, newest first', () => {
    const { rig, buf } = boot();
    const devices = [rig.at('03:00.0'), rig.at('04:00.0'), rig.at('03:00.0')];
    const made = devices.map((device) => rig.do(buf.attach(device)));
    expect(buf.attachments.value).toEqual(made.toReversed());
    expect(made.map(({ number }) => number)).toEqual([1, 2, 3]);
  });

  test('takes a device that is not on PCI', () => {
    const { rig, buf } = boot();
    const attachment = rig.do(buf.attach(new PlatformDevice('gsc.0', true)));
    expect(attachment.device.name).toBe('gsc.0');
  });

  test('may be refused by the exporter, for one device and not for another (S000-15)', () => {
    const { rig, buf, exporter } = boot(
      new FakeExporter({
        *onAttach(_, attachment): Task {
          if (attachment.device.name === '0000:03:00.0') return;
          const detail = { refusedBy: 'exporter', exporter: 'fake' };
          throw new DmaBufError('EBUSY', 'attach', 'test-not-behind-my-unit', { detail });
        },
      }),
    );
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    const before = { list: buf.attachments.value, refs: buf.file.refs.value };
    const error = rig.do(refused(buf.dynamicAttach(rig.at('04:00.0'), PEER_OPS)));
    expect(error.code).toBe('EBUSY');
    expect(buf.attachments.value).toBe(before.list);
    expect(buf.file.refs.value).toBe(before.refs);
    expect(exporter.calls).toEqual(['attach 0000:03:00.0', 'attach 0000:04:00.0']);
    expect(rig.events('attachment.refuse')).toMatchObject([
      {
        buffer: 1,
        device: '0000:04:00.0',
        call: 'dynamicAttach',
        reason: 'test-not-behind-my-unit',
        detail: { refusedBy: 'exporter', exporter: 'fake' },
      },
    ]);
    expect(rig.warnings).toEqual([]);
  });

  test.each([
    ['without operations', null, false, false, false],
    ['that takes no peer memory', NO_PEER_OPS, true, false, false],
    ['that takes peer memory and can give it back', PEER_OPS, true, true, true],
    ['that takes it for good', { allowPeer2Peer: true }, true, true, false],
  ] as const)('an importer %s says what it can', (_, ops, dynamic, peer2peer, revocable) => {
    const { rig, buf } = boot();
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
    expect(attachment.isDynamic).toBe(dynamic);
    expect(attachment.peer2peer).toBe(peer2peer);
    expect(attachment.isRevocable).toBe(revocable);
  });

  test('lets the exporter take peer-to-peer away, for one attachment (S000-20, P2-001)', () => {
    const { rig, buf } = boot(
      new FakeExporter({
        *onAttach(_, attachment): Task {
          if (attachment.device.name === '0000:04:00.0') attachment.peer2peer = false;
        },
      }),
    );
    const [one, other] = ['03:00.0', '04:00.0'].map((address) =>
      rig.do(buf.dynamicAttach(rig.at(address), PEER_OPS)),
    );
    expect([one?.peer2peer, other?.peer2peer]).toEqual([true, false]);
    expect(rig.events('attachment.attach')).toMatchObject([
      { peer2peer: true },
      { peer2peer: false },
    ]);
  });

  test('does not let the exporter give what was not asked for (S000-20)', () => {
    const { rig, buf } = boot(
      new FakeExporter({
        *onAttach(_, attachment): Task {
          // @ts-expect-error -- An exporter may only take it away.
          attachment.peer2peer = true;
        },
      }),
    );
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    expect(attachment.peer2peer).toBe(false);
    expect(rig.warnings).toHaveLength(1);
  });
});

describe('A released buffer', () => {
  test.each([
    ['dynamicAttach', 'dma_buf_dynamic_attach'],
    ['detach', 'dma_buf_detach'],
    ['mapAttachment', 'dma_buf_map_attachment'],
  ])('is not to be used by %s: the importer had no reference (DB-006)', (verb, call) => {
    const { rig, buf } = boot();
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    rig.do(buf.put());
    const late: Record<string, () => Task<unknown>> = {
      dynamicAttach: () => buf.attach(rig.at('04:00.0')),
      detach: () => buf.detach(attachment),
      mapAttachment: () => attachment.mapAttachmentUnlocked('to-device'),
    };
    const { outcome } = rig.try(late[verb]?.() ?? expect.fail(verb));
    const title = `${call}: use after free: dma-buf 1 is released`;
    expect(outcome.findings).toMatchObject([
      { kind: 'warn', title: 'dma_buf_release: 1 attachments are still on the list' },
      { kind: 'oops', title },
    ]);
  });
});

describe('Detaching (A.12)', () => {
  test('takes the attachment off the list, then tells the exporter without the lock', () => {
    const { rig, buf, exporter } = boot();
    const [one, other] = ['03:00.0', '04:00.0'].map((at) => rig.do(buf.attach(rig.at(at))));
    if (one === undefined) return expect.fail('an attachment');
    rig.do(buf.detach(one));
    expect(buf.attachments.value).toEqual([other]);
    expect(exporter.calls.at(-1)).toBe('detach 0000:03:00.0');
    expect(rig.events('attachment.detach')).toMatchObject([{ attachment: 1, buffer: 1 }]);
  });

  test('from another buffer is a kernel warning and does nothing', () => {
    const { rig, buf, exporter } = boot();
    const other = rig.do(rig.export());
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    rig.do(other.detach(attachment));
    expect(rig.warnings).toEqual(['dma_buf_detach: the attachment belongs to another buffer']);
    expect(buf.attachments.value).toEqual([attachment]);
    expect(exporter.calls).toEqual(['attach 0000:03:00.0']);
    expect(rig.events('attachment.detach')).toEqual([]);
  });

  test("does not look whether everything is unmapped: that is the importer's duty (DB-007)", () => {
    const { rig, buf, exporter } = boot();
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    rig.do(locked(buf.resv, attachment.mapAttachment('bidirectional')));
    rig.do(buf.detach(attachment));
    expect(exporter.tables).toHaveLength(1);
    expect(rig.warnings).toEqual([]);
  });
});

describe('Pinning (A.13)', () => {
  test('counts at the exporter, under the lock', () => {
    const { rig, buf, exporter } = boot(new FakeExporter({ isDynamic: true }));
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    rig.do(locked(buf.resv, attachment.pin()));
    rig.do(locked(buf.resv, attachment.pin()));
    expect(exporter.pins).toBe(2);
    rig.do(locked(buf.resv, attachment.unpin()));
    expect(exporter.pins).toBe(1);
    expect(exporter.calls.slice(1)).toEqual(['pin locked', 'pin locked', 'unpin locked']);
    expect(rig.kinds('attachment.pin', 'attachment.unpin')).toEqual([
      'attachment.pin',
      'attachment.pin',
      'attachment.unpin',
    ]);
  });

  test('costs nothing with an exporter that never moves its memory', () => {
    const { rig, buf, exporter } = boot();
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    rig.do(locked(buf.resv, attachment.pin()));
    rig.do(locked(buf.resv, attachment.unpin()));
    expect(exporter.calls).toEqual(['attach 0000:03:00.0']);
    expect(rig.warnings).toEqual([]);
  });

  test('by a static importer is a kernel warning, and goes on (PN-001)', () => {
    const { rig, buf, exporter } = boot(new FakeExporter({ isDynamic: true }));
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    rig.do(locked(buf.resv, attachment.pin()));
    rig.do(locked(buf.resv, attachment.unpin()));
    expect(rig.warnings).toEqual([
      'dma_buf_pin: the importer is static',
      'dma_buf_unpin: the importer is static',
    ]);
    expect(exporter.calls.slice(1)).toEqual(['pin locked', 'unpin locked']);
  });

  test("that fails is the exporter's error, on record", () => {
    const pinError = new DmaBufError('ENOMEM', 'pin', 'test-no-room-to-pin');
    const { rig, buf, exporter } = boot(new FakeExporter({ isDynamic: true, pinError }));
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    expect(rig.do(refused(locked(buf.resv, attachment.pin())))).toBe(pinError);
    expect(exporter.pins).toBe(0);
    expect(rig.kinds('attachment.pin')).toEqual([]);
    expect(rig.events('attachment.refuse')).toMatchObject([{ call: 'pin', code: 'ENOMEM' }]);
    expect(buf.resv.lockCell.value.owner).toBeNull();
  });
});
