/**
 * Goal: what a device cannot reach is bounced through real bytes, which meet the buffer at map,
 * sync and unmap only; and what cannot be bounced is refused. Method: RAM beyond 32 bits and a
 * device that sends no more; reference I.6.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dmaAddr, physAddr } from '../../src/base/index.ts';
import {
  dmaMapPhys,
  dmaMapResource,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPhys,
  dmaUnmapSgtable,
  pageList,
  SWIOTLB_MAPPING_MAX,
  SWIOTLB_SLOT_SIZE,
  swiotlbInit,
} from '../../src/framework/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BASE, DmaRig, HIGH, PAGE, pagesAt } from './dma-rig.ts';

/** A machine with bounce buffers, and a device of 32 bits. */
function boot(options: Parameters<typeof wideMachine>[0] = {}, poolSize?: number): DmaRig {
  const rig = new DmaRig(wideMachine(options));
  rig.card.dmaMask = 32;
  rig.do(swiotlbInit(rig.machine, poolSize));
  return rig;
}

function rangeAt(phys: number, size: number) {
  return { phys: physAddr(phys), size };
}

/** Slots in use. */
function slots(rig: DmaRig) {
  return rig.machine.bouncePool?.value ?? expect.fail('bounce buffers');
}

describe('A bounced range', () => {
  test.each([true, false])(
    'shows bytes at map, sync and unmap only: coherent %s (I.6)',
    (coherentDma) => {
      const rig = boot({ coherentDma });
      const { machine, card } = rig;
      rig.store(HIGH, [1, 2]);
      const at = rig.do(dmaMapPhys(machine, card, rangeAt(HIGH, PAGE), 'bidirectional', 'ram'));
      expect(at).toBeLessThan(2 ** 32);
      expect(slots(rig)).toEqual([{ start: at, size: PAGE, origin: HIGH }]);
      expect([...rig.read(card, at, 2).bytes]).toEqual([1, 2]);

      rig.write(card, at + 1, [7]);
      expect(rig.load(HIGH, 2)).toEqual([1, 2]);
      rig.do(dmaSyncSingleForCpu(machine, card, dmaAddr(at + 1), 1, 'from-device'));
      expect(rig.load(HIGH, 2)).toEqual([1, 7]);

      rig.store(HIGH, [3]);
      expect([...rig.read(card, at, 1).bytes]).toEqual([1]);
      rig.do(dmaSyncSingleForDevice(machine, card, at, 1, 'to-device'));
      expect([...rig.read(card, at, 1).bytes]).toEqual([3]);

      rig.write(card, at, [9]);
      rig.do(dmaUnmapPhys(machine, card, at, rangeAt(HIGH, PAGE), 'bidirectional', 'ram'));
      expect(rig.load(HIGH, 2)).toEqual([9, 7]);
      expect(slots(rig)).toEqual([]);
    },
  );

  test('of which the unmap skips the sync loses what the device wrote (C.2, I.6)', () => {
    const rig = boot();
    const { machine, card } = rig;
    const range = rangeAt(HIGH, PAGE);
    const at = rig.do(dmaMapPhys(machine, card, range, 'from-device', 'ram'));
    rig.write(card, at, [9]);
    const attrs = { skipCpuSync: true };
    rig.do(dmaUnmapPhys(machine, card, at, range, 'from-device', 'ram', attrs));
    expect(rig.load(HIGH, 1)).toEqual([0]);
  });

  test('that the device writes a part of keeps the rest (I.6)', () => {
    const rig = boot();
    const { machine, card } = rig;
    rig.store(HIGH, [1, 2, 3]);
    const range = rangeAt(HIGH, 3);
    const at = rig.do(dmaMapPhys(machine, card, range, 'from-device', 'ram'));
    rig.write(card, at + 1, [9]);
    rig.do(dmaUnmapPhys(machine, card, at, range, 'from-device', 'ram'));
    expect(rig.load(HIGH, 3)).toEqual([1, 9, 3]);
  });

  test('takes slots of 2 KiB, and 256 KiB at most: range-out-of-reach (I.6)', () => {
    const rig = boot();
    const { machine, card } = rig;
    const starts = [1, 2048, 2049, 1].map((size, i) =>
      rig.do(dmaMapPhys(machine, card, rangeAt(HIGH + i * PAGE, size), 'to-device', 'ram')),
    );
    const first = starts[0] ?? 0;
    expect(starts.map((at) => (at - first) / SWIOTLB_SLOT_SIZE)).toEqual([0, 1, 2, 4]);
    const most = rangeAt(HIGH, SWIOTLB_MAPPING_MAX);
    rig.do(dmaMapPhys(machine, card, most, 'to-device', 'ram'));
    const more = rangeAt(HIGH, SWIOTLB_MAPPING_MAX + 1);
    const error = rig.do(refused(dmaMapPhys(machine, card, more, 'to-device', 'ram')));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'range-out-of-reach' });
  });

  test('is refused when all slots are taken, and served when one is back (C.2, I.6)', () => {
    const rig = boot({}, PAGE);
    const { machine, card } = rig;
    const [one, two] = [rangeAt(HIGH, PAGE), rangeAt(HIGH + PAGE, 1)];
    const at = rig.do(dmaMapPhys(machine, card, one, 'to-device', 'ram'));
    const error = rig.do(refused(dmaMapPhys(machine, card, two, 'to-device', 'ram')));
    expect(error.code).toBe('ENOMEM');
    rig.do(dmaUnmapPhys(machine, card, at, one, 'to-device', 'ram'));
    expect(rig.do(dmaMapPhys(machine, card, two, 'to-device', 'ram'))).toBe(at);
  });

  test('is one that the device reaches, or there is none (C.3)', () => {
    const rig = new DmaRig(ARM_SOC, '04:00.0');
    rig.card.dmaMask = 32;
    rig.do(swiotlbInit(rig.machine, PAGE));
    const call = dmaMapPhys(rig.machine, rig.card, rangeAt(BASE, 8), 'to-device', 'ram');
    expect(rig.do(refused(call)).code).toBe('ENOMEM');
    expect(rig.warnings).toEqual([expect.stringContaining('cannot send 0x4')]);
    expect(slots(rig)).toEqual([]);
  });
});

describe('Memory of a device', () => {
  test('is never bounced: beyond the mask it is a warning and ENOMEM (C.3, I.6)', () => {
    const rig = boot();
    const bar = rig.at('03:00.0').barStart(2);
    const range = { phys: bar, size: PAGE };
    const error = rig.do(refused(dmaMapResource(rig.machine, rig.card, range, 'to-device')));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'range-out-of-reach' });
    expect(rig.warnings).toEqual([expect.stringContaining('cannot send')]);
    expect(slots(rig)).toEqual([]);
  });

  test('cannot be mapped where everything is bounced (C.3, I.6)', () => {
    const rig = boot();
    rig.card.forceBounce = true;
    const range = { phys: rig.at('03:00.0').barStart(0), size: PAGE };
    const error = rig.do(refused(dmaMapResource(rig.machine, rig.card, range, 'to-device')));
    expect(error.code).toBe('ENOMEM');
    const at = rig.do(dmaMapPhys(rig.machine, rig.card, rangeAt(BASE, 8), 'to-device', 'ram'));
    expect(slots(rig)).toEqual([{ start: at, size: 8, origin: BASE }]);
  });
});

describe('A bounced table', () => {
  test('breaks sharing: the other device sees nothing until a sync (I.6)', () => {
    const rig = boot();
    const { machine, card } = rig;
    const other = rig.at('03:00.0');
    const pages = pagesAt([BASE, 1], [HIGH, 1]);
    const low = rig.do(dmaMapSgtable(machine, card, pages, 'bidirectional'));
    const wide = rig.do(dmaMapSgtable(machine, other, pages, 'bidirectional'));
    expect([low.isBounced, wide.isBounced]).toEqual([true, false]);
    const far = low.entries[1]?.address ?? 0;
    expect([far % PAGE, far < HIGH]).toEqual([0, true]);

    rig.write(card, far, [7]);
    expect([...rig.read(other, HIGH, 1).bytes]).toEqual([0]);
    rig.do(dmaSyncSgtableForCpu(machine, card, low, 'bidirectional'));
    expect([...rig.read(other, HIGH, 1).bytes]).toEqual([7]);
    rig.write(other, HIGH, [8]);
    rig.do(dmaSyncSgtableForDevice(machine, card, low, 'bidirectional'));
    expect([...rig.read(card, far, 1).bytes]).toEqual([8]);
    rig.do(dmaUnmapSgtable(machine, card, low, 'bidirectional'));
    expect(slots(rig)).toEqual([]);
  });

  test('gives slots back when a later piece does not fit (C.2)', () => {
    const rig = boot();
    const pages = pageList([rangeAt(HIGH, PAGE), rangeAt(HIGH + PAGE, SWIOTLB_MAPPING_MAX + PAGE)]);
    const error = rig.do(refused(dmaMapSgtable(rig.machine, rig.card, pages, 'to-device')));
    expect(error).toMatchObject({ code: 'EIO', reason: 'piece-out-of-reach' });
    expect(slots(rig)).toEqual([]);
  });
});

describe('A device that is not trusted, behind an IOMMU', () => {
  test('gets a copy of a part of a page, and sees nothing beside it', () => {
    const rig = boot({ iommu: 'translated' });
    const { machine, card } = rig;
    card.isUntrusted = true;
    rig.store(BASE, [1, 2, 3]);
    const range = rangeAt(BASE + 1, 1);
    const at = rig.do(dmaMapPhys(machine, card, range, 'bidirectional', 'ram'));
    expect([...rig.read(card, at - 1, 3).bytes]).toEqual([0, 2, 0]);
    rig.write(card, at, [9]);
    rig.do(dmaUnmapPhys(machine, card, at, range, 'bidirectional', 'ram'));
    expect(rig.load(BASE, 3)).toEqual([1, 9, 3]);
    expect([rig.table, slots(rig)]).toEqual([[], []]);
  });

  test('finds nothing that an earlier user left in its pages', () => {
    const rig = boot({ iommu: 'translated' });
    const { machine, card } = rig;
    card.isUntrusted = true;
    rig.store(BASE, [1, 2, 3]);
    const first = rangeAt(BASE, 3);
    const before = rig.do(dmaMapPhys(machine, card, first, 'to-device', 'ram'));
    rig.do(dmaUnmapPhys(machine, card, before, first, 'to-device', 'ram'));
    const at = rig.do(dmaMapPhys(machine, card, rangeAt(BASE + 1, 1), 'to-device', 'ram'));
    expect([...rig.read(card, at - 1, 3).bytes]).toEqual([0, 2, 0]);
  });

  test('gives its copy back when no I/O address is left (C.3)', () => {
    const rig = boot({ iommu: 'translated' });
    rig.card.isUntrusted = true;
    useUpAddresses(rig.card);
    const call = dmaMapPhys(rig.machine, rig.card, rangeAt(BASE, 8), 'to-device', 'ram');
    expect(rig.do(refused(call)).reason).toBe('no-io-address-left');
    expect(slots(rig)).toEqual([]);
  });

  test('gets whole pages as they are, and no part of a page of device memory (C.3)', () => {
    const rig = boot({ iommu: 'translated' });
    const { machine, card } = rig;
    card.isUntrusted = true;
    rig.do(dmaMapPhys(machine, card, rangeAt(BASE, PAGE), 'to-device', 'ram'));
    expect(slots(rig)).toEqual([]);
    const bar = { phys: rig.at('03:00.0').barStart(2), size: 8 };
    expect(rig.do(refused(dmaMapResource(machine, card, bar, 'to-device'))).code).toBe('ENOMEM');
  });
});

describe('Setting bounce buffers aside', () => {
  test('is ENOMEM without so much low memory: no-low-memory-for-bounce-buffers', () => {
    const rig = new DmaRig(wideMachine());
    const error = rig.do(refused(swiotlbInit(rig.machine, 2 ** 30)));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-low-memory-for-bounce-buffers' });
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });
});

test('Random ranges, bounced or not, bring their bytes and leave no slot taken (I.6)', () => {
  const piece = fc.record({
    phys: fc.integer({ min: 0, max: 6 * PAGE }),
    size: fc.integer({ min: 1, max: 3 * PAGE }),
    isHigh: fc.boolean(),
    place: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 5 }), fc.boolean(), (pieces, coherentDma) => {
      const rig = boot({ coherentDma });
      const { machine, card } = rig;
      // Apart from each other, so that one unmap does not undo the bytes of another.
      const ranges = pieces.map(({ phys, size, isHigh }, i) =>
        rangeAt((isHigh ? HIGH : BASE) + i * 16 * PAGE + phys, size),
      );
      const at = ranges.map((range) =>
        rig.do(dmaMapPhys(machine, card, range, 'bidirectional', 'ram')),
      );
      for (const [i, { place }] of pieces.entries()) {
        rig.write(card, (at[i] ?? 0) + (place % (ranges[i]?.size ?? 1)), [i + 1]);
      }
      for (const [i, range] of ranges.entries()) {
        const address = at[i] ?? dmaAddr(0);
        rig.do(dmaUnmapPhys(machine, card, address, range, 'bidirectional', 'ram'));
      }
      for (const [i, { place }] of pieces.entries()) {
        const { phys, size } = ranges[i] ?? rangeAt(0, 1);
        expect(rig.load(phys + (place % size), 1)).toEqual([i + 1]);
      }
      expect(slots(rig)).toEqual([]);
    }),
    { numRuns: 50 },
  );
});
