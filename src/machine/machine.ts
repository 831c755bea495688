/**
 * A running machine: the spec brought to life on a scheduler. It owns memory, fabric, IOMMU and
 * CPU; the functions on it come to life when somebody asks for them.
 */

import { assert, DmaBufError, formatAddress } from '../base/index.ts';
import { Cell } from './cell.ts';
import { Cpu } from './cpu.ts';
import { DmaEngine } from './dma.ts';
import { IommuDomain } from './iommu.ts';
import { Fabric } from './pci/fabric.ts';
import { PciFunction } from './pci/function.ts';
import { type PciNode, PciTree } from './pci/tree.ts';
import { type MemoryBank, PhysicalMemory } from './physical-memory.ts';
import type { Scheduler } from './scheduler.ts';
import type { SlotPool } from './slot-pool.ts';
import type { MachineSpec } from './spec/machine-spec.ts';
import type { FaultEvent } from './transfer.ts';

/** What is computed once for a machine and shared by every execution on it. */
export class MachinePlan {
  readonly spec: MachineSpec;
  readonly tree: PciTree;

  constructor(spec: MachineSpec) {
    this.spec = spec;
    this.tree = new PciTree(spec);
  }
}

/** One machine in one execution. */
export class Machine {
  readonly plan: MachinePlan;
  readonly scheduler: Scheduler;
  readonly memory: PhysicalMemory;
  readonly fabric: Fabric;
  readonly dma: DmaEngine;
  readonly cpu: Cpu;
  /** Stands for the address map in reports about CPU accesses to devices. */
  readonly mmio: Cell<null>;
  /** Requests that went nowhere, in order. */
  readonly faults: FaultEvent[] = [];
  /** RAM below 4 GiB through which DMA goes that cannot go straight; null: none was set aside. */
  bouncePool: SlotPool | null = null;
  private readonly functions: (PciFunction | undefined)[] = [];
  private readonly groupDomains = new Map<number, IommuDomain>();

  constructor(plan: MachinePlan, scheduler: Scheduler) {
    this.plan = plan;
    this.scheduler = scheduler;
    this.memory = new PhysicalMemory(scheduler, plan.spec.memory, {
      cellOf: (bank) => this.cpu.cellOf(bank),
      discard: (bank, phys, length) => this.cpu.discard(bank, phys, length),
    });
    this.mmio = new Cell(scheduler, 'address map', null);
    this.fabric = new Fabric({
      tree: plan.tree,
      functionOf: (node) => this.functionOf(node),
      bankAt: (phys): MemoryBank | null => this.memory.bankAt(phys),
    });
    this.dma = new DmaEngine(this);
    this.cpu = new Cpu(this);
  }

  get spec(): MachineSpec {
    return this.plan.spec;
  }

  /**
   * The function at `address`, brought to life if it was not. Ask at boot for those that a story
   * uses: a function made by an actor is named after that actor.
   *
   * @throws {@link DmaBufError} `ENODEV` there is no such function; `EIO` its ACS could not be seen
   *   when the machine was captured.
   */
  function(address: string): PciFunction {
    const node = this.plan.tree.find(address);
    if (node === null) {
      throw new DmaBufError('ENODEV', 'function', 'no-such-function', { detail: { address } });
    }
    const known = this.functions[node.index];
    if (known !== undefined) return known;
    if (node.spec.acs === 'unknown') {
      throw new DmaBufError('EIO', 'function', 'acs-not-captured', { detail: { address } });
    }
    const made = new PciFunction(this, node, this.defaultDomain(node));
    this.functions[node.index] = made;
    return made;
  }

  /** The running function of a node; null if nobody asked for it. */
  functionOf(node: PciNode): PciFunction | null {
    return this.functions[node.index] ?? null;
  }

  /** A new, empty domain, for who manages translations by hand. */
  newDomain(name: string): IommuDomain {
    assert(this.spec.iommu !== 'off', 'there is an IOMMU to make a domain in');
    return new IommuDomain(this.scheduler, name);
  }

  /** Keeps a fault: in the list, in the trace and among the findings. */
  fault(event: FaultEvent): void {
    this.faults.push(event);
    this.scheduler.record?.(event);
    const { access, device, address, why } = event;
    const where = event.kind === 'pci.fault' ? event.at : 'IOMMU';
    const what = `${access} by ${device} at ${formatAddress(address)}`;
    this.scheduler.find('fault', `${what}: ${where}: ${why}`);
  }

  /**
   * Keeps that somebody read bytes which another had changed: a sync was forgotten. One finding for
   * each reader and actor.
   *
   * @param reader - A device, or `cpu`.
   * @param count - Bytes that were not as they should be.
   */
  stale(reader: string, phys: number, count: number): void {
    const { scheduler } = this;
    scheduler.record?.({ kind: 'cache.stale', reader, phys, size: count });
    const why = reader === 'cpu' ? 'a device changed them' : 'what the CPU wrote is in its cache';
    const title = `${reader} reads stale bytes: ${why}, and nobody synced`;
    const party = scheduler.current?.name ?? '';
    const isKnown = scheduler.findings.some((one) => one.title === title && one.party === party);
    if (!isKnown) scheduler.find('stale', title);
  }

  /**
   * Functions of one IOMMU group share a domain; one without a group has its own. The host bridge's
   * windows are not handed out: `iova_reserve_pci_windows()`.
   */
  private defaultDomain(node: PciNode): IommuDomain | null {
    const { address, iommuGroup } = node.spec;
    if (this.spec.iommu !== 'translated') return null;
    // A switch would take such an address for one of its own.
    const { windows } = node.hostBridge;
    if (iommuGroup === null) {
      return new IommuDomain(this.scheduler, `domain of ${address}`, windows);
    }
    const known = this.groupDomains.get(iommuGroup);
    if (known !== undefined) return known;
    const made = new IommuDomain(this.scheduler, `domain of group ${iommuGroup}`, windows);
    this.groupDomains.set(iommuGroup, made);
    return made;
  }
}
