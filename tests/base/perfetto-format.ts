/**
 * Says whether a value is a file of the Chrome Trace Event JSON format that Perfetto shows whole.
 * Written from the documents and from Perfetto's importer, not from our writer; it takes the phases
 * that our writer uses and refuses the others.
 *
 * @source Trace Event Format,
 *   https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * @source google/perfetto ec5d16b, src/trace_processor: importers/json,
 *   importers/common/slice_tracker.cc, importers/common/flow_tracker.cc, sorter/trace_sorter.h
 */

type Fields = Readonly<Record<string, unknown>>;

/** An entry that has passed {@link checkEntry}. */
interface Entry {
  readonly ph: string;
  readonly name: string;
  readonly cat: string;
  readonly pid: number;
  readonly tid: number;
  /** Whole nanoseconds, as Perfetto rounds them. */
  readonly ns: number;
  readonly id: string;
  readonly index: number;
}

interface Slice {
  readonly name: string;
  readonly ns: number;
}

const PHASES: Readonly<Record<string, readonly string[]>> = {
  M: ['args'],
  B: ['cat', 'ts', 'args?'],
  E: ['cat', 'ts', 'args?'],
  b: ['cat', 'ts', 'id2', 'args?'],
  e: ['cat', 'ts', 'id2', 'args?'],
  i: ['cat', 'ts', 's', 'args?'],
  s: ['cat', 'ts', 'id'],
  f: ['cat', 'ts', 'id', 'bp'],
  C: ['cat', 'ts', 'args'],
};

/** What is wrong with a file; nothing if it is right. */
export function problemsOf(file: unknown): string[] {
  if (!isObject(file)) return ['the file is not an object'];
  const problems = [...checkTop(file)];
  if (!Array.isArray(file.traceEvents)) return problems;
  const entries: Entry[] = [];
  for (const [index, raw] of (file.traceEvents as unknown[]).entries()) {
    const found = [...checkEntry(raw)];
    problems.push(...found.map((problem) => `entry ${index}: ${problem}`));
    if (found.length === 0) entries.push(entryOf(raw as Fields, index));
  }
  if (problems.length > 0) return problems;
  problems.push(...checkNames(file.traceEvents as Fields[]));
  problems.push(...checkOrder(entries));
  const imported = entries.filter(({ ph }) => ph !== 'M').sort(byImport);
  problems.push(...checkSlices(imported), ...checkAsync(imported));
  return problems;
}

function* checkTop(file: Fields): Generator<string> {
  for (const key of Object.keys(file)) {
    if (!['traceEvents', 'displayTimeUnit', 'otherData'].includes(key)) yield `unknown key ${key}`;
  }
  if (!Array.isArray(file.traceEvents)) yield 'traceEvents is not an array';
  if (file.displayTimeUnit !== 'ns' && file.displayTimeUnit !== 'ms') {
    yield 'displayTimeUnit is neither ns nor ms';
  }
  if (!isObject(file.otherData)) yield 'otherData is not an object';
}

function* checkEntry(raw: unknown): Generator<string> {
  if (!isObject(raw)) {
    yield 'not an object';
    return;
  }
  const fields = PHASES[String(raw.ph)];
  if (fields === undefined) {
    yield `unknown phase ${String(raw.ph)}`;
    return;
  }
  const all = ['ph', 'name', 'pid', 'tid', ...fields];
  for (const field of all) {
    if (!field.endsWith('?') && raw[field] === undefined) yield `no ${field}`;
  }
  for (const key of Object.keys(raw)) {
    if (!all.includes(key) && !all.includes(`${key}?`)) yield `unknown field ${key}`;
    else yield* checkField(raw, key);
  }
}

function* checkField(raw: Fields, key: string): Generator<string> {
  const value = raw[key];
  switch (key) {
    case 'name':
    case 'cat':
      if (typeof value !== 'string' || value === '') yield `${key} is not a text`;
      break;
    case 'pid':
    case 'tid':
      // Perfetto keeps 32 bits, and takes 0 for missing.
      if (!Number.isInteger(value) || (value as number) < 1 || (value as number) >= 2 ** 32) {
        yield `${key} is not a number of 1 to 2^32-1`;
      }
      break;
    case 'ts':
      if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) yield 'ts is no time';
      break;
    case 'id':
      // Perfetto reads the ids of arrows as hexadecimal.
      if (typeof value !== 'string' || !/^0x[0-9a-f]{1,16}$/.test(value)) yield 'id is not hex';
      break;
    case 'id2':
      if (!isObject(value) || Object.keys(value).join() !== 'local') yield 'id2 is not local';
      else if (typeof value.local !== 'string' || value.local === '') yield 'id2.local is no id';
      break;
    case 's':
      if (!['g', 'p', 't'].includes(String(value))) yield 's is no scope';
      break;
    case 'bp':
      if (value !== 'e') yield 'bp is not e';
      break;
    case 'args':
      yield* checkArgs(raw);
  }
}

function* checkArgs({ ph, name, args }: Fields): Generator<string> {
  if (!isObject(args)) {
    yield 'args is not an object';
  } else if (ph === 'C') {
    const values = Object.values(args);
    if (values.length === 0) yield 'a counter without values';
    if (values.some((value) => typeof value !== 'number')) yield 'a counter that is no number';
  } else if (ph === 'M') {
    if (name === 'process_name' || name === 'thread_name') {
      if (typeof args.name !== 'string' || args.name === '') yield `${name} is no name`;
    } else if (name === 'process_sort_index' || name === 'thread_sort_index') {
      if (!Number.isInteger(args.sort_index)) yield `${name} is no integer`;
    } else yield `unknown metadata ${String(name)}`;
  }
}

/** Every process and thread is named and placed once, and none looks like a main thread. */
function* checkNames(entries: readonly Fields[]): Generator<string> {
  const seen = new Map<string, number>();
  for (const { ph, name, pid, tid } of entries) {
    if (ph !== 'M') continue;
    const whose = String(name).startsWith('process') ? `${pid}` : `${pid}/${tid}`;
    const key = `${String(name)} of ${whose}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  for (const { pid, tid } of entries) {
    if (pid === tid) yield `thread ${String(tid)} has the number of its process`;
    for (const key of [
      `process_name of ${pid}`,
      `process_sort_index of ${pid}`,
      `thread_name of ${pid}/${tid}`,
      `thread_sort_index of ${pid}/${tid}`,
    ]) {
      if (seen.get(key) !== 1) yield `${seen.get(key) ?? 0} times ${key}`;
    }
  }
}

function* checkOrder(entries: readonly Entry[]): Generator<string> {
  const last = new Map<string, number>();
  for (const { ph, pid, tid, ns, index } of entries) {
    if (ph === 'M') continue;
    const thread = `${pid}/${tid}`;
    if (ns < (last.get(thread) ?? 0)) yield `entry ${index}: time runs backwards`;
    last.set(thread, ns);
  }
}

/** The order in which Perfetto takes entries: by time, ends of slices first, then as filed. */
function byImport(one: Entry, other: Entry): number {
  const isEnd = (entry: Entry): number => (entry.ph === 'E' ? 0 : 1);
  return one.ns - other.ns || isEnd(one) - isEnd(other) || one.index - other.index;
}

/** Slices nest on their thread; arrows join two of them, the later at the head. */
function* checkSlices(entries: readonly Entry[]): Generator<string> {
  const stacks = new Map<string, Slice[]>();
  const arrows = new Map<string, Slice | null>();
  for (const { ph, name, cat, pid, tid, ns, id, index } of entries) {
    const stack = stacks.get(`${pid}/${tid}`) ?? [];
    stacks.set(`${pid}/${tid}`, stack);
    const top = stack.at(-1);
    const arrow = `${cat} ${name} ${id}`;
    if (ph === 'B') stack.push({ name, ns });
    else if (ph === 'E') {
      if (top?.name !== name) yield `entry ${index}: ends ${name} in ${top?.name ?? 'nothing'}`;
      stack.pop();
    } else if (ph === 's') {
      if (arrows.has(arrow)) yield `entry ${index}: arrow ${id} starts twice`;
      if (top === undefined) yield `entry ${index}: arrow ${id} starts at no slice`;
      arrows.set(arrow, top ?? { name, ns });
    } else if (ph === 'f') {
      const from = arrows.get(arrow);
      if (!from) yield `entry ${index}: arrow ${id} ends but has not started`;
      if (top === undefined) yield `entry ${index}: arrow ${id} ends at no slice`;
      // Perfetto turns an arrow round whose head is the older slice.
      else if (from && top.ns < from.ns) yield `entry ${index}: arrow ${id} points back`;
      arrows.set(arrow, null);
    }
  }
  for (const [thread, stack] of stacks) {
    for (const { name } of stack) yield `thread ${thread}: ${name} never ends`;
  }
  for (const [arrow, from] of arrows) if (from !== null) yield `arrow ${arrow} never ends`;
}

/** Spans beside the threads are joined by category and id, within their process. */
function* checkAsync(entries: readonly Entry[]): Generator<string> {
  const open = new Map<string, string>();
  for (const { ph, name, cat, pid, id, index } of entries) {
    const key = `${pid} ${cat} ${id}`;
    if (ph === 'b') {
      if (open.has(key)) yield `entry ${index}: ${key} begins twice`;
      open.set(key, name);
    } else if (ph === 'e') {
      if (open.get(key) !== name) yield `entry ${index}: ends ${name}, which is not open`;
      open.delete(key);
    }
  }
  for (const [key, name] of open) yield `${key}: ${name} never ends`;
}

function entryOf(raw: Fields, index: number): Entry {
  const { ph, name, cat, pid, tid, ts, id, id2 } = raw as Fields & {
    readonly ts?: number;
    readonly id2?: { readonly local: string };
  };
  return {
    ph: String(ph),
    name: String(name),
    cat: String(cat),
    pid: pid as number,
    tid: tid as number,
    ns: Math.round((ts ?? 0) * 1000),
    id: String(id2?.local ?? id),
    index,
  };
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
