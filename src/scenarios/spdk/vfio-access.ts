/**
 * How SPDK gets at a drive that it owns through VFIO: mapped BARs, interrupts as event counters,
 * its own pages as queue memory.
 */

import { type DmaAddr, PAGE_SIZE, physAddr } from '../../base/index.ts';
import type {
  ControllerAccess,
  QueueMemory,
  VfioBarMapping,
  VfioContainer,
  VfioPciDevice,
} from '../../drivers/index.ts';
import type { Process, UserPages } from '../../framework/index.ts';
import { Completion, type Machine, type Task } from '../../machine/index.ts';

/** Interrupt vectors that SPDK asks for: admin queue and I/O queue. */
const VECTORS = [0, 1] as const;

/** A drive as SPDK sees it. */
export class VfioAccess implements ControllerAccess {
  private readonly machine: Machine;
  private readonly bars = new Map<number, VfioBarMapping>();
  private readonly eventfds: readonly Completion[];

  /** @context At boot: maps every memory BAR of the drive, and takes its interrupts. */
  constructor(vdev: VfioPciDevice) {
    const { machine, name, node } = vdev.fn;
    this.machine = machine;
    for (const { spec } of node.memoryBars) this.bars.set(spec.index, vdev.mmap(spec.index));
    this.eventfds = VECTORS.map(
      (vector) => new Completion(machine.scheduler, `eventfd ${vector} of ${name}`),
    );
    for (const vector of VECTORS) vdev.setIrq(vector, this.eventfd(vector));
  }

  *readRegister(bar: number, offset: number, length: 4 | 8): Task<number> {
    const bytes = yield* this.bar(bar).read(offset, length);
    const view = new DataView(bytes.buffer);
    return view.getUint32(0, true) + (length === 8 ? view.getUint32(4, true) * 2 ** 32 : 0);
  }

  *writeRegister(bar: number, offset: number, value: number, length: 4 | 8): Task {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, value % 2 ** 32, true);
    if (length === 8) view.setUint32(4, Math.floor(value / 2 ** 32), true);
    yield* this.bar(bar).write(offset, bytes);
  }

  *readMemory(bar: number, offset: number, length: number): Task<Uint8Array> {
    return yield* this.bar(bar).read(offset, length);
  }

  *writeMemory(bar: number, offset: number, bytes: Uint8Array): Task {
    yield* this.bar(bar).write(offset, bytes);
  }

  *waitForInterrupt(vector: number): Task {
    yield* this.eventfd(vector).wait();
  }

  *sleep(ns: number): Task {
    yield* this.machine.scheduler.sleep(ns);
  }

  private bar(index: number): VfioBarMapping {
    const mapping = this.bars.get(index);
    if (mapping === undefined) throw new RangeError(`BAR${index} is a memory BAR`);
    return mapping;
  }

  private eventfd(vector: number): Completion {
    const eventfd = this.eventfds[vector];
    if (eventfd === undefined) throw new RangeError(`vector ${vector} is one of SPDK's`);
    return eventfd;
  }
}

/** A page of the process that the drive may use as queue memory. */
export class PinnedPage implements QueueMemory {
  readonly deviceAddress: DmaAddr;
  private readonly machine: Machine;
  private readonly pages: UserPages;

  private constructor(machine: Machine, pages: UserPages, deviceAddress: DmaAddr) {
    this.machine = machine;
    this.pages = pages;
    this.deviceAddress = deviceAddress;
  }

  /**
   * Allocates a page and maps it for the drive.
   *
   * @param iova - Where the drive shall find it, if there is an IOMMU.
   */
  static *allocate(process: Process, container: VfioContainer, iova: number): Task<PinnedPage> {
    const pages = yield* process.allocate(PAGE_SIZE);
    const deviceAddress = yield* container.mapDma(iova, pages);
    return new PinnedPage(process.kernel.machine, pages, deviceAddress);
  }

  *read(offset: number, length: number): Task<Uint8Array> {
    return yield* this.machine.cpu.load(physAddr(this.pages.phys + offset), length);
  }

  *write(offset: number, bytes: Uint8Array): Task {
    yield* this.machine.cpu.store(physAddr(this.pages.phys + offset), bytes);
  }
}
