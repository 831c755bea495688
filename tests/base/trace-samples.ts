/** Traces for tests: one made by hand with an event of every kind, and arbitrary ones. */

import fc from 'fast-check';
import type { EventStamp, TraceBody, TraceEvent, TraceKind } from '../../src/base/index.ts';
import { TRACE_SCHEMA } from '../../src/base/index.ts';
import { type BodyOf, TRACE_FIELDS } from '../../src/base/trace-fields.ts';

/** A body, and what of the stamp differs from that of the event before. */
export type Entry = TraceBody & Partial<Omit<EventStamp, 'seq'>>;

/** Numbers the entries and hands down the stamp from one to the next. */
export function traceOf(entries: readonly Entry[]): TraceEvent[] {
  let stamp: EventStamp = { seq: -1, step: 0, t: 0, task: '' };
  return entries.map((entry) => {
    const { step = stamp.step, t = stamp.t, task = stamp.task, ...body } = entry;
    stamp = { seq: stamp.seq + 1, step, t, task };
    return { ...stamp, ...(body as TraceBody) };
  });
}

/** The event that every trace starts with. */
export const RUN_BEGIN: BodyOf<'run.begin'> = {
  kind: 'run.begin',
  schema: TRACE_SCHEMA,
  scenario: 'peer-write',
  machine: 'two-socket',
  strategy: 'round-robin',
};

const GPU = '0000:03:00.0';
const NIC = '0000:41:00.0';

const BOOT: readonly Entry[] = [
  RUN_BEGIN,
  { kind: 'task.spawn', child: 'app', role: 'user', daemon: false },
  { kind: 'task.spawn', child: 'worker', role: 'kernel', daemon: true },
  { kind: 'task.spawn', child: 'nic', role: 'device', daemon: true },
  { kind: 'task.spawn', child: 'peer', role: 'remote', daemon: true },
  { kind: 'story.note', text: 'the application shares a buffer' },
  { kind: 'buffer.export', task: 'app', step: 1, buffer: 1, exporter: 'vfio-pci', size: 65536 },
  { kind: 'buffer.fd', buffer: 1, process: 'app', fd: 4 },
  { kind: 'buffer.get', step: 2, buffer: 1 },
  { kind: 'buffer.try-get', buffer: 1, ok: true },
  { kind: 'lock.acquire', lock: 'dma_resv', id: 7, mode: 'exclusive', ctx: 1 },
  { kind: 'lock.backoff', lock: 'dma_resv', id: 8, code: 'EDEADLK', ctx: 1 },
  { kind: 'lock.acquire', step: 3, lock: 'vfio_pci.memory_lock', id: 9, mode: 'shared' },
  { kind: 'lock.release', lock: 'dma_resv', id: 7 },
  { kind: 'lock.release', lock: 'vfio_pci.memory_lock', id: 9 },
];

const SHARE: readonly Entry[] = [
  {
    kind: 'attachment.attach',
    step: 4,
    attachment: 2,
    buffer: 1,
    device: NIC,
    dynamic: true,
    peer2peer: true,
  },
  {
    kind: 'attachment.refuse',
    buffer: 1,
    device: NIC,
    call: 'dma_buf_map_attachment',
    code: 'EINVAL',
    reason: 'no-route-between-the-root-ports',
    detail: { hops: [1, 2], cause: null },
  },
  { kind: 'attachment.pin', attachment: 2, buffer: 1 },
  { kind: 'iommu.map', domain: 'nic', iova: 0x10000, phys: 0x2000, size: 4096 },
  {
    kind: 'attachment.map',
    step: 5,
    attachment: 2,
    buffer: 1,
    device: NIC,
    direction: 'bidirectional',
    entries: [
      { address: 0x10000, length: 8192 },
      { address: 0x20000, length: 4096 },
    ],
  },
  {
    kind: 'fence.init',
    task: 'nic',
    step: 6,
    fence: 3,
    context: 1,
    seqno: 5,
    driver: 'mlx5',
    timeline: 'qp0',
  },
  { kind: 'resv.add-fence', resv: 1, fence: 3, usage: 'write' },
  { kind: 'fence.wait', task: 'app', step: 7, fence: 3, phase: 'begin' },
  { kind: 'task.block', on: 'fence 3', verb: 'wait' },
];

const TRANSFER: readonly Entry[] = [
  { kind: 'clock.advance', task: '', to: 1500 },
  {
    kind: 'dma.write',
    task: 'nic',
    step: 8,
    t: 1500,
    device: NIC,
    address: 0x10000,
    length: 4096,
    target: `${GPU} BAR2+0x2000`,
    route: [NIC, 'root-complex', GPU],
    result: 'done',
  },
  {
    kind: 'dma.read',
    device: NIC,
    address: 0x30000,
    length: 64,
    target: 'no translation',
    route: [NIC, 'iommu'],
    result: 'fault',
  },
  { kind: 'iommu.fault', device: NIC, address: 0x30000, access: 'read', why: 'not mapped' },
  {
    kind: 'pci.fault',
    device: NIC,
    address: 0x40000,
    access: 'write',
    at: '0000:40:01.0',
    why: 'no BAR there',
  },
  { kind: 'wire.send', step: 9, wire: 'eth0', packet: 'WRITE psn 7', length: 64 },
  { kind: 'wire.receive', task: 'peer', wire: 'eth0', packet: 'WRITE psn 7', length: 64 },
  { kind: 'fence.signal', task: 'nic', step: 10, fence: 3, error: 0 },
  { kind: 'irq.raise', device: NIC, vector: 2 },
  { kind: 'fence.wait', task: 'app', step: 11, fence: 3, phase: 'end' },
  { kind: 'mmio.read', target: `${GPU} BAR0+0x10`, length: 4, result: 'done' },
  { kind: 'mmio.write', target: `${GPU} BAR0+0x10`, length: 4, result: 'fault' },
  { kind: 'cache.clean', phys: 0x2000, size: 4096 },
  { kind: 'cache.invalidate', phys: 0x2000, size: 4096 },
  { kind: 'cache.stale', reader: NIC, phys: 0x2000, size: 3 },
];

const TEARDOWN: readonly Entry[] = [
  { kind: 'device.reset', task: 'worker', step: 12, device: GPU, phase: 'begin' },
  { kind: 'buffer.invalidate', buffer: 1, phase: 'begin' },
  { kind: 'attachment.invalidate', attachment: 2, buffer: 1, phase: 'begin' },
  { kind: 'attachment.unmap', step: 13, attachment: 2, buffer: 1, device: NIC },
  { kind: 'iommu.unmap', domain: 'nic', iova: 0x10000, phys: 0x2000, size: 4096 },
  { kind: 'attachment.invalidate', attachment: 2, buffer: 1, phase: 'end' },
  { kind: 'buffer.invalidate', buffer: 1, phase: 'end' },
  { kind: 'device.command', device: GPU, memory: false, busMaster: true },
  { kind: 'device.reset', device: GPU, phase: 'end' },
  { kind: 'attachment.unpin', task: 'app', step: 14, attachment: 2, buffer: 1 },
  { kind: 'attachment.detach', attachment: 2, buffer: 1 },
  { kind: 'fd.close', process: 'app', fd: 4 },
  { kind: 'buffer.name', buffer: 1, name: 'frame' },
  { kind: 'buffer.begin-cpu-access', buffer: 1, direction: 'from-device' },
  { kind: 'buffer.end-cpu-access', buffer: 1, direction: 'from-device' },
  { kind: 'buffer.mmap', buffer: 1, pages: 16, forwarded: false },
  { kind: 'buffer.vmap', buffer: 1, mappings: 1 },
  { kind: 'buffer.vunmap', buffer: 1, mappings: 0 },
  { kind: 'buffer.put', buffer: 1, last: true },
  { kind: 'buffer.release', buffer: 1, phase: 'begin' },
  { kind: 'kernel.warn', call: 'dma_buf_release', text: 'attachments are left' },
  { kind: 'buffer.release', buffer: 1, phase: 'end' },
  { kind: 'story.fail', text: 'wrong bytes at 0x10' },
  { kind: 'task.end', failed: 'wrong bytes at 0x10' },
  { kind: 'kernel.oops', task: 'worker', step: 15, text: 'use after free' },
  { kind: 'run.end', task: '', status: 'oops', steps: 15, findings: 3 },
];

/** A story that has an event of every kind. */
export const EVERY_KIND: readonly TraceEvent[] = traceOf([
  ...BOOT,
  ...SHARE,
  ...TRANSFER,
  ...TEARDOWN,
]);

/** What arbitrary bodies are made of. */
export interface Parts {
  readonly id: fc.Arbitrary<number>;
  readonly name: fc.Arbitrary<string>;
}

/** Anything that the format allows: for writing and reading. */
export const WIDE: Parts = { id: fc.maxSafeNat(), name: fc.string({ unit: 'binary' }) };

/** Few ids and names, so that ends find their beginnings: for spans and arrows. */
export const NARROW: Parts = { id: fc.nat(2), name: fc.constantFrom('a', 'b') };

/** For every field of every kind, what it may hold. */
type FieldArbitraries = {
  readonly [K in TraceKind]: {
    readonly [F in Exclude<keyof BodyOf<K>, 'kind'>]-?: fc.Arbitrary<
      Exclude<BodyOf<K>[F], undefined>
    >;
  };
};

const flag = fc.boolean();
const phase = fc.constantFrom('begin', 'end');
const access = fc.constantFrom('read', 'write');
const result = fc.constantFrom('done', 'fault');
const error = fc.integer();
const detail = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), {
  maxKeys: 3,
  noNullPrototype: true,
});

function fieldsOf({ id, name }: Parts): FieldArbitraries {
  return {
    ...actorFields({ id, name }),
    ...sharingFields({ id, name }),
    ...trafficFields({ id, name }),
  };
}

function actorFields({ id, name }: Parts) {
  const lock = { lock: name, id };
  return {
    'run.begin': {
      schema: fc.constant(TRACE_SCHEMA),
      scenario: name,
      machine: name,
      strategy: name,
    },
    'run.end': { status: name, steps: id, findings: id },
    'clock.advance': { to: id },
    'story.note': { text: name },
    'story.fail': { text: name },
    'task.spawn': {
      child: name,
      role: fc.constantFrom('user', 'kernel', 'device', 'remote'),
      daemon: flag,
    },
    'task.block': { on: name, verb: name },
    'task.end': { failed: fc.option(name) },
    'lock.acquire': { ...lock, mode: fc.constantFrom('exclusive', 'shared'), ctx: id },
    'lock.release': lock,
    'lock.backoff': { ...lock, code: fc.constantFrom('EDEADLK', 'EALREADY'), ctx: id },
    'kernel.warn': { call: name, text: name },
    'kernel.oops': { text: name },
  } as const;
}

function sharingFields({ id, name }: Parts) {
  const held = { attachment: id, buffer: id };
  const entries = fc.array(fc.record({ address: id, length: id }), { maxLength: 3 });
  const direction = fc.constantFrom('bidirectional', 'to-device', 'from-device');
  return {
    'buffer.export': { buffer: id, exporter: name, size: id },
    'buffer.fd': { buffer: id, process: name, fd: error },
    'buffer.get': { buffer: id },
    'buffer.try-get': { buffer: id, ok: flag },
    'buffer.put': { buffer: id, last: flag },
    'buffer.release': { buffer: id, phase },
    'buffer.invalidate': { buffer: id, phase },
    'fd.close': { process: name, fd: error },
    'buffer.name': { buffer: id, name },
    'buffer.begin-cpu-access': { buffer: id, direction },
    'buffer.end-cpu-access': { buffer: id, direction },
    'buffer.mmap': { buffer: id, pages: id, forwarded: flag },
    'buffer.vmap': { buffer: id, mappings: id },
    'buffer.vunmap': { buffer: id, mappings: id },
    'attachment.attach': { ...held, device: name, dynamic: flag, peer2peer: flag },
    'attachment.refuse': {
      buffer: id,
      device: name,
      call: name,
      code: name,
      reason: name,
      detail,
    },
    'attachment.detach': held,
    'attachment.pin': held,
    'attachment.unpin': held,
    'attachment.map': { ...held, device: name, direction, entries },
    'attachment.unmap': { ...held, device: name },
    'attachment.invalidate': { ...held, phase },
    'fence.init': { fence: id, context: id, seqno: id, driver: name, timeline: name },
    'fence.signal': { fence: id, error },
    'fence.wait': { fence: id, phase },
    'resv.add-fence': { resv: id, fence: id, usage: name },
  } as const;
}

function trafficFields({ id, name }: Parts) {
  const route = fc.array(name, { maxLength: 3 });
  const dma = { device: name, address: id, length: id, target: name, route, result };
  const mmio = { target: name, length: id, result };
  const translation = { domain: name, iova: id, phys: id, size: id };
  const packet = { wire: name, packet: name, length: id };
  return {
    'dma.read': dma,
    'dma.write': dma,
    'mmio.read': mmio,
    'mmio.write': mmio,
    'pci.fault': { device: name, address: id, access, at: name, why: name },
    'iommu.map': translation,
    'iommu.unmap': translation,
    'iommu.fault': { device: name, address: id, access, why: name },
    'cache.clean': { phys: id, size: id },
    'cache.invalidate': { phys: id, size: id },
    'cache.stale': { reader: name, phys: id, size: id },
    'device.reset': { device: name, phase },
    'device.command': { device: name, memory: flag, busMaster: flag },
    'irq.raise': { device: name, vector: id },
    'wire.send': packet,
    'wire.receive': packet,
  } as const;
}

/** Bodies of one kind; the context of a lock may be missing. */
function arbitraryBody(parts: Parts, kind: TraceKind): fc.Arbitrary<TraceBody> {
  const fields: Readonly<Record<string, fc.Arbitrary<unknown>>> = fieldsOf(parts)[kind];
  const requiredKeys = Object.keys(fields).filter(
    (key) => key !== 'ctx' || kind === 'lock.backoff',
  );
  const body = fc.record(fields, { requiredKeys });
  return body.map((values) => ({ kind, ...values }) as unknown as TraceBody);
}

/** Traces of events of these kinds, or of all, after a `run.begin`. */
export function arbitraryTrace(
  parts: Parts,
  kinds: readonly TraceKind[] = Object.keys(TRACE_FIELDS) as TraceKind[],
): fc.Arbitrary<TraceEvent[]> {
  const bodies = kinds.map((kind) => arbitraryBody(parts, kind));
  const moved = fc.record({
    body: fc.oneof(...bodies),
    task: fc.oneof(fc.constant(''), parts.name),
    steps: fc.nat(2),
    ns: fc.nat(50),
  });
  return fc.array(moved, { maxLength: 60 }).map((moves) => {
    let step = 0;
    let t = 0;
    const entries = moves.map(({ body, task, steps, ns }) => {
      step += steps;
      t += ns;
      return { ...body, step, t, task };
    });
    return traceOf([RUN_BEGIN, ...entries]);
  });
}
