/**
 * Which event of a trace let another happen elsewhere: the signal that ended a wait, the packet
 * that arrived. Drawn as arrows from one actor to the other.
 *
 * Only what the trace says itself. Which write a read saw, or who handed a lock over, is not here.
 */

import type { Trace, TraceEvent } from './trace.ts';

/** The arrows of a trace, by the index of the event at either end. Arrows are numbered from 1. */
export interface TraceArrows {
  /** One event may start many: a signal wakes all who wait. */
  readonly starts: ReadonlyMap<number, readonly number[]>;
  /** One event ends one at most. */
  readonly ends: ReadonlyMap<number, number>;
}

/** Packets of one name on one wire, in order. */
interface Queue {
  readonly sent: number[];
  received: number;
}

/**
 * Joins the end of each wait to the last signal of its fence before it, and each packet received to
 * the first of that name sent on that wire and not received yet.
 *
 * @param trace - Any events in order, of a whole run or not. Waits that ended without a signal and
 *   packets that were never sent have no arrow.
 */
export function traceArrows(trace: Trace): TraceArrows {
  const starts = new Map<number, number[]>();
  const ends = new Map<number, number>();
  const signals = new Map<number, number>();
  const queues = new Map<string, Queue>();
  for (const [index, event] of trace.entries()) {
    const start = startOf(index, event, signals, queues);
    if (start === undefined) continue;
    const arrow = ends.size + 1;
    ends.set(index, arrow);
    const others = starts.get(start);
    if (others === undefined) starts.set(start, [arrow]);
    else others.push(arrow);
  }
  return { starts, ends };
}

/** True for the events of a kind that arrows start or end at, whether or not one does. */
export function canHaveArrow(event: TraceEvent): boolean {
  switch (event.kind) {
    case 'fence.signal':
    case 'wire.send':
    case 'wire.receive':
      return true;
    case 'fence.wait':
      return event.phase === 'end';
    default:
      return false;
  }
}

/** The event that the arrow to this one starts at; keeps what later events may start at. */
function startOf(
  index: number,
  event: TraceEvent,
  signals: Map<number, number>,
  queues: Map<string, Queue>,
): number | undefined {
  switch (event.kind) {
    case 'fence.signal':
      signals.set(event.fence, index);
      return undefined;
    case 'fence.wait':
      return event.phase === 'end' ? signals.get(event.fence) : undefined;
    case 'wire.send':
      queueOf(queues, event.wire, event.packet).sent.push(index);
      return undefined;
    case 'wire.receive': {
      const queue = queueOf(queues, event.wire, event.packet);
      const start = queue.sent[queue.received];
      if (start !== undefined) queue.received += 1;
      return start;
    }
    default:
      return undefined;
  }
}

function queueOf(queues: Map<string, Queue>, wire: string, packet: string): Queue {
  const key = JSON.stringify([wire, packet]);
  const queue = queues.get(key) ?? { sent: [], received: 0 };
  queues.set(key, queue);
  return queue;
}
