/**
 * The simulated kernel of one machine: what is there once. Drivers and processes hang on it.
 */

import {
  type Atomic,
  Cell,
  changeCell,
  type Machine,
  type PciFunction,
  type PreemptStep,
  type Scheduler,
  Slab,
  type Task,
  WwClass,
} from '../machine/index.ts';
import { type KernelFile, TaskWork } from './vfs/file.ts';
import { BUFINFO_PATH, BufinfoNode } from './dma-buf/bufinfo.ts';
import { BufferList } from './dma-buf/buffer-list.ts';
import type { DmaFence } from './fence/dma-fence.ts';
import { bootStub } from './fence/fence-stub.ts';
import { IrqWork } from './fence/irq-work.ts';
import { P2pdma } from './p2pdma/p2pdma-provider.ts';
import { Signals } from './user/signals.ts';
import { DeviceNodes } from './vfs/device-nodes.ts';
import { WorkQueue } from './work-queue.ts';

/** How the kernel was configured. */
export interface KernelOptions {
  /**
   * `CONFIG_DMABUF_DEBUG`: importers get copies of tables, and who looks for what must not be in
   * them is reported. Default false.
   */
  readonly debugDmaBuf?: boolean;
}

/** The kernel. */
export class Kernel {
  readonly machine: Machine;
  /** As {@link KernelOptions.debugDmaBuf}. */
  readonly debugDmaBuf: boolean;
  readonly scheduler: Scheduler;
  /** `reservation_ww_class`. */
  readonly reservationClass: WwClass;
  /** Numbers for dma-bufs: their inode numbers, from 1, never used twice. */
  readonly inodes: Counter;
  /** `dma_fence_context_alloc()`: contexts, from 1. */
  readonly fenceContexts: Counter;
  /** The fence that is always signaled; see `stubFence()`. */
  readonly stub: DmaFence;
  /** Work that waits until fences' locks are given back. */
  readonly irqWork: IrqWork = new IrqWork();
  /** Signals that threads have not seen yet. */
  readonly signals: Signals;
  /** Numbers of files that are no dma-bufs: memfds, sockets. */
  readonly otherInodes: Counter;
  /** Numbers of processes, from 1. */
  readonly pids: Counter;
  /** The list of all dma-bufs; its value is how many there are. */
  readonly bufferList: BufferList;
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
  constructor(machine: Machine, options: KernelOptions = {}) {
    const { scheduler } = machine;
    this.machine = machine;
    this.debugDmaBuf = options.debugDmaBuf ?? false;
    this.scheduler = scheduler;
    this.slab = new Slab(scheduler);
    this.reservationClass = new WwClass(scheduler, 'reservation_ww_class');
    this.inodes = new Counter(scheduler, 'dma-buf inodes');
    this.fenceContexts = new Counter(scheduler, 'fence contexts');
    this.bufferList = new BufferList(scheduler);
    this.otherInodes = new Counter(scheduler, 'other inodes');
    this.pids = new Counter(scheduler, 'pids');
    this.stub = bootStub(this);
    this.signals = new Signals(scheduler);
    this.delayedFput = new WorkQueue(scheduler, 'kworker/fput');
    this.nodes.add(BUFINFO_PATH, new BufinfoNode(this));
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
   * What a thread does before it goes back to user mode: the releases it put off, and its signals.
   *
   * @context May sleep; no lock held.
   */
  *returnToUser(): Task {
    const actor = this.scheduler.current;
    if (actor === null) return;
    yield* this.taskWork.run(actor);
    yield* this.signals.deliver(actor);
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

  /** A step that draws the next number, from 1; of several in a row, the first. */
  next(count = 1): PreemptStep<number> {
    return changeCell(this, 'draw', (last) => [last + count, last + 1]);
  }
}
