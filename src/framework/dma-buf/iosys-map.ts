/**
 * The kernel's own view of a buffer's memory. RAM and a device's memory are touched with different
 * instructions; which it is, the map says.
 *
 * @source `struct iosys_map`, include/linux/iosys-map.h, v7.2
 */

import { assert } from '../../base/index.ts';
import type { Atomic, Machine, PhysRange } from '../../machine/index.ts';

/** A mapping in the kernel. Two are the same only if they are one object. */
export class IosysMap {
  readonly machine: Machine;
  readonly ranges: readonly PhysRange[];
  /** True for a device's memory: never through the cache. */
  readonly isIomem: boolean;

  constructor(machine: Machine, ranges: readonly PhysRange[], isIomem: boolean) {
    this.machine = machine;
    this.ranges = ranges;
    this.isIomem = isIomem;
  }

  /** Bytes. */
  get size(): number {
    return this.ranges.reduce((sum, { size }) => sum + size, 0);
  }

  /**
   * Reads.
   *
   * @context Any.
   * @source `iosys_map_memcpy_from()`
   */
  *load(offset: number, length: number): Atomic<Uint8Array> {
    const { cpu } = this.machine;
    const bytes = new Uint8Array(length);
    for (const { phys, done, size } of this.pieces(offset, length)) {
      const range = { phys, size } as PhysRange;
      const piece = this.isIomem ? cpu.mmioRead(range.phys, size) : cpu.load(range.phys, size);
      bytes.set(yield* piece, done);
    }
    return bytes;
  }

  /**
   * Writes.
   *
   * @context Any.
   * @source `iosys_map_memcpy_to()`
   */
  *store(offset: number, bytes: Uint8Array): Atomic {
    const { cpu } = this.machine;
    for (const { phys, done, size } of this.pieces(offset, bytes.length)) {
      const range = { phys, size } as PhysRange;
      const piece = bytes.subarray(done, done + size);
      yield* this.isIomem ? cpu.mmioWrite(range.phys, piece) : cpu.store(range.phys, piece);
    }
  }

  private *pieces(
    offset: number,
    length: number,
  ): Generator<{ readonly phys: number; readonly done: number; readonly size: number }> {
    assert(offset >= 0 && offset + length <= this.size, 'an access stays in the mapping');
    let start = 0;
    for (const { phys, size } of this.ranges) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + size);
      if (from < to) yield { phys: phys + from - start, done: from - offset, size: to - from };
      start += size;
    }
  }
}
