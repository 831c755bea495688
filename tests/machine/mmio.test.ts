/**
 * Goal: the CPU reaches what is in a BAR, wherever the host bridge puts it on the bus; what is not
 * answered reads as ones and is lost as a write, with a fault in the CPU's name. Method: loads and
 * stores on the PC-like machine and on the Arm board; a mapping that comes and goes.
 */

import { describe, expect, test } from 'vitest';
import { type PhysAddr, physAddr } from '../../src/base/index.ts';
import { Machine, MachinePlan, MmioMapping, Scheduler } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { complete, FabricRig, oneStep } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const ONES = [0xff, 0xff];
const MIB = 2 ** 20;

function mmio(spec = wideMachine()) {
  const rig = new FabricRig(spec);
  const { cpu } = rig.machine;
  const read = (phys: number, length: number): readonly number[] => [
    ...rig.do(oneStep(cpu.mmioRead(physAddr(phys), length))),
  ];
  const write = (phys: number, bytes: readonly number[]): void =>
    rig.do(oneStep(cpu.mmioWrite(physAddr(phys), Uint8Array.from(bytes))));
  return { rig, read, write };
}

describe('The CPU', () => {
  test.each([
    ['behind a switch', '03:00.0'],
    ['behind a cascade', '08:00.0'],
    ['below the second host bridge', '41:00.0'],
  ])('reads and writes a BAR %s', (_, address) => {
    const { rig, read, write } = mmio();
    const start = rig.at(address).barStart(2);
    write(start + 4, [1, 2]);
    expect(rig.device(address).bar(2).writes).toEqual([{ offset: 4, bytes: [1, 2] }]);
    expect(read(start + 3, 4)).toEqual([0, 1, 2, 0]);
    expect(rig.machine.faults).toEqual([]);
    const notes = rig.trace.filter(({ kind }) => kind.startsWith('mmio'));
    expect(notes).toMatchObject([
      { kind: 'mmio.write', target: `0000:${address} BAR2+0x4`, length: 2, result: 'done' },
      { kind: 'mmio.read', target: `0000:${address} BAR2+0x3`, length: 4, result: 'done' },
    ]);
  });

  test('finds a BAR at its CPU address where the bus has another', () => {
    const { rig, read, write } = mmio(ARM_SOC);
    const start = rig.at('03:00.0').barStart(2);
    write(start, [5, 6]);
    expect(rig.device('03:00.0').bar(2).writes).toEqual([{ offset: 0, bytes: [5, 6] }]);
    expect(read(start, 2)).toEqual([5, 6]);
  });

  test('writes behind its cache: BARs are never cached', () => {
    const { rig, read, write } = mmio(ARM_SOC);
    const start = rig.at('03:00.0').barStart(2);
    write(start, [1]);
    rig.write('04:00.0', rig.busAddressOf('03:00.0', 2), [2]);
    expect(read(start, 1)).toEqual([2]);
  });

  test('reads ones and loses writes while memory decoding is off; the fault names both', () => {
    const { rig, read, write } = mmio();
    const fn = rig.at('03:00.0');
    rig.do(oneStep(fn.writeCommand(4)));
    write(fn.barStart(2), [1]);
    expect(read(fn.barStart(2), 2)).toEqual(ONES);
    const fault = { kind: 'pci.fault', device: 'cpu', address: fn.barStart(2), at: fn.name };
    const why = 'memory decoding is off: unsupported request';
    expect(rig.machine.faults).toEqual([
      { ...fault, access: 'write', why },
      { ...fault, access: 'read', why },
    ]);
    rig.do(oneStep(fn.writeCommand(2)));
    expect(read(fn.barStart(2), 2)).toEqual([0, 0]);
  });

  test('reads ones in a hole, and beyond the last BAR', () => {
    const { rig, read } = mmio();
    const hole = rig.at('03:00.0').barStart(0) + 0x10000;
    expect(read(hole, 2)).toEqual(ONES);
    expect(read(2 ** 51, 2)).toEqual(ONES);
    expect(rig.machine.faults).toMatchObject([
      { device: 'cpu', address: hole, at: '0000:02:00.0' },
      { device: 'cpu', address: 2 ** 51, at: 'root-complex' },
    ]);
  });

  test('is split at the end of a BAR as a device is', () => {
    const { rig, write, read } = mmio();
    const next = rig.at('04:00.1').barStart(2);
    write(next - 1, [1, 2]);
    expect(rig.arrived.map(({ device, offset }) => [device, offset])).toEqual([
      ['0000:04:00.0', MIB - 1],
      ['0000:04:00.1', 0],
    ]);
    expect(read(rig.at('0a:00.0').barStart(2) + MIB - 1, 2)).toEqual([0, 0xff]);
  });
});

describe('A mapped BAR', () => {
  function mapped(size = MIB) {
    const rig = new FabricRig(wideMachine());
    const phys: PhysAddr = rig.at('04:00.0').barStart(2);
    const mapping = new MmioMapping(rig.machine, '0000:04:00.0 BAR2', phys, size);
    return { rig, mapping };
  }

  test('is a page fault until it is present, and then reaches the device', () => {
    const { rig, mapping } = mapped();
    expect(rig.do(oneStep(mapping.read(0, 2)))).toBeNull();
    expect(rig.do(oneStep(mapping.write(0, Uint8Array.of(1))))).toBeNull();
    expect(rig.arrived).toEqual([]);
    rig.do(oneStep(mapping.setPresent(true)));
    expect(rig.do(oneStep(mapping.write(8, Uint8Array.of(1))))).toBe(true);
    expect(rig.do(oneStep(mapping.read(8, 1)))).toEqual(Uint8Array.of(1));
    rig.do(oneStep(mapping.setPresent(false)));
    expect(rig.do(oneStep(mapping.read(8, 1)))).toBeNull();
    expect(rig.machine.faults).toEqual([]);
  });

  test('ends where it ends', () => {
    const { mapping } = mapped();
    expect([mapping.holds(MIB - 1, 1), mapping.holds(MIB - 1, 2)]).toEqual([true, false]);
    expect([mapping.holds(0, MIB), mapping.holds(-1, 1)]).toEqual([true, false]);
    expect(() => mapping.write(MIB, Uint8Array.of(1))).toThrow('stays inside');
    expect(() => mapping.read(MIB - 1, 2)).toThrow('stays inside');
  });
});

test('A machine without PCI answers the CPU with ones', () => {
  const spec = { ...wideMachine(), hostBridges: [], functions: [] };
  const machine = new Machine(new MachinePlan(spec), new Scheduler());
  const bytes = complete(machine.scheduler, oneStep(machine.cpu.mmioRead(physAddr(2 ** 31), 1)));
  expect([...bytes]).toEqual([0xff]);
  expect(machine.faults).toMatchObject([{ device: 'cpu', at: 'root-complex' }]);
});
