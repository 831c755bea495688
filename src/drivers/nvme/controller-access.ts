/**
 * How a driver in user space gets at a controller: loads and stores to its BARs, its interrupts,
 * and memory for queues. VFIO provides it in the story; the driver knows no more than this.
 */

import type { Task } from '../../machine/index.ts';

/** The controller as the driver reaches it. */
export interface ControllerAccess {
  /** Reads 4 or 8 bytes as one number; of 8 bytes only values below 2^53 are asked for. */
  readRegister(bar: number, offset: number, length: 4 | 8): Task<number>;
  writeRegister(bar: number, offset: number, value: number, length: 4 | 8): Task<void>;
  readMemory(bar: number, offset: number, length: number): Task<Uint8Array>;
  writeMemory(bar: number, offset: number, bytes: Uint8Array): Task<void>;
  /** Sleeps until the controller has raised this interrupt once more than was waited for. None may
   *  be lost, also of those raised while nobody waits: a count, as an eventfd has. */
  waitForInterrupt(vector: number): Task<void>;
  /** Lets virtual time pass, which it does only when nobody can go on: what waits for a register to
   *  change sleeps between two looks, so it never spins. */
  sleep(ns: number): Task<void>;
}

/** Memory of a queue: host memory, or a part of the controller memory buffer. */
export interface QueueMemory {
  /** What the controller is told: its DMA address, or one in the window that CMBMSC opens. */
  readonly deviceAddress: number;
  read(offset: number, length: number): Task<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Task<void>;
}
