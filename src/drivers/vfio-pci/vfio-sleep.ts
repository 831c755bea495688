/**
 * A function that does not answer because it sleeps: by its power management register, or because
 * the kernel may switch it off.
 *
 * DIFFERS: a sleeping function answers nothing because its command register is cleared behind the
 * user's back, and it wakes up as it fell asleep, as with `No_Soft_Reset`.
 *
 * @source `vfio_pci_set_power_state()`, `__vfio_pci_memory_enabled()`,
 *   drivers/vfio/pci/vfio_pci_core.c, v7.2
 */

import type { PciFunction, Task } from '../../machine/index.ts';

/** Why it sleeps. */
export type SleepReason = 'd3hot' | 'low-power';

/** Whether one function sleeps, and why. LOCKING: all of it under the device's memory lock. */
export class VfioSleep {
  private readonly fn: PciFunction;
  private readonly reasons = new Set<SleepReason>();
  /** What the command register says to the user while it sleeps. */
  private command = 0;

  constructor(fn: PciFunction) {
    this.fn = fn;
  }

  /** True if it sleeps for that reason, perhaps among others. */
  isFor(why: SleepReason): boolean {
    return this.reasons.has(why);
  }

  /** @context The memory lock is held for writing. */
  *begin(why: SleepReason): Task {
    if (this.reasons.size === 0) {
      this.command = yield* this.fn.command.read();
      yield* this.fn.writeCommand(0);
    }
    this.reasons.add(why);
  }

  /** Wakes up, if nothing else keeps it asleep. @context The memory lock is held for writing. */
  *end(why: SleepReason): Task {
    if (!this.reasons.delete(why) || this.reasons.size > 0) return;
    yield* this.fn.writeCommand(this.command);
  }

  /** The user writes the command register. @context The memory lock is held for writing. */
  *writeCommand(command: number): Task {
    if (this.reasons.size > 0) this.command = command;
    else yield* this.fn.writeCommand(command);
  }

  /** The device is closed: the user's reasons are gone, and so is what he wrote. */
  clear(): void {
    this.reasons.clear();
  }
}
