/**
 * The simulated kernel of one machine: what is there once. Drivers and processes hang on it.
 */

import {
  type Access,
  type Atomic,
  Cell,
  type Machine,
  type PciFunction,
  PreemptStep,
  type Scheduler,
  Slab,
  type Task,
  WwClass,
  wholeCell,
} from '../machine/index.ts';
import { type KernelFile, TaskWork } from './vfs/file.ts';
import { P2pdma } from './p2pdma/p2pdma-provider.ts';
import { DeviceNodes } from './vfs/device-nodes.ts';
import { WorkQueue } from './work-queue.ts';

/** The kernel. */
export class Kernel {
  readonly machine: Machine;
  readonly scheduler: Scheduler;
  /** `reservation_ww_class`. */
  readonly reservationClass: WwClass;
  /** Numbers for dma-bufs: their inode numbers, from 1, never used twice. */
  readonly inodes: Counter;
  /** `dma_fence_context_alloc()`: contexts, from 1. */
  readonly fenceContexts: Counter;
  /** The list of all dma-bufs. Nobody walks it yet, so the order of changes cannot be seen. */
  readonly bufferList: BufferCount;
  /** Small memory: take its step where the kernel would allocate, and may be refused. */
  readonly slab: Slab;
  /** What open(2) finds: `/dev/dma_heap/system`. */
  readonly nodes: DeviceNodes = new DeviceNodes();
  private readonly taskWork = new TaskWork();
  private readonly delayedFput: WorkQueue;
  private readonly p2pdma = new Map<PciFunction, P2pdma>();
  private attachments = 0;
  private fences = 0;

  /** @context At boot: spawns the kernel's workers. */
  constructor(machine: Machine) {
    const { scheduler } = machine;
    this.machine = machine;
    this.scheduler = scheduler;
    this.slab = new Slab(scheduler);
    this.reservationClass = new WwClass(scheduler, 'reservation_ww_class');
    this.inodes = new Counter(scheduler, 'dma-buf inodes');
    this.fenceContexts = new Counter(scheduler, 'fence contexts');
    this.bufferList = new BufferCount(scheduler);
    this.delayedFput = new WorkQueue(scheduler, 'kworker/fput');
  }

  /**
   * Puts a release off: a user thread does it on its way out of the kernel, others leave it to a
   * worker.
   *
   * @context Any.
   * @source `__fput_deferred()`
   */
  *deferRelease(file: KernelFile): Atomic {
    const actor = this.scheduler.current;
    if (actor?.role === 'user') {
      this.taskWork.add(actor, file);
      actor.atExit = () => this.taskWork.run(actor);
    } else yield* this.delayedFput.queue(() => file.operations.release(file));
  }

  /**
   * What a thread does before it goes back to user mode: the releases it put off.
   *
   * @context May sleep; no lock held.
   */
  *returnToUser(): Task {
    const actor = this.scheduler.current;
    if (actor !== null) yield* this.taskWork.run(actor);
  }

  /**
   * The peer-to-peer state of a function, made on first use. Ask at boot, as drivers do at probe.
   *
   * @source `pcim_p2pdma_init()`
   */
  p2pdmaOf(fn: PciFunction): P2pdma {
    const known = this.p2pdma.get(fn);
    if (known !== undefined) return known;
    const made = new P2pdma(fn);
    this.p2pdma.set(fn, made);
    return made;
  }

  /** A number for an attachment, for the trace. */
  nextAttachment(): number {
    this.attachments += 1;
    return this.attachments;
  }

  /** A number for a fence, for the trace. */
  nextFence(): number {
    this.fences += 1;
    return this.fences;
  }
}

/** A counter that several actors draw numbers from. */
export class Counter extends Cell<number> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, 0);
  }

  /** A step that draws the next number, from 1. */
  next(): PreemptStep<number> {
    return new DrawNumber(this);
  }
}

class DrawNumber extends PreemptStep<number> {
  readonly cell: Counter;

  constructor(cell: Counter) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'draw';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): number {
    this.cell.value += 1;
    return this.cell.value;
  }
}

/** How many dma-bufs there are. Its value counts them. */
export class BufferCount extends Cell<number> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'dma-buf list', 0);
  }

  /** A step that adds a buffer (+1) or removes one (-1). */
  change(by: 1 | -1): PreemptStep<void> {
    return new ChangeCount(this, by);
  }
}

class ChangeCount extends PreemptStep<void> {
  readonly cell: BufferCount;
  private readonly by: 1 | -1;

  constructor(cell: BufferCount, by: 1 | -1) {
    super();
    this.cell = cell;
    this.by = by;
  }

  get verb(): string {
    return this.by > 0 ? 'list add' : 'list remove';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'A')];
  }

  apply(): void {
    this.cell.value += this.by;
  }
}
