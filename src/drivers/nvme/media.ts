/**
 * The flash of a drive: numbered blocks of real bytes. It has no part in resets; what was written
 * stays.
 */

import type { Cell, PreemptStep, Scheduler } from '../../machine/index.ts';
import { DeviceMemory } from '../../machine/index.ts';
import { BLOCK_SIZE } from './commands.ts';

/** Blocks of a drive that nobody gave a size: 1 GiB. Only what is written takes memory. */
export const CAPACITY_BLOCKS_DEFAULT: number = 2 ** 21;

/** The blocks. A read or write of any length is one step, so one command is never half written. */
export class Media {
  readonly capacityBlocks: number;
  private readonly memory: DeviceMemory;

  constructor(scheduler: Scheduler, name: string, capacityBlocks: number) {
    this.capacityBlocks = capacityBlocks;
    this.memory = new DeviceMemory(scheduler, name, capacityBlocks * BLOCK_SIZE);
  }

  /** What its steps touch. */
  get cell(): Cell {
    return this.memory;
  }

  /** True if all these blocks exist. */
  holds(lba: number, blocks: number): boolean {
    return lba + blocks <= this.capacityBlocks;
  }

  /**
   * A step that reads blocks, which must exist.
   *
   * @context Any; also for a story that looks at the media by itself.
   */
  read(lba: number, blocks: number): PreemptStep<Uint8Array> {
    return this.memory.load(lba * BLOCK_SIZE, blocks * BLOCK_SIZE);
  }

  /** What is on the blocks, for who looks from outside when nothing runs any more. No step. */
  peek(lba: number, blocks: number): Uint8Array {
    const bytes = new Uint8Array(blocks * BLOCK_SIZE);
    this.memory.read(lba * BLOCK_SIZE, bytes);
    return bytes;
  }

  /**
   * A step that writes whole blocks, which must exist.
   *
   * @context Any.
   */
  write(lba: number, bytes: Uint8Array): PreemptStep<void> {
    return this.memory.store(lba * BLOCK_SIZE, bytes);
  }
}
