/** The program that makes a call: its memory, and the argument that it gave. */

import { DmaBufError, type Struct, type UserAddr } from '../../base/index.ts';
import type { Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';

/** One ioctl of a program, with a pointer to a struct. */
export class ProbeCaller {
  readonly process: Process;
  /** Which call, for reports: `ioctl(PROBE_MAP)`. */
  readonly call: string;
  private readonly arg: number;

  constructor(process: Process, call: string, arg: number) {
    this.process = process;
    this.call = call;
    this.arg = arg;
  }

  /**
   * The argument.
   *
   * @throws {@link DmaBufError} `EFAULT`.
   * @context May sleep in a fault; no lock held.
   * @source `copy_from_user()`
   */
  *read<V extends object>(layout: Struct<V>): Task<V> {
    return layout.decode(yield* this.load(this.arg, layout.size));
  }

  /**
   * Writes the argument back.
   *
   * @throws {@link DmaBufError} `EFAULT`.
   * @context May sleep in a fault; no lock held.
   * @source `copy_to_user()`
   */
  *answer<V extends object>(layout: Struct<V>, values: V): Task {
    yield* this.store(this.arg, layout.encode(values));
  }

  /**
   * Writes a list.
   *
   * @throws {@link DmaBufError} `EFAULT`. Nothing is touched for an empty list.
   * @context May sleep in a fault; no lock held.
   */
  *storeList<V extends object>(at: bigint, layout: Struct<V>, items: readonly V[]): Task {
    const bytes = new Uint8Array(items.length * layout.size);
    for (const [i, item] of items.entries()) bytes.set(layout.encode(item), i * layout.size);
    yield* this.store(Number(at), bytes);
  }

  /**
   * Reads memory of the program.
   *
   * @param at - Any number: the address is looked up, and nothing is there or something is.
   * @throws {@link DmaBufError} `EFAULT`.
   * @context May sleep in a fault; no lock held.
   */
  *load(at: number, length: number): Task<Uint8Array> {
    return yield* this.process.mm.load(at as UserAddr, length);
  }

  /**
   * Writes memory of the program.
   *
   * @throws {@link DmaBufError} `EFAULT`.
   * @context May sleep in a fault; no lock held.
   */
  *store(at: number, bytes: Uint8Array): Task {
    yield* this.process.mm.store(at as UserAddr, bytes);
  }

  /**
   * Refuses an argument in which something is set that has no meaning yet.
   *
   * @throws {@link DmaBufError} `EINVAL`.
   * @context Any.
   */
  mustBeZero(...fields: readonly (number | bigint)[]): void {
    if (fields.every((field) => Number(field) === 0)) return;
    throw new DmaBufError('EINVAL', this.call, 'probe-reserved-bits-are-set');
  }

  /**
   * Refuses an argument.
   *
   * @throws {@link DmaBufError} `EINVAL`, always.
   * @context Any.
   */
  invalid(what: string): DmaBufError {
    return new DmaBufError('EINVAL', this.call, 'probe-argument-is-out-of-range', {
      detail: { what },
    });
  }
}
