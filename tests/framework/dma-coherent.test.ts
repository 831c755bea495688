/**
 * Goal: coherent memory is shared at every moment without a sync, knows where it is from, and never
 * passes for pages that it does not have. Method: three kinds of pool on coherent and non-coherent
 * machines; reference I.2 to I.4, thread S002.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dmaAddr, isDmaBufError, type PhysAddr, physAddr } from '../../src/base/index.ts';
import {
  CoherentMemory,
  declareCoherentMemory,
  DmaBuf,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaGetSgtableUnchecked,
  dmaMapSgtable,
  dmaMmapCoherent,
  dmaUnmapSgtable,
  MappedSgTable,
  type PageList,
  pagesOf,
  reserveContiguousArea,
  reserveMemory,
  type SgTable,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { oneStep, refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { DmaRig, HIGH, PAGE } from './dma-rig.ts';

/** Where a device of the board finds RAM. */
const SHIFT = 0x4_0000_0000;

/** A board without coherence; a device of it may have memory of its own, without pages. */
class CoherentRig extends DmaRig {
  constructor(spec = ARM_SOC, address = '03:00.0') {
    super(spec, address);
  }

  /** Gives the device a pool. */
  declarePool(pages: number): PhysAddr {
    const { machine, card } = this;
    const range = this.do(reserveMemory(machine, pages * PAGE));
    const offset = card.node.hostBridge.spec.dmaOffset;
    declareCoherentMemory(machine, card, range, dmaAddr(range.phys + offset));
    return range.phys;
  }

  alloc(size: number): CoherentMemory {
    return this.do(dmaAllocCoherent(this.machine, this.card, size));
  }

  /** With what an allocation fails. */
  allocFails(size: number) {
    const { code, reason } = this.do(refused(dmaAllocCoherent(this.machine, this.card, size)));
    return { code, reason };
  }

  cpuStore(memory: CoherentMemory, offset: number, bytes: readonly number[]): void {
    this.do(memory.store(offset, Uint8Array.from(bytes)));
  }

  cpuLoad(memory: CoherentMemory, offset: number, length: number): readonly number[] {
    return [...this.do(memory.load(offset, length))];
  }
}

/** Memory of each kind, and the rig it is on. */
function ofEachKind(spec = ARM_SOC): readonly { rig: CoherentRig; memory: CoherentMemory }[] {
  const general = new CoherentRig(spec);
  const area = new CoherentRig(spec);
  area.do(reserveContiguousArea(area.machine, area.card, 4 * PAGE));
  const pool = new CoherentRig(spec);
  pool.declarePool(4);
  return [general, area, pool].map((rig) => ({ rig, memory: rig.alloc(PAGE) }));
}

describe('Coherent memory', () => {
  test('is seen by both sides at once, and no cache is touched (I.2, S002-18)', () => {
    for (const { rig, memory } of ofEachKind()) {
      const before = rig.maintenance;
      rig.cpuStore(memory, 5, [1]);
      expect([...rig.read(rig.card, memory.address + 5, 1).bytes]).toEqual([1]);
      rig.write(rig.card, memory.address + 5, [7]);
      expect(rig.cpuLoad(memory, 5, 1)).toEqual([7]);
      expect(rig.maintenance).toBe(before);
    }
  });

  test('touches caches where cached memory does, and only there (S002-18)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    rig.do(dmaFreeCoherent(rig.alloc(PAGE)));
    expect(rig.maintenance).toBe(0);
    const pages = dmaGetSgtable(ofEachKind()[0]?.memory ?? expect.fail('memory'));
    const table = rig.do(dmaMapSgtable(rig.machine, rig.card, pages, 'bidirectional'));
    rig.do(dmaUnmapSgtable(rig.machine, rig.card, table, 'bidirectional'));
    expect(rig.maintenance).toBeGreaterThan(0);
  });

  test('tells where it is from, and nobody guesses from an address (S002-5, S002-6)', () => {
    expect(ofEachKind().map(({ memory: { origin, hasPages } }) => [origin, hasPages])).toEqual([
      ['general', true],
      ['contiguous-area', true],
      ['device-pool', false],
    ]);
  });

  test('is zero, also where a device or the CPU had written before (I.2)', () => {
    for (const { rig, memory } of ofEachKind()) {
      rig.cpuStore(memory, 0, [1]);
      rig.write(rig.card, memory.address + 64, [2]);
      rig.do(dmaFreeCoherent(memory));
      const again = rig.alloc(PAGE);
      expect(again.address).toBe(memory.address);
      expect([...rig.read(rig.card, again.address, PAGE).bytes].some((byte) => byte !== 0)).toBe(
        false,
      );
    }
  });

  test('is not overwritten by what an earlier user of the area left in the cache (I.2)', () => {
    const rig = new CoherentRig();
    const { machine, card } = rig;
    rig.do(reserveContiguousArea(machine, card, PAGE));
    const start = card.contiguousArea?.start ?? expect.fail('an area');
    rig.store(start, [9]);
    const memory = rig.alloc(PAGE);
    rig.write(card, memory.address, [7]);
    rig.do(oneStep(machine.cpu.clean(start, PAGE)));
    expect([...rig.read(card, memory.address, 1).bytes]).toEqual([7]);
  });

  test('has an entry in the IOMMU while it is allocated, and not after (I.2)', () => {
    const rig = new CoherentRig(wideMachine({ iommu: 'translated' }), '0a:00.0');
    const memory = rig.alloc(PAGE + 1);
    expect(rig.table).toMatchObject([{ iova: memory.address, size: 2 * PAGE }]);
    rig.do(dmaFreeCoherent(memory));
    expect(rig.table).toEqual([]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('freed twice is a warning (I.2)', () => {
    for (const { rig, memory } of ofEachKind()) {
      rig.do(dmaFreeCoherent(memory));
      rig.do(dmaFreeCoherent(memory));
      expect(rig.warnings).toEqual([expect.stringContaining('freed twice')]);
    }
  });
});

describe('Allocating coherent memory', () => {
  test('is ENOMEM, with a warning, without a mask: device-without-a-coherent-mask (I.2)', () => {
    const rig = new CoherentRig();
    rig.card.coherentDmaMask = 0;
    const expected = { code: 'ENOMEM', reason: 'device-without-a-coherent-mask' };
    expect(rig.allocFails(PAGE)).toEqual(expected);
    expect(rig.warnings).toHaveLength(1);
  });

  test('is ENOMEM beyond the mask, and keeps nothing: no-address-for-coherent-memory (I.2)', () => {
    const expected = { code: 'ENOMEM', reason: 'no-address-for-coherent-memory' };
    const direct = new CoherentRig();
    direct.card.coherentDmaMask = 32;
    expect(direct.allocFails(PAGE)).toEqual(expected);
    const full = new CoherentRig(wideMachine({ iommu: 'translated' }), '0a:00.0');
    useUpAddresses(full.card);
    expect(full.allocFails(PAGE)).toEqual(expected);
    for (const rig of [direct, full]) expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('is ENOMEM when no memory is left: no-coherent-memory (I.2)', () => {
    const expected = { code: 'ENOMEM', reason: 'no-coherent-memory' };
    expect(new CoherentRig(wideMachine(), '0a:00.0').allocFails(2 ** 30)).toEqual(expected);
  });

  test('from a pool fails when that is full, whatever else is free (I.3)', () => {
    const rig = new CoherentRig();
    const start = rig.declarePool(4);
    const [one, two] = [rig.alloc(3 * PAGE), rig.allocFails(1)];
    // Three pages take four.
    expect([one.address, two]).toEqual([
      start + SHIFT,
      { code: 'ENOMEM', reason: 'coherent-pool-is-full' },
    ]);
    rig.do(dmaFreeCoherent(one));
    expect(
      [rig.alloc(1), rig.alloc(2 * PAGE)].map(({ address }) => address - start - SHIFT),
    ).toEqual([0, 2 * PAGE]);
  });

  test('takes other memory when the area kept for the device is full (I.2)', () => {
    const rig = new CoherentRig();
    rig.do(reserveContiguousArea(rig.machine, rig.card, PAGE));
    expect([rig.alloc(1), rig.alloc(1)].map(({ origin }) => origin)).toEqual([
      'contiguous-area',
      'general',
    ]);
  });
});

describe('Memory of a device', () => {
  test('is one pool: the second is EBUSY: device-has-a-coherent-pool (I.3)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    expect(codeOf(() => rig.declarePool(1))).toBe('EBUSY device-has-a-coherent-pool');
  });

  test('is something: nothing is EINVAL: coherent-pool-of-nothing (I.3)', () => {
    const { machine, card } = new CoherentRig();
    const range = { phys: physAddr(PAGE), size: 0 };
    const declare = () => declareCoherentMemory(machine, card, range, dmaAddr(PAGE));
    expect(codeOf(declare)).toBe('EINVAL coherent-pool-of-nothing');
  });

  test('is ENOMEM where there is none: no-memory-to-reserve, no-area-to-keep', () => {
    const { machine, card } = new CoherentRig(wideMachine(), '0a:00.0');
    const rig = new CoherentRig(wideMachine(), '0a:00.0');
    const pool = rig.do(refused(reserveMemory(machine, 2 ** 30)));
    const area = rig.do(refused(reserveContiguousArea(machine, card, 2 ** 30)));
    expect([pool, area].map(({ code, reason }) => `${code} ${reason}`)).toEqual([
      'ENOMEM no-memory-to-reserve',
      'ENOMEM no-area-to-keep',
    ]);
  });
});

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    return `${error.code} ${error.reason}`;
  }
  return 'ok';
}

describe('The pages of coherent memory, and the fault that is stopped (S002-23)', () => {
  test('are there for memory with pages, and another device can have them (I.4)', () => {
    for (const { rig, memory } of ofEachKind().slice(0, 2)) {
      const pages = dmaGetSgtable(memory);
      const other = rig.at('04:00.0');
      const table = rig.do(dmaMapSgtable(rig.machine, other, pages, 'to-device'));
      rig.cpuStore(memory, 0, [5]);
      expect([...rig.read(other, table.entries[0]?.address ?? 0, 1).bytes]).toEqual([5]);
    }
  });

  test('that do not exist are refused at once, not at some map (I.4, S002-21, MP-015)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    const memory = rig.alloc(PAGE);
    expect(codeOf(() => dmaGetSgtable(memory))).toBe('ENXIO coherent-memory-without-pages');
  });

  test('that do not exist take the kernel down at a map (I.4, S002-1, MP-015)', () => {
    for (const [spec, from, to] of [
      [ARM_SOC, '03:00.0', '04:00.0'],
      [wideMachine(), '0a:00.0', '03:00.0'],
      [wideMachine({ iommu: 'translated' }), '0a:00.0', '03:00.0'],
    ] as const) {
      const rig = new CoherentRig(spec, from);
      rig.declarePool(1);
      const pages = dmaGetSgtableUnchecked(rig.alloc(PAGE));
      const { outcome } = rig.try(dmaMapSgtable(rig.machine, rig.at(to), pages, 'to-device'));
      expect(outcome.status).toBe('oops');
      const [oops] = rig.events('kernel.oops');
      expect(oops).toMatchObject({
        text:
          'page fault at a struct page: dma_map_sgtable < ' +
          `dma_get_sgtable on the device-pool of 0000:${from}`,
      });
    }
  });

  test('that do not exist are refused by a rule with an id (S002-13, MP-015)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    const memory = rig.alloc(PAGE);
    try {
      expect.fail(`${dmaGetSgtable(memory).ranges.length} ranges`);
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      const detail = { rule: 'MP-015', device: rig.card.name, origin: 'device-pool' };
      expect(error.detail).toMatchObject(detail);
    }
  });

  test('are not asked for page by page: nothing has a kmap (S002-14)', () => {
    for (const { prototype } of [DmaBuf, CoherentMemory, MappedSgTable]) {
      expect(Object.getOwnPropertyNames(prototype).filter((name) => /kmap/i.test(name))).toEqual(
        [],
      );
    }
  });

  test('that do not exist trap whoever looks one up (S002-8, S002-14)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    const pages = dmaGetSgtableUnchecked(rig.alloc(PAGE));
    expect(() => pagesOf(pages)).toThrow('no page is there: dma_get_sgtable on the device-pool');
  });

  test('are not told by their address: a guess says yes where the kind says no (S002-20)', () => {
    const rig = new CoherentRig();
    const start = rig.declarePool(1);
    const memory = rig.alloc(PAGE);
    // What `pfn_valid()` goes by: there is RAM at the address.
    expect(rig.machine.memory.bankAt(start)).not.toBeNull();
    expect(memory.hasPages).toBe(false);
    expect(codeOf(() => dmaGetSgtable(memory))).toContain('coherent-memory-without-pages');
  });

  test('are never anything but pages, whatever is allocated (S002-7)', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 3 * PAGE }), { maxLength: 6 });
    const kinds = fc.constantFrom('pool' as const, 'area' as const, 'none' as const);
    fc.assert(
      fc.property(sizes, kinds, (each, kind) => {
        const rig = new CoherentRig();
        const pool = kind === 'pool' ? rig.declarePool(32) : Infinity;
        if (kind === 'area') rig.do(reserveContiguousArea(rig.machine, rig.card, 8 * PAGE));
        for (const memory of each.map((size) => rig.alloc(size))) {
          let pages: readonly number[] = [];
          if (codeOf(() => (pages = pagesOf(dmaGetSgtable(memory)))) !== 'ok') continue;
          for (const page of pages) {
            expect(page % PAGE).toBe(0);
            expect(page >= pool && page < pool + 32 * PAGE).toBe(false);
          }
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe('Streaming calls', () => {
  test('are not told the kind of memory: a word for it changes nothing (S002-4)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    const { machine, card } = rig;
    const memory = rig.alloc(PAGE);
    const attrs = { noPages: true, coherent: true } as object;
    const forged = memory as unknown as PageList;
    const call = dmaMapSgtable(machine, card, forged, 'bidirectional', attrs);
    expect(rig.do(refused(call)).reason).toBe('pages-that-are-none');
    expect([memory.origin, memory.hasPages]).toEqual(['device-pool', false]);
  });

  test('refuse coherent memory also at run time, forged into their types (S002-16, AC-19)', () => {
    const rig = new CoherentRig();
    rig.declarePool(1);
    const { machine, card } = rig;
    const forged = rig.alloc(PAGE) as unknown as PageList & SgTable;
    const error = rig.do(refused(dmaMapSgtable(machine, card, forged, 'bidirectional')));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'pages-that-are-none' });
    rig.do(dmaUnmapSgtable(machine, card, forged, 'bidirectional'));
    expect(rig.warnings).toHaveLength(2);
    expect(rig.maintenance).toBe(0);
  });
});

describe('A map of coherent memory in a process', () => {
  /** Maps `pages` pages from page `pgoff` on. */
  function* mmap(rig: CoherentRig, memory: CoherentMemory, pages: number, pgoff = 0): Task<number> {
    const request = {
      size: pages * PAGE,
      pgoff,
      read: true,
      write: true,
      isShared: true,
      file: null,
    };
    const { start } = yield* rig.process.mm.map(request, (vma) => dmaMmapCoherent(memory, vma));
    return start;
  }

  test('needs no pages, and is not cached (I.3, S002-15)', () => {
    for (const { rig, memory } of ofEachKind()) {
      const at = rig.do(mmap(rig, memory, 1)) as Parameters<typeof rig.process.mm.load>[0];
      rig.do(rig.process.mm.store(at, Uint8Array.of(4)));
      expect([...rig.read(rig.card, memory.address, 1).bytes]).toEqual([4]);
      rig.write(rig.card, memory.address, [6]);
      expect([...rig.do(rig.process.mm.load(at, 1))]).toEqual([6]);
    }
  });

  test.each([
    [3, 0],
    [2, 1],
    [1, 2],
  ])(
    'is ENXIO when %d pages from %d are not in it: map-leaves-the-coherent-memory (I.3)',
    (pages, at) => {
      const rig = new CoherentRig();
      rig.declarePool(4);
      const error = rig.do(refused(mmap(rig, rig.alloc(2 * PAGE), pages, at)));
      expect(error).toMatchObject({ code: 'ENXIO', reason: 'map-leaves-the-coherent-memory' });
    },
  );

  test('begins where the offset says (I.3)', () => {
    const rig = new CoherentRig();
    const memory = rig.alloc(2 * PAGE);
    rig.cpuStore(memory, PAGE, [8]);
    const at = rig.do(mmap(rig, memory, 1, 1)) as Parameters<typeof rig.process.mm.load>[0];
    expect([...rig.do(rig.process.mm.load(at, 1))]).toEqual([8]);
  });
});

test('RAM beyond 32 bits is out of reach of no coherent device that says 64 bits', () => {
  const rig = new CoherentRig(wideMachine(), '0a:00.0');
  const [bank] = rig.machine.memory.banks;
  const size = (bank?.spec.size ?? 0) - 2 ** 20;
  rig.alloc(size);
  expect(rig.alloc(PAGE).address).toBeGreaterThanOrEqual(HIGH);
  rig.card.coherentDmaMask = 32;
  expect(rig.allocFails(PAGE).code).toBe('ENOMEM');
});
