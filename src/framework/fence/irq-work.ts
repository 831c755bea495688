/**
 * Work that code under a fence's lock leaves for the moment when interrupts are on again: the CPU
 * that queued it does it then, before anything else. Containers signal themselves this way, so that
 * the lock of one fence is never taken under that of another.
 *
 * @source kernel/irq_work.c, v7.2; reference/linux-dma-buf.md B.5
 */

import type { Actor, Atomic } from '../../machine/index.ts';

/** What a CPU has to do when it turns interrupts on. */
interface Pending {
  /** Fences of which the actor holds the lock. */
  depth: number;
  readonly works: (() => Atomic)[];
}

/** Queued work, by the actor that queued it; each touches its own only. */
export class IrqWork {
  private readonly byActor = new Map<Actor | null, Pending>();

  /** `local_irq_disable()`: the actor is about to take a fence's lock. */
  disable(actor: Actor | null): void {
    const pending = this.byActor.get(actor);
    if (pending === undefined) this.byActor.set(actor, { depth: 1, works: [] });
    else pending.depth += 1;
  }

  /**
   * The actor let the lock go. With the last one, what was queued is done.
   *
   * @context Any.
   * @source `local_irq_enable()`
   */
  *enable(actor: Actor | null): Atomic {
    const pending = this.byActor.get(actor);
    if (pending === undefined) return;
    pending.depth -= 1;
    while (pending.depth === 0) {
      const work = pending.works.shift();
      if (work === undefined) break;
      yield* work();
    }
    if (pending.depth === 0) this.byActor.delete(actor);
  }

  /**
   * Leaves work for when interrupts are on; does it at once if they are.
   *
   * @context Any.
   * @source `irq_work_queue()`
   */
  *queue(actor: Actor | null, work: () => Atomic): Atomic {
    const pending = this.byActor.get(actor);
    if (pending === undefined) yield* work();
    else pending.works.push(work);
  }
}
