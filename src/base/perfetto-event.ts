/**
 * The Chrome Trace Event JSON format, as far as peerbuf writes it: ui.perfetto.dev and
 * chrome://tracing open it. What is drawn with it, and why so, says `trace-perfetto.ts`.
 *
 * @source Trace Event Format,
 *   https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * @source perfetto.dev/docs/getting-started/other-formats, "Chrome JSON format"
 */

/** What the viewer shows of an event when it is selected. */
export type PerfettoArgs = Readonly<Record<string, unknown>>;

/** The thread that an entry stands on. */
export interface PerfettoThread {
  readonly pid: number;
  readonly tid: number;
}

/** The fields of all entries but metadata. */
export interface PerfettoPlace extends PerfettoThread {
  readonly name: string;
  /** What may be filtered by: the noun of the event kind. */
  readonly cat: string;
  /** Microseconds. */
  readonly ts: number;
}

/** Names a process or thread, or gives its place. */
export interface PerfettoMetadata extends PerfettoThread {
  readonly ph: 'M';
  readonly name: 'process_name' | 'process_sort_index' | 'thread_name' | 'thread_sort_index';
  readonly args: { readonly name: string } | { readonly sort_index: number };
}

/** Begin or end of a slice on a thread; they nest. */
export interface PerfettoSlice extends PerfettoPlace {
  readonly ph: 'B' | 'E';
  readonly args?: PerfettoArgs;
}

/** Begin or end of a span beside the threads, joined by category and id within the process. */
export interface PerfettoAsync extends PerfettoPlace {
  readonly ph: 'b' | 'e';
  readonly id2: { readonly local: string };
  readonly args?: PerfettoArgs;
}

/** Something without duration. */
export interface PerfettoInstant extends PerfettoPlace {
  readonly ph: 'i';
  /** Drawn on its thread. */
  readonly s: 't';
  readonly args: PerfettoArgs;
}

/** Start or finish of an arrow, at the slice that is open on the thread. */
export type PerfettoFlow = PerfettoPlace & { readonly id: string } & (
    { readonly ph: 's' } | { readonly ph: 'f'; readonly bp: 'e' }
  );

/** New values of some counters. */
export interface PerfettoCounter extends PerfettoPlace {
  readonly ph: 'C';
  readonly args: Readonly<Record<string, number>>;
}

/** One entry of {@link PerfettoTrace.traceEvents}. */
export type PerfettoEvent =
  | PerfettoMetadata
  | PerfettoSlice
  | PerfettoAsync
  | PerfettoInstant
  | PerfettoFlow
  | PerfettoCounter;

/** The whole file. */
export interface PerfettoTrace {
  readonly traceEvents: readonly PerfettoEvent[];
  readonly displayTimeUnit: 'ns';
  readonly otherData: Readonly<Record<string, string>>;
}
