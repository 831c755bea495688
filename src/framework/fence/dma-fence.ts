/**
 * A fence: something that will be done, and says so once. Whoever depends on it waits or leaves a
 * callback; callbacks must not sleep, and their type says so.
 *
 * @source drivers/dma-buf/dma-fence.c, v7.2; reference/linux-dma-buf.md B.1
 */

import { assert, DmaBufError } from '../../base/index.ts';
import { type Atomic, Cell, type PreemptStep, RefCount, type Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import {
  AddCallback,
  EnableSignaling,
  type FenceCallback,
  type FenceNames,
  type FenceState,
  PENDING,
  ReadNames,
  Release,
  RemoveCallback,
  SetError,
  Signal,
  TestSignaled,
  Unlock,
  WaitForFences,
} from './fence-steps.ts';

/** What names a fence in reports. */
export interface FenceOrigin {
  readonly driver: string;
  readonly timeline: string;
  /** Fences of one context signal in order of their sequence numbers. */
  readonly context: number;
  readonly seqno: number;
}

/** What the driver behind a fence does (`struct dma_fence_ops`). */
export interface DmaFenceOps {
  /**
   * Optional. Somebody wants to know when it is done; asked once.
   *
   * @returns False if it is done already: the fence is signaled then.
   * @context The fence's lock is held, interrupts are off.
   */
  enableSignaling?(fence: DmaFence): Atomic<boolean>;
  /**
   * Optional. True if it is done, for who looks before it was signaled.
   *
   * @context Any; the fence's lock may be held.
   */
  signaled?(fence: DmaFence): Atomic<boolean>;
  /**
   * Optional; absent: sleep until it is signaled. As {@link DmaFence.waitTimeout}.
   *
   * @context May sleep.
   */
  wait?(fence: DmaFence, interruptible: boolean, timeoutNs: number): Task<number>;
  /**
   * Optional. Somebody would like it to be done by `deadlineNs`; of several, the earliest counts.
   *
   * @context Any; the fence's lock is not held.
   */
  setDeadline?(fence: DmaFence, deadlineNs: number): Atomic;
  /**
   * Optional. The last reference is gone.
   *
   * @context Any.
   */
  release?(fence: DmaFence): Atomic;
}

/** What a fence may be given besides its origin. */
export interface FenceOptions {
  readonly ops?: DmaFenceOps;
  /** `dma_fence_init64()`: sequence numbers do not wrap at 32 bits. Default false. */
  readonly isSeqno64?: boolean;
  /** Signaled from the start, at this virtual time. */
  readonly signaledAtNs?: number;
  /** True for the kernel's own stub, which is there before anybody listens. */
  readonly isUnnumbered?: boolean;
}

const NO_OPS: DmaFenceOps = {};

/**
 * `struct dma_fence`.
 *
 * DIFFERS: sequence numbers are exact up to 2^53 only, and nobody comes that far.
 */
export class DmaFence extends Cell<FenceState> {
  readonly kernel: Kernel;
  readonly origin: FenceOrigin;
  readonly ops: DmaFenceOps;
  readonly isSeqno64: boolean;
  /** Number in the trace. */
  readonly number: number;
  /** References. The maker owns the first. */
  readonly refs: RefCount;

  /** `dma_fence_init()`. */
  constructor(kernel: Kernel, origin: FenceOrigin, options: FenceOptions = {}) {
    const name = `fence ${origin.timeline} ${origin.seqno}`;
    const at = options.signaledAtNs;
    const done = { ...PENDING, signaled: true, isEnabled: true, timestampNs: at ?? 0 };
    super(kernel.scheduler, name, at === undefined ? PENDING : done);
    assert(Number.isSafeInteger(origin.seqno), 'a sequence number is an exact integer');
    this.kernel = kernel;
    this.origin = origin;
    this.ops = options.ops ?? NO_OPS;
    this.isSeqno64 = options.isSeqno64 ?? false;
    this.refs = new RefCount(kernel.scheduler, `${name} references`);
    this.number = options.isUnnumbered === true ? 0 : kernel.nextFence();
    if (this.number === 0) return;
    const { driver, timeline, context, seqno } = origin;
    const names = { driver, timeline, context, seqno };
    kernel.scheduler.record?.({ kind: 'fence.init', fence: this.number, ...names });
    if (at === undefined) return;
    kernel.scheduler.record?.({ kind: 'fence.signal', fence: this.number, error: 0 });
  }

  /** True for what stands for several fences: an array, a chain. */
  get isContainer(): boolean {
    return false;
  }

  /**
   * A step that tells the names of driver and timeline, as long as there surely are such.
   *
   * @context Any.
   * @source `dma_fence_driver_name()`, `dma_fence_timeline_name()`
   */
  names(): PreemptStep<FenceNames> {
    return new ReadNames(this);
  }

  /**
   * Takes a reference; the caller has one already.
   *
   * @context Any.
   * @source `dma_fence_get()`
   */
  get(): PreemptStep<void> {
    return this.refs.get();
  }

  /**
   * As {@link get}, between two steps. Right only where the caller's own reference stays meanwhile:
   * then nobody can tell.
   *
   * @context Any.
   */
  hold(): this {
    if (this.refs.value > 0) this.refs.value += 1;
    else this.kernel.scheduler.warn('refcount', `${this.refs.name} incremented from zero`);
    return this;
  }

  /**
   * Takes a reference if there still is one. True if it did.
   *
   * @context Any.
   * @source `dma_fence_get_rcu()`
   */
  getRcu(): PreemptStep<boolean> {
    return this.refs.getUnlessZero();
  }

  /**
   * Drops a reference. After the last, whoever still has a callback queued is told, with `EDEADLK`
   * and a kernel warning.
   *
   * @context Any.
   * @source `dma_fence_put()`, `dma_fence_release()`
   */
  *put(): Atomic {
    if (!(yield* this.refs.put())) return;
    if (yield* new Release(this)) yield* this.signal();
    if (this.ops.release !== undefined) yield* this.ops.release(this);
  }

  /**
   * Says that it is done and runs the callbacks, in order of registration. Later calls do nothing.
   *
   * @param error - 0, or a negative errno, as {@link setError} would store it.
   * @context Any, also interrupt handlers; not a callback of the same fence, which deadlocks. The
   *   callbacks run under the fence's lock.
   * @source `dma_fence_signal()`, `dma_fence_set_error()`
   */
  *signal(error = 0): Atomic {
    yield* this.checkAndSignal(error);
  }

  /**
   * As {@link signal}.
   *
   * @returns True if it had been signaled before.
   * @context As there.
   * @source `dma_fence_check_and_signal()`
   */
  *checkAndSignal(error = 0): Atomic<boolean> {
    const callbacks = yield* new Signal(this, error);
    if (callbacks === null) return true;
    if (callbacks.length > 0) yield* this.underLock(this.run(callbacks));
    return false;
  }

  /**
   * Stores why the work failed: `-ENODATA` this one, `-ECANCELED` the whole context, `-ETIME` it
   * hung. Before the signal; after it, or for what is no error number, a kernel warning.
   *
   * @context Any.
   * @source `dma_fence_set_error()`
   */
  setError(error: number): PreemptStep<void> {
    return new SetError(this, error);
  }

  /**
   * Leaves a callback for the moment of signaling.
   *
   * @returns False if the fence is signaled already; the callback does not run then.
   * @context Any.
   * @source `dma_fence_add_callback()`, whose `-ENOENT` is the false here
   */
  *addCallback(callback: FenceCallback): Atomic<boolean> {
    if (this.ops.enableSignaling !== undefined && !(yield* this.enableSwSignaling())) return false;
    return yield* new AddCallback(this, callback);
  }

  /**
   * Takes a callback back.
   *
   * @returns True if it was still queued. False: it has run, to its end.
   * @context Any; not a callback of the same fence, which deadlocks.
   * @source `dma_fence_remove_callback()`
   */
  removeCallback(callback: FenceCallback): PreemptStep<boolean> {
    return new RemoveCallback(this, callback);
  }

  /**
   * Tells the driver that somebody wants to know. The first time only.
   *
   * @returns False if it is signaled, now or since long.
   * @context Any.
   * @source `dma_fence_enable_sw_signaling()`
   */
  *enableSwSignaling(): Atomic<boolean> {
    const latch = yield* new EnableSignaling(this);
    const { enableSignaling } = this.ops;
    if (latch !== 'first' || enableSignaling === undefined) return latch !== 'signaled';
    return yield* this.underLock(this.askDriver());
  }

  /**
   * True if it is signaled, or its driver says that it is done: then this signals it.
   *
   * @context Any.
   * @source `dma_fence_is_signaled()`
   */
  *isSignaled(): Atomic<boolean> {
    if (yield* new TestSignaled(this)) return true;
    if (this.ops.signaled === undefined || !(yield* this.ops.signaled(this))) return false;
    yield* this.signal();
    return true;
  }

  /**
   * 0 while pending, 1 when done, a negative errno when done with an error.
   *
   * @context Any.
   * @source `dma_fence_get_status()`
   */
  *getStatus(): Atomic<number> {
    if (!(yield* this.isSignaled())) return 0;
    return this.value.error === 0 ? 1 : this.value.error;
  }

  /**
   * Waits until the fence is signaled, with or without an error.
   *
   * @returns The error it was signaled with; 0 if none.
   * @context May sleep. Must not hold a lock that signaling needs.
   * @source `dma_fence_wait()`, uninterruptible
   */
  *wait(): Task<number> {
    yield* this.waitTimeout(false, Number.POSITIVE_INFINITY);
    return this.value.error;
  }

  /**
   * Waits until the fence is signaled, with or without an error, but not for ever.
   *
   * @param timeoutNs - Virtual time; Infinity waits for ever, 0 only looks.
   * @returns What is left of the timeout, at least 1; 0: it is over and the fence is not signaled.
   * @throws {@link DmaBufError} `ERESTARTSYS` a signal came; `EINVAL`, with a kernel warning, for a
   *   negative timeout.
   * @context May sleep. Must not hold a lock that signaling needs.
   * @source `dma_fence_wait_timeout()`
   */
  *waitTimeout(interruptible: boolean, timeoutNs: number): Task<number> {
    const { scheduler } = this.kernel;
    if (timeoutNs < 0) {
      scheduler.warn('dma_fence_wait_timeout', 'a negative timeout');
      throw new DmaBufError('EINVAL', 'waitTimeout', 'negative-fence-timeout');
    }
    const isPending = yield* this.enableSwSignaling();
    scheduler.record?.({ kind: 'fence.wait', fence: this.number, phase: 'begin' });
    try {
      if (this.ops.wait !== undefined) {
        return yield* this.ops.wait(this, interruptible, timeoutNs);
      }
      return isPending ? yield* this.sleep(interruptible, timeoutNs) : Math.max(timeoutNs, 1);
    } finally {
      scheduler.record?.({ kind: 'fence.wait', fence: this.number, phase: 'end' });
    }
  }

  /**
   * Says by when it would be good to be done. Only a hint, and for a pending fence.
   *
   * @param deadlineNs - Virtual time since boot; what is past means at once.
   * @context Any.
   * @source `dma_fence_set_deadline()`
   */
  *setDeadline(deadlineNs: number): Atomic {
    const { setDeadline } = this.ops;
    if (setDeadline === undefined || (yield* this.isSignaled())) return;
    yield* setDeadline(this, deadlineNs);
  }

  /**
   * True if this one comes after `other` in their context. Of two contexts: a kernel warning, and
   * false.
   *
   * @source `dma_fence_is_later()`
   */
  isLater(other: DmaFence): boolean {
    const [one, two] = [this.origin, other.origin];
    if (one.context !== two.context) {
      this.kernel.scheduler.warn('dma_fence_is_later', 'fences of two contexts have no order');
      return false;
    }
    if (this.isSeqno64) return one.seqno > two.seqno;
    // The low 32 bits, as a signed number: those after a wrap are later than those before.
    return ((one.seqno - two.seqno) | 0) > 0;
  }

  /**
   * As {@link isLater}, or the very same fence. Equal numbers of two fences are not the same.
   *
   * @source `dma_fence_is_later_or_same()`
   */
  isLaterOrSame(other: DmaFence): boolean {
    return this === other || this.isLater(other);
  }

  private *sleep(interruptible: boolean, timeoutNs: number): Task<number> {
    const { scheduler } = this.kernel;
    const until = scheduler.t + timeoutNs;
    const waited = yield* new WaitForFences(this, [this], interruptible, until);
    if (waited === 'timeout') return 0;
    if (waited === 'signaled') return Math.max(until - scheduler.t, 1);
    throw new DmaBufError('ERESTARTSYS', 'waitTimeout', 'fence-wait-interrupted');
  }

  /** The driver's part of enabling. False: it was done already, and is signaled now. */
  private *askDriver(): Atomic<boolean> {
    const { enableSignaling } = this.ops;
    if (enableSignaling === undefined || (yield* enableSignaling(this))) return true;
    yield* this.run((yield* new Signal(this, 0, true)) ?? []);
    return false;
  }

  private *run(callbacks: readonly FenceCallback[]): Atomic {
    for (const callback of callbacks) yield* callback(this);
  }

  /** Ends what began with a step that took the fence's lock. */
  private *underLock<T>(body: Atomic<T>): Atomic<T> {
    const { irqWork, scheduler } = this.kernel;
    const actor = scheduler.current;
    irqWork.disable(actor);
    try {
      return yield* body;
    } finally {
      yield* new Unlock(this);
      yield* irqWork.enable(actor);
    }
  }
}
