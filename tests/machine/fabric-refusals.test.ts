/**
 * Goal: a request that nobody answers leaves a fault that names device and address, reads come back
 * as all ones, writes are lost; and a transfer that runs over an edge is split there. Method: one
 * refusal at a time, and transfers across every sort of edge.
 */

import { describe, expect, test } from 'vitest';
import { dmaAddr, physAddr } from '../../src/base/index.ts';
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  DeviceMemory,
  type DeviceModel,
  Machine,
  MachinePlan,
  type PciFunction,
  PlatformDevice,
  Register,
  RegisterRegion,
  Scheduler,
  type Task,
} from '../../src/machine/index.ts';
import { complete, FabricRig, oneStep } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const PAGE = 4096;
const ONES = Uint8Array.of(0xff, 0xff, 0xff, 0xff);

function* setCommand(fn: PciFunction, bits: number): Task {
  yield* fn.writeCommand(bits);
}

describe('A function with bus mastering off', () => {
  test('sends nothing, not even to its neighbour', () => {
    const rig = new FabricRig(wideMachine());
    const client = rig.at('04:00.0');
    const address = rig.busAddressOf('04:00.1', 2);
    rig.do(setCommand(client, COMMAND_MEMORY));
    const [note] = rig.write(client, address, [1]);
    expect(note).toMatchObject({ route: [], result: 'fault' });
    expect(rig.fault).toEqual({
      kind: 'pci.fault',
      device: '0000:04:00.0',
      address,
      access: 'write',
      at: '0000:04:00.0',
      why: 'bus mastering is off',
    });
    rig.do(setCommand(client, COMMAND_MEMORY | COMMAND_BUS_MASTER));
    rig.write(client, address, [2]);
    expect(rig.device('04:00.1').bar(2).writes).toEqual([{ offset: 0, bytes: [2] }]);
  });
});

describe('A function with memory decoding off', () => {
  test('answers reads with all ones and loses writes; the fault names both ends', () => {
    const rig = new FabricRig(wideMachine());
    const provider = rig.at('04:00.0');
    const address = rig.busAddressOf('04:00.0', 2);
    rig
      .device('04:00.0')
      .bar(2)
      .write(0, Uint8Array.of(1, 2, 3, 4));
    rig.do(setCommand(provider, COMMAND_BUS_MASTER));
    rig.write('03:00.0', address, [9]);
    expect(rig.fault).toEqual({
      kind: 'pci.fault',
      device: '0000:03:00.0',
      address,
      access: 'write',
      at: '0000:04:00.0',
      why: 'memory decoding is off: unsupported request',
    });
    expect(rig.read('03:00.0', address, 4)).toEqual({ bytes: ONES, ok: false });
    rig.do(setCommand(provider, COMMAND_MEMORY));
    expect(rig.read('03:00.0', address, 4).bytes).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  test('is as its description says until it is brought to life', () => {
    const spec = wideMachine();
    const functions = spec.functions.map((fn) => ({ ...fn, command: 4 }));
    const scheduler = new Scheduler();
    const machine = new Machine(new MachinePlan({ ...spec, functions }), scheduler);
    const client = machine.function('0000:03:00.0');
    const bus = machine.plan.tree.at('0000:04:00.0').memoryBars[0]?.base ?? 0;
    const look = { touched: null, route: null };
    const request = { requester: client, address: bus, write: true };
    const landing = machine.fabric.resolve(request, (cell) => cell.value, look);
    expect(landing).toMatchObject({ kind: 'fault', at: '0000:04:00.0' });
  });
});

describe('An address that nobody has', () => {
  test.each([
    ['in a hole of the window of a port', 0x80000000 + 0x10000, '0000:02:00.0'],
    ['between the windows, below 4 GiB', 0x8f000000, 'root-complex'],
    ['above everything', 2 ** 51, 'root-complex'],
    ['between RAM and the BARs', 0xf_ffff_f000, 'root-complex'],
  ])('is refused %s', (_, address, at) => {
    const rig = new FabricRig(wideMachine({ peerForwarding: 'all' }));
    rig.write('04:00.0', address, [1]);
    expect(rig.fault).toMatchObject({ device: '0000:04:00.0', address, access: 'write', at });
    expect(rig.read('04:00.0', address, 4)).toEqual({ bytes: ONES, ok: false });
    expect(rig.arrived).toEqual([]);
  });

  test('is one of a function that nobody modelled, too', () => {
    const spec = wideMachine();
    const machine = new Machine(new MachinePlan(spec), new Scheduler());
    const [from, to] = [machine.function('0000:03:00.0'), machine.function('0000:04:00.0')];
    const bus = dmaAddr(to.node.memoryBars[0]?.base ?? 0);
    complete(machine.scheduler, oneStep(machine.dma.write(from, bus, Uint8Array.of(1))));
    expect(machine.faults).toMatchObject([
      { at: '0000:04:00.0 BAR0+0x0', why: 'the device does not answer such an access' },
    ]);
  });

  test('is not asked for by a device that is not on PCI', () => {
    const rig = new FabricRig(wideMachine());
    const scaler = new PlatformDevice('gsc.0', true);
    expect(() => rig.write(scaler, 0x200000, [1])).toThrow('gsc.0 is on PCI');
  });
});

describe('A transfer across an edge', () => {
  test('between two BARs lands in both, and each piece has its own line in the trace', () => {
    const rig = new FabricRig(wideMachine());
    const start = rig.busAddressOf('04:00.0', 2);
    expect(rig.busAddressOf('04:00.1', 2)).toBe(start + MIB);
    const notes = rig.write('03:00.0', start + MIB - 2, [1, 2, 3, 4, 5]);
    expect(notes.map(({ target, length }) => [target, length])).toEqual([
      ['0000:04:00.0 BAR2+0xffffe', 2],
      ['0000:04:00.1 BAR2+0x0', 3],
    ]);
    expect(rig.device('04:00.0').bar(2).writes).toEqual([{ offset: MIB - 2, bytes: [1, 2] }]);
    expect(rig.device('04:00.1').bar(2).writes).toEqual([{ offset: 0, bytes: [3, 4, 5] }]);
  });

  test('between two windows goes two ways', () => {
    const rig = new FabricRig(wideMachine());
    const [one, other] = [rig.busAddressOf('07:00.0', 2), rig.busAddressOf('08:00.0', 2)];
    expect(other).toBe(one + MIB);
    const notes = rig.write('03:00.0', other - 1, [1, 2]);
    expect(notes.map(({ route }) => route.at(-1))).toEqual(['0000:06:00.0', '0000:06:01.0']);
  });

  test('at the end of a window, which is the end of a BAR, stops there', () => {
    const rig = new FabricRig(wideMachine({ peerForwarding: 'all' }));
    const last = rig.busAddressOf('0a:00.0', 2) + MIB - 1;
    const window = rig.at('0a:00.0').node.upstream?.spec.bridge?.prefetch;
    expect(window?.limit).toBe(last);
    rig.write('09:00.0', last, [7]);
    expect(rig.machine.faults).toEqual([]);
    rig.write('09:00.0', last, [8, 9]);
    expect(
      rig
        .device('0a:00.0')
        .bar(2)
        .writes.map(({ bytes }) => bytes),
    ).toEqual([[7], [8]]);
    expect(rig.fault).toMatchObject({ address: last + 1, at: 'root-complex' });
  });

  test('at the end of RAM writes what fits, and reads ones for the rest', () => {
    const rig = new FabricRig(wideMachine());
    rig.write('03:00.0', GIB - 2, [1, 2, 3]);
    expect(rig.ram(GIB - 2, 2)).toEqual([1, 2]);
    expect(rig.fault).toMatchObject({ address: GIB, at: 'root-complex' });
    const { bytes, ok } = rig.read('03:00.0', GIB - 2, 4);
    expect([[...bytes], ok]).toEqual([[1, 2, 0xff, 0xff], false]);
  });

  test('between two banks of RAM lands in both', () => {
    const spec = wideMachine();
    const memory = [
      { node: 0, start: 0, size: 16 * PAGE },
      { node: 1, start: 16 * PAGE, size: 16 * PAGE },
    ];
    const rig = new FabricRig({ ...spec, memory });
    const notes = rig.write('03:00.0', 16 * PAGE - 1, [5, 6]);
    expect(notes.map(({ target }) => target)).toEqual(['node0+0xffff', 'node1+0x10000']);
    expect([rig.ram(16 * PAGE - 1, 1), rig.ram(16 * PAGE, 1)]).toEqual([[5], [6]]);
  });

  test('in the middle stops at the first piece that is refused', () => {
    const rig = new FabricRig(wideMachine());
    rig.do(setCommand(rig.at('04:00.1'), 0));
    const edge = rig.busAddressOf('04:00.1', 2);
    rig.write('03:00.0', edge - 1, [1, 2, 3]);
    expect(rig.arrived).toEqual([{ device: '0000:04:00.0', bar: 2, offset: MIB - 1 }]);
    expect(rig.fault).toMatchObject({ address: edge, at: '0000:04:00.1' });
  });

  test('of length 0 is no transfer', () => {
    const rig = new FabricRig(wideMachine());
    expect(rig.write('03:00.0', 2 ** 51, [])).toEqual([]);
    expect(rig.machine.faults).toEqual([]);
  });
});

describe('A BAR with several regions', () => {
  /** Memory in front, registers behind it. */
  function deviceWithRegisters() {
    const scheduler = new Scheduler();
    const machine = new Machine(new MachinePlan(wideMachine()), scheduler);
    const [client, fn] = [machine.function('0000:03:00.0'), machine.function('0000:04:00.0')];
    const memory = new DeviceMemory(scheduler, 'memory', PAGE);
    const [go, id] = [new Register(scheduler, 'go'), new Register(scheduler, 'id', 7, true)];
    const registers = new RegisterRegion(
      16,
      new Map([
        [0, go],
        [8, id],
      ]),
    );
    const model: DeviceModel = {
      bars: new Map([
        [
          0,
          [
            { offset: 0, region: memory },
            { offset: PAGE, region: registers },
          ],
        ],
      ]),
      resetTouches: [memory, go],
      reset: () => memory.clear(),
    };
    fn.plug(model);
    const start = fn.node.memoryBars[0]?.base ?? 0;
    const write = (at: number, bytes: readonly number[]): void => {
      const step = machine.dma.write(client, dmaAddr(start + at), Uint8Array.from(bytes));
      complete(scheduler, oneStep(step));
    };
    const read = (at: number, length: number): readonly number[] => {
      const step = machine.dma.read(client, dmaAddr(start + at), length);
      return [...complete(scheduler, oneStep(step)).bytes];
    };
    return { machine, memory, go, id, write, read };
  }

  test('splits a transfer that runs from one into the other', () => {
    const { machine, memory, go, write, read } = deviceWithRegisters();
    write(PAGE - 2, [1, 2, 3, 0, 0, 0]);
    expect(machine.faults).toEqual([]);
    expect(go.value).toBe(3);
    const inside = new Uint8Array(2);
    memory.read(PAGE - 2, inside);
    expect([...inside]).toEqual([1, 2]);
    expect(read(PAGE - 1, 5)).toEqual([2, 3, 0, 0, 0]);
  });

  test('has words in its registers: others read 0, read-only ones keep what they hold', () => {
    const { machine, id, write, read } = deviceWithRegisters();
    write(PAGE + 4, [1, 1, 1, 1, 9, 0, 0, 0]);
    expect(id.value).toBe(7);
    expect(read(PAGE + 4, 8)).toEqual([0, 0, 0, 0, 7, 0, 0, 0]);
    expect(machine.faults).toEqual([]);
  });

  test('does not answer an access to part of a register, nor one beyond its regions', () => {
    const { machine, go, write, read } = deviceWithRegisters();
    write(PAGE + 1, [1, 1, 1, 1]);
    write(PAGE, [1, 1]);
    expect(go.value).toBe(0);
    expect(read(PAGE + 2, 4)).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect(read(PAGE + 16, 4)).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect(machine.faults).toHaveLength(4);
    for (const fault of machine.faults) {
      expect(fault).toMatchObject({ device: '0000:03:00.0', kind: 'pci.fault' });
      expect(fault.why).toBe('the device does not answer such an access');
    }
  });

  test('is not written by the CPU either where it does not answer', () => {
    const { machine, go } = deviceWithRegisters();
    const start = machine.function('0000:04:00.0').barStart(0);
    const step = machine.cpu.mmioWrite(physAddr(start + PAGE + 2), Uint8Array.of(1, 2));
    complete(machine.scheduler, oneStep(step));
    expect(go.value).toBe(0);
    expect(machine.faults).toMatchObject([{ device: 'cpu', access: 'write' }]);
  });
});
