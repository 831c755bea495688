/**
 * Goal: on a machine whose devices do not see the CPU's cache, a forgotten sync shows as stale
 * bytes, and the right one mends it; on a coherent machine nothing is needed. Method: the same
 * program on both, line by line.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import { CACHE_LINE_SIZE } from '../../src/machine/index.ts';
import { FabricRig, oneStep } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const MIB = 2 ** 20;
const BASE = 2 * MIB;
const CARD = '03:00.0';

function machine(coherentDma: boolean) {
  const rig = new FabricRig(wideMachine({ coherentDma }));
  const { cpu } = rig.machine;
  return {
    rig,
    store: (offset: number, bytes: readonly number[]): void =>
      rig.do(oneStep(cpu.store(physAddr(BASE + offset), Uint8Array.from(bytes)))),
    load: (offset: number, length: number): readonly number[] => [
      ...rig.do(oneStep(cpu.load(physAddr(BASE + offset), length))),
    ],
    clean: (offset: number, length: number): void =>
      rig.do(oneStep(cpu.clean(physAddr(BASE + offset), length))),
    invalidate: (offset: number, length: number): void =>
      rig.do(oneStep(cpu.invalidate(physAddr(BASE + offset), length))),
    dmaWrite: (offset: number, bytes: readonly number[]): void =>
      void rig.write(CARD, BASE + offset, bytes),
    dmaRead: (offset: number, length: number): readonly number[] => [
      ...rig.read(CARD, BASE + offset, length).bytes,
    ],
  };
}

describe('On a coherent machine', () => {
  test('CPU and device see at once what the other wrote', () => {
    const { rig, store, load, dmaWrite, dmaRead } = machine(true);
    store(0, [1, 2]);
    expect(dmaRead(0, 2)).toEqual([1, 2]);
    dmaWrite(1, [9]);
    expect(load(0, 2)).toEqual([1, 9]);
    expect(rig.trace.filter(({ kind }) => kind.startsWith('cache'))).toEqual([]);
  });

  test('maintenance does nothing and says nothing', () => {
    const { rig, store, load, clean, invalidate } = machine(true);
    store(0, [1]);
    clean(0, 64);
    invalidate(0, 64);
    expect(load(0, 1)).toEqual([1]);
    expect(rig.trace.filter(({ kind }) => kind.startsWith('cache'))).toEqual([]);
  });
});

describe('On a machine whose devices do not see the cache', () => {
  test("the device reads old bytes until the CPU's are cleaned", () => {
    const { rig, store, clean, dmaRead } = machine(false);
    store(0, [1, 2]);
    expect(dmaRead(0, 2)).toEqual([0, 0]);
    clean(0, 2);
    expect(dmaRead(0, 2)).toEqual([1, 2]);
    const cleaned = rig.trace.filter(({ kind }) => kind === 'cache.clean');
    expect(cleaned).toMatchObject([{ phys: BASE, size: 2 }]);
  });

  test('the CPU reads what it has read before until it is invalidated', () => {
    const { rig, load, invalidate, dmaWrite } = machine(false);
    expect(load(0, 1)).toEqual([0]);
    dmaWrite(0, [7]);
    expect(load(0, 1)).toEqual([0]);
    invalidate(0, 1);
    expect(load(0, 1)).toEqual([7]);
    const invalidated = rig.trace.filter(({ kind }) => kind === 'cache.invalidate');
    expect(invalidated).toMatchObject([{ phys: BASE, size: 1 }]);
  });

  test('stale bytes are reported, in the name of who read them (AC-18)', () => {
    const { rig, store, load, clean, invalidate, dmaWrite, dmaRead } = machine(false);
    store(0, [1, 2, 3]);
    dmaRead(1, 2);
    clean(0, 3);
    dmaRead(1, 2);
    load(CACHE_LINE_SIZE, 4);
    dmaWrite(CACHE_LINE_SIZE, [7]);
    load(CACHE_LINE_SIZE + 1, 1);
    load(CACHE_LINE_SIZE, 4);
    invalidate(CACHE_LINE_SIZE, 4);
    load(CACHE_LINE_SIZE, 4);
    expect(rig.trace.filter(({ kind }) => kind === 'cache.stale')).toMatchObject([
      { reader: '0000:03:00.0', phys: BASE + 1, size: 2 },
      { reader: 'cpu', phys: BASE + CACHE_LINE_SIZE, size: 1 },
    ]);
    expect(rig.stale).toHaveLength(2);
  });

  test('the CPU reads fresh bytes of a line that it never touched', () => {
    const { load, dmaWrite } = machine(false);
    dmaWrite(CACHE_LINE_SIZE, [7]);
    expect(load(CACHE_LINE_SIZE, 1)).toEqual([7]);
  });

  test('an invalidate instead of a clean loses what the CPU wrote', () => {
    const { store, load, invalidate } = machine(false);
    store(0, [1]);
    invalidate(0, CACHE_LINE_SIZE);
    expect(load(0, 1)).toEqual([0]);
  });

  test('a line goes to memory whole: what the device wrote beside is lost', () => {
    const { store, clean, dmaWrite, dmaRead } = machine(false);
    store(0, [1]);
    dmaWrite(1, [7]);
    clean(0, 1);
    expect(dmaRead(0, 2)).toEqual([1, 0]);
  });

  test('cleaning a clean line writes nothing', () => {
    const { load, clean, dmaWrite, dmaRead } = machine(false);
    load(0, 1);
    dmaWrite(0, [7]);
    clean(0, 1);
    expect(dmaRead(0, 1)).toEqual([7]);
  });

  test('part of a line is maintained as the whole line', () => {
    const { store, clean, dmaRead } = machine(false);
    store(10, [1]);
    store(CACHE_LINE_SIZE + 10, [2]);
    clean(CACHE_LINE_SIZE - 1, 2);
    expect([dmaRead(10, 1), dmaRead(CACHE_LINE_SIZE + 10, 1)]).toEqual([[1], [2]]);
  });

  test('a line that the range does not touch stays as it is', () => {
    const { store, clean, invalidate, dmaRead, load } = machine(false);
    store(0, [1]);
    store(2 * CACHE_LINE_SIZE, [2]);
    clean(CACHE_LINE_SIZE, CACHE_LINE_SIZE);
    invalidate(CACHE_LINE_SIZE, CACHE_LINE_SIZE);
    expect([dmaRead(0, 1), dmaRead(2 * CACHE_LINE_SIZE, 1)]).toEqual([[0], [0]]);
    expect([load(0, 1), load(2 * CACHE_LINE_SIZE, 1)]).toEqual([[1], [2]]);
  });

  test('an invalidate of part of a line keeps what the CPU wrote beside it', () => {
    const { store, load, invalidate } = machine(false);
    store(0, [1]);
    invalidate(CACHE_LINE_SIZE / 2, CACHE_LINE_SIZE / 2);
    expect(load(0, 1)).toEqual([1]);
  });

  test('with clean after every store and invalidate before every load all see the same', () => {
    const access = fc.record({
      offset: fc.integer({ min: 0, max: 300 }),
      bytes: fc.array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 150 }),
      byDevice: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 10 }), (accesses) => {
        const { store, load, clean, invalidate, dmaWrite, dmaRead } = machine(false);
        const expected = new Uint8Array(512);
        for (const { offset, bytes, byDevice } of accesses) {
          expected.set(bytes, offset);
          invalidate(offset, bytes.length);
          if (byDevice) {
            dmaWrite(offset, bytes);
          } else {
            store(offset, bytes);
            clean(offset, bytes.length);
          }
        }
        invalidate(0, 512);
        expect(load(0, 512)).toEqual([...expected]);
        expect(dmaRead(0, 512)).toEqual([...expected]);
      }),
    );
  });
});
