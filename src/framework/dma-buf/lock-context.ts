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
 * Warns if a callback returned with the lock taken or given back.
 *
 * @param held - True for a callback that is entered with the lock.
 * @param callback - As the kernel names it: `map_dma_buf`.
 */
export function assertContextKept({ lockCell }: DmaResv, held: boolean, callback: string): void {
  if (lockCell.isHeldBy(lockCell.scheduler.current) === held) return;
  const text = held ? `gave ${lockCell.name} back` : `kept ${lockCell.name}`;
  lockCell.scheduler.warn(callback, text);
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
