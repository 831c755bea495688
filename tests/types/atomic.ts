/** Goal: code that must not sleep cannot wait: a fence callback and an interrupt handler. */

import {
  type Attachment,
  type DmaBuf,
  type DmaFence,
  type DmaResv,
  type FenceCallback,
  fenceUnwrap,
  fenceUnwrapMerge,
  type Kernel,
  waitAnyTimeout,
  type WorkQueue,
} from '../../src/framework/index.ts';
import type {
  Atomic,
  Completion,
  InterruptHandler,
  Mutex,
  Packet,
  RwSemaphore,
  Scheduler,
  Shared,
  Task,
  WirePort,
  WwMutex,
} from '../../src/machine/index.ts';

declare const kernel: Kernel;
declare const resv: DmaResv;
declare const fence: DmaFence;
declare const mutex: Mutex;
declare const semaphore: RwSemaphore;
declare const ww: WwMutex;
declare const completion: Completion;
declare const flag: Shared<boolean>;
declare const scheduler: Scheduler;
declare const port: WirePort<Packet>;
declare const queue: WorkQueue;
declare const buf: DmaBuf;
declare const attachment: Attachment;

/** Right as it is: what does not wait may stand in atomic code. */
export function* mayStandHere(): Atomic {
  yield* fence.signal();
  yield* fence.addCallback(mayStandHere);
  yield* fence.removeCallback(mayStandHere);
  yield* fence.setError(-5);
  yield* fence.isSignaled();
  yield* fence.setDeadline(1);
  yield* fence.get();
  yield* fence.put();
  yield* fenceUnwrap(fence);
  yield* resv.trylock();
  yield* completion.complete();
  yield* mutex.unlock();
  yield* resv.unlock();
  yield* resv.testSignaled('kernel');
  yield* flag.write(!(yield* flag.read()));
  yield* queue.queue(maySleep);
  yield* buf.put();
  yield* buf.tryGet();
}

/** Right as it is: and all of it where one may sleep. */
export function* maySleep(): Task {
  yield* mayStandHere();
  yield* mutex.lock();
  yield* fence.wait();
  yield* scheduler.sleep(1);
}

/** A fence callback. */
export const callback: FenceCallback = function* callback(): Atomic {
  // @ts-expect-error A callback must not take the reservation.
  yield* resv.lock();
  // @ts-expect-error A callback must not wait for another fence.
  yield* fence.wait();
  // @ts-expect-error A callback must not take a sleeping lock.
  yield* mutex.lock();
  // @ts-expect-error A callback must not wait for fences of a reservation.
  yield* resv.wait('bookkeep');
  // @ts-expect-error Nor for a while.
  yield* resv.waitTimeout('kernel', false, 1);
  // @ts-expect-error Nor for another fence, however short.
  yield* fence.waitTimeout(true, 0);
  // @ts-expect-error Nor for any of several.
  yield* waitAnyTimeout(kernel, [fence], false, 1);
  // @ts-expect-error A callback must not take the reservation, even if a signal would end the wait.
  yield* resv.lockInterruptible();
  // @ts-expect-error Snapshots allocate, and may sleep for it.
  yield* resv.getFences('read');
  // @ts-expect-error So do merges.
  yield* fenceUnwrapMerge(kernel, [fence]);
  // @ts-expect-error A callback must not sleep interruptibly either.
  yield* kernel.signals.interruptible(completion.wait(), 'wait');
};

/** An interrupt handler. */
export const handler: InterruptHandler = function* handler(): Atomic {
  // @ts-expect-error A handler must not take a sleeping lock.
  yield* semaphore.downRead();
  // @ts-expect-error A handler must not take a sleeping lock.
  yield* semaphore.downWrite();
  // @ts-expect-error A handler must not take a sleeping lock.
  yield* ww.lock(null);
  // @ts-expect-error A handler must not wait for a completion.
  yield* completion.wait();
  // @ts-expect-error A handler must not wait for a variable.
  yield* flag.until((value) => value);
  // @ts-expect-error A handler must not sleep.
  yield* scheduler.sleep(1);
  // @ts-expect-error A handler must not wait for a packet.
  yield* port.receive();
};

/** Any other atomic code. */
export function* atomic(): Atomic {
  // @ts-expect-error Mapping may sleep.
  yield* attachment.mapAttachment('to-device');
  // @ts-expect-error Attaching may sleep.
  yield* buf.attach(null);
  // @ts-expect-error Invalidating may sleep.
  yield* buf.invalidateMappings();
  // @ts-expect-error A task may sleep, whatever this one does.
  yield* maySleep();
}

// @ts-expect-error A task is no callback: it may sleep.
export const sleepingCallback: FenceCallback = maySleep;
// @ts-expect-error A plain function is none either: what it did would be no step.
export const plainCallback: FenceCallback = () => {};
