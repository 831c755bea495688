/**
 * The steps on one fence: what happens to its flags, its callbacks and its lock. Only
 * {@link DmaFence} takes them.
 *
 * @source drivers/dma-buf/dma-fence.c, v7.2; reference/linux-dma-buf.md B.1
 */

import { ERRNO } from '../../base/index.ts';
import {
  type Access,
  type Actor,
  type Atomic,
  type Look,
  PreemptStep,
  SleepStep,
  wholeCell,
} from '../../machine/index.ts';
import type { DmaFence } from './dma-fence.ts';

/** What a fence's callbacks are: code that may not sleep, and does not wait for anything. */
export type FenceCallback = (fence: DmaFence) => Atomic;

/** A callback that is queued, and those queued before it. */
export interface QueuedCallback {
  readonly callback: FenceCallback;
  readonly before: QueuedCallback | null;
}

/** Where a fence stands. */
export interface FenceState {
  readonly signaled: boolean;
  /** 0, or a negative errno. */
  readonly error: number;
  /** Somebody wants to know: the latch that is set once. */
  readonly isEnabled: boolean;
  /** Virtual time of the signal; 0 while pending. */
  readonly timestampNs: number;
  /** The newest first. */
  readonly callbacks: QueuedCallback | null;
  /** The fence's spinlock is held over several steps: its callbacks or its driver are running. */
  readonly isLocked: boolean;
}

/** A new fence. */
export const PENDING: FenceState = {
  signaled: false,
  error: 0,
  isEnabled: false,
  timestampNs: 0,
  callbacks: null,
  isLocked: false,
};

/** LIMIT: `MAX_ERRNO`. */
const ERRNO_MAX = 4095;

abstract class FenceStep<R> extends PreemptStep<R> {
  readonly cell: DmaFence;

  constructor(cell: DmaFence) {
    super();
    this.cell = cell;
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look(this.cell).signaled ? 'R' : 'W')];
  }
}

/** A step that spins while the lock is taken. */
abstract class LockingStep<R> extends FenceStep<R> {
  override guard(look: Look, _actor: Actor): boolean {
    return !look(this.cell).isLocked;
  }
}

/** Signals. The callbacks to run, oldest first, under the lock; null: it was signaled before. */
export class Signal extends LockingStep<readonly FenceCallback[] | null> {
  private readonly error: number;
  private readonly holdsLock: boolean;

  constructor(cell: DmaFence, error: number, holdsLock = false) {
    super(cell);
    this.error = error;
    this.holdsLock = holdsLock;
  }

  get verb(): string {
    return 'signal';
  }

  override guard(look: Look, actor: Actor): boolean {
    return this.holdsLock || super.guard(look, actor);
  }

  apply(): readonly FenceCallback[] | null {
    const { cell } = this;
    if (this.error !== 0) storeError(cell, this.error);
    if (cell.value.signaled) return null;
    const callbacks = inOrder(cell.value.callbacks);
    const { scheduler } = cell.kernel;
    cell.value = {
      ...cell.value,
      signaled: true,
      callbacks: null,
      timestampNs: scheduler.t,
      isLocked: this.holdsLock || callbacks.length > 0,
    };
    const { error } = cell.value;
    scheduler.record?.({ kind: 'fence.signal', fence: cell.number, error });
    return callbacks;
  }
}

function inOrder(newest: QueuedCallback | null): readonly FenceCallback[] {
  const callbacks: FenceCallback[] = [];
  for (let at = newest; at !== null; at = at.before) callbacks.push(at.callback);
  return callbacks.reverse();
}

/** Stores why the work failed; the rules of `dma_fence_set_error()`. */
function storeError(cell: DmaFence, error: number): void {
  const { scheduler } = cell.kernel;
  if (cell.value.signaled) {
    scheduler.warn('dma_fence_set_error', `${cell.name} is signaled already`);
    return;
  }
  if (!Number.isInteger(error) || error >= 0 || error < -ERRNO_MAX) {
    scheduler.warn('dma_fence_set_error', `${error} is no negative error number`);
  }
  cell.value = { ...cell.value, error };
}

/** Stores the error that the fence will be signaled with. */
export class SetError extends FenceStep<void> {
  private readonly error: number;

  constructor(cell: DmaFence, error: number) {
    super(cell);
    this.error = error;
  }

  get verb(): string {
    return 'set error of';
  }

  apply(): void {
    storeError(this.cell, this.error);
  }
}

/** Gives the lock back. */
export class Unlock extends FenceStep<void> {
  get verb(): string {
    return 'unlock';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = { ...this.cell.value, isLocked: false };
  }
}

/** Sets the latch. `first`: it was not set, and a driver that wants to know has the lock now. */
export class EnableSignaling extends LockingStep<'signaled' | 'enabled' | 'first'> {
  get verb(): string {
    return 'enable signaling of';
  }

  override accesses(look: Look): readonly Access[] {
    const { signaled, isEnabled } = look(this.cell);
    return [wholeCell(this.cell, signaled || isEnabled ? 'R' : 'W')];
  }

  apply(): 'signaled' | 'enabled' | 'first' {
    const { cell } = this;
    const { signaled, isEnabled } = cell.value;
    if (signaled) return 'signaled';
    if (isEnabled) return 'enabled';
    const isLocked = cell.ops.enableSignaling !== undefined;
    cell.value = { ...cell.value, isEnabled: true, isLocked };
    return 'first';
  }
}

/** Queues a callback. False: signaled already. */
export class AddCallback extends FenceStep<boolean> {
  private readonly callback: FenceCallback;

  constructor(cell: DmaFence, callback: FenceCallback) {
    super(cell);
    this.callback = callback;
  }

  get verb(): string {
    return 'add callback';
  }

  override guard(look: Look): boolean {
    const { signaled, isLocked } = look(this.cell);
    return signaled || !isLocked;
  }

  apply(): boolean {
    const { cell, callback } = this;
    const { signaled, callbacks } = cell.value;
    if (signaled) return false;
    cell.value = { ...cell.value, isEnabled: true, callbacks: { callback, before: callbacks } };
    return true;
  }
}

/** Takes a callback out of the queue. False: it is not there any more. */
export class RemoveCallback extends LockingStep<boolean> {
  private readonly callback: FenceCallback;

  constructor(cell: DmaFence, callback: FenceCallback) {
    super(cell);
    this.callback = callback;
  }

  get verb(): string {
    return 'remove callback';
  }

  apply(): boolean {
    const { cell } = this;
    const left = inOrder(cell.value.callbacks);
    const at = left.indexOf(this.callback);
    if (at < 0) return false;
    const callbacks = left
      .toSpliced(at, 1)
      .reduce<QueuedCallback | null>((before, callback) => ({ callback, before }), null);
    cell.value = { ...cell.value, callbacks };
    return true;
  }
}

/** Looks at the flag. */
export class TestSignaled extends FenceStep<boolean> {
  get verb(): string {
    return 'test';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): boolean {
    return this.cell.value.signaled;
  }
}

/** Who made a fence, as reports show it. */
export interface FenceNames {
  readonly driver: string;
  readonly timeline: string;
}

/** What a fence is called once its driver may be gone. */
const DETACHED: FenceNames = { driver: 'detached-driver', timeline: 'signaled-timeline' };

/** Tells the names. */
export class ReadNames extends FenceStep<FenceNames> {
  get verb(): string {
    return 'read the names of';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): FenceNames {
    return this.cell.value.signaled ? DETACHED : this.cell.origin;
  }
}

/** The last reference is gone. True: callbacks are queued that nobody would call any more. */
export class Release extends FenceStep<boolean> {
  get verb(): string {
    return 'release';
  }

  apply(): boolean {
    const { cell } = this;
    const { signaled, callbacks } = cell.value;
    if (signaled || callbacks === null) return false;
    const { driver, timeline, context, seqno } = cell.origin;
    const name = `${driver}:${timeline}:${context.toString(16)}:${seqno.toString(16)}`;
    const text = `Fence ${name} released with pending signals!`;
    cell.kernel.scheduler.warn('dma_fence_release', text);
    cell.value = { ...cell.value, error: -ERRNO.EDEADLK };
    return true;
  }
}

/** How a sleep ended. */
export type Waited = 'signaled' | 'interrupted' | 'timeout';

/** Sleeps until one of several fences is signaled, a signal comes, or the clock says so. */
export class WaitForFences extends SleepStep<Waited> {
  readonly cell: DmaFence;
  private readonly fences: readonly DmaFence[];
  private readonly interruptible: boolean;
  private readonly until: number;

  constructor(first: DmaFence, fences: readonly DmaFence[], interruptible: boolean, until: number) {
    super();
    this.cell = first;
    this.fences = fences;
    this.interruptible = interruptible;
    this.until = until;
  }

  get verb(): string {
    return 'wait for';
  }

  override guard(look: Look, actor: Actor): boolean {
    if (this.fences.some((fence) => isOver(look(fence)))) return true;
    const { scheduler, signals } = this.cell.kernel;
    if (this.interruptible && signals.isPending(actor, look)) return true;
    return look(scheduler.clock) >= this.until;
  }

  override accesses(_look: Look, actor: Actor): readonly Access[] {
    const { scheduler, signals } = this.cell.kernel;
    const all = this.fences.map((fence) => wholeCell(fence, 'R'));
    if (this.interruptible) all.push(signals.access(actor, 'R'));
    if (this.until !== Number.POSITIVE_INFINITY) all.push(wholeCell(scheduler.clock, 'R'));
    return all;
  }

  override deadline(): number | undefined {
    return this.until === Number.POSITIVE_INFINITY ? undefined : this.until;
  }

  /** A signal wins over a fence that is signaled meanwhile, as it does in Linux after a sleep. */
  apply(actor: Actor): Waited {
    if (this.interruptible && this.cell.kernel.signals.isPending(actor)) return 'interrupted';
    return this.fences.some((fence) => fence.value.signaled) ? 'signaled' : 'timeout';
  }
}

/** Signaled, and nobody holds the lock that the waiter takes once more when it wakes. */
function isOver({ signaled, isLocked }: FenceState): boolean {
  return signaled && !isLocked;
}
