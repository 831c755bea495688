/**
 * Goal: blocks of I/O addresses are taken, filled, emptied and let go as Linux does it, errno by
 * errno. Method: RAM and BARs; reference C.4.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DmaDirection, physAddr } from '../../src/base/index.ts';
import {
  type DmaIova,
  dmaIovaDestroy,
  dmaIovaFree,
  dmaIovaLink,
  dmaIovaSync,
  dmaIovaTryAlloc,
  dmaIovaUnlink,
  dmaUseIova,
  type MappedKind,
  swiotlbInit,
} from '../../src/framework/index.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BASE, DmaRig, HIGH, PAGE } from './dma-rig.ts';

class IovaRig extends DmaRig {
  constructor(options: Parameters<typeof wideMachine>[0] = {}) {
    super(wideMachine({ iommu: 'translated', ...options }));
  }

  tryAlloc(size: number, phys = BASE): DmaIova | null {
    return this.do(dmaIovaTryAlloc(this.machine, this.card, physAddr(phys), size));
  }

  alloc(size: number, phys = BASE): DmaIova {
    return this.tryAlloc(size, phys) ?? expect.fail('a block');
  }

  linking(
    state: DmaIova,
    phys: number,
    size: number,
    offset: number,
    kind: MappedKind = 'ram',
    attrs = {},
  ) {
    const range = { phys: physAddr(phys), size };
    return dmaIovaLink(this.machine, this.card, state, range, offset, 'bidirectional', kind, attrs);
  }

  link(state: DmaIova, phys: number, size: number, offset: number): void {
    this.do(this.linking(state, phys, size, offset));
  }

  unlink(state: DmaIova, offset: number, size: number, direction: DmaDirection = 'bidirectional') {
    const { machine, card } = this;
    this.do(dmaIovaUnlink(machine, card, state, offset, size, direction, 'ram'));
  }
}

describe('dma_iova_try_alloc', () => {
  test('gives no block to a device without an IOMMU domain (C.4)', () => {
    const rig = new IovaRig({ iommu: 'passthrough' });
    expect(rig.tryAlloc(PAGE)).toBeNull();
    expect(dmaUseIova(rig.tryAlloc(PAGE))).toBe(false);
    expect(rig.warnings).toEqual([]);
  });

  test.each([0, 2 ** 63])('warns, and gives no block, for %d bytes (C.4)', (size) => {
    const rig = new IovaRig();
    expect(rig.tryAlloc(size)).toBeNull();
    expect(rig.warnings).toEqual([`dma_iova_try_alloc: a block of ${size} bytes`]);
  });

  test('gives no block when no address is left, and says nothing (C.4)', () => {
    const rig = new IovaRig();
    useUpAddresses(rig.card);
    expect(rig.tryAlloc(PAGE)).toBeNull();
    expect(rig.warnings).toEqual([]);
  });

  test('takes addresses that lead nowhere until they are linked (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(2 * PAGE);
    expect(dmaUseIova(block)).toBe(true);
    const other = rig.alloc(2 * PAGE);
    expect(Math.abs(other.address - block.address)).toBeGreaterThanOrEqual(2 * PAGE);
    rig.write(rig.card, block.address, [1]);
    expect(rig.fault).toMatchObject({ why: 'nothing is mapped at this address' });
    expect(rig.events('iommu.map')).toEqual([]);
    for (const one of [block, other]) rig.do(dmaIovaFree(one));
    expect(rig.table).toEqual([]);
  });

  test('keeps the offset in a page of what comes first (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(PAGE, BASE + 0x10);
    expect(block.address % PAGE).toBe(0x10);
    rig.link(block, BASE + 0x10, PAGE, 0);
    rig.write(rig.card, block.address + PAGE - 1, [7]);
    expect(rig.ram(BASE + 0x10 + PAGE - 1, 1)).toEqual([7]);
    rig.unlink(block, 0, PAGE);
    rig.do(dmaIovaFree(block));
    expect(rig.table).toEqual([]);
  });

  test('stays below the mask of the device (C.4)', () => {
    const rig = new IovaRig();
    rig.card.dmaMask = 20;
    expect(rig.alloc(PAGE).address).toBeLessThan(2 ** 20);
  });
});

describe('dma_iova_link', () => {
  test('puts ranges one behind the other, and a sync of all of them is silent (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(3 * PAGE);
    rig.link(block, BASE, PAGE, 0);
    rig.link(block, HIGH, 2 * PAGE, PAGE);
    rig.do(dmaIovaSync(rig.machine, block, 0, 3 * PAGE));
    rig.write(rig.card, block.address + PAGE - 1, [1, 2]);
    expect([rig.ram(BASE + PAGE - 1, 1), rig.ram(HIGH, 1)]).toEqual([[1], [2]]);
    expect(rig.warnings).toEqual([]);
    rig.do(dmaIovaDestroy(block));
    expect(rig.table).toEqual([]);
  });

  test('is EIO, and a warning, for a later range within a page (C.4)', () => {
    const rig = new IovaRig();
    const error = rig.do(refused(rig.linking(rig.alloc(2 * PAGE), BASE + 8, 8, PAGE)));
    expect(error).toMatchObject({ code: 'EIO', reason: 'later-range-begins-within-a-page' });
    expect(rig.warnings).toHaveLength(1);
  });

  test('is EIO for a part that is linked already: part-of-the-block-is-taken (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(PAGE);
    rig.link(block, BASE, PAGE, 0);
    const error = rig.do(refused(rig.linking(block, HIGH, PAGE, 0)));
    expect(error).toMatchObject({ code: 'EIO', reason: 'part-of-the-block-is-taken' });
  });

  test('is EOPNOTSUPP when coherence is required (C.4)', () => {
    const rig = new IovaRig({ coherentDma: false });
    const attrs = { requireCoherent: true };
    const error = rig.do(refused(rig.linking(rig.alloc(PAGE), BASE, PAGE, 0, 'ram', attrs)));
    expect(error).toMatchObject({
      code: 'EOPNOTSUPP',
      reason: 'block-for-a-device-that-is-not-coherent',
    });
  });

  test('is EPERM for device memory that would bounce (C.4)', () => {
    const rig = new IovaRig();
    rig.card.isUntrusted = true;
    const bar = rig.at('03:00.0').barStart(2);
    const error = rig.do(refused(rig.linking(rig.alloc(8, bar), bar, 8, 0, 'mmio')));
    expect(error).toMatchObject({ code: 'EPERM', reason: 'device-memory-has-no-bounce-buffer' });
  });

  test('bounces a part of a page for a device that is not trusted (C.4, I.6)', () => {
    const rig = new IovaRig();
    rig.card.isUntrusted = true;
    const missing = rig.do(refused(rig.linking(rig.alloc(8), BASE, 8, 0)));
    expect(missing).toMatchObject({ code: 'ENOMEM', reason: 'no-bounce-buffer-for-the-block' });
    rig.do(swiotlbInit(rig.machine, 16 * PAGE));
    rig.store(HIGH, [1, 2]);
    const block = rig.alloc(1, HIGH);
    rig.link(block, HIGH, 1, 0);
    expect([...rig.read(rig.card, block.address, 2).bytes]).toEqual([1, 0]);
    rig.write(rig.card, block.address, [9]);
    rig.unlink(block, 0, 1);
    rig.do(dmaIovaFree(block));
    expect(rig.load(HIGH, 2)).toEqual([9, 2]);
    expect(rig.machine.bouncePool?.value).toEqual([]);
  });

  test('keeps no bounce buffer for a part that is taken (C.4)', () => {
    const rig = new IovaRig();
    rig.card.isUntrusted = true;
    rig.do(swiotlbInit(rig.machine, 16 * PAGE));
    const block = rig.alloc(PAGE);
    rig.link(block, BASE, PAGE, 0);
    expect(rig.do(refused(rig.linking(block, HIGH, 8, 0))).code).toBe('EIO');
    expect(rig.machine.bouncePool?.value).toEqual([]);
  });

  test('cleans RAM for a device that does not see caches, and no device memory (C.4)', () => {
    const rig = new IovaRig({ coherentDma: false });
    const block = rig.alloc(2 * PAGE);
    rig.store(BASE, [5]);
    rig.do(rig.linking(block, rig.at('09:00.0').barStart(2), PAGE, PAGE, 'mmio'));
    expect(rig.maintenance).toBe(0);
    rig.link(block, BASE, PAGE, 0);
    expect([...rig.read(rig.card, block.address, 1).bytes]).toEqual([5]);
    rig.write(rig.card, block.address, [6]);
    rig.unlink(block, 0, PAGE);
    expect(rig.load(BASE, 1)).toEqual([6]);
  });
});

describe('dma_iova_sync', () => {
  test('warns of a part that is not linked (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(2 * PAGE);
    rig.link(block, BASE, PAGE, 0);
    rig.do(dmaIovaSync(rig.machine, block, 0, 2 * PAGE));
    expect(rig.warnings).toEqual(['dma_iova_sync: a part of the block is not linked']);
  });
});

describe('dma_iova_unlink', () => {
  test('empties a part that can be filled anew, also the middle of a range (C.4)', () => {
    const rig = new IovaRig();
    const block = rig.alloc(3 * PAGE);
    rig.link(block, BASE, 3 * PAGE, 0);
    rig.unlink(block, PAGE, PAGE);
    rig.link(block, HIGH, PAGE, PAGE);
    for (const i of [0, 1, 2]) rig.write(rig.card, block.address + i * PAGE, [i + 1]);
    const seen = [BASE, HIGH, BASE + 2 * PAGE].map((phys) => rig.ram(phys, 1)[0]);
    expect(seen).toEqual([1, 2, 3]);
    rig.unlink(block, 0, 3 * PAGE);
    rig.write(rig.card, block.address, [9]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault' });
    rig.do(dmaIovaFree(block));
    expect(rig.table).toEqual([]);
  });
});

test('Blocks of random ranges bring each byte where it belongs and leave nothing (C.4)', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(sizes, fc.boolean(), (pages, inOrder) => {
      const rig = new IovaRig();
      const block = rig.alloc(pages.reduce((sum, count) => sum + count * PAGE, 0));
      let offset = 0;
      const parts = pages.map((count, i) => {
        const made = { phys: BASE + i * 16 * PAGE, size: count * PAGE, offset };
        offset += made.size;
        return made;
      });
      for (const part of inOrder ? parts : parts.toReversed()) {
        rig.link(block, part.phys, part.size, part.offset);
      }
      for (const { phys, size, offset: at } of parts) {
        rig.write(rig.card, block.address + at + size - 1, [size / PAGE]);
        expect(rig.ram(phys + size - 1, 1)).toEqual([size / PAGE]);
      }
      for (const { size, offset: at } of parts) rig.unlink(block, at, size);
      rig.do(dmaIovaFree(block));
      expect(rig.table).toEqual([]);
      expect(rig.machine.faults).toEqual([]);
    }),
    { numRuns: 50 },
  );
});
