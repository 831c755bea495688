/**
 * Who must not hold the reservation when calling, and what a callback must leave as it found it.
 * That somebody must hold it, {@link DmaResv.assertHeld} says.
 *
 * DIFFERS: Linux's lockdep looks at begin and end of CPU access only; here every verb that must be
 * called without the reservation says so, and every callback is looked at when it returns.
 *
 * @source Documentation/driver-api/dma-buf.rst, v7.2; reference/linux-dma-buf.md A.18
 */

import type { Task } from '../../machine/index.ts';
import type { DmaResv } from '../fence/dma-resv.ts';

/** Warns, as lockdep does, if the current actor holds the lock. */
export function assertNotHeld({ lockCell }: DmaResv, call: string): void {
  if (!lockCell.isHeldBy(lockCell.scheduler.current)) return;
  lockCell.scheduler.warn(call, `called with ${lockCell.name} held`);
}

/**
 * Runs a callback of a driver, and warns if it returns with the lock taken or given back.
 *
 * @param name - As the kernel has it: `map_dma_buf`.
 * @context As the callback's.
 */
export function* callback<T>({ lockCell }: DmaResv, name: string, body: Task<T>): Task<T> {
  const { scheduler } = lockCell;
  const before = lockCell.isHeldBy(scheduler.current);
  const result = yield* body;
  if (lockCell.isHeldBy(scheduler.current) !== before) {
    scheduler.warn(name, before ? `gave ${lockCell.name} back` : `kept ${lockCell.name}`);
  }
  return result;
}

/**
 * Does something with the reservation locked.
 *
 * @context May sleep, uninterruptibly; the reservation is not locked.
 * @source The `*_unlocked()` functions of drivers/dma-buf/dma-buf.c
 */
export function* withReservation<T>(resv: DmaResv, body: Task<T>): Task<T> {
  yield* resv.lock();
  try {
    return yield* body;
  } finally {
    yield* resv.unlock();
  }
}
