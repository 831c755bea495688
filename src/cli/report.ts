/**
 * What came of running a story, as data and as JSON (`peerbuf.report/1`). `peerbuf run` reports one
 * execution, `peerbuf check` many.
 */

import { type Trace, type TraceEvent, traceLine } from '../base/index.ts';
import type { Finding, FindingKind } from '../machine/index.ts';
import type { Cast } from '../scenarios/index.ts';

/** Version of the format; a change of meaning changes the number. */
export const REPORT_SCHEMA = 'peerbuf.report/1';

/** LIMIT: findings of one execution that are reported; a device that faults in a loop makes
 *  thousands. */
export const FINDINGS_MAX = 20;

/** An execution that went wrong. */
export interface BadRun {
  /** Null if no dice were rolled. */
  readonly seed: number | null;
  readonly schedule: string;
  readonly findings: readonly Finding[];
  readonly trace: Trace;
}

/** What came of a story on a machine. */
export interface Report {
  readonly scenario: string;
  readonly machine: string;
  readonly cast: Cast;
  readonly executions: number;
  /** Steps of all executions together. */
  readonly steps: number;
  readonly elapsedMs: number;
  /** The different results, with how often each came. */
  readonly results: ReadonlyMap<string, number>;
  /** Executions that went wrong. */
  readonly failed: number;
  /** The first of each kind of them. */
  readonly failures: readonly BadRun[];
  /** What only one of the commands has to say; plain data. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** `clean`, or the kind of the first thing that was found. */
export function verdictOf({ failures }: Pick<Report, 'failures'>): 'clean' | FindingKind {
  return failures[0]?.findings[0]?.kind ?? 'clean';
}

/**
 * A trace that names its schedule as its strategy, whatever chose it: then it says how to get it
 * again, and doing so gives the same bytes.
 */
export function nameSchedule(trace: Trace, schedule: string): Trace {
  return trace.map((event) =>
    event.kind === 'run.begin' ? { ...event, strategy: schedule } : event,
  );
}

/**
 * Writes a report as JSON, piece by piece: traces may be longer than one string.
 *
 * @param indent - In front of every line but the first.
 */
export function* reportJson(report: Report, indent = ''): Generator<string> {
  const { scenario, machine, cast, executions, steps, elapsedMs, results, failed } = report;
  const head = {
    schema: REPORT_SCHEMA,
    scenario,
    machine,
    cast,
    verdict: verdictOf(report),
    expected: 'clean',
    executions,
    // One schedule, or some that dice chose: never all.
    complete: false,
    steps,
    elapsedMs: Math.round(elapsedMs),
    failed,
    results: [...results].map(([text, count]) => ({ text, count })),
    ...report.more,
  };
  const text = JSON.stringify(head, null, 2).replaceAll('\n', `\n${indent}`);
  yield `${text.slice(0, text.lastIndexOf('\n'))},\n${indent}  "findings": [`;
  let separator = '';
  for (const failure of report.failures) {
    const lines = failure.trace.map((event) => `${indent}      ${traceLine(event)}`);
    for (const finding of failure.findings.slice(0, FINDINGS_MAX)) {
      yield `${separator}\n${indent}    ${findingJson(finding, failure)}`;
      yield* traceJson(lines, indent);
      separator = ',';
    }
  }
  yield separator === '' ? `]\n${indent}}` : `\n${indent}  ]\n${indent}}`;
}

/** The fields of a finding but for its trace, and an object that is still open. */
function findingJson({ kind, title, party, step }: Finding, { seed, schedule }: BadRun): string {
  const fields = { rule: kind, title, party, step, ...(seed === null ? {} : { seed }), schedule };
  return JSON.stringify(fields).slice(0, -1);
}

function* traceJson(lines: readonly string[], indent: string): Generator<string> {
  const LINES_PER_PIECE = 10_000;
  yield ',"trace":[';
  for (let at = 0; at < lines.length; at += LINES_PER_PIECE) {
    const piece = lines.slice(at, at + LINES_PER_PIECE).join(',\n');
    yield `${at === 0 ? '\n' : ',\n'}${piece}`;
  }
  yield lines.length === 0 ? ']}' : `\n${indent}    ]}`;
}

/** Why the kernel refused, if that is how a story ended. */
export interface Refusal {
  readonly code: string;
  readonly reason: string;
  readonly device: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** The last refusal for want of a route in a trace; null if there was none. */
export function refusalIn(trace: Trace): Refusal | null {
  const event = trace.findLast(
    (one): one is Extract<TraceEvent, { readonly kind: 'attachment.refuse' }> =>
      one.kind === 'attachment.refuse' && one.reason === 'no-peer-to-peer-route',
  );
  if (event === undefined) return null;
  const { code, reason, device, detail } = event;
  return { code, reason, device, detail };
}
