/**
 * What a system call reads from its caller's memory, and writes there: structs at addresses that
 * the caller made up, whatever they are.
 *
 * @source `copy_from_user()`, `copy_to_user()`, include/linux/uaccess.h, v7.2
 */

import { ADDRESS_LIMIT, DmaBufError, type Struct, userAddr } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { Process } from './process.ts';

/**
 * Reads a struct.
 *
 * @param at - An address in the process.
 * @throws {@link DmaBufError} `EFAULT`.
 * @context May sleep in a page fault.
 */
export function* copyFromUser<V extends object>(
  process: Process,
  at: number | bigint,
  layout: Struct<V>,
): Task<V> {
  return layout.decode(yield* process.mm.load(userAddr(checked(at)), layout.size));
}

/**
 * Writes bytes.
 *
 * @param at - An address in the process.
 * @throws {@link DmaBufError} `EFAULT`; what lies before the fault is written.
 * @context May sleep in a page fault.
 */
export function* copyToUser(process: Process, at: number | bigint, bytes: Uint8Array): Task {
  yield* process.mm.store(userAddr(checked(at)), bytes);
}

/** No process has pages where our addresses end. */
function checked(at: number | bigint): number {
  const address = Number(at);
  if (Number.isInteger(address) && address >= 0 && address < ADDRESS_LIMIT) return address;
  throw new DmaBufError('EFAULT', 'access', 'pointer-out-of-range', { detail: { address } });
}
