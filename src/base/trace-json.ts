/**
 * A trace as text: JSON Lines, one event a line, and back. The same trace is always the same bytes,
 * so two runs can be compared with `cmp` and a trace can be pinned in a test.
 *
 * Reading is strict, because a trace is evidence: a line that is not exactly an event is refused,
 * with its number and what was expected there. What the events mean together is the checker's
 * business.
 */

import { InputError } from './input-error.ts';
import { TRACE_SCHEMA, type Trace, type TraceEvent, type TraceKind } from './trace.ts';
import { type FieldCheck, isCount, isPlainObject, TRACE_FIELDS } from './trace-fields.ts';

/** LIMIT: characters in a line. The longest event is a mapping; 20,000 ranges of one fit. */
export const TRACE_LINE_CHARACTERS_MAX: number = 2 ** 20;

/** LIMIT: events in a text: fifty times the most steps that a scheduler allows a run by default. A
 *  million take 0.6 GB of memory once parsed. */
export const TRACE_EVENTS_MAX = 5_000_000;

/** LIMIT: characters in a text. V8 holds 2^29 in one string, and an event takes about 100. */
export const TRACE_TEXT_CHARACTERS_MAX: number = 400 * 2 ** 20;

/** LIMIT: objects and arrays inside each other in a line. Details of refusals are shallow, and
 *  JSON parsers, as whoever walks the details later, may recurse as deep as a line nests. */
export const TRACE_NESTING_MAX = 64;

/** Characters of a wrong value that an error message shows. */
const SHOWN_CHARACTERS_MAX = 40;

const STAMP_FIELDS: ReadonlySet<string> = new Set(['seq', 'step', 't', 'task', 'kind']);

/**
 * One event as one line of JSON.
 *
 * The stamp comes first, then the body, so that lines stay alike whoever built the event.
 *
 * @param event - Any event; `detail` must be plain JSON data.
 * @returns The line without a newline: `seq, step, t, task, kind`, then the body's own fields in
 *   the order in which the event has them.
 */
export function traceLine(event: TraceEvent): string {
  const { seq, step, t, task, kind, ...body } = event;
  return JSON.stringify({ seq, step, t, task, kind, ...body });
}

/**
 * A trace as JSON Lines.
 *
 * For traces that fit into one string, about three million events; a longer one is written line by
 * line with {@link traceLine}.
 *
 * @param trace - The events, in order.
 * @returns One line per event, each with its newline; `''` for no events.
 */
export function traceToJsonLines(trace: Trace): string {
  return trace.map((event) => `${traceLine(event)}\n`).join('');
}

/**
 * Reads a trace that {@link traceToJsonLines} wrote.
 *
 * A text that was cut after a whole line is a shorter trace, which is all that a killed run leaves
 * behind. Lines may end in CR LF, and one blank line may stand at the end.
 *
 * @param text - The whole text.
 * @param source - Where it came from, for errors.
 * @returns The events; at least the `run.begin` that every trace starts with.
 * @throws InputError if a line is not an event of {@link TRACE_SCHEMA}, if the events are not
 *   numbered from 0 in order, if steps or time run backwards, or if a limit is passed. Nothing else
 *   is thrown, whatever the text.
 */
export function parseTrace(text: string, source: string): TraceEvent[] {
  checkSize(text, source);
  const events: TraceEvent[] = [];
  let start = 0;
  while (start < text.length) {
    const newline = text.indexOf('\n', start);
    const end = newline === -1 ? text.length : newline;
    const at = new Line(source, events.length + 1);
    if (end - start > TRACE_LINE_CHARACTERS_MAX) {
      at.fail(`expected at most ${TRACE_LINE_CHARACTERS_MAX} characters, found ${end - start}`);
    }
    const line = text.slice(start, end);
    start = end + 1;
    if (start >= text.length && line.trim() === '' && events.length > 0) break;
    events.push(parseEvent(line, events.at(-1) ?? null, at));
  }
  if (events.length === 0) new Line(source, 1).fail('expected a run.begin event, found nothing');
  return events;
}

/** A check whose type no longer matters. */
type AnyCheck = Pick<FieldCheck<unknown>, 'expected' | 'accepts'>;

/** A place in the text that is being read. */
class Line {
  private readonly source: string;
  private readonly number: number;

  constructor(source: string, number: number) {
    this.source = source;
    this.number = number;
  }

  fail(problem: string): never {
    throw new InputError(this.source, `line ${this.number}`, problem);
  }
}

/** Refuses a text that is too large, before anything is built from it. */
function checkSize(text: string, source: string): void {
  if (text.length > TRACE_TEXT_CHARACTERS_MAX) {
    throw new InputError(
      source,
      '',
      `expected at most ${TRACE_TEXT_CHARACTERS_MAX} characters, found ${text.length}`,
    );
  }
  let lines = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) {
    lines += 1;
    if (lines > TRACE_EVENTS_MAX + 1) {
      new Line(source, lines).fail(`expected at most ${TRACE_EVENTS_MAX} events`);
    }
  }
}

function parseEvent(line: string, previous: TraceEvent | null, at: Line): TraceEvent {
  const event = parseObject(line, at);
  checkStamp(event, previous, at);
  const { kind } = event;
  if (previous === null) checkFirst(event, at);
  if (!isTraceKind(kind)) at.fail(`expected a known kind of event, found ${shown(kind)}`);
  checkBody(event, kind, at);
  // The checks above are the proof that the type system cannot give here.
  return event as unknown as TraceEvent;
}

function parseObject(line: string, at: Line): Record<string, unknown> {
  if (nestsTooDeep(line)) {
    at.fail(`expected at most ${TRACE_NESTING_MAX} objects and arrays inside each other`);
  }
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    // The engine's own words differ from engine to engine, and quote the line.
    at.fail(`expected a JSON object, found ${shown(line)}`);
  }
  if (!isPlainObject(value)) at.fail(`expected a JSON object, found ${shown(value)}`);
  return value;
}

function checkFirst(event: Record<string, unknown>, at: Line): void {
  if (event.kind !== 'run.begin') {
    at.fail(`expected a trace to start with run.begin, found ${shown(event.kind)}`);
  }
  if (event.schema !== TRACE_SCHEMA) {
    at.fail(`expected a trace of schema "${TRACE_SCHEMA}", found ${shown(event.schema)}`);
  }
}

function checkStamp(event: Record<string, unknown>, previous: TraceEvent | null, at: Line): void {
  const { seq, step, t, task } = event;
  const next = previous === null ? 0 : previous.seq + 1;
  if (seq !== next) at.fail(`expected seq to be ${next}, found ${shown(seq)}`);
  const stepMin = previous?.step ?? 0;
  if (!isCount(step) || step < stepMin) {
    at.fail(`expected step to be an integer of ${stepMin} to 2^53-1, found ${shown(step)}`);
  }
  const tMin = previous?.t ?? 0;
  if (!isCount(t) || t < tMin) {
    at.fail(`expected t to be an integer of ${tMin} to 2^53-1, found ${shown(t)}`);
  }
  if (typeof task !== 'string') at.fail(`expected task to be a string, found ${shown(task)}`);
}

function isTraceKind(kind: unknown): kind is TraceKind {
  return typeof kind === 'string' && Object.hasOwn(TRACE_FIELDS, kind);
}

function checkBody(event: Record<string, unknown>, kind: TraceKind, at: Line): void {
  const fields: Readonly<Record<string, AnyCheck>> = TRACE_FIELDS[kind];
  for (const name in fields) {
    const check = fields[name] as AnyCheck;
    if (!check.accepts(event[name])) {
      at.fail(`${kind}: expected ${name} to be ${check.expected}, found ${shown(event[name])}`);
    }
  }
  for (const name in event) {
    if (!STAMP_FIELDS.has(name) && !Object.hasOwn(fields, name)) {
      at.fail(`${kind}: expected no field ${shown(name)}`);
    }
  }
}

/** True if objects and arrays stand inside each other more than {@link TRACE_NESTING_MAX} deep. */
function nestsTooDeep(line: string): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < line.length; i += 1) {
    const character = line.charCodeAt(i);
    if (character === 0x22) inString = !inString;
    else if (inString) {
      // The character after a backslash does not end the string.
      if (character === 0x5c) i += 1;
    } else if (character === 0x7b || character === 0x5b) {
      depth += 1;
      if (depth > TRACE_NESTING_MAX) return true;
    } else if (character === 0x7d || character === 0x5d) depth -= 1;
  }
  return false;
}

/** A value for an error message: short, and on one line whatever it is. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  // JSON has no word for the infinity that it reads from 1e999.
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX)}…`;
}
