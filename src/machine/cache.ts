/**
 * The CPU's cache on a machine whose devices do not see it. A line that the CPU read stays as it
 * was read until it is invalidated; a line that the CPU wrote is in memory only once it is cleaned.
 * A forgotten sync therefore shows as stale bytes.
 *
 * DIFFERS: lines are never evicted by themselves, so what a driver forgot stays forgotten in every
 * run. All CPUs share one cache.
 */

import { Cell } from './cell.ts';
import type { Scheduler } from './scheduler.ts';
import type { SparseBytes } from './sparse-bytes.ts';

/** Bytes in a line. */
export const CACHE_LINE_SIZE = 64;

interface Line {
  readonly bytes: Uint8Array;
  dirty: boolean;
}

/** A write-back cache over one bank of memory. Addresses are offsets in the bank. */
export class CpuCache extends Cell<null> {
  private readonly memory: SparseBytes;
  private readonly lines = new Map<number, Line>();

  constructor(scheduler: Scheduler, name: string, memory: SparseBytes) {
    super(scheduler, name, null);
    this.memory = memory;
  }

  /** What the CPU sees at `offset`. */
  read(offset: number, into: Uint8Array): void {
    for (const { start, from, to, at } of pieces(offset, into.length)) {
      into.set(this.lineAt(start).bytes.subarray(from, to), at);
    }
  }

  /** What the CPU writes at `offset`. */
  write(offset: number, bytes: Uint8Array): void {
    for (const { start, from, to, at } of pieces(offset, bytes.length)) {
      const line = this.lineAt(start);
      line.bytes.set(bytes.subarray(at, at + to - from), from);
      line.dirty = true;
    }
  }

  /** Writes what the CPU wrote to memory, so that devices see it. */
  clean(offset: number, length: number): void {
    for (const { start } of pieces(offset, length)) {
      const line = this.lines.get(start);
      if (line?.dirty !== true) continue;
      this.memory.write(start, line.bytes);
      line.dirty = false;
    }
  }

  /**
   * Forgets lines, so that the CPU sees what devices wrote. Unwritten changes are lost, but not
   * those in a line that the range covers only a part of: it is written to memory first.
   *
   * @source `dcache_inval_poc()`, arch/arm64/mm/cache.S, v7.2
   */
  invalidate(offset: number, length: number): void {
    for (const { start, from, to } of pieces(offset, length)) {
      if (to - from < CACHE_LINE_SIZE) this.clean(start, CACHE_LINE_SIZE);
      this.lines.delete(start);
    }
  }

  /** Forgets lines, whatever is in them: their memory has a new owner. */
  discard(offset: number, length: number): void {
    const end = offset + length;
    if (length > this.lines.size * CACHE_LINE_SIZE) {
      for (const start of [...this.lines.keys()]) {
        if (start >= offset && start < end) this.lines.delete(start);
      }
      return;
    }
    for (let start = offset; start < end; start += CACHE_LINE_SIZE) this.lines.delete(start);
  }

  /** Bytes that the CPU would read here as they no longer are: memory changed behind its copy. */
  countStale(offset: number, length: number): number {
    return this.countDifferent(offset, length, false);
  }

  /** Bytes that the CPU has written here and memory does not have yet. */
  countUnwritten(offset: number, length: number): number {
    return this.countDifferent(offset, length, true);
  }

  private countDifferent(offset: number, length: number, dirty: boolean): number {
    let count = 0;
    const now = new Uint8Array(CACHE_LINE_SIZE);
    for (const { start, from, to } of pieces(offset, length)) {
      const line = this.lines.get(start);
      if (line === undefined || line.dirty !== dirty) continue;
      this.memory.read(start, now);
      for (let at = from; at < to; at += 1) {
        if (line.bytes[at] !== now[at]) count += 1;
      }
    }
    return count;
  }

  private lineAt(start: number): Line {
    const known = this.lines.get(start);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(CACHE_LINE_SIZE);
    this.memory.read(start, bytes);
    const line = { bytes, dirty: false };
    this.lines.set(start, line);
    return line;
  }
}

/**
 * A range cut into lines: the line's start, the part of it, and where that part is in the range.
 */
function* pieces(
  offset: number,
  length: number,
): Generator<{ start: number; from: number; to: number; at: number }> {
  let at = 0;
  while (at < length) {
    const from = (offset + at) % CACHE_LINE_SIZE;
    const to = Math.min(CACHE_LINE_SIZE, from + length - at);
    yield { start: offset + at - from, from, to, at };
    at += to - from;
  }
}
