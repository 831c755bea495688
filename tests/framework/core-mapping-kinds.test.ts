/**
 * Goal: old and new exporters and importers go with each other, and a new kind of mapping concerns
 * nobody who does not use it. Method: the grid of old and new, and a private link as a second kind;
 * docs/adr/0011.
 */

import { describe, expect, test } from 'vitest';
import { type DmaDirection, physAddr } from '../../src/base/index.ts';
import {
  type Attachment,
  type AttachOps,
  DEVICE_ADDRESSES,
  type DeviceBacking,
  DmaBuf,
  type DmaBufOps,
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  mapAs,
  mapByDescription,
  type MappingKind,
  offer,
  type SgTable,
  unmapAs,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

const OWNER = '04:00.0';
const SIZE = 8192;

/** A card that exports the memory in its BAR 2. */
class CardExporter {
  readonly rig: KernelRig;
  readonly calls: string[] = [];

  constructor(rig: KernelRig) {
    this.rig = rig;
  }

  get backing(): DeviceBacking {
    const owner = this.rig.at(OWNER);
    const provider = this.rig.kernel.p2pdmaOf(owner).provider(2) ?? expect.fail('a provider');
    return { provider, ranges: [{ paddr: physAddr(owner.barStart(2)), length: SIZE }] };
  }
}

const RELEASE = { *release(): Task {} };

/** As drivers are written today. */
const OLD_OPS: DmaBufOps<CardExporter> = {
  ...RELEASE,
  *mapDmaBuf(attachment, direction): Task<SgTable> {
    const { provider, ranges } = attachment.buf.priv.backing;
    return yield* dmaBufPhysVecToSgt(attachment, provider, ranges, direction);
  },
  unmapDmaBuf: dmaBufFreeSgt,
};

function* describeCard({ priv }: DmaBuf<CardExporter>): Task<DeviceBacking> {
  priv.calls.push('describe');
  return priv.backing;
}

const NEW_OPS: DmaBufOps<CardExporter> = { ...RELEASE, ...mapByDescription(describeCard) };

/** A cable between two cards of one maker: no address at all, but a lane on it. */
interface Lane {
  readonly lane: number;
}
interface LaneWant {
  readonly partner: string;
}
const LANES: MappingKind<{ readonly link: string }, LaneWant, Lane> = {
  name: 'lanes',
  *map(attachment, { link }, { partner }): Task<Lane> {
    expect([link, partner]).toEqual(['cable 1', attachment.device.name]);
    return { lane: 3 };
  },
  *unmap(): Task {},
};

const LANE_OPS: DmaBufOps<CardExporter> = {
  ...NEW_OPS,
  offers: [
    offer(LANES, function* (buf: DmaBuf<CardExporter>): Task<{ link: string }> {
      buf.priv.calls.push('describe link');
      return { link: 'cable 1' };
    }),
  ],
};

/** Importers: as today, and by kind. */
const IMPORTERS = {
  old: [
    (a: Attachment, direction: DmaDirection) => a.mapAttachment(direction),
    (a: Attachment, table: SgTable, direction: DmaDirection) => a.unmapAttachment(table, direction),
  ],
  new: [
    (a: Attachment, direction: DmaDirection) => mapAs(a, DEVICE_ADDRESSES, direction),
    (a: Attachment, table: SgTable, direction: DmaDirection) =>
      unmapAs(a, DEVICE_ADDRESSES, table, direction),
  ],
} as const;

function boot(ops: DmaBufOps<CardExporter>, importerOps: AttachOps | null = PEER_OPS) {
  const rig = new KernelRig();
  const priv = new CardExporter(rig);
  const info = { exporterName: 'card', ops, size: SIZE, priv };
  const buf = rig.do(DmaBuf.export(rig.kernel, info));
  const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), importerOps));
  return { rig, buf, attachment };
}

describe('An importer and an exporter, each of the old style or of the new (AC-23)', () => {
  test.each([
    ['old', 'old'],
    ['old', 'new'],
    ['new', 'old'],
    ['new', 'new'],
  ] as const)('%s exporter, %s importer: the same addresses, and the bytes arrive', (from, to) => {
    const { rig, buf, attachment } = boot(from === 'old' ? OLD_OPS : NEW_OPS);
    const [map, unmap] = IMPORTERS[to];
    const table = rig.do(locked(buf.resv, map(attachment, 'bidirectional')));
    const start = rig.busAddressOf(OWNER, 2);
    expect(table.entries).toEqual([{ address: start, length: SIZE }]);
    rig.write(attachment.device, start + 4096, [1, 2, 3]);
    expect(rig.arrived).toEqual([{ device: `0000:${OWNER}`, bar: 2, offset: 4096 }]);
    rig.do(locked(buf.resv, unmap(attachment, table, 'bidirectional')));
    expect(rig.kinds('attachment.map', 'attachment.unmap')).toEqual([
      'attachment.map',
      'attachment.unmap',
    ]);
    expect(rig.warnings).toEqual([]);
  });
});

describe('A kind of mapping of two partners', () => {
  test('is had of who offers it, without a line in the core', () => {
    const { rig, buf, attachment } = boot(LANE_OPS);
    const want = { partner: '0000:03:00.0' };
    const lane = rig.do(locked(buf.resv, mapAs(attachment, LANES, want)));
    expect(lane).toEqual({ lane: 3 });
    rig.do(locked(buf.resv, unmapAs(attachment, LANES, lane, want)));
    expect(buf.priv.calls).toEqual(['describe link']);
    // Others import as ever.
    const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
    expect(table.entries).toHaveLength(1);
  });

  test('is refused by who does not offer it: kind-of-mapping-not-offered', () => {
    const { rig, buf, attachment } = boot(OLD_OPS);
    const map = mapAs(attachment, LANES, { partner: 'any' });
    expect(rig.do(refused(locked(buf.resv, map)))).toMatchObject({
      code: 'EOPNOTSUPP',
      reason: 'kind-of-mapping-not-offered',
      detail: { refusedBy: 'core', kind: 'lanes' },
    });
  });

  test.each([
    ['a static importer', null],
    ['one that cannot give memory back', { allowPeer2Peer: true }],
  ])('is not for %s: kind-for-revocable-importers-only', (_, ops) => {
    const { rig, buf, attachment } = boot(LANE_OPS, ops);
    const map = mapAs(attachment, LANES, { partner: 'any' });
    expect(rig.do(refused(locked(buf.resv, map)))).toMatchObject({
      code: 'EOPNOTSUPP',
      reason: 'kind-for-revocable-importers-only',
    });
    expect(buf.priv.calls).toEqual([]);
  });

  test('needs the reservation (LK-001)', () => {
    const { rig, attachment } = boot(LANE_OPS);
    const want = { partner: '0000:03:00.0' };
    const lane = rig.do(mapAs(attachment, LANES, want));
    rig.do(unmapAs(attachment, LANES, lane, want));
    expect(rig.warnings).toEqual([
      'dma_buf_map_as: called without dma-buf 1 resv',
      'dma_buf_unmap_as: called without dma-buf 1 resv',
    ]);
  });

  test('does not show an importer what the exporter has', () => {
    const { buf } = boot(LANE_OPS);
    const [found] = buf.ops.offers ?? [];
    expect(Object.keys(found ?? {})).toEqual(['kind']);
    expect(JSON.stringify(found)).not.toContain('cable');
  });
});
