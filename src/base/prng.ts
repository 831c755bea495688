/**
 * Seeded random numbers: sfc32 started from one 53-bit seed. Everything random in peerbuf comes
 * from here, so that a seed names a run.
 *
 * @source Chris Doty-Humphrey's PractRand, sfc32
 */

import { assert } from './assert.ts';

/** Largest seed. */
export const SEED_MAX: number = Number.MAX_SAFE_INTEGER;

/** A stream of random integers that depends on its seed alone. */
export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  constructor(seed: number) {
    assert(Number.isSafeInteger(seed) && seed >= 0, `a seed is an integer of 0 to 2^53-1: ${seed}`);
    this.a = seed | 0;
    this.b = Math.floor(seed / 2 ** 32) | 0;
    this.c = 0x9e3779b9 | 0;
    for (let round = 0; round < 12; round += 1) this.next();
  }

  /** The next integer of 0 to 2^32-1. */
  next(): number {
    const sum = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum;
    this.c |= 0;
    return sum >>> 0;
  }

  /** An integer of 0 to `bound - 1`; `bound` is at most 2^32. */
  below(bound: number): number {
    return Math.floor((this.next() / 2 ** 32) * bound);
  }
}
