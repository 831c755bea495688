/**
 * The shape of every trace event as data: which fields a kind has, and what each must hold. Types
 * are gone when a trace comes back from a file; this table is what is left of them at run time.
 *
 * The compiler holds the table to `trace.ts`: a kind or a field that is missing here, that
 * `trace.ts` does not have, or whose check takes more or less than the field's type does not
 * compile. It is not the meaning of a trace: that a buffer was exported before it is mapped is for
 * the checker to say.
 */

import {
  type DmaDirection,
  type MappedRange,
  TRACE_SCHEMA,
  type TraceBody,
  type TraceKind,
} from './trace.ts';

/** What a field must hold. */
export interface FieldCheck<T> {
  /** Completes "expected …". */
  readonly expected: string;
  /** True for values of the field's type; a field that may be missing takes `undefined`. */
  readonly accepts: (value: unknown) => value is T;
  /** Never there and never called: it forbids a check that takes less than the field's type. */
  readonly exact?: (value: T) => void;
}

/** The body of the events of one kind. */
export type BodyOf<K extends TraceKind, B extends TraceBody = TraceBody> = B extends unknown
  ? K extends B['kind']
    ? B
    : never
  : never;

type FieldName<K extends TraceKind> = Exclude<keyof BodyOf<K>, 'kind'>;

/** For every kind, a check for every field of its own. */
export type TraceFields = {
  readonly [K in TraceKind]: {
    readonly [F in FieldName<K>]-?: FieldCheck<BodyOf<K>[F]>;
  };
};

const text: FieldCheck<string> = {
  expected: 'a string',
  accepts: (value) => typeof value === 'string',
};

const textOrNull: FieldCheck<string | null> = {
  expected: 'a string or null',
  accepts: (value) => value === null || typeof value === 'string',
};

const flag: FieldCheck<boolean> = {
  expected: 'true or false',
  accepts: (value) => typeof value === 'boolean',
};

/** Ids, sizes, addresses, moments. */
const count: FieldCheck<number> = {
  expected: 'an integer of 0 to 2^53-1',
  accepts: isCount,
};

const countOrNothing: FieldCheck<number | undefined> = {
  expected: 'an integer of 0 to 2^53-1, or no such field',
  accepts: (value): value is number | undefined => value === undefined || isCount(value),
};

/** Error numbers and descriptors, which may be negative. */
const integer: FieldCheck<number> = {
  expected: 'an integer of magnitude below 2^53',
  accepts: (value): value is number => Number.isSafeInteger(value),
};

const texts: FieldCheck<readonly string[]> = {
  expected: 'an array of strings',
  accepts: (value): value is string[] =>
    Array.isArray(value) && value.every((item) => typeof item === 'string'),
};

const ranges: FieldCheck<readonly MappedRange[]> = {
  expected: 'an array of {"address","length"}, both integers of 0 to 2^53-1',
  accepts: (value): value is MappedRange[] => Array.isArray(value) && value.every(isRange),
};

const plainObject: FieldCheck<Readonly<Record<string, unknown>>> = {
  expected: 'an object',
  accepts: isPlainObject,
};

const phase: FieldCheck<'begin' | 'end'> = oneOf('begin', 'end');
const direction: FieldCheck<DmaDirection> = oneOf('bidirectional', 'to-device', 'from-device');
const access: FieldCheck<'read' | 'write'> = oneOf('read', 'write');
const result: FieldCheck<'done' | 'fault'> = oneOf('done', 'fault');

const dma: TraceFields['dma.read'] = {
  device: text,
  address: count,
  length: count,
  target: text,
  route: texts,
  result,
};
const mmio: TraceFields['mmio.read'] = { target: text, length: count, result };
const translation: TraceFields['iommu.map'] = {
  domain: text,
  iova: count,
  phys: count,
  size: count,
};
const cache: TraceFields['cache.clean'] = { phys: count, size: count };
const wire: TraceFields['wire.send'] = { wire: text, packet: text, length: count };
const held: TraceFields['attachment.pin'] = { attachment: count, buffer: count };

/** Every kind, its fields and their checks. */
export const TRACE_FIELDS: TraceFields = {
  'run.begin': {
    schema: oneOf(TRACE_SCHEMA),
    scenario: text,
    machine: text,
    strategy: text,
  },
  'run.end': { status: text, steps: count, findings: count },
  'clock.advance': { to: count },
  'story.note': { text },
  'story.fail': { text },

  'task.spawn': {
    child: text,
    role: oneOf('user', 'kernel', 'device', 'remote'),
    daemon: flag,
  },
  'task.block': { on: text, verb: text },
  'task.end': { failed: textOrNull },

  'lock.acquire': {
    lock: text,
    id: count,
    mode: oneOf('exclusive', 'shared'),
    ctx: countOrNothing,
  },
  'lock.release': { lock: text, id: count },
  'lock.backoff': { lock: text, id: count, code: oneOf('EDEADLK', 'EALREADY'), ctx: count },

  'buffer.export': { buffer: count, exporter: text, size: count },
  'buffer.fd': { buffer: count, process: text, fd: integer },
  'buffer.get': { buffer: count },
  'buffer.try-get': { buffer: count, ok: flag },
  'buffer.put': { buffer: count, last: flag },
  'buffer.release': { buffer: count, phase },
  'buffer.invalidate': { buffer: count, phase },
  'fd.close': { process: text, fd: integer },

  'buffer.name': { buffer: count, name: text },
  'buffer.begin-cpu-access': { buffer: count, direction },
  'buffer.end-cpu-access': { buffer: count, direction },
  'buffer.mmap': { buffer: count, pages: count, forwarded: flag },
  'buffer.vmap': { buffer: count, mappings: count },
  'buffer.vunmap': { buffer: count, mappings: count },

  'attachment.attach': {
    attachment: count,
    buffer: count,
    device: text,
    dynamic: flag,
    peer2peer: flag,
  },
  'attachment.refuse': {
    buffer: count,
    device: text,
    call: text,
    code: text,
    reason: text,
    detail: plainObject,
  },
  'attachment.detach': held,
  'attachment.pin': held,
  'attachment.unpin': held,
  'attachment.map': {
    ...held,
    device: text,
    direction,
    entries: ranges,
  },
  'attachment.unmap': { ...held, device: text },
  'attachment.invalidate': { ...held, phase },

  'fence.init': { fence: count, context: count, seqno: count, driver: text, timeline: text },
  'fence.signal': { fence: count, error: integer },
  'fence.wait': { fence: count, phase },
  'resv.add-fence': { resv: count, fence: count, usage: text },

  'dma.read': dma,
  'dma.write': dma,
  'mmio.read': mmio,
  'mmio.write': mmio,
  'pci.fault': { device: text, address: count, access, at: text, why: text },
  'iommu.map': translation,
  'iommu.unmap': translation,
  'iommu.fault': { device: text, address: count, access, why: text },
  'cache.clean': cache,
  'cache.invalidate': cache,
  'cache.stale': { reader: text, ...cache },

  'device.reset': { device: text, phase },
  'device.command': { device: text, memory: flag, busMaster: flag },
  'irq.raise': { device: text, vector: count },
  'wire.send': wire,
  'wire.receive': wire,

  'kernel.warn': { call: text, text },
  'kernel.oops': { text },
};

/** True for an integer of 0 to 2^53-1. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** True for an object that is neither null nor an array. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRange(value: unknown): value is MappedRange {
  return (
    isPlainObject(value) &&
    Object.keys(value).length === 2 &&
    isCount(value.address) &&
    isCount(value.length)
  );
}

function oneOf<const T extends string>(...values: readonly T[]): FieldCheck<T> {
  const quoted = values.map((value) => `"${value}"`);
  return {
    expected: quoted.join(' or '),
    accepts: (value): value is T => (values as readonly unknown[]).includes(value),
  };
}
