/**
 * Goal: pages become a table of addresses that work for one device, and nothing is left of it after
 * the unmap. Method: ranges of RAM and pages of a device, with IOMMU and without, coherent or not;
 * reference C.1, C.2.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dmaAddr, physAddr } from '../../src/base/index.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
  type PageList,
  pageList,
  type SgTable,
} from '../../src/framework/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BASE, DmaRig, HIGH, PAGE, pagesAt } from './dma-rig.ts';

const TRANSLATED = wideMachine({ iommu: 'translated' });

/** Pages of the memory of a device, for which the kernel has made some. */
function pagesOfDevice(rig: DmaRig, address: string, count = 1): PageList {
  const owner = rig.at(address);
  const state = rig.kernel.p2pdmaOf(owner);
  const provider = state.provider(2) ?? expect.fail('a BAR2');
  const phys = owner.barStart(2);
  return pageList([{ phys, size: count * PAGE, peer: { state, provider } }]);
}

describe('A table behind an IOMMU', () => {
  test('joins pieces up to the segment size of the device (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    const { machine, card: device } = rig;
    device.maxSegmentSize = 2 * PAGE;
    const pages = pagesAt([BASE + 8 * PAGE, 1], [BASE, 1], [BASE + 4 * PAGE, 1]);
    const table = rig.do(dmaMapSgtable(machine, device, pages, 'bidirectional'));
    const [first, second] = table.entries;
    expect(first?.length).toBe(2 * PAGE);
    expect(second).toEqual({ address: (first?.address ?? 0) + 2 * PAGE, length: PAGE });
    rig.do(dmaUnmapSgtable(machine, device, table, 'bidirectional'));
    expect(rig.table).toEqual([]);
  });

  test('is one entry if nobody limits it, and never cuts a piece (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    const { machine, card: device } = rig;
    const pages = pagesAt([BASE, 3], [HIGH, 2], [BASE + 8 * PAGE, 1]);
    const table = rig.do(dmaMapSgtable(machine, device, pages, 'bidirectional'));
    expect(table.entries.map(({ length }) => length)).toEqual([6 * PAGE]);
    device.maxSegmentSize = PAGE;
    const short = rig.do(dmaMapSgtable(machine, device, pages, 'bidirectional'));
    expect(short.entries.map(({ length }) => length)).toEqual([3 * PAGE, 2 * PAGE, PAGE]);
  });

  test('is cut where an entry would count more than 32 bits, behind no IOMMU either (C.1)', () => {
    const rig = new DmaRig(wideMachine());
    const list = pageList([{ phys: physAddr(0), size: 5 * 2 ** 30 }]);
    const table = rig.do(dmaMapSgtable(rig.machine, rig.card, list, 'bidirectional'));
    const longest = 2 ** 32 - PAGE;
    expect(table.entries).toEqual([
      { address: 0, length: longest },
      { address: longest, length: 2 ** 30 + PAGE },
    ]);
  });

  test('is ENOMEM when no address is left: no-room-for-the-table (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    useUpAddresses(rig.card);
    const call = dmaMapSgtable(rig.machine, rig.card, pagesAt([BASE, 1]), 'bidirectional');
    const error = rig.do(refused(call));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-room-for-the-table' });
  });

  test('gives what the CPU wrote to a device that sees no caches, unless told not to (C.2)', () => {
    for (const skipCpuSync of [false, true]) {
      const rig = new DmaRig(wideMachine({ iommu: 'translated', coherentDma: false }));
      rig.store(BASE, [7]);
      const call = dmaMapSgtable(rig.machine, rig.card, pagesAt([BASE, 1]), 'to-device', {
        skipCpuSync,
      });
      const at = rig.do(call).entries[0]?.address ?? 0;
      expect([...rig.read(rig.card, at, 1).bytes]).toEqual([skipCpuSync ? 0 : 7]);
    }
  });

  test('lies where the device can send it: the mask limits addresses (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    rig.card.dmaMask = 24;
    const pages = pagesAt([HIGH, 4]);
    const table = rig.do(dmaMapSgtable(rig.machine, rig.card, pages, 'bidirectional'));
    expect((table.entries[0]?.address ?? Infinity) + 4 * PAGE).toBeLessThanOrEqual(2 ** 24);
    expect(table.isBounced).toBe(false);
  });
});

describe('A table without an IOMMU', () => {
  test('has an entry for each range, neighbours or not (C.2)', () => {
    const rig = new DmaRig(wideMachine());
    const pages = pagesAt([BASE, 1], [BASE + PAGE, 1], [HIGH, 2]);
    const { entries } = rig.do(dmaMapSgtable(rig.machine, rig.card, pages, 'to-device'));
    expect(entries).toEqual([
      { address: BASE, length: PAGE },
      { address: BASE + PAGE, length: PAGE },
      { address: HIGH, length: 2 * PAGE },
    ]);
  });

  test('has the addresses of the bus where the device sees RAM elsewhere (C.2, I.7)', () => {
    const rig = new DmaRig(ARM_SOC, '04:00.0');
    const pages = pagesAt([BASE, 1]);
    const { entries } = rig.do(dmaMapSgtable(rig.machine, rig.card, pages, 'to-device'));
    expect(entries).toEqual([{ address: BASE + 0x4_0000_0000, length: PAGE }]);
  });

  test('is EIO, and nothing stays mapped, when a piece is out of reach (C.2)', () => {
    const rig = new DmaRig(wideMachine());
    rig.card.dmaMask = 32;
    const call = dmaMapSgtable(rig.machine, rig.card, pagesAt([BASE, 1], [HIGH, 1]), 'to-device');
    expect(rig.do(refused(call))).toMatchObject({ code: 'EIO', reason: 'piece-out-of-reach' });
    expect(rig.warnings).toEqual([expect.stringContaining('cannot send 0x100000000')]);
  });
});

describe('Two devices with one buffer', () => {
  test('may see other addresses and another count of entries (I.7)', () => {
    const rig = new DmaRig(TRANSLATED);
    const other = rig.at('03:00.0');
    other.maxSegmentSize = PAGE;
    const pages = pagesAt([BASE, 1], [HIGH, 1]);
    const one = rig.do(dmaMapSgtable(rig.machine, rig.card, pages, 'bidirectional'));
    const two = rig.do(dmaMapSgtable(rig.machine, other, pages, 'bidirectional'));
    expect([one.entries.length, two.entries.length]).toEqual([1, 2]);
    rig.write(rig.card, (one.entries[0]?.address ?? 0) + PAGE, [5]);
    expect([...rig.read(other, two.entries[1]?.address ?? 0, 1).bytes]).toEqual([5]);
  });
});

describe('Bad arguments of dma_map_sgtable', () => {
  test.each([
    ['no page', pageList([])],
    ['an address within a page', pageList([{ phys: physAddr(BASE + 64), size: PAGE }])],
    ['a part of a page', pageList([{ phys: physAddr(BASE), size: 100 }])],
  ])('are EINVAL: %s: no-whole-pages-to-map (C.2, MP-008)', (_, list) => {
    const rig = new DmaRig(TRANSLATED);
    const error = rig.do(refused(dmaMapSgtable(rig.machine, rig.card, list, 'to-device')));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-whole-pages-to-map' });
    expect(rig.table).toEqual([]);
  });

  test('are EINVAL and a warning for what has no pages: pages-that-are-none (MP-013)', () => {
    const rig = new DmaRig(TRANSLATED);
    const forged = { entries: [], ranges: [{ phys: BASE, size: PAGE }] } as unknown as PageList;
    const error = rig.do(refused(dmaMapSgtable(rig.machine, rig.card, forged, 'to-device')));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'pages-that-are-none' });
    expect(rig.warnings).toHaveLength(1);
  });

  test('stop the kernel: no direction (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    const call = dmaMapSgtable(rig.machine, rig.card, pagesAt([BASE, 1]), 'none' as 'to-device');
    expect(rig.try(call).outcome.status).toBe('oops');
  });

  test('give a table without entries, and a warning: no DMA mask (C.2)', () => {
    const rig = new DmaRig(TRANSLATED);
    const { machine, card: device } = rig;
    device.dmaMask = null;
    const table = rig.do(dmaMapSgtable(machine, device, pagesAt([BASE, 1]), 'to-device'));
    expect(table.entries).toEqual([]);
    expect(rig.warnings).toEqual([expect.stringContaining('no DMA mask')]);
    rig.do(dmaUnmapSgtable(machine, device, table, 'to-device'));
  });

  test('are EOPNOTSUPP: coherence is required and absent (C.2)', () => {
    const rig = new DmaRig(ARM_SOC, '04:00.0');
    const attrs = { requireCoherent: true };
    const call = dmaMapSgtable(rig.machine, rig.card, pagesAt([BASE, 1]), 'to-device', attrs);
    expect(rig.do(refused(call))).toMatchObject({
      code: 'EOPNOTSUPP',
      reason: 'table-for-a-device-that-is-not-coherent',
    });
    const coherent = new DmaRig(wideMachine());
    const { machine, card: device } = coherent;
    coherent.do(dmaMapSgtable(machine, device, pagesAt([BASE, 1]), 'to-device', attrs));
  });
});

describe('Pages of a device', () => {
  test('are at their bus address below the same switch, and use no IOMMU (C.2)', () => {
    const rig = new DmaRig(TRANSLATED, '04:00.0');
    const { machine, card: device } = rig;
    const peer = pagesOfDevice(rig, '03:00.0');
    const list = pageList([
      ...pagesAt([BASE, 1]).ranges,
      ...peer.ranges,
      ...pagesAt([HIGH, 1]).ranges,
    ]);
    const table = rig.do(dmaMapSgtable(machine, device, list, 'bidirectional'));
    const [ram, bar, more] = table.entries;
    expect(table.entries).toHaveLength(3);
    expect(bar?.address).toBe(rig.busAddressOf('03:00.0', 2));
    expect(more?.address).toBe((ram?.address ?? 0) + PAGE);
    rig.write(device, bar?.address ?? 0, [7]);
    expect(rig.arrived).toEqual([expect.objectContaining({ device: '0000:03:00.0', bar: 2 })]);
    rig.do(dmaUnmapSgtable(machine, device, table, 'bidirectional'));
    expect(rig.table).toEqual([]);
  });

  test('go through the host bridge like memory, but no cache is touched (C.2)', () => {
    const spec = wideMachine({ peerForwarding: 'all', coherentDma: false });
    const zen = { ...spec, cpu: { arch: 'x86_64', vendor: 'AuthenticAMD', family: 25, model: 1 } };
    const rig = new DmaRig(zen, '0a:00.0');
    const { machine, card: device } = rig;
    const list = pagesOfDevice(rig, '09:00.0');
    const table = rig.do(dmaMapSgtable(machine, device, list, 'bidirectional'));
    rig.write(device, table.entries[0]?.address ?? 0, [7]);
    expect(rig.arrived).toEqual([expect.objectContaining({ device: '0000:09:00.0' })]);
    rig.do(dmaSyncSgtableForCpu(machine, device, table, 'bidirectional'));
    rig.do(dmaUnmapSgtable(machine, device, table, 'bidirectional'));
    expect(rig.maintenance).toBe(0);
  });

  test.each(['off', 'translated'] as const)(
    'are EREMOTEIO without a route, and nothing is left: IOMMU %s (C.2)',
    (iommu) => {
      const rig = new DmaRig(wideMachine({ iommu }), '41:00.0');
      const { machine, card: device } = rig;
      const peer = pagesOfDevice(rig, '03:00.0');
      const list = pageList([...pagesAt([BASE, 1]).ranges, ...peer.ranges]);
      const error = rig.do(refused(dmaMapSgtable(machine, device, list, 'bidirectional')));
      expect(error).toMatchObject({ code: 'EREMOTEIO', reason: 'pages-of-a-device-out-of-reach' });
      expect(rig.table).toEqual([]);
    },
  );
});

describe('Misuse of a table', () => {
  /** A mapped table. */
  function mapped() {
    const rig = new DmaRig(TRANSLATED);
    const { machine, card: device } = rig;
    const table = rig.do(dmaMapSgtable(machine, device, pagesAt([BASE, 1]), 'to-device'));
    return { rig, machine, device, table };
  }

  test('is a warning: another direction, and another device, at the unmap (MP-003)', () => {
    const one = mapped();
    one.rig.do(dmaUnmapSgtable(one.machine, one.device, one.table, 'from-device'));
    const two = mapped();
    two.rig.do(dmaUnmapSgtable(two.machine, two.rig.at('03:00.0'), two.table, 'to-device'));
    for (const { rig } of [one, two]) {
      expect(rig.warnings).toEqual([expect.stringContaining('another device or direction')]);
      expect(rig.table).toEqual([]);
    }
  });

  test('is a warning: unmapped twice, or synced after (MP-003, MP-004)', () => {
    const { rig, machine, device, table } = mapped();
    rig.do(dmaUnmapSgtable(machine, device, table, 'to-device'));
    rig.do(dmaUnmapSgtable(machine, device, table, 'to-device'));
    rig.do(dmaSyncSgtableForDevice(machine, device, table, 'to-device'));
    expect(rig.warnings).toEqual([
      expect.stringContaining('unmapped before'),
      expect.stringContaining('not mapped'),
    ]);
  });

  test('is a warning: a sync in another direction than the map (C.2)', () => {
    const { rig, machine, device, table } = mapped();
    rig.do(dmaSyncSgtableForCpu(machine, device, table, 'from-device'));
    expect(rig.warnings).toEqual([expect.stringContaining('another device or direction')]);
  });

  test('is a warning: a table without pages is synced or unmapped (MP-013, S002-8)', () => {
    const { rig, machine, device } = mapped();
    const pageless: SgTable = { entries: [{ address: dmaAddr(BASE), length: PAGE }] };
    rig.do(dmaSyncSgtableForCpu(machine, device, pageless, 'from-device'));
    rig.do(dmaSyncSgtableForDevice(machine, device, pageless, 'from-device'));
    rig.do(dmaUnmapSgtable(machine, device, pageless, 'from-device'));
    expect(rig.warnings).toHaveLength(3);
    expect(rig.maintenance).toBe(0);
  });
});

describe('A table of random ranges', () => {
  const range = fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 4 }), fc.boolean());
  const byPlace = fc.record({
    ranges: fc.uniqueArray(range, { minLength: 1, maxLength: 6, selector: ([slot]) => slot }),
    iommu: fc.constantFrom('off' as const, 'translated' as const),
    coherentDma: fc.boolean(),
    maxSegment: fc.integer({ min: 1, max: 8 }),
  });

  test('brings each byte where it belongs, and leaves the domain empty (C.2)', () => {
    fc.assert(
      fc.property(byPlace, ({ ranges, iommu, coherentDma, maxSegment }) => {
        const rig = new DmaRig(wideMachine({ iommu, coherentDma }));
        const { machine, card: device } = rig;
        device.maxSegmentSize = maxSegment * PAGE;
        const places = ranges.map(([slot, count, isHigh]) => {
          return [(isHigh ? HIGH : BASE) + slot * 4 * PAGE, count] as const;
        });
        const list = pagesAt(...places);
        const table = rig.do(dmaMapSgtable(machine, device, list, 'bidirectional'));
        const singles = places.flatMap(([at, count]) =>
          Array.from({ length: count }, (_, i) => at + i * PAGE),
        );
        const sent = table.entries.flatMap(({ address, length }) =>
          Array.from({ length: length / PAGE }, (_, i) => address + i * PAGE),
        );
        expect(sent).toHaveLength(singles.length);
        for (const [i, address] of sent.entries()) rig.write(device, address + i, [i + 1]);
        rig.do(dmaUnmapSgtable(machine, device, table, 'bidirectional'));
        for (const [i, phys] of singles.entries()) expect(rig.load(phys + i, 1)).toEqual([i + 1]);
        expect(machine.faults).toEqual([]);
        expect(rig.table).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});
