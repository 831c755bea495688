/**
 * A fence: something that will be done, and says so once. Whoever depends on it waits or leaves a
 * callback; callbacks must not sleep, and their type says so.
 *
 * @source drivers/dma-buf/dma-fence.c, v7.2; reference/linux-dma-buf.md B.1
 */

import {
  type Access,
  type Atomic,
  Cell,
  type Look,
  PreemptStep,
  SleepStep,
  type Task,
  wholeCell,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';

/** What a fence's callbacks are: code that may not sleep, and does not wait for anything. */
export type FenceCallback = () => Atomic;

/** Where a fence stands. */
interface FenceState {
  readonly signaled: boolean;
  /** 0, or a negative errno. */
  readonly error: number;
  readonly callbacks: readonly FenceCallback[];
}

/** What names a fence in reports. */
export interface FenceOrigin {
  readonly driver: string;
  readonly timeline: string;
  /** Fences of one context signal in order of their sequence numbers. */
  readonly context: number;
  readonly seqno: number;
}

/** `struct dma_fence`. */
export class DmaFence extends Cell<FenceState> {
  readonly kernel: Kernel;
  readonly origin: FenceOrigin;
  /** Number in the trace. */
  readonly number: number;

  /** `dma_fence_init()`. */
  constructor(kernel: Kernel, origin: FenceOrigin) {
    super(kernel.scheduler, `fence ${origin.timeline} ${origin.seqno}`, {
      signaled: false,
      error: 0,
      callbacks: [],
    });
    this.kernel = kernel;
    this.origin = origin;
    this.number = kernel.nextFence();
    kernel.scheduler.record?.({ kind: 'fence.init', fence: this.number, ...origin });
  }

  /**
   * Says that it is done and runs the callbacks, in order of registration. Later calls do nothing.
   *
   * @param error - 0, or a negative errno.
   * @context Any, also interrupt handlers. In Linux the callbacks run under the fence's lock.
   * @source `dma_fence_signal()`, `dma_fence_set_error()`
   */
  *signal(error = 0): Atomic {
    for (const callback of yield* new Signal(this, error)) yield* callback();
  }

  /**
   * Leaves a callback for the moment of signaling.
   *
   * @returns False if the fence is signaled already; the callback does not run then.
   * @context Any.
   * @source `dma_fence_add_callback()`, whose `-ENOENT` is the false here
   */
  addCallback(callback: FenceCallback): PreemptStep<boolean> {
    return new AddCallback(this, callback);
  }

  /**
   * Waits until the fence is signaled, with or without an error.
   *
   * @returns The error it was signaled with; 0 if none.
   * @context May sleep. Must not hold a lock that signaling needs.
   * @source `dma_fence_wait()`, uninterruptible
   */
  *wait(): Task<number> {
    const { scheduler } = this.kernel;
    scheduler.record?.({ kind: 'fence.wait', fence: this.number, phase: 'begin' });
    const error = yield* new WaitForFence(this);
    scheduler.record?.({ kind: 'fence.wait', fence: this.number, phase: 'end' });
    return error;
  }
}

class Signal extends PreemptStep<readonly FenceCallback[]> {
  readonly cell: DmaFence;
  private readonly error: number;

  constructor(cell: DmaFence, error: number) {
    super();
    this.cell = cell;
    this.error = error;
  }

  get verb(): string {
    return 'signal';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look(this.cell).signaled ? 'R' : 'W')];
  }

  apply(): readonly FenceCallback[] {
    const { cell, error } = this;
    const { signaled, callbacks } = cell.value;
    if (signaled) return [];
    cell.value = { signaled: true, error, callbacks: [] };
    cell.kernel.scheduler.record?.({ kind: 'fence.signal', fence: cell.number, error });
    return callbacks;
  }
}

class AddCallback extends PreemptStep<boolean> {
  readonly cell: DmaFence;
  private readonly callback: FenceCallback;

  constructor(cell: DmaFence, callback: FenceCallback) {
    super();
    this.cell = cell;
    this.callback = callback;
  }

  get verb(): string {
    return 'add callback';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look(this.cell).signaled ? 'R' : 'W')];
  }

  apply(): boolean {
    const { cell } = this;
    const { signaled, error, callbacks } = cell.value;
    if (signaled) return false;
    cell.value = { signaled, error, callbacks: [...callbacks, this.callback] };
    return true;
  }
}

class WaitForFence extends SleepStep<number> {
  readonly cell: DmaFence;

  constructor(cell: DmaFence) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'wait for';
  }

  override guard(look: Look): boolean {
    return look(this.cell).signaled;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): number {
    return this.cell.value.error;
  }
}
