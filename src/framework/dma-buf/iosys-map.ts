/**
 * The kernel's own view of a buffer's memory. RAM and a device's memory are touched with different
 * instructions; which it is, the map says.
 *
 * @source `struct iosys_map`, include/linux/iosys-map.h, v7.2
 */

import { assert, type PhysAddr } from '../../base/index.ts';
import type { Atomic, Machine, PhysRange, PreemptStep } from '../../machine/index.ts';

/** A mapping in the kernel. Two are the same only if they are one object. */
export class IosysMap {
  readonly machine: Machine;
  readonly ranges: readonly PhysRange[];
  /** True for a device's memory: never through the cache. */
  readonly isIomem: boolean;
  /** True for RAM that is mapped past the cache, as write-combined and coherent memory is. */
  readonly isUncached: boolean;

  constructor(
    machine: Machine,
    ranges: readonly PhysRange[],
    isIomem: boolean,
    isUncached = false,
  ) {
    this.machine = machine;
    this.ranges = ranges;
    this.isIomem = isIomem;
    this.isUncached = isUncached;
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
    const bytes = new Uint8Array(length);
    for (const { phys, done, size } of this.pieces(offset, length)) {
      bytes.set(yield* this.loadPiece(phys, size), done);
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
    for (const { phys, done, size } of this.pieces(offset, bytes.length)) {
      yield* this.storePiece(phys, bytes.subarray(done, done + size));
    }
  }

  private loadPiece(phys: PhysAddr, size: number): PreemptStep<Uint8Array> {
    const { cpu } = this.machine;
    if (this.isIomem) return cpu.mmioRead(phys, size);
    return this.isUncached ? cpu.loadUncached(phys, size) : cpu.load(phys, size);
  }

  private storePiece(phys: PhysAddr, bytes: Uint8Array): PreemptStep<void> {
    const { cpu } = this.machine;
    if (this.isIomem) return cpu.mmioWrite(phys, bytes);
    return this.isUncached ? cpu.storeUncached(phys, bytes) : cpu.store(phys, bytes);
  }

  private *pieces(
    offset: number,
    length: number,
  ): Generator<{ readonly phys: PhysAddr; readonly done: number; readonly size: number }> {
    assert(offset >= 0 && offset + length <= this.size, 'an access stays in the mapping');
    let start = 0;
    for (const { phys, size } of this.ranges) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + size);
      if (from < to)
        yield { phys: (phys + from - start) as PhysAddr, done: from - offset, size: to - from };
      start += size;
    }
  }
}
