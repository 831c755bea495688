/**
 * A PCI function at run time: its command register, its ACS control, what is inside its BARs, its
 * interrupts. What never changes is in its `PciNode`.
 */

import { assert, type PhysAddr, physAddr, present } from '../../base/index.ts';
import { Cell } from '../cell.ts';
import {
  type CoherentPool,
  type Device,
  DMA_MASK_DEFAULT,
  MAX_SEGMENT_SIZE_DEFAULT,
} from '../device.ts';
import type { IommuDomain } from '../iommu.ts';
import type { Machine } from '../machine.ts';
import type { SlotPool } from '../slot-pool.ts';
import { Shared } from '../sync/shared.ts';
import { type Access, type Atomic, PreemptStep, type Task, wholeCell } from '../task.ts';
import type { BarRegion } from './bar-region.ts';
import type { PciNode } from './tree.ts';

/** Command register: the function answers memory requests. */
export const COMMAND_MEMORY = 0x2;
/** Command register: the function may send requests. */
export const COMMAND_BUS_MASTER = 0x4;

/** A region and where it starts in its BAR. */
export interface PlacedRegion {
  readonly offset: number;
  readonly region: BarRegion;
}

/** A place in a region. */
export interface RegionPlace {
  readonly region: BarRegion;
  /** From the start of the region. */
  readonly offset: number;
  /** Bytes from there to its end. */
  readonly length: number;
}

/** What makes a function behave: the hardware behind it. */
export interface DeviceModel {
  /** What is inside the BARs, by index; regions of one BAR do not overlap. */
  readonly bars: ReadonlyMap<number, readonly PlacedRegion[]>;
  /** Everything that a function-level reset changes. */
  readonly resetTouches: readonly Cell[];
  /** Back to the state after power-on; called inside the reset's step. */
  reset(): void;
}

/** What an interrupt does: code that may not sleep. */
export type InterruptHandler = () => Atomic;

function* ignoreInterrupt(): Atomic {}

/** A function of a running machine. */
export class PciFunction implements Device {
  readonly machine: Machine;
  readonly node: PciNode;
  /** The command register; see {@link COMMAND_MEMORY}. */
  readonly command: Shared<number>;
  /** The ACS control register; null without the capability. */
  readonly acsControl: Cell<number | null>;
  /** The translation of its requests; null: none, or the identity. */
  readonly domain: Cell<IommuDomain | null>;
  /** The hardware; null for a function that nobody modelled, whose BARs do not answer. */
  model: DeviceModel | null = null;
  dmaMask: number | null = DMA_MASK_DEFAULT;
  coherentDmaMask: number = DMA_MASK_DEFAULT;
  maxSegmentSize: number = MAX_SEGMENT_SIZE_DEFAULT;
  forceBounce = false;
  isUntrusted = false;
  coherentPool: CoherentPool | null = null;
  contiguousArea: SlotPool | null = null;
  private readonly interruptHandlers = new Map<number, InterruptHandler>();

  constructor(machine: Machine, node: PciNode, domain: IommuDomain | null) {
    const { scheduler } = machine;
    const { acs, command } = node.spec;
    assert(acs !== 'unknown', `the ACS of ${node.address} is known: Machine checks it at boot`);
    this.machine = machine;
    this.node = node;
    this.command = new Shared<number>(scheduler, `${node.address} command`, command);
    this.acsControl = new Cell(scheduler, `${node.address} ACS control`, acs?.control ?? null);
    this.domain = new Cell(scheduler, `${node.address} domain`, domain);
  }

  /** `0000:41:00.0`. */
  get name(): string {
    return this.node.address;
  }

  get pci(): PciFunction {
    return this;
  }

  get isCoherent(): boolean {
    return this.machine.spec.coherentDma;
  }

  /** Puts the hardware in. */
  plug(model: DeviceModel): void {
    assert(this.model === null, `${this.name} has its hardware already`);
    this.model = model;
  }

  /** Bytes of a memory BAR; 0 if it has none of that index. */
  barSize(index: number): number {
    return this.node.memoryBars.find((bar) => bar.spec.index === index)?.spec.size ?? 0;
  }

  /** CPU physical address of a memory BAR, which must exist. */
  barStart(index: number): PhysAddr {
    const bar = this.node.memoryBars.find(({ spec }) => spec.index === index);
    return physAddr(present(bar, `BAR${index} of ${this.name}`).spec.address);
  }

  /** The region at `offset` of a BAR; null if nothing is there. */
  regionAt(bar: number, offset: number): RegionPlace | null {
    for (const { offset: start, region } of this.model?.bars.get(bar) ?? []) {
      if (offset >= start && offset < start + region.size) {
        return { region, offset: offset - start, length: start + region.size - offset };
      }
    }
    return null;
  }

  /** A step that writes the command register. */
  writeCommand(value: number): PreemptStep<void> {
    return new WriteCommand(this, value);
  }

  /** A step that writes the ACS control register, as `setpci` does. */
  writeAcsControl(value: number): PreemptStep<void> {
    return new WriteAcsControl(this, value);
  }

  /** Says what to do when the device raises interrupt `vector`: runs as an interrupt handler. */
  onInterrupt(vector: number, handler: InterruptHandler): void {
    this.interruptHandlers.set(vector, handler);
  }

  /**
   * A step in which the device sends an interrupt message. It is a write, so it waits like one: the
   * device must hold it back while bus mastering is off.
   *
   * @returns What the interrupt does; to be run at once. Nothing, if nobody handles the vector.
   */
  interrupt(vector: number): PreemptStep<InterruptHandler> {
    return new SendInterrupt(this, vector, this.interruptHandlers.get(vector) ?? ignoreInterrupt);
  }

  /**
   * Function-level reset: no answer while it lasts, then the hardware as after power-on and the
   * command register as before, as `pci_reset_function()` leaves it.
   */
  *reset(): Task {
    const { scheduler } = this.machine;
    const before = yield* this.command.read();
    scheduler.record?.({ kind: 'device.reset', device: this.name, phase: 'begin' });
    yield* this.writeCommand(0);
    yield* new ResetModel(this);
    yield* this.writeCommand(before);
    scheduler.record?.({ kind: 'device.reset', device: this.name, phase: 'end' });
  }
}

class WriteCommand extends PreemptStep<void> {
  readonly cell: Cell<number>;
  private readonly fn: PciFunction;
  private readonly bits: number;

  constructor(fn: PciFunction, bits: number) {
    super();
    this.cell = fn.command;
    this.fn = fn;
    this.bits = bits;
  }

  get verb(): string {
    return 'write command register';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = this.bits;
    this.fn.machine.scheduler.record?.({
      kind: 'device.command',
      device: this.fn.name,
      memory: (this.bits & COMMAND_MEMORY) !== 0,
      busMaster: (this.bits & COMMAND_BUS_MASTER) !== 0,
    });
  }
}

class WriteAcsControl extends PreemptStep<void> {
  readonly cell: Cell<number | null>;
  private readonly bits: number;

  constructor(fn: PciFunction, bits: number) {
    super();
    assert(fn.acsControl.value !== null, `${fn.name} has an ACS capability`);
    this.cell = fn.acsControl;
    this.bits = bits;
  }

  get verb(): string {
    return 'write ACS control';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = this.bits;
  }
}

class ResetModel extends PreemptStep<void> {
  readonly cell: Cell<number>;
  private readonly fn: PciFunction;

  constructor(fn: PciFunction) {
    super();
    this.cell = fn.command;
    this.fn = fn;
  }

  get verb(): string {
    return 'reset';
  }

  override accesses(): readonly Access[] {
    const inside = this.fn.model?.resetTouches ?? [];
    return [wholeCell(this.cell, 'W'), ...inside.map((cell) => wholeCell(cell, 'W'))];
  }

  apply(): void {
    this.fn.model?.reset();
  }
}

class SendInterrupt extends PreemptStep<InterruptHandler> {
  readonly cell: Cell<number>;
  private readonly fn: PciFunction;
  private readonly vector: number;
  private readonly handler: InterruptHandler;

  constructor(fn: PciFunction, vector: number, handler: InterruptHandler) {
    super();
    this.cell = fn.command;
    this.fn = fn;
    this.vector = vector;
    this.handler = handler;
  }

  get verb(): string {
    return 'send interrupt';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): InterruptHandler {
    const { fn, vector } = this;
    fn.machine.scheduler.record?.({ kind: 'irq.raise', device: fn.name, vector });
    return this.handler;
  }
}
