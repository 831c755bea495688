/**
 * A trace as rows and columns: time downwards, a column for everybody who did something. Pure; how
 * it is drawn is `timeline-table.ts`'s business.
 */

import {
  type ActorRole,
  describeEvent,
  isMilestone,
  type Trace,
  type TraceEvent,
} from '../base/index.ts';

/** LIMIT: the fewest accesses in a row that are told as one: fewer lose more than they save. */
const FOLDED_MIN = 3;

/** Left to right: who asks stands left of who is asked, the far end of the wire rightmost. */
const ROLE_ORDER: readonly (ActorRole | 'machine')[] = [
  'user',
  'kernel',
  'device',
  'remote',
  'machine',
];

/** How much a row wants to be seen. */
export type Tone =
  /** Something that happens. */
  | 'plain'
  /** A sentence of the story. */
  | 'note'
  /** A call that cannot be done. */
  | 'refusal'
  /** A fault, a warning, a failure. */
  | 'trouble';

/** Something that somebody did. */
export interface TimelineRow {
  /** Steps taken before. */
  readonly step: number;
  /** Position in {@link Timeline.actors}. */
  readonly actor: number;
  readonly text: string;
  readonly tone: Tone;
}

/** Rows and columns. */
export interface Timeline {
  /** Names of those who have a row, left to right. */
  readonly actors: readonly string[];
  readonly rows: readonly TimelineRow[];
  /** Rows before these that were left out. */
  readonly leftOut: number;
}

/** What a timeline shows. */
export interface TimelineOptions {
  /** Every event, in a row of its own. Default: milestones, without begin and end of the run. */
  readonly all?: boolean;
  /** At most so many rows, the last ones. Default: all. */
  readonly rowsMax?: number;
}

/** A row whose actor has no column yet. */
interface Entry extends Omit<TimelineRow, 'actor'> {
  readonly task: string;
}

/** Lays a trace out. */
export function timelineOf(trace: Trace, options: TimelineOptions = {}): Timeline {
  const { all = false, rowsMax = Number.POSITIVE_INFINITY } = options;
  const stuck = deadlockIn(trace);
  const told = all ? trace : trace.filter((event) => isShown(event) || stuck.has(event));
  const entries = foldAccesses(told, all).map(({ event, text }) => entryOf(event, text, stuck));
  const leftOut = Math.max(entries.length - rowsMax, 0);
  const shown = entries.slice(leftOut);
  const tasks = columnsOf(trace, new Set(shown.map(({ task }) => task)));
  const columnOf = new Map(tasks.map((task, at) => [task, at]));
  return {
    actors: tasks.map((task) => (task === '' ? 'machine' : task)),
    rows: shown.map(({ task, ...row }) => ({ ...row, actor: columnOf.get(task) ?? 0 })),
    leftOut,
  };
}

/** Begin and end of a run stand above and below its timeline. */
function isShown(event: TraceEvent): boolean {
  return isMilestone(event) && event.kind !== 'run.begin' && event.kind !== 'run.end';
}

function entryOf(event: TraceEvent, text: string, stuck: ReadonlySet<TraceEvent>): Entry {
  const { step, task } = event;
  return { step, task, text, tone: stuck.has(event) ? 'trouble' : toneOf(event) };
}

/**
 * For a run that ends in a deadlock, what led there: every lock that is never given back, and the
 * last thing that everybody did who waits for ever.
 */
function deadlockIn(trace: Trace): ReadonlySet<TraceEvent> {
  const end = trace.at(-1);
  if (end?.kind !== 'run.end' || end.status !== 'deadlock') return new Set();
  const lasts = new Map<string, TraceEvent>();
  const held = new Map<string, TraceEvent>();
  const daemons = new Set<string>();
  for (const event of trace) {
    lasts.set(event.task, event);
    if (event.kind === 'task.spawn' && event.daemon) daemons.add(event.child);
    if (event.kind === 'lock.acquire') held.set(`${event.id} ${event.task}`, event);
    if (event.kind === 'lock.release') held.delete(`${event.id} ${event.task}`);
  }
  const blocks = [...lasts.values()].filter(
    ({ kind, task }) => kind === 'task.block' && !daemons.has(task),
  );
  return new Set([...blocks, ...held.values()]);
}

/** What is told of an event, or of several that become one. */
interface Told {
  readonly event: TraceEvent;
  readonly text: string;
}

/** CPU accesses in a row by one actor to one device become one; those that failed stay. */
function foldAccesses(events: readonly TraceEvent[], all: boolean): readonly Told[] {
  const told: Told[] = [];
  for (let first = 0; first < events.length;) {
    const event = events[first] as TraceEvent;
    const device = all ? null : accessedDevice(event);
    let after = first + 1;
    while (device !== null && isSameAccess(events[after], event.task, device)) after += 1;
    const run = events.slice(first, after);
    if (device === null || run.length < FOLDED_MIN) {
      told.push(...run.map((one) => ({ event: one, text: describeEvent(one) })));
    } else told.push({ event, text: `${run.length} accesses to ${device} (MMIO)` });
    first = after;
  }
  return told;
}

function isSameAccess(event: TraceEvent | undefined, task: string, device: string): boolean {
  return event !== undefined && event.task === task && accessedDevice(event) === device;
}

/** The device that a CPU access reached; null for all other events. */
function accessedDevice(event: TraceEvent): string | null {
  if (event.kind !== 'mmio.read' && event.kind !== 'mmio.write') return null;
  return event.result === 'done' ? event.target.replace(/ BAR\d.*$/, '') : null;
}

function toneOf(event: TraceEvent): Tone {
  switch (event.kind) {
    case 'story.note':
      return 'note';
    case 'attachment.refuse':
      return 'refusal';
    case 'pci.fault':
    case 'iommu.fault':
    case 'kernel.warn':
    case 'kernel.oops':
    case 'story.fail':
      return 'trouble';
    case 'dma.read':
    case 'dma.write':
    case 'mmio.read':
    case 'mmio.write':
      return event.result === 'fault' ? 'trouble' : 'plain';
    case 'task.end':
      return event.failed === null ? 'plain' : 'trouble';
    default:
      return 'plain';
  }
}

/** Those of `tasks` by role, and within a role in order of spawning. */
function columnsOf(trace: Trace, tasks: ReadonlySet<string>): readonly string[] {
  const places = new Map<string, number>([['', ROLE_ORDER.indexOf('machine')]]);
  for (const event of trace) {
    if (event.kind === 'task.spawn') places.set(event.child, ROLE_ORDER.indexOf(event.role));
  }
  const placeOf = (task: string): number => places.get(task) ?? ROLE_ORDER.length;
  const spawned = [...places.keys()].filter((task) => tasks.has(task));
  const others = [...tasks].filter((task) => !places.has(task));
  return [...spawned, ...others].sort((one, other) => placeOf(one) - placeOf(other));
}
