/**
 * Which locks were taken while which others were held, over any number of traces: lockdep for the
 * model. Locks are known by class: the name without the number of the object.
 */

import type { Trace } from '../../src/base/index.ts';

/** One lock was taken while another was held: who, where, with what in hand. */
export interface LockEdge {
  readonly held: string;
  readonly taken: string;
  /** `thread, step 12, holding a, b`: the stack of that moment. */
  readonly stack: string;
}

/** `dma-buf 3 resv` and `dma-buf 4 resv` are one class. */
function classOf(lock: string): string {
  return lock.replace(/\b[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.\d\b|\d+/g, '#');
}

/** The graph. */
export class LockGraph {
  private readonly edges = new Map<string, LockEdge>();

  /** Adds what happened in a trace. */
  add(trace: Trace): void {
    const inHand = new Map<string, { id: number; name: string; ctx: boolean }[]>();
    for (const event of trace) {
      if (event.kind === 'lock.acquire') {
        const held = inHand.get(event.task) ?? [];
        const ctx = event.ctx !== undefined;
        for (const other of held) {
          // Reservations of one context are ordered by it.
          if (ctx && other.ctx) continue;
          const names = held.map(({ name }) => name).join(', ');
          const stack = `${event.task}, step ${event.step}, holding ${names}`;
          this.note({ held: classOf(other.name), taken: classOf(event.lock), stack });
        }
        inHand.set(event.task, [...held, { id: event.id, name: event.lock, ctx }]);
      } else if (event.kind === 'lock.release') {
        const held = inHand.get(event.task) ?? [];
        inHand.set(
          event.task,
          held.filter(({ id }) => id !== event.id),
        );
      }
    }
  }

  /** How many different orders were seen. */
  get size(): number {
    return this.edges.size;
  }

  /** A circle, as the edges that make it; null if there is none. */
  circle(): readonly LockEdge[] | null {
    for (const edge of this.edges.values()) {
      const back = this.wayBetween(edge.taken, edge.held, new Set());
      if (back !== null) return [edge, ...back];
    }
    return null;
  }

  private note(edge: LockEdge): void {
    const key = `${edge.held} → ${edge.taken}`;
    if (!this.edges.has(key)) this.edges.set(key, edge);
  }

  private wayBetween(from: string, to: string, seen: Set<string>): readonly LockEdge[] | null {
    if (from === to) return [];
    seen.add(from);
    for (const edge of this.edges.values()) {
      if (edge.held !== from || seen.has(edge.taken)) continue;
      const rest = this.wayBetween(edge.taken, to, seen);
      if (rest !== null) return [edge, ...rest];
    }
    return null;
  }
}
