/**
 * Goal: RAM holds the bytes that were written, pages are handed out once and come zeroed. Method:
 * real bytes against a plain array; one allocator to its end.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isDmaBufError, PAGE_SIZE, physAddr } from '../../src/base/index.ts';
import { Machine, MachinePlan, type MachineSpec, Scheduler } from '../../src/machine/index.ts';
import { complete, FabricRig, oneStep } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;

function machineWith(memory: MachineSpec['memory'], coherentDma = true) {
  const rig = new FabricRig({ ...wideMachine(), memory, coherentDma });
  const { machine } = rig;
  const allocate = (pages: number, node?: number): number | null =>
    rig.do(oneStep(machine.memory.allocate(pages, node)));
  const free = (phys: number, pages: number): void =>
    rig.do(oneStep(machine.memory.free(physAddr(phys), pages)));
  const store = (phys: number, bytes: readonly number[]): void =>
    rig.do(oneStep(machine.cpu.store(physAddr(phys), Uint8Array.from(bytes))));
  const load = (phys: number, length: number): readonly number[] => [
    ...rig.do(oneStep(machine.cpu.load(physAddr(phys), length))),
  ];
  return { rig, machine, allocate, free, store, load };
}

const SMALL = [{ node: 0, start: 0, size: MIB + 8 * PAGE_SIZE }];

describe('RAM', () => {
  test('holds what was written, byte by byte, whoever wrote it', () => {
    const write = fc.record({
      offset: fc.integer({ min: 0, max: 40_000 }),
      bytes: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 200 }),
      byDevice: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(write, { maxLength: 12 }), (writes) => {
        const { rig, store, load } = machineWith([{ node: 0, start: 0, size: MIB }]);
        const expected = new Uint8Array(48 * 1024);
        for (const { offset, bytes, byDevice } of writes) {
          if (byDevice) rig.write('03:00.0', offset, bytes);
          else store(offset, bytes);
          expected.set(bytes, offset);
        }
        expect(load(0, expected.length)).toEqual([...expected]);
        const { bytes } = rig.read('41:00.0', 0, expected.length);
        expect(Buffer.from(bytes).equals(Buffer.from(expected))).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('is found by its address, on the node that has it', () => {
    const { machine } = new FabricRig(wideMachine());
    expect(machine.memory.bankAt(GIB - 1)?.spec.node).toBe(0);
    expect(machine.memory.bankAt(GIB)).toBeNull();
    expect(machine.memory.bankAt(4 * GIB)?.spec.node).toBe(1);
    expect(machine.memory.bankAt(5 * GIB)).toBeNull();
  });
});

describe('The page allocator', () => {
  test('hands out page after page, each once, from the node that was asked', () => {
    const { machine, allocate } = machineWith(wideMachine().memory);
    const all = [allocate(1), allocate(3), allocate(1), allocate(2, 1), allocate(1, 1)];
    expect(all).toEqual([
      MIB,
      MIB + PAGE_SIZE,
      MIB + 4 * PAGE_SIZE,
      4 * GIB + MIB,
      4 * GIB + MIB + 2 * PAGE_SIZE,
    ]);
    expect(machine.memory.pagesInUse).toBe(8);
  });

  test('takes the first range for a node that has none', () => {
    const { allocate } = machineWith(wideMachine().memory);
    expect(allocate(1, 17)).toBe(MIB);
  });

  test('has nothing left at the end of the range, until something is given back', () => {
    const { machine, allocate, free } = machineWith(SMALL);
    const got = Array.from({ length: 8 }, () => allocate(1));
    expect(new Set(got).size).toBe(8);
    expect(got).not.toContain(null);
    expect(allocate(1)).toBeNull();
    free(got[3] ?? 0, 1);
    expect(allocate(1)).toBe(got[3]);
    expect(machine.memory.pagesInUse).toBe(8);
  });

  test('hands out zeroes, also in pages that were used before', () => {
    const { allocate, free, store, load } = machineWith(SMALL);
    const first = allocate(2) ?? expect.fail('pages');
    store(first + PAGE_SIZE - 2, [1, 2, 3, 4]);
    free(first, 2);
    const again = allocate(2) ?? expect.fail('pages');
    expect(again).toBe(first);
    expect(load(again + PAGE_SIZE - 2, 4)).toEqual([0, 0, 0, 0]);
  });

  test('sets pages aside at boot, the highest, aligned, and never hands them out', () => {
    const { machine, allocate } = machineWith(SMALL);
    const start = machine.memory.reserve(2, 4 * PAGE_SIZE) ?? expect.fail('room');
    expect(start % (4 * PAGE_SIZE)).toBe(0);
    expect(machine.memory.pagesInUse).toBe(0);
    const got = Array.from({ length: 6 }, () => allocate(1) ?? expect.fail('a page'));
    expect(got.filter((phys) => phys >= start && phys < start + 2 * PAGE_SIZE)).toEqual([]);
    expect(allocate(1)).toBeNull();
    expect(machine.memory.pagesInUse).toBe(6);
  });

  test('sets nothing aside where there is no room', () => {
    const { machine } = machineWith(SMALL);
    expect(machine.memory.reserve(9, PAGE_SIZE)).toBeNull();
  });

  test('allows 1 to 2^20 pages in a piece', () => {
    const { machine } = machineWith(SMALL);
    expect(() => machine.memory.allocate(0)).toThrow('1 to 2^20 pages, not 0');
    expect(() => machine.memory.allocate(2 ** 20 + 1)).toThrow('1 to 2^20 pages');
    expect(() => machine.memory.free(physAddr(GIB), 1)).toThrow('freed pages are RAM');
  });

  test('of a machine without RAM says ENOMEM: no-memory-at-all', () => {
    const machine = new Machine(new MachinePlan({ ...wideMachine(), memory: [] }), new Scheduler());
    try {
      machine.memory.allocate(1);
      expect.fail('there is no memory');
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-at-all' });
    }
  });

  test('hands out zeroes to the CPU also where it has a cache of its own', () => {
    const { allocate, free, store, load } = machineWith(SMALL, false);
    const first = allocate(1) ?? expect.fail('a page');
    store(first, [1, 2, 3]);
    free(first, 1);
    expect(load(allocate(1) ?? 0, 3)).toEqual([0, 0, 0]);
  });

  test('hands out zeroes also where a device strayed before', () => {
    const { rig, allocate, load } = machineWith(SMALL);
    rig.write('03:00.0', MIB, [1]);
    expect(load(allocate(1) ?? 0, 1)).toEqual([0]);
  });

  test('goes on to the next range of the node, and then to other nodes', () => {
    const { allocate } = machineWith([
      { node: 0, start: 0, size: MIB + PAGE_SIZE },
      { node: 0, start: 16 * MIB, size: 2 * MIB },
    ]);
    expect(allocate(1)).not.toBeNull();
    expect(allocate(1)).not.toBeNull();
  });

  test('makes a large piece of small ones that were given back', () => {
    const { allocate, free } = machineWith(SMALL);
    const got = Array.from({ length: 8 }, () => allocate(1) ?? expect.fail('a page'));
    for (const phys of got) free(phys, 1);
    expect(allocate(2)).not.toBeNull();
  });

  test('stops the kernel when pages come back that are free already', () => {
    const { rig, machine, allocate, free } = machineWith(SMALL);
    const at = allocate(2) ?? expect.fail('pages');
    free(at, 2);
    const again = oneStep(machine.memory.free(physAddr(at + PAGE_SIZE), 1));
    expect(rig.try(again).outcome.findings).toMatchObject([
      { kind: 'oops', title: 'free_pages: pages that are free already' },
    ]);
  });
});

describe('Two machines in one process', () => {
  test('do not share a byte', () => {
    const plan = new MachinePlan(wideMachine());
    const [one, other] = [new Machine(plan, new Scheduler()), new Machine(plan, new Scheduler())];
    const phys = physAddr(MIB);
    complete(one.scheduler, oneStep(one.cpu.store(phys, Uint8Array.of(1))));
    expect(complete(other.scheduler, oneStep(other.cpu.load(phys, 1)))).toEqual(Uint8Array.of(0));
  });
});
