/**
 * What a system call reads from its caller's memory, and writes there: structs at addresses that
 * the caller made up, whatever they are.
 *
 * @source `copy_from_user()`, `copy_to_user()`, include/linux/uaccess.h, v7.2
 */

import {
  ADDRESS_LIMIT,
  DmaBufError,
  type Struct,
  type UserAddr,
  userAddr,
} from '../../base/index.ts';
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
  return layout.decode(yield* process.mm.load(userPointer(at), layout.size));
}

/**
 * Writes bytes.
 *
 * @param at - An address in the process.
 * @throws {@link DmaBufError} `EFAULT`; what lies before the fault is written.
 * @context May sleep in a page fault.
 */
export function* copyToUser(process: Process, at: number | bigint, bytes: Uint8Array): Task {
  yield* process.mm.store(userPointer(at), bytes);
}

/**
 * What a program gave as an address, made one.
 *
 * @throws {@link DmaBufError} `EFAULT` no process has pages there.
 */
export function userPointer(at: number | bigint): UserAddr {
  const address = Number(at);
  // So that nothing that is added leaves the range of our addresses.
  const isAddress = Number.isInteger(address) && address >= 0 && address < ADDRESS_LIMIT / 2;
  if (isAddress) return userAddr(address);
  throw new DmaBufError('EFAULT', 'access', 'pointer-out-of-range', { detail: { address } });
}
