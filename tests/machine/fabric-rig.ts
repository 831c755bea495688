/**
 * A machine to try transfers on: every function that is no bridge has plain memory in its BARs, and
 * remembers what arrived there. So what the trace says can be held against what happened.
 */

import { expect } from 'vitest';
import {
  type DmaBufError,
  dmaAddr,
  isDmaBufError,
  PAGE_SIZE,
  type TraceEvent,
} from '../../src/base/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  type Cell,
  type Device,
  DeviceMemory,
  type DeviceModel,
  type DmaReadResult,
  type FaultEvent,
  type FunctionSpec,
  Machine,
  MachinePlan,
  type MachineSpec,
  type Outcome,
  type PciFunction,
  type PlacedRegion,
  type PreemptStep,
  Scheduler,
  type Strategy,
  type Task,
} from '../../src/machine/index.ts';

/** Memory in a BAR that remembers what was written into it. */
export class FakeBar extends DeviceMemory {
  readonly writes: { readonly offset: number; readonly bytes: readonly number[] }[] = [];

  override write(offset: number, bytes: Uint8Array): boolean {
    this.writes.push({ offset, bytes: [...bytes] });
    return super.write(offset, bytes);
  }
}

/** A device that is nothing but memory: every memory BAR is full of it. */
export class FakeDevice implements DeviceModel {
  readonly bars: ReadonlyMap<number, readonly PlacedRegion[]>;
  readonly resetTouches: readonly Cell[];
  private readonly memory = new Map<number, FakeBar>();

  constructor(fn: PciFunction) {
    for (const { spec } of fn.node.memoryBars) {
      const name = `${fn.name} BAR${spec.index}`;
      this.memory.set(spec.index, new FakeBar(fn.machine.scheduler, name, spec.size));
    }
    this.bars = new Map([...this.memory].map(([bar, region]) => [bar, [{ offset: 0, region }]]));
    this.resetTouches = [...this.memory.values()];
  }

  reset(): void {
    for (const bar of this.memory.values()) bar.clear();
  }

  /** The memory in a BAR, which must be there. */
  bar(index: number): FakeBar {
    return this.memory.get(index) ?? expect.fail(`there is no BAR${index}`);
  }

  /** Everything that was written to it, by BAR. */
  get writes(): readonly { readonly bar: number; readonly offset: number }[] {
    return [...this.memory].flatMap(([bar, { writes }]) =>
      writes.map(({ offset }) => ({ bar, offset })),
    );
  }
}

/** A transfer as the trace tells it. */
export type TransferNote = Extract<TraceEvent, { kind: 'dma.read' | 'dma.write' }>;

/** A machine, and means to do something on it and look what came of it. */
export class FabricRig {
  readonly trace: TraceEvent[] = [];
  readonly scheduler: Scheduler;
  readonly machine: Machine;
  readonly devices = new Map<string, FakeDevice>();

  constructor(spec: MachineSpec, plan: MachinePlan = new MachinePlan(spec)) {
    this.scheduler = new Scheduler({ sink: (event) => void this.trace.push(event) });
    this.machine = new Machine(plan, this.scheduler);
    for (const { address, bridge } of spec.functions) {
      if (bridge !== null) continue;
      const fn = this.machine.function(address);
      const device = new FakeDevice(fn);
      fn.plug(device);
      this.devices.set(address, device);
    }
  }

  /** Who read bytes that another had changed, without a sync in between. */
  get stale(): readonly string[] {
    const { findings } = this.scheduler;
    return findings.filter(({ kind }) => kind === 'stale').map(({ title }) => title);
  }

  /** A function; the domain may be left out if it is 0. */
  at(address: string): PciFunction {
    return this.machine.function(full(address));
  }

  /** What is in a function's BARs. */
  device(address: string): FakeDevice {
    return this.devices.get(full(address)) ?? expect.fail(`no device ${address}`);
  }

  /** Where a BAR is on the bus. */
  busAddressOf(address: string, bar: number): number {
    const found = this.at(address).node.memoryBars.find(({ spec }) => spec.index === bar);
    return found?.base ?? expect.fail(`${address} has no BAR${bar}`);
  }

  /** Runs a task to its end, and gives back what it returns. The run must go well. */
  do<T>(task: Task<T>): T {
    return complete(this.scheduler, task);
  }

  /** Runs a task as far as it goes. */
  try<T>(
    task: Task<T>,
    strategy: Strategy = new RoundRobinStrategy(),
  ): { readonly outcome: Outcome; readonly result: T | undefined } {
    const name = `test ${this.scheduler.actors.length}`;
    const actor = this.scheduler.spawn(task, { name, role: 'kernel' });
    const outcome = this.scheduler.run(strategy);
    return { outcome, result: actor.result as T | undefined };
  }

  /** A device writes; gives back the pieces as the trace tells them. */
  write(from: string | Device, address: number, bytes: readonly number[]): readonly TransferNote[] {
    const begin = this.trace.length;
    const device = typeof from === 'string' ? this.at(from) : from;
    const step = this.machine.dma.write(device, dmaAddr(address), Uint8Array.from(bytes));
    this.do(oneStep(step));
    return this.trace.slice(begin).filter((event): event is TransferNote => {
      return event.kind === 'dma.write';
    });
  }

  /** A device reads. */
  read(from: string | Device, address: number, length: number): DmaReadResult {
    const device = typeof from === 'string' ? this.at(from) : from;
    return this.do(oneStep(this.machine.dma.read(device, dmaAddr(address), length)));
  }

  /** The one fault that there was. */
  get fault(): FaultEvent {
    const { faults } = this.machine;
    expect(faults).toHaveLength(1);
    return faults[0] ?? expect.fail('no fault');
  }

  /** Everything that arrived in a BAR, of any device. */
  get arrived(): readonly { readonly device: string; readonly bar: number; offset: number }[] {
    return [...this.devices].flatMap(([device, { writes }]) =>
      writes.map((write) => ({ device, ...write })),
    );
  }

  /** Bytes of RAM, as they are in memory. */
  ram(phys: number, length: number): readonly number[] {
    const bank = this.machine.memory.bankAt(phys) ?? expect.fail('no RAM there');
    const bytes = new Uint8Array(length);
    bank.bytes.read(phys - bank.spec.start, bytes);
    return [...bytes];
  }
}

const LOOKED_AT: readonly string[] = ['fault', 'warn', 'stale'];

/** A task of one step. */
export function* oneStep<R>(step: PreemptStep<R>): Task<R> {
  return yield* step;
}

/**
 * Runs a task to its end and gives back what it returns. The run must go well; faults, warnings and
 * stale bytes are the caller's to look at.
 */
export function complete<T>(scheduler: Scheduler, task: Task<T>): T {
  const name = `test ${scheduler.actors.length}`;
  const actor = scheduler.spawn(task, { name, role: 'kernel' });
  const { status } = scheduler.run(new RoundRobinStrategy());
  expect(status).toBe('done');
  // More is to come, so what is live now has not leaked.
  const { findings } = scheduler;
  findings.splice(0, findings.length, ...findings.filter(({ kind }) => kind !== 'leak'));
  expect(findings.filter(({ kind }) => !LOOKED_AT.includes(kind))).toEqual([]);
  return actor.result as T;
}

/** What a call that must fail fails with. */
export function* refused(call: Task<unknown>): Task<DmaBufError> {
  try {
    yield* call;
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    return error;
  }
  return expect.fail('the call succeeded');
}

/** The same machine with other ACS control in the functions named. They get the capability. */
export function withAcs(
  spec: MachineSpec,
  controls: Readonly<Record<string, number | null>>,
): MachineSpec {
  const byAddress = new Map(Object.entries(controls).map(([at, bits]) => [full(at), bits]));
  const change = (fn: FunctionSpec): FunctionSpec => {
    const control = byAddress.get(fn.address);
    if (control === undefined) return fn;
    byAddress.delete(fn.address);
    return { ...fn, acs: control === null ? null : { capability: 0x7f, control } };
  };
  const changed = { ...spec, functions: spec.functions.map(change) };
  expect([...byAddress.keys()]).toEqual([]);
  return changed;
}

/** `0000:` before an address without a domain. */
export function full(address: string): string {
  return address.length === 7 ? `0000:${address}` : address;
}

/** Leaves no address free in a device's domain. */
export function useUpAddresses({ domain }: PciFunction): void {
  const own = domain.value ?? expect.fail('a domain');
  const size = 2 ** 48 - PAGE_SIZE;
  own.value = [{ iova: PAGE_SIZE, size, phys: 0, readable: false, writable: false }];
}
