/** A small machine with one NVMe drive, for the tests: RAM, two root ports, drive and peer. */

import {
  dmaAddr,
  PAGE_SIZE,
  type PhysAddr,
  physAddr,
  type TraceEvent,
} from '../../src/base/index.ts';
import { NvmeController, type NvmeOptions } from '../../src/drivers/nvme/controller.ts';
import type { ControllerAccess, QueueMemory } from '../../src/drivers/nvme/controller-access.ts';
import type { QueuePair, QueuePairLayout } from '../../src/drivers/nvme/queue-pair.ts';
import { type DriverLayout, NvmeDriver } from '../../src/drivers/nvme/spdk.ts';
import {
  type Actor,
  type Atomic,
  type BarSpec,
  Completion,
  type FunctionSpec,
  type IommuMode,
  MACHINE_SCHEMA,
  Machine,
  MachinePlan,
  type MachineSpec,
  type Outcome,
  type PciFunction,
  Scheduler,
  type Strategy,
  type Task,
} from '../../src/machine/index.ts';

export const NVME = '0000:41:00.0';
export const PEER = '0000:42:00.0';
/** Where the tests let the controller see its buffer: no RAM, BAR or I/O address is there. */
export const CMB_BASE = 0x7_0000_0000;
const BAR0 = 0x38_0000_0000;
const BAR2 = 0x38_0010_0000;

/** BARs of the usual drive: 16 KiB of registers, 1 MiB of buffer. */
export const TWO_BARS: readonly BarSpec[] = [bar(0, BAR0, 0x4000), bar(2, BAR2, 0x10_0000)];

export function bar(index: number, address: number, size: number): BarSpec {
  return { index, kind: 'memory', address, size, prefetchable: false, is64: true };
}

export function bar0Only(size: number): readonly BarSpec[] {
  return [bar(0, BAR0, size)];
}

function functionSpec(
  address: string,
  parent: string | null,
  changes: Partial<FunctionSpec>,
): FunctionSpec {
  return {
    address,
    parent,
    vendor: 0x1234,
    device: 0x11e8,
    subsystemVendor: 0x1af4,
    subsystemDevice: 0x1100,
    classCode: 0x010802,
    revision: 1,
    type: 'endpoint',
    command: 0x6,
    bars: [],
    bridge: null,
    acs: null,
    link: null,
    node: 0,
    iommuGroup: null,
    driver: null,
    physicalFunction: null,
    config: null,
    ...changes,
  };
}

function rootPort(address: string, bus: number): FunctionSpec {
  const bridge = { secondary: bus, subordinate: bus, memory: null, prefetch: null };
  return functionSpec(address, null, { type: 'root-port', classCode: 0x060400, bridge });
}

export function machineSpec(iommu: IommuMode, bars: readonly BarSpec[]): MachineSpec {
  return {
    schema: MACHINE_SCHEMA,
    name: 'one-drive',
    title: 'One NVMe drive and a peer',
    cpu: null,
    coherentDma: true,
    memory: [{ node: 0, start: 0, size: 0x1000_0000 }],
    iommu,
    hostBridges: [
      {
        domain: 0,
        bus: 0x40,
        node: 0,
        busOffset: 0,
        dmaOffset: 0,
        peerForwarding: 'same-host-bridge',
      },
    ],
    functions: [
      rootPort('0000:40:01.0', 0x41),
      rootPort('0000:40:03.0', 0x42),
      functionSpec(NVME, '0000:40:01.0', { bars, iommuGroup: 1 }),
      functionSpec(PEER, '0000:40:03.0', { classCode: 0x020700, iommuGroup: 2 }),
    ],
    notes: [],
  };
}

/** What a rig may be given. */
export interface RigOptions {
  readonly iommu?: IommuMode;
  readonly bars?: readonly BarSpec[];
  readonly drive?: NvmeOptions;
  readonly stepsMax?: number;
}

/** A machine that was switched on: the drive's engine runs. */
export class NvmeRig {
  readonly events: TraceEvent[] = [];
  readonly scheduler: Scheduler;
  readonly machine: Machine;
  readonly fn: PciFunction;
  readonly drive: NvmeController;
  readonly engine: Actor;
  readonly access: DirectAccess;

  constructor({ iommu = 'off', bars = TWO_BARS, drive = {}, stepsMax = 100_000 }: RigOptions = {}) {
    this.scheduler = new Scheduler({ sink: (event) => this.events.push(event), stepsMax });
    this.machine = new Machine(new MachinePlan(machineSpec(iommu, bars)), this.scheduler);
    this.fn = this.machine.function(NVME);
    this.drive = new NvmeController(this.fn, drive);
    this.engine = this.drive.spawn(this.scheduler);
    this.access = new DirectAccess(this.fn);
  }

  user(task: Task<unknown>, name = 'spdk'): Actor {
    return this.scheduler.spawn(task, { name, role: 'user' });
  }

  run(strategy: Strategy = new FirstStrategy()): Outcome {
    return this.scheduler.run(strategy);
  }

  /** Host memory that the drive may use; its device address is an I/O address behind an IOMMU. */
  *hostMemory(pages: number): Task<HostMemory> {
    const phys = (yield* this.machine.memory.allocate(pages)) as PhysAddr;
    const domain = this.fn.domain.value;
    if (domain === null) return new HostMemory(this.machine, phys, phys);
    const ranges = [{ phys, size: pages * PAGE_SIZE }];
    const iova = yield* domain.mapAnywhere(ranges, { readable: true, writable: true });
    return new HostMemory(this.machine, phys, iova as number);
  }

  /** Queues in host memory, one page each, and the buffer shut. */
  *hostLayout(entries: number): Task<DriverLayout> {
    return {
      admin: yield* this.hostQueues(entries, 0),
      io: yield* this.hostQueues(entries, 1),
      cmbBase: null,
    };
  }

  *hostQueues(entries: number, vector: number): Task<QueuePairLayout> {
    const submission = yield* this.hostMemory(1);
    const completion = yield* this.hostMemory(1);
    return { entries, submission, completion, vector };
  }

  /** A driver that has brought the drive up, with queues in host memory or all in the buffer. */
  *bringUp(where: 'host' | 'cmb' = 'host', entries = 8, access = this.access): Task<Session> {
    const driver = new NvmeDriver(access);
    const layout = where === 'cmb' ? cmbLayout(driver, entries) : yield* this.hostLayout(entries);
    const io = yield* driver.initialise(layout);
    return { driver, io };
  }

  /** Blocks of the media as they are, once nothing runs any more. */
  blocks(lba: number, count: number): Uint8Array {
    const actor = this.user(this.readMedia(lba, count), `reader of ${lba}+${count}`);
    this.run();
    return actor.result as Uint8Array;
  }

  private *readMedia(lba: number, count: number): Task<Uint8Array> {
    return yield* this.drive.media.read(lba, count);
  }
}

/** A drive that is up. */
export interface Session {
  readonly driver: NvmeDriver;
  readonly io: QueuePair;
}

/** Everything in the buffer: queues in its first four pages. */
export function cmbLayout(driver: NvmeDriver, entries: number): DriverLayout {
  const page = (index: number): QueueMemory => driver.cmbMemory(CMB_BASE, index * PAGE_SIZE);
  return {
    admin: { entries, submission: page(0), completion: page(1) },
    io: { entries, submission: page(2), completion: page(3), vector: 1 },
    cmbBase: CMB_BASE,
  };
}

/** Loads and stores of a CPU, straight to the BARs. */
export class DirectAccess implements ControllerAccess {
  private readonly fn: PciFunction;
  private readonly interrupts: readonly Completion[];

  /** Takes the drive's interrupts; who had them before gets none any more. */
  constructor(fn: PciFunction) {
    const { scheduler } = fn.machine;
    this.fn = fn;
    this.interrupts = [0, 1, 2, 3].map((vector) => new Completion(scheduler, `vector ${vector}`));
    this.interrupts.forEach((completion, vector) => {
      fn.onInterrupt(vector, () => this.handle(completion));
    });
  }

  *readRegister(index: number, offset: number, length: 4 | 8): Task<number> {
    const bytes = yield* this.fn.machine.cpu.mmioRead(this.at(index, offset), length);
    const view = new DataView(bytes.buffer);
    return view.getUint32(0, true) + (length === 8 ? view.getUint32(4, true) * 2 ** 32 : 0);
  }

  *writeRegister(index: number, offset: number, value: number, length: 4 | 8): Task {
    const view = new DataView(new ArrayBuffer(length));
    view.setUint32(0, value % 2 ** 32, true);
    if (length === 8) view.setUint32(4, Math.floor(value / 2 ** 32), true);
    yield* this.fn.machine.cpu.mmioWrite(this.at(index, offset), new Uint8Array(view.buffer));
  }

  *readMemory(index: number, offset: number, length: number): Task<Uint8Array> {
    return yield* this.fn.machine.cpu.mmioRead(this.at(index, offset), length);
  }

  *writeMemory(index: number, offset: number, bytes: Uint8Array): Task {
    yield* this.fn.machine.cpu.mmioWrite(this.at(index, offset), bytes);
  }

  *waitForInterrupt(vector: number): Task {
    yield* (this.interrupts[vector] as Completion).wait();
  }

  *sleep(ns: number): Task {
    yield* this.fn.machine.scheduler.sleep(ns);
  }

  private *handle(completion: Completion): Atomic {
    yield* completion.complete();
  }

  private at(index: number, offset: number): PhysAddr {
    return physAddr(this.fn.barStart(index) + offset);
  }
}

/** RAM with an address for the drive. */
export class HostMemory implements QueueMemory {
  readonly deviceAddress: number;
  readonly phys: PhysAddr;
  private readonly machine: Machine;

  constructor(machine: Machine, phys: PhysAddr, deviceAddress: number) {
    this.machine = machine;
    this.phys = phys;
    this.deviceAddress = deviceAddress;
  }

  *read(offset: number, length: number): Task<Uint8Array> {
    return yield* this.machine.cpu.load(physAddr(this.phys + offset), length);
  }

  *write(offset: number, bytes: Uint8Array): Task {
    yield* this.machine.cpu.store(physAddr(this.phys + offset), bytes);
  }
}

/** A peer device that writes into the drive's BARs over PCI. */
export class PeerWriter {
  private readonly fn: PciFunction;
  private readonly drive: PciFunction;

  constructor(drive: PciFunction) {
    this.drive = drive;
    this.fn = drive.machine.function(PEER);
  }

  *write(index: number, offset: number, bytes: Uint8Array): Task {
    const address = dmaAddr(this.drive.barStart(index) + offset);
    yield* this.fn.machine.dma.write(this.fn, address, bytes);
  }

  *read(index: number, offset: number, length: number): Task<Uint8Array> {
    const address = dmaAddr(this.drive.barStart(index) + offset);
    return (yield* this.fn.machine.dma.read(this.fn, address, length)).bytes;
  }
}

/** Lets the first actor go that can; the engine was spawned first, so it is never kept waiting. */
export class FirstStrategy implements Strategy {
  readonly name = 'first';

  pick(): number {
    return 0;
  }
}

/** Lets the engine go only when nobody else can: everybody is done with it before it looks. */
export class EngineLastStrategy implements Strategy {
  readonly name = 'engine last';

  pick(enabled: readonly Actor[]): number {
    return Math.max(
      enabled.findIndex(({ role }) => role !== 'device'),
      0,
    );
  }
}

/** Bytes that are different at each place and for each seed. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 1) bytes[at] = at * 7 + (at >>> 8) * 13 + seed;
  return bytes;
}

/** Compares without the pains that a matcher takes to explain a difference. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
