/**
 * Goal: in a kernel with CONFIG_DMABUF_DEBUG an importer has device addresses and lengths and
 * nothing else, and one that looks for more is named. Method: importers that behave and importers
 * that peek, on RAM and on a card's memory; reference A.14.1.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError, physAddr } from '../../src/base/index.ts';
import {
  DmaBuf,
  type DmaBufOps,
  mapByDescription,
  type SgTable,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, PEER_OPS } from './kernel-rig.ts';

const DEBUG = { debugDmaBuf: true };
const BYTES = [1, 2, 3, 4];

/** A buffer of a card's memory, page-less. */
function* exportBar(rig: CoreRig): Task<DmaBuf<CoreRig>> {
  const owner = rig.at('04:00.0');
  const provider = rig.kernel.p2pdmaOf(owner).provider(2) ?? expect.fail('a provider');
  const ranges = [{ paddr: physAddr(owner.barStart(2)), length: 4096 }];
  const ops: DmaBufOps<CoreRig> = {
    ...mapByDescription(function* () {
      return { provider, ranges };
    }),
    *release(): Task {},
  };
  const info = { exporterName: 'card', ops, size: 4096, priv: rig };
  return yield* DmaBuf.export(rig.kernel, info);
}

/** An importer as there were some: it looks whether the entry has a page. */
function peek(table: SgTable, field: string): unknown {
  const [entry] = table.entries;
  return (entry as unknown as Record<string, unknown>)[field];
}

describe('A table in a kernel that hides pages (A.14.1)', () => {
  test.each([false, true])(
    'lets a device reach RAM as ever, debug %s (S000-6, AC-17)',
    (debugDmaBuf) => {
      const rig = new CoreRig({ iommu: 'translated' }, { debugDmaBuf });
      const buf = rig.do(rig.exportRam(2));
      const attachment = rig.do(buf.attach(rig.at('03:00.0')));
      const table = rig.do(attachment.mapAttachmentUnlocked('bidirectional'));
      expect(table.entries.map((entry) => Object.keys(entry))).toEqual([['address', 'length']]);
      rig.write(attachment.device, table.entries[0]?.address ?? 0, BYTES);
      expect(rig.ram(buf.priv.range.phys, 4)).toEqual(BYTES);
      rig.do(attachment.unmapAttachmentUnlocked(table, 'bidirectional'));
      expect(buf.priv.mapped).toEqual([]);
      expect([rig.warnings, rig.machine.faults]).toEqual([[], []]);
      expect(rig.events('attachment.map')).toMatchObject([{ entries: [{ length: 8192 }] }]);
    },
  );

  test.each(['page', 'phys', 'cpuAddress', 'offset'])(
    'has no %s of RAM, and names who looks for it (S000-6, S000-17, AC-17, MP-001)',
    (field) => {
      const rig = new CoreRig({}, DEBUG);
      const buf = rig.do(rig.exportRam());
      const attachment = rig.do(buf.attach(rig.at('03:00.0')));
      const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
      expect(peek(table, field)).toBeUndefined();
      expect(rig.warnings).toEqual([
        `dma_buf_map_attachment: 0000:03:00.0 looks for ${field} in its mapping of dma-buf 1`,
      ]);
    },
  );

  test("has no page of a card's memory either, and its bytes stay as they are (S000-5)", () => {
    const rig = new CoreRig({}, DEBUG);
    const buf = rig.do(exportBar(rig));
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    const table = rig.do(attachment.mapAttachmentUnlocked('bidirectional'));
    expect(peek(table, 'page')).toBeUndefined();
    expect(rig.warnings).toHaveLength(1);
    expect(rig.warnings[0]).toContain('0000:03:00.0 looks for page');
    expect(rig.arrived).toEqual([]);
    rig.do(attachment.unmapAttachmentUnlocked(table, 'bidirectional'));
  });

  test('has no way back to what it was made of: neither ranges nor count of pages (MP-002)', () => {
    const rig = new CoreRig({}, DEBUG);
    const buf = rig.do(exportBar(rig));
    const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    const table = rig.do(attachment.mapAttachmentUnlocked('bidirectional'));
    const open = table as unknown as Record<string, unknown>;
    expect([open.ranges, open.origNents]).toEqual([undefined, undefined]);
    expect(rig.warnings).toHaveLength(2);
    expect(Object.keys(table)).toEqual(['entries']);
  });

  test('is a copy: what an importer changes in it is lost (MP-010)', () => {
    const rig = new CoreRig({}, DEBUG);
    const exporter = new FakeExporter();
    const buf = rig.do(rig.export(exporter));
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
    const [original] = exporter.tables;
    const before = original?.entries[0]?.address;
    Object.assign(table.entries[0] ?? {}, { address: 0x666 });
    expect(original?.entries[0]?.address).toBe(before);
    // The exporter's table is not even the same object without the option.
    rig.do(attachment.unmapAttachmentUnlocked(table, 'to-device'));
    expect(exporter.tables).toEqual([]);
  });

  test('is the exporter’s own without the option (MP-010)', () => {
    const rig = new CoreRig();
    const exporter = new FakeExporter();
    const buf = rig.do(rig.export(exporter));
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    expect(rig.do(attachment.mapAttachmentUnlocked('to-device'))).toBe(exporter.tables[0]);
  });
});

describe('Giving back in a kernel that hides pages (MP-003)', () => {
  const TITLE =
    'dma_buf_unmap_attachment: 0000:03:00.0 gives back a table of dma-buf 1 that map did not give';

  function boot() {
    const rig = new CoreRig({}, DEBUG);
    const exporter = new FakeExporter();
    const buf = rig.do(rig.export(exporter));
    const [one, other] = ['03:00.0', '04:00.0'].map((at) => rig.do(buf.attach(rig.at(at))));
    if (one === undefined || other === undefined) return expect.fail('attachments');
    return { rig, exporter, one, other };
  }

  test('a table of one’s own making ends the run', () => {
    const { rig, one } = boot();
    const table = { entries: [] };
    const { outcome } = rig.try(one.unmapAttachmentUnlocked(table, 'to-device'));
    expect(outcome.findings).toMatchObject([{ kind: 'oops', title: TITLE }]);
  });

  test('a table twice, or that of another attachment, ends the run', () => {
    const { rig, one } = boot();
    const table = rig.do(one.mapAttachmentUnlocked('to-device'));
    rig.do(one.unmapAttachmentUnlocked(table, 'to-device'));
    const { outcome } = rig.try(one.unmapAttachmentUnlocked(table, 'to-device'));
    expect(outcome.findings).toMatchObject([{ kind: 'oops', title: TITLE }]);
    const { rig: second, exporter, one: mine, other } = boot();
    const his = second.do(other.mapAttachmentUnlocked('to-device'));
    const wrong = second.try(mine.unmapAttachmentUnlocked(his, 'to-device'));
    expect(wrong.outcome.findings).toMatchObject([{ kind: 'oops', title: TITLE }]);
    expect(exporter.tables).toHaveLength(1);
  });
});

describe('Mapping in a kernel that hides pages', () => {
  test('an empty table is EINVAL, and taken back: no-entries-to-copy', () => {
    const rig = new CoreRig({}, DEBUG);
    const unmapped: string[] = [];
    const ops: DmaBufOps<string> = {
      *mapDmaBuf(): Task<SgTable> {
        return { entries: [] };
      },
      *unmapDmaBuf(_, __, direction): Task {
        unmapped.push(direction);
      },
      *release(): Task {},
    };
    const info = { exporterName: 'empty', ops, size: 0, priv: 'nothing' };
    const buf = rig.do(DmaBuf.export(rig.kernel, info));
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    const error = rig.do(refused(attachment.mapAttachmentUnlocked('to-device')));
    expect(error).toBeInstanceOf(DmaBufError);
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-entries-to-copy' });
    expect(unmapped).toEqual(['to-device']);
    expect(rig.events('attachment.refuse')).toMatchObject([{ call: 'mapAttachment' }]);
  });
});
