/**
 * Goal: a machine is its description brought to life: functions once each, resets that leave the
 * hardware as after power-on, interrupts that reach who asked. Method: small calls, one by one.
 */

import { describe, expect, test } from 'vitest';
import { type DmaBufError, isDmaBufError } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  type Atomic,
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  Machine,
  MachinePlan,
  Scheduler,
  Shared,
  type Task,
} from '../../src/machine/index.ts';
import { FabricRig, FakeDevice, oneStep } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

function errorOf(call: () => unknown): DmaBufError {
  try {
    call();
  } catch (error) {
    if (isDmaBufError(error)) return error;
    throw error;
  }
  return expect.fail('the call succeeded');
}

describe('Asking for a function', () => {
  test('gives the same one every time, as its description says', () => {
    const { machine } = new FabricRig(wideMachine());
    const fn = machine.function('0000:04:00.0');
    expect(machine.function('0000:04:00.0')).toBe(fn);
    expect([fn.name, fn.pci, fn.isCoherent]).toEqual(['0000:04:00.0', fn, true]);
    expect([fn.barSize(0), fn.barSize(1), fn.barSize(2)]).toEqual([0x10000, 0, 0x100000]);
    expect(fn.command.value).toBe(6);
    expect(machine.function('0000:02:00.0').acsControl.value).toBe(0);
    expect(fn.acsControl.value).toBeNull();
  });

  test('that is not there is ENODEV: no-such-function', () => {
    const { machine } = new FabricRig(wideMachine());
    expect(errorOf(() => machine.function('0000:ff:00.0'))).toMatchObject({
      code: 'ENODEV',
      reason: 'no-such-function',
      detail: { address: '0000:ff:00.0' },
    });
  });

  test('whose ACS nobody saw is EIO: acs-not-captured', () => {
    const spec = wideMachine();
    const functions = spec.functions.map((fn) => ({ ...fn, acs: 'unknown' }) as const);
    const machine = new Machine(new MachinePlan({ ...spec, functions }), new Scheduler());
    expect(errorOf(() => machine.function('0000:03:00.0'))).toMatchObject({
      code: 'EIO',
      reason: 'acs-not-captured',
    });
  });

  test('for the start of a BAR that is not there is a mistake of ours', () => {
    const rig = new FabricRig(wideMachine());
    expect(() => rig.at('04:00.0').barStart(1)).toThrow('BAR1 of 0000:04:00.0');
  });

  test('gives hardware one time', () => {
    const rig = new FabricRig(wideMachine());
    const fn = rig.at('04:00.0');
    expect(() => fn.plug(new FakeDevice(fn))).toThrow('has its hardware already');
    expect(() => fn.writeAcsControl(0)).toThrow('has an ACS capability');
  });
});

describe('A function-level reset', () => {
  test('clears the device, restores the command register, and shows both to the trace', () => {
    const rig = new FabricRig(wideMachine());
    const fn = rig.at('04:00.0');
    rig.write('03:00.0', rig.busAddressOf('04:00.0', 2), [1]);
    rig.do(fn.reset());
    expect(rig.read('03:00.0', rig.busAddressOf('04:00.0', 2), 1).bytes).toEqual(Uint8Array.of(0));
    expect(fn.command.value).toBe(COMMAND_MEMORY | COMMAND_BUS_MASTER);
    const seen = rig.trace.filter(({ kind }) => kind.startsWith('device.'));
    expect(seen).toMatchObject([
      { kind: 'device.reset', device: fn.name, phase: 'begin' },
      { kind: 'device.command', memory: false, busMaster: false },
      { kind: 'device.command', memory: true, busMaster: true },
      { kind: 'device.reset', device: fn.name, phase: 'end' },
    ]);
  });

  test('shows the old bytes, then none, then fresh ones, in any order of steps', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 200; seed += 1) {
      const rig = new FabricRig(wideMachine());
      const fn = rig.at('04:00.0');
      rig.write('03:00.0', rig.busAddressOf('04:00.0', 2), [1]);
      const got: string[] = [];
      const names = new Map([
        [1, 'old'],
        [0xff, 'none'],
        [0, 'fresh'],
      ]);
      function* look(): Task {
        for (let i = 0; i < 4; i += 1) {
          const [byte = -1] = yield* rig.machine.cpu.mmioRead(fn.barStart(2), 1);
          got.push(names.get(byte) ?? expect.fail('another byte'));
        }
      }
      rig.scheduler.spawn(fn.reset(), { name: 'reset', role: 'kernel' });
      rig.try(look(), new RandomStrategy(seed));
      const order = [...names.values()];
      expect(got).toEqual(got.toSorted((one, two) => order.indexOf(one) - order.indexOf(two)));
      for (const state of got) seen.add(state);
    }
    expect([...seen].sort()).toEqual(['fresh', 'none', 'old']);
  });
});

describe('An interrupt', () => {
  test('runs what was asked for, for its vector only', () => {
    const rig = new FabricRig(wideMachine());
    const fn = rig.at('04:00.0');
    const count = new Shared(rig.scheduler, 'count', 0);
    function* handler(): Atomic {
      yield* count.write((yield* count.read()) + 1);
    }
    function* raise(vector: number): Task {
      const run = yield* fn.interrupt(vector);
      yield* run();
    }
    fn.onInterrupt(1, handler);
    rig.do(raise(0));
    expect(count.value).toBe(0);
    rig.do(raise(1));
    expect(count.value).toBe(1);
    const raised = rig.trace.filter(({ kind }) => kind === 'irq.raise');
    expect(raised).toMatchObject([{ vector: 0 }, { device: fn.name, vector: 1 }]);
  });
});

describe('A fault', () => {
  test('is kept in the list, in the trace and among the findings', () => {
    const rig = new FabricRig(wideMachine());
    rig.write('03:00.0', 2 ** 51, [1]);
    const { fault } = rig;
    expect(rig.trace.filter(({ kind }) => kind === 'pci.fault')).toMatchObject([fault]);
    expect(rig.scheduler.findings).toMatchObject([
      {
        kind: 'fault',
        title:
          'write by 0000:03:00.0 at 0x8000000000000: root-complex: ' +
          'neither RAM nor a device at this address',
      },
    ]);
  });
});

describe('A step of the machine', () => {
  test('writes a register of configuration space in one go', () => {
    const rig = new FabricRig(wideMachine());
    const fn = rig.at('04:00.0');
    rig.do(oneStep(fn.writeCommand(COMMAND_MEMORY)));
    expect(fn.command.value).toBe(COMMAND_MEMORY);
    rig.do(oneStep(rig.at('02:00.0').writeAcsControl(0x1d)));
    expect(rig.at('02:00.0').acsControl.value).toBe(0x1d);
  });
});
