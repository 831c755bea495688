/**
 * Which events of a trace belong together as the two ends of a span of time: a lock that is held,
 * a mapping that lives, a wait, a reset. A trace only says that something began or ended; whoever
 * draws it needs the pairs.
 *
 * Not a judgement: an end without a beginning is no span, a beginning without an end is one that
 * never ends, and whether either is a mistake is for the checker to say.
 */

import { assertUnreachable } from './assert.ts';
import type { Trace, TraceEvent } from './trace.ts';

/** Two ends that belong together. */
export interface TraceSpan {
  /** Index in the trace of the event that opens it. */
  readonly begin: number;
  /** Index of the event that closes it; null if nothing does. */
  readonly end: number | null;
  /**
   * True if it is what its actor was busy with: the same actor opened and closed it, inside or
   * outside of, but never across, the other such spans of that actor. Locks and mappings never are,
   * for they outlive the calls that take them.
   */
  readonly nests: boolean;
}

/** The spans of a trace, by the index of either end. */
export interface TraceSpans {
  readonly byBegin: ReadonlyMap<number, TraceSpan>;
  readonly byEnd: ReadonlyMap<number, TraceSpan>;
}

/** One end of a span, and the name of the thing that it is about. */
interface SpanEdge {
  readonly key: string;
  readonly isBegin: boolean;
  readonly isCall: boolean;
}

/**
 * Pairs the events that open and close spans.
 *
 * An end closes the latest open span on the same object that its own actor opened, or else the
 * latest that anybody did: a mapping may be undone, a reset finished by somebody else.
 *
 * @param trace - Any events in order, of a whole run or not.
 * @returns Every event that opens a span, and every event that closes one, exactly once.
 */
export function traceSpans(trace: Trace): TraceSpans {
  const ends = pairEnds(trace);
  const begins = new Map([...ends].map(([begin, end]) => [end, begin]));
  const nested = nestedCalls(trace, ends, begins);
  const byBegin = new Map<number, TraceSpan>();
  const byEnd = new Map<number, TraceSpan>();
  for (const [begin, end] of ends) {
    const span = { begin, end, nests: nested.has(begin) };
    byBegin.set(begin, span);
    if (end !== null) byEnd.set(end, span);
  }
  return { byBegin, byEnd };
}

/** For every event that opens a span, the event that closes it. */
function pairEnds(trace: Trace): Map<number, number | null> {
  const ends = new Map<number, number | null>();
  const openOfTask = new Map<string, number[]>();
  const openOfAll = new Map<string, number[]>();
  for (const [index, event] of trace.entries()) {
    const edge = spanEdge(event);
    if (edge === null) continue;
    const ofTask = listOf(openOfTask, JSON.stringify([edge.key, event.task]));
    const ofAll = listOf(openOfAll, edge.key);
    if (edge.isBegin) {
      ends.set(index, null);
      ofTask.push(index);
      ofAll.push(index);
      continue;
    }
    // What was closed through one list is still on the other; it is dropped when it surfaces, so
    // that no trace, however odd, takes more than linear time.
    const begin = popOpen(ofTask, ends) ?? popOpen(ofAll, ends);
    if (begin !== undefined) ends.set(begin, index);
  }
  return ends;
}

function popOpen(open: number[], ends: ReadonlyMap<number, number | null>): number | undefined {
  let begin = open.pop();
  while (begin !== undefined && ends.get(begin) !== null) begin = open.pop();
  return begin;
}

/** The spans that nest, by the event that opens them. */
function nestedCalls(
  trace: Trace,
  ends: ReadonlyMap<number, number | null>,
  begins: ReadonlyMap<number | null, number>,
): ReadonlySet<number> {
  const nested = new Set<number>();
  const stacks = new Map<string, number[]>();
  for (const [index, event] of trace.entries()) {
    const edge = spanEdge(event);
    if (edge === null || !edge.isCall) continue;
    const stack = listOf(stacks, event.task);
    if (edge.isBegin) {
      const end = ends.get(index) ?? null;
      if (end !== null && trace[end]?.task !== event.task) continue;
      stack.push(index);
      nested.add(index);
      continue;
    }
    const begin = begins.get(index);
    if (begin === undefined || !nested.has(begin)) continue;
    while (stack.length > 0 && !nested.has(stack.at(-1) as number)) stack.pop();
    if (stack.at(-1) === begin) stack.pop();
    else nested.delete(begin);
  }
  return nested;
}

function listOf<K>(lists: Map<K, number[]>, key: K): number[] {
  let list = lists.get(key);
  if (list === undefined) {
    list = [];
    lists.set(key, list);
  }
  return list;
}

/** Which end of which span an event is; null if it is none. */
function spanEdge(event: TraceEvent): SpanEdge | null {
  if ('phase' in event) {
    const key = `${event.kind} ${subjectOf(event)}`;
    return { key, isBegin: event.phase === 'begin', isCall: true };
  }
  switch (event.kind) {
    case 'lock.acquire':
    case 'lock.release':
      return { key: `lock ${event.id}`, isBegin: event.kind === 'lock.acquire', isCall: false };
    case 'attachment.map':
    case 'attachment.unmap': {
      const key = `mapping ${event.attachment}`;
      return { key, isBegin: event.kind === 'attachment.map', isCall: false };
    }
    default:
      return null;
  }
}

function subjectOf(event: Extract<TraceEvent, { readonly phase: unknown }>): string | number {
  switch (event.kind) {
    case 'buffer.release':
    case 'buffer.invalidate':
      return event.buffer;
    case 'attachment.invalidate':
      return event.attachment;
    case 'fence.wait':
      return event.fence;
    case 'device.reset':
      return event.device;
    default:
      return assertUnreachable(event);
  }
}
