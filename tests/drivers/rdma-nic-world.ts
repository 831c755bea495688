/**
 * The world of the tests of the RDMA card: a drive owned by user space through VFIO, a card, a peer
 * beyond the wire. The drive is a plain piece of memory with a doorbell, so that what arrives can
 * be seen.
 */

import { expect } from 'vitest';
import {
  type DmaBufError,
  isDmaBufError,
  PAGE_SIZE,
  type TraceEvent,
  type TraceKind,
} from '../../src/base/index.ts';
import type {
  MemoryRegion,
  MrMode,
  RegDmabufMr,
} from '../../src/drivers/rdma-nic/memory-region.ts';
import {
  ACCESS_LOCAL_WRITE,
  ACCESS_REMOTE_READ,
  ACCESS_REMOTE_WRITE,
} from '../../src/drivers/rdma-nic/memory-region.ts';
import { RdmaNic, type RdmaNicOptions } from '../../src/drivers/rdma-nic/nic.ts';
import type { RdmaPacket } from '../../src/drivers/rdma-nic/packets.ts';
import { RemotePeer } from '../../src/drivers/rdma-nic/remote-peer.ts';
import type { VfioRegionDmaRange } from '../../src/drivers/vfio-pci/vfio-export-request.ts';
import { VfioPciDevice } from '../../src/drivers/vfio-pci/vfio-pci-device.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import { DmaBuf, Kernel, Process } from '../../src/framework/index.ts';
import {
  type Actor,
  type Cell,
  DeviceMemory,
  type DeviceModel,
  layWire,
  Machine,
  MachinePlan,
  type MachineSpec,
  type Outcome,
  type PciFunction,
  type PlacedRegion,
  Register,
  RegisterRegion,
  Scheduler,
  type Strategy,
  type Task,
  type WirePort,
} from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { EPYC_2S } from '../../src/machine/presets/epyc-2s.ts';

/** Where the doorbell is in BAR0. */
export const DOORBELL_OFFSET = 0x1000;
/** The BAR that holds the buffer memory. */
export const CMB_BAR = 2;
/** Everything that a region can allow. */
export const ALL_ACCESS: number = ACCESS_LOCAL_WRITE | ACCESS_REMOTE_READ | ACCESS_REMOTE_WRITE;
/**
 * Where the tests let regions begin. No address of the machine, so taking one for another shows.
 */
export const IOVA = 0x7f00_0000_0000;
/** All modes. */
export const MODES: readonly MrMode[] = ['on-demand', 'pinned-revocable', 'pinned'];

/** Bus addresses across a switch; they differ from what the CPU sees. */
export const SWITCH: MachineSpec = ARM_SOC;
/** I/O addresses through two root complexes. */
export const BRIDGES: MachineSpec = EPYC_2S;
/** The same without an IOMMU. */
export const BRIDGES_WITHOUT_IOMMU: MachineSpec = { ...EPYC_2S, iommu: 'off' };

/** A drive without any logic: buffer memory, and a doorbell that somebody may watch. */
export class FakeDrive implements DeviceModel {
  readonly bars: ReadonlyMap<number, readonly PlacedRegion[]>;
  readonly resetTouches: readonly Cell[];
  readonly cmb: DeviceMemory;
  readonly doorbell: Register;

  constructor(scheduler: Scheduler, fn: PciFunction) {
    this.cmb = new DeviceMemory(scheduler, 'cmb', fn.barSize(CMB_BAR));
    this.doorbell = new Register(scheduler, 'doorbell');
    const registers = new RegisterRegion(
      fn.barSize(0),
      new Map([[DOORBELL_OFFSET, this.doorbell]]),
    );
    this.bars = new Map([
      [0, [{ offset: 0, region: registers }]],
      [CMB_BAR, [{ offset: 0, region: this.cmb }]],
    ]);
    this.resetTouches = [this.cmb, this.doorbell];
  }

  reset(): void {
    this.cmb.clear();
    this.doorbell.value = this.doorbell.initial;
  }

  /** What the buffer memory holds; look when nobody runs. */
  bytes(offset: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.cmb.read(offset, into);
    return into;
  }
}

/** How to make a card: the driver's class or one with a fault. */
export type NicClass = new (
  kernel: Kernel,
  fn: PciFunction,
  port: WirePort<RdmaPacket>,
  options: RdmaNicOptions,
) => RdmaNic;

/** How to make the owner of the drive. */
export type VfioClass = new (kernel: Kernel, fn: PciFunction) => VfioPciDevice;

/** What a world may be made of. */
export interface WorldOptions {
  readonly spec?: MachineSpec;
  readonly nicClass?: NicClass;
  readonly vfioClass?: VfioClass;
  readonly nicOptions?: RdmaNicOptions;
  /** Keep the trace. Default true. */
  readonly isTraced?: boolean;
}

const PLANS = new Map<MachineSpec, MachinePlan>();

function planOf(spec: MachineSpec): MachinePlan {
  const known = PLANS.get(spec);
  if (known !== undefined) return known;
  const made = new MachinePlan(spec);
  PLANS.set(spec, made);
  return made;
}

function addressOf(spec: MachineSpec, vendor: number): string {
  return spec.functions.find((fn) => fn.vendor === vendor)?.address ?? expect.fail('no such card');
}

/** One world in one run. */
export class World {
  readonly trace: TraceEvent[] = [];
  readonly scheduler: Scheduler;
  readonly kernel: Kernel;
  readonly driveFn: PciFunction;
  readonly drive: FakeDrive;
  readonly nicFn: PciFunction;
  readonly nic: RdmaNic;
  readonly vfio: VfioPciDevice;
  readonly peer: RemotePeer;
  /** A peer at a second connection. */
  readonly secondPeer: RemotePeer;
  /** The far end of the wire, for packets that no peer would send. */
  readonly farPort: WirePort<RdmaPacket>;
  readonly spdk: Process;
  /** What the program told the peer beyond the wire by other ways. */
  readonly regions: MemoryRegion[] = [];
  /** What a run wants to be looked at afterwards. */
  readonly seen: unknown[] = [];

  constructor(options: WorldOptions = {}) {
    const {
      spec = SWITCH,
      nicClass = RdmaNic,
      vfioClass = VfioPciDevice,
      isTraced = true,
    } = options;
    const sink = (event: TraceEvent): void => void this.trace.push(event);
    this.scheduler = new Scheduler(isTraced ? { sink } : {});
    const machine = new Machine(planOf(spec), this.scheduler);
    this.kernel = new Kernel(machine);
    this.driveFn = machine.function(addressOf(spec, 0x144d));
    this.drive = new FakeDrive(this.scheduler, this.driveFn);
    this.driveFn.plug(this.drive);
    this.vfio = new vfioClass(this.kernel, this.driveFn);
    this.nicFn = machine.function(addressOf(spec, 0x15b3));
    const [near, far] = layWire<RdmaPacket>(this.scheduler, 'nic wire', 'peer');
    this.nic = new nicClass(this.kernel, this.nicFn, near, options.nicOptions ?? {});
    this.farPort = far;
    this.peer = new RemotePeer(far);
    const [secondNear, secondFar] = layWire<RdmaPacket>(this.scheduler, 'nic wire 2', 'peer 2');
    this.nic.connect(secondNear);
    this.secondPeer = new RemotePeer(secondFar);
    this.spdk = new Process(this.kernel, 'spdk');
  }

  /** Spawns a thread of a program of this machine. */
  user(task: Task<unknown>, name = 'spdk'): Actor {
    return this.scheduler.spawn(task, { name, role: 'user' });
  }

  /** Spawns a program beyond the wire. */
  remote(task: Task<unknown>, name = 'initiator'): Actor {
    return this.scheduler.spawn(task, { name, role: 'remote' });
  }

  run(strategy: Strategy = new RandomStrategy(1)): Outcome {
    return this.scheduler.run(strategy);
  }

  /** Exports ranges of the buffer memory. */
  *exportCmb(ranges: readonly VfioRegionDmaRange[]): Task<number> {
    return yield* this.vfio.featureDmaBuf(this.spdk, { regionIndex: CMB_BAR, ranges });
  }

  /** Exports the page with the doorbell. */
  *exportDoorbell(): Task<number> {
    const ranges = [{ offset: DOORBELL_OFFSET, length: PAGE_SIZE }];
    return yield* this.vfio.featureDmaBuf(this.spdk, { regionIndex: 0, ranges });
  }

  /** Registers a window and tells the peer. */
  *register(fd: number, length: number, rest: Partial<RegDmabufMr> = {}): Task<MemoryRegion> {
    const request = { fd, offset: 0, length, iova: IOVA, access: ALL_ACCESS, ...rest };
    const region = yield* this.nic.regDmabufMr(this.spdk, request);
    this.regions.push(region);
    return region;
  }

  /** The buffer behind a descriptor, without a reference of one's own. */
  *bufferOf(fd: number): Task<DmaBuf> {
    const dmabuf = yield* DmaBuf.get(this.spdk, fd);
    yield* dmabuf.put();
    return dmabuf;
  }

  /** Notes what a call that must fail fails with. */
  *refused(call: Task<unknown>): Task<DmaBufError> {
    try {
      yield* call;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      this.seen.push(error);
      return error;
    }
    return expect.fail('the call succeeded');
  }

  /** Expects that the run went well and that nothing is left of it. */
  expectClean(outcome: Outcome): void {
    expect(outcome.findings).toEqual([]);
    expect(outcome.status).toBe('done');
    expect(this.kernel.bufferList.value).toBe(0);
    expect(this.vfio.dmabufs.value).toEqual([]);
    expect([...this.spdk.fds.value.keys()]).toEqual([]);
    expect(this.kernel.machine.memory.pagesInUse).toBe(0);
    const made = eventsOf(this.trace, 'fence.init').map(({ fence }) => fence);
    const signaled = eventsOf(this.trace, 'fence.signal').map(({ fence }) => fence);
    expect(signaled.toSorted()).toEqual(made.toSorted());
  }
}

/** Bytes that are all different from their neighbours, and never 0. */
export function pattern(length: number, salt = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 1 + ((i * 7 + (i >> 8) + salt * 31) % 255));
}

/** The member of the union that has `K` among its kinds. */
type EventOf<K extends TraceKind, E = TraceEvent> = E extends { readonly kind: infer Kinds }
  ? K extends Kinds
    ? E
    : never
  : never;

/** The events of one kind. */
export function eventsOf<K extends TraceKind>(
  trace: readonly TraceEvent[],
  kind: K,
): readonly EventOf<K>[] {
  return trace.filter((event) => event.kind === kind) as unknown as readonly EventOf<K>[];
}
