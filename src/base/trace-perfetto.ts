/**
 * A trace for the eye: a drawing in the Chrome Trace Event JSON format, which ui.perfetto.dev
 * opens. A process per role, a thread per actor, spans, and arrows from a signal to whoever waited.
 * It is not for reading back: that is what `trace-json.ts` writes.
 *
 * One step is drawn as one microsecond, because virtual time would draw nothing: it stands still
 * while anybody can go on, and passes only when all wait. It is in the arguments as `t`. Events of
 * one step share its microsecond evenly, in order.
 *
 * What decides over the phases, all in the format or in how Perfetto reads it:
 * - `B` and `E` must nest on a thread, so only calls that do are drawn so. Locks and mappings are
 *   `b` and `e`, each span with an id of its own, so that nothing has to nest.
 * - An arrow joins slices, not instants, and points to the one that starts later. So a signal, a
 *   packet and the end of a wait are short slices, and an arrow never ends at the wait itself.
 * - Perfetto keeps nanoseconds and puts `E` first among equals: a slice must last one at least.
 *
 * @source Trace Event Format,
 *   https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * @source perfetto.dev/docs/getting-started/other-formats, "Chrome JSON format"
 * @source google/perfetto ec5d16b: importers/json/json_trace_parser.cc, common/flow_tracker.cc,
 *   sorter/trace_sorter.h
 */

import { assert, present } from './assert.ts';
import type {
  PerfettoArgs,
  PerfettoAsync,
  PerfettoEvent,
  PerfettoPlace,
  PerfettoTrace,
} from './perfetto-event.ts';
import { type ActorRole, TRACE_SCHEMA, type Trace, type TraceEvent } from './trace.ts';
import { canHaveArrow, type TraceArrows, traceArrows } from './trace-arrows.ts';
import { type TraceSpan, type TraceSpans, traceSpans } from './trace-spans.ts';
import { describeEvent } from './trace-text.ts';

/** LIMIT: events that share one microsecond; Perfetto keeps nanoseconds. With more in one step,
 *  every step is drawn as 10 µs, 100 µs and so on. */
const EVENTS_PER_US_MAX = 1000;

/** Thread numbers start above the process numbers: the thread that has its process's number counts
 *  as the main thread and is drawn as such. */
const FIRST_TID = 11;

/** What a process stands for. */
type Role = ActorRole | 'machine';

/** Process numbers; viewers list the processes in this order. */
const PIDS: Readonly<Record<Role, number>> = {
  user: 1,
  kernel: 2,
  device: 3,
  remote: 4,
  machine: 5,
};

/**
 * Draws a trace.
 *
 * Every event of the trace is the entry with its `seq` in `args.seq`, exactly once: an instant, a
 * slice, or an end of a span. Entries without `seq` are the drawing: names, arrows, counters, and
 * the ends that no event marks.
 *
 * @param trace - The events, in order; of a whole run or not.
 * @returns Plain data, the same for the same trace; `ts` in microseconds, one step being
 *   `otherData.stepUs` of them.
 */
export function traceToPerfetto(trace: Trace): PerfettoTrace {
  const stepUs = stepWidth(trace);
  const drawing = new Drawing(trace, stepUs);
  const begin = trace.find((event) => event.kind === 'run.begin');
  return {
    traceEvents: drawing.draw(),
    displayTimeUnit: 'ns',
    otherData: {
      schema: TRACE_SCHEMA,
      scenario: begin?.scenario ?? '',
      machine: begin?.machine ?? '',
      strategy: begin?.strategy ?? '',
      stepUs: String(stepUs),
    },
  };
}

/**
 * The file's text: an entry a line, the same for the same trace.
 *
 * For drawings that fit into one string, those of about two million events.
 *
 * @param perfetto - What {@link traceToPerfetto} returned.
 */
export function perfettoToJson(perfetto: PerfettoTrace): string {
  const { traceEvents, displayTimeUnit, otherData } = perfetto;
  const entries = traceEvents.map((entry) => JSON.stringify(entry)).join(',\n');
  const rest = JSON.stringify({ displayTimeUnit, otherData }).slice(1);
  return `{"traceEvents":[\n${entries}\n],${rest}\n`;
}

/** Somebody whose events stand on one thread. */
interface Actor {
  readonly name: string;
  readonly role: Role;
  readonly pid: number;
  readonly tid: number;
  /** Slices that have begun and not ended, innermost last. */
  readonly open: { readonly name: string; readonly cat: string }[];
  /** True if the innermost slice shows that it is blocked. */
  isBlocked: boolean;
}

/** Builds the entries of one trace, in one pass over its events. */
class Drawing {
  private readonly trace: Trace;
  private readonly stepUs: number;
  private readonly spans: TraceSpans;
  private readonly arrows: TraceArrows;
  private readonly actors: ReadonlyMap<string, Actor>;
  private readonly entries: PerfettoEvent[] = [];
  private readonly openAsync = new Set<TraceSpan>();
  private readonly liveBuffers = new Set<number>();
  private liveMappings = 0;

  constructor(trace: Trace, stepUs: number) {
    this.trace = trace;
    this.stepUs = stepUs;
    this.spans = traceSpans(trace);
    this.arrows = traceArrows(trace);
    this.actors = findActors(trace);
  }

  draw(): readonly PerfettoEvent[] {
    this.nameActors();
    let lastTs = 0;
    for (let first = 0; first < this.trace.length;) {
      const step = this.eventAt(first).step;
      let after = first + 1;
      while (this.trace[after]?.step === step) after += 1;
      const later = this.trace[after]?.step;
      assert(later === undefined || later > step, 'the events of a trace are in order of steps');
      for (let index = first; index < after; index += 1) {
        const ts = this.moment(step, index - first, after - first);
        lastTs = this.moment(step, index - first + 1, after - first);
        this.drawEvent(index, ts, lastTs);
      }
      first = after;
    }
    this.endAll(lastTs);
    return this.entries;
  }

  /**
   * When share `part` of `parts` of a step begins, in microseconds and whole nanoseconds.
   *
   * LIMIT: exact up to 2^42 steps, forty million times those of a run.
   */
  private moment(step: number, part: number, parts: number): number {
    const stepNs = this.stepUs * 1000;
    return (step * stepNs + Math.floor((part * stepNs) / parts)) / 1000;
  }

  private nameActors(): void {
    const named = new Set<Role>();
    for (const { name, role, pid, tid } of this.actors.values()) {
      const on = { ph: 'M', pid, tid } as const;
      if (!named.has(role)) {
        named.add(role);
        this.entries.push({ ...on, name: 'process_name', args: { name: role } });
        this.entries.push({ ...on, name: 'process_sort_index', args: { sort_index: pid } });
      }
      const thread = name === '' ? 'machine' : name;
      this.entries.push({ ...on, name: 'thread_name', args: { name: thread } });
      this.entries.push({ ...on, name: 'thread_sort_index', args: { sort_index: tid } });
    }
  }

  private drawEvent(index: number, ts: number, endTs: number): void {
    const event = this.eventAt(index);
    const actor = this.actorOf(event);
    if (actor.isBlocked) {
      this.endSlice(actor, ts);
      actor.isBlocked = false;
    }
    const begun = this.spans.byBegin.get(index);
    const ended = this.spans.byEnd.get(index);
    if (begun !== undefined) this.beginSpan(begun, ts);
    else if (ended !== undefined && event.kind !== 'fence.wait') {
      this.endSpan(ended, ts, endArgs(event, this.eventAt(ended.begin)));
    } else if (event.kind === 'task.block') {
      this.beginSlice(actor, `blocked: ${event.verb} ${event.on}`, event, ts);
      actor.isBlocked = true;
    } else if (canHaveArrow(event)) {
      if (ended !== undefined) this.endSpan(ended, ts);
      this.drawArrowEnd(index, ts, endTs);
    } else {
      const name = describeEvent(event);
      this.entries.push({
        ph: 'i',
        s: 't',
        ...at(actor, name, nounOf(event), ts),
        args: argsOf(event),
      });
    }
    this.countLive(event, ended, ts);
  }

  private beginSpan(span: TraceSpan, ts: number): void {
    const event = this.eventAt(span.begin);
    const actor = this.actorOf(event);
    if (span.nests) {
      this.beginSlice(actor, spanName(event), event, ts);
      return;
    }
    this.openAsync.add(span);
    this.entries.push({ ph: 'b', ...this.asyncAt(span, ts), args: argsOf(event) });
  }

  private endSpan(span: TraceSpan, ts: number, args?: PerfettoArgs): void {
    if (span.nests) {
      this.endSlice(this.actorOf(this.eventAt(span.begin)), ts, args);
      return;
    }
    this.openAsync.delete(span);
    this.entries.push({ ph: 'e', ...this.asyncAt(span, ts), ...(args && { args }) });
  }

  /** Both ends of a span stand in the process where it began: ids are known only there. */
  private asyncAt(span: TraceSpan, ts: number): PerfettoPlace & Pick<PerfettoAsync, 'id2'> {
    const event = this.eventAt(span.begin);
    const place = at(this.actorOf(event), spanName(event), nounOf(event), ts);
    return { ...place, id2: { local: hexId(span.begin) } };
  }

  private beginSlice(actor: Actor, name: string, event: TraceEvent, ts: number): void {
    const cat = nounOf(event);
    actor.open.push({ name, cat });
    this.entries.push({ ph: 'B', ...at(actor, name, cat, ts), args: argsOf(event) });
  }

  private endSlice(actor: Actor, ts: number, args?: PerfettoArgs): void {
    const { name, cat } = present(actor.open.pop(), 'the slice that ends');
    this.entries.push({ ph: 'E', ...at(actor, name, cat, ts), ...(args && { args }) });
  }

  /** A slice as long as the event's share of its step, for arrows to begin and end at. */
  private drawArrowEnd(index: number, ts: number, endTs: number): void {
    const event = this.eventAt(index);
    const actor = this.actorOf(event);
    this.beginSlice(actor, describeEvent(event), event, ts);
    const cat = nounOf(event);
    for (const arrow of this.arrows.starts.get(index) ?? []) {
      this.entries.push({ ph: 's', ...at(actor, 'arrow', cat, ts), id: hexId(arrow) });
    }
    const arrow = this.arrows.ends.get(index);
    if (arrow !== undefined) {
      this.entries.push({ ph: 'f', bp: 'e', ...at(actor, 'arrow', cat, ts), id: hexId(arrow) });
    }
    this.endSlice(actor, endTs);
  }

  private countLive(event: TraceEvent, ended: TraceSpan | undefined, ts: number): void {
    const { liveBuffers } = this;
    if (event.kind === 'buffer.export') liveBuffers.add(event.buffer);
    else if (event.kind === 'buffer.release' && event.phase === 'end') {
      liveBuffers.delete(event.buffer);
    } else if (event.kind === 'attachment.map') this.liveMappings += 1;
    else if (event.kind === 'attachment.unmap' && ended !== undefined) this.liveMappings -= 1;
    else return;
    const args = { buffers: liveBuffers.size, mappings: this.liveMappings };
    const machine = present(this.actors.get(''), 'the machine');
    this.entries.push({ ph: 'C', ...at(machine, 'live', 'machine', ts), args });
  }

  /** Ends what the trace left open, so that viewers draw it up to the end of the run. */
  private endAll(ts: number): void {
    const args = { neverEnds: true };
    for (const span of this.openAsync) this.endSpan(span, ts, args);
    for (const actor of this.actors.values()) {
      while (actor.open.length > 0) this.endSlice(actor, ts, args);
    }
  }

  private eventAt(index: number): TraceEvent {
    return present(this.trace[index], 'an event of the trace');
  }

  private actorOf(event: TraceEvent): Actor {
    return present(this.actors.get(event.task), 'the actor of an event');
  }
}

function at({ pid, tid }: Actor, name: string, cat: string, ts: number): PerfettoPlace {
  return { name, cat, ts, pid, tid };
}

/** Ids are hexadecimal in this format: Perfetto reads them so, with or without a prefix. */
function hexId(id: number): string {
  return `0x${id.toString(16)}`;
}

/** The whole event: what somebody who selects it wants to read. */
function argsOf(event: TraceEvent): PerfettoArgs {
  return { ...event };
}

/** Perfetto puts the arguments of both ends into one table, so the names must differ. */
function endArgs(event: TraceEvent, begin: TraceEvent): PerfettoArgs {
  return { seq: event.seq, beganSeq: begin.seq, endT: event.t, endTask: event.task };
}

function nounOf(event: TraceEvent): string {
  return event.kind.slice(0, event.kind.indexOf('.'));
}

/** Microseconds per step: one, unless a step holds more events than Perfetto can tell apart. */
function stepWidth(trace: Trace): number {
  let most = 0;
  let count = 0;
  for (const [index, { step }] of trace.entries()) {
    count = trace[index - 1]?.step === step ? count + 1 : 1;
    most = Math.max(most, count);
  }
  let width = 1;
  while (most > EVENTS_PER_US_MAX * width) width *= 10;
  return width;
}

/** Everybody who did something, the machine first, then in order of spawning. Who was not spawned
 *  in this trace has no known role and stands with the machine. */
function findActors(trace: Trace): ReadonlyMap<string, Actor> {
  const actors = new Map<string, Actor>();
  const add = (name: string, role: Role): void => {
    if (actors.has(name)) return;
    const tid = FIRST_TID + actors.size;
    actors.set(name, { name, role, pid: PIDS[role], tid, open: [], isBlocked: false });
  };
  add('', 'machine');
  for (const event of trace) if (event.kind === 'task.spawn') add(event.child, event.role);
  for (const event of trace) add(event.task, 'machine');
  return actors;
}

function spanName(event: TraceEvent): string {
  switch (event.kind) {
    case 'lock.acquire':
      return `holds ${event.lock}`;
    case 'attachment.map':
      return `buffer ${event.buffer} mapped for ${event.device}`;
    case 'buffer.release':
      return `releases buffer ${event.buffer}`;
    case 'buffer.invalidate':
      return `invalidates buffer ${event.buffer}`;
    case 'attachment.invalidate':
      return `invalidates attachment ${event.attachment} of buffer ${event.buffer}`;
    case 'fence.wait':
      return `waits for fence ${event.fence}`;
    case 'device.reset':
      return `resets ${event.device}`;
    default:
      return describeEvent(event);
  }
}
