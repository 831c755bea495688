/** Traces for tests: one made by hand with an event of every kind, and arbitrary ones. */

import fc from 'fast-check';
import type { EventStamp, TraceBody, TraceEvent, TraceKind } from '../../src/base/index.ts';
import { TRACE_SCHEMA } from '../../src/base/index.ts';
import type { BodyOf } from '../../src/base/trace-fields.ts';

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

type Arbitraries = { readonly [K in TraceKind]: fc.Arbitrary<BodyOf<K>> };

function arbitrariesOf({ id, name }: Parts): Arbitraries {
  const kind = <K extends TraceKind>(value: K): fc.Arbitrary<K> => fc.constant(value);
  const flag = fc.boolean();
  const phase = fc.constantFrom('begin' as const, 'end' as const);
  const access = fc.constantFrom('read' as const, 'write' as const);
  const result = fc.constantFrom('done' as const, 'fault' as const);
  const error = fc.integer();
  const held = { attachment: id, buffer: id };
  const texts = fc.array(name, { maxLength: 3 });
  const dma = { device: name, address: id, length: id, target: name, route: texts, result };
  const translation = { domain: name, iova: id, phys: id, size: id };
  const detail = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }), {
    maxKeys: 3,
    noNullPrototype: true,
  });
  return {
    'run.begin': fc.constant(RUN_BEGIN),
    'run.end': fc.record({ kind: kind('run.end'), status: name, steps: id, findings: id }),
    'clock.advance': fc.record({ kind: kind('clock.advance'), to: id }),
    'story.note': fc.record({ kind: kind('story.note'), text: name }),
    'story.fail': fc.record({ kind: kind('story.fail'), text: name }),
    'task.spawn': fc.record({
      kind: kind('task.spawn'),
      child: name,
      role: fc.constantFrom('user', 'kernel', 'device', 'remote'),
      daemon: flag,
    }),
    'task.block': fc.record({ kind: kind('task.block'), on: name, verb: name }),
    'task.end': fc.record({ kind: kind('task.end'), failed: fc.option(name) }),
    'lock.acquire': fc.record(
      {
        kind: kind('lock.acquire'),
        lock: name,
        id,
        mode: fc.constantFrom('exclusive', 'shared'),
        ctx: id,
      },
      { requiredKeys: ['kind', 'lock', 'id', 'mode'] },
    ),
    'lock.release': fc.record({ kind: kind('lock.release'), lock: name, id }),
    'lock.backoff': fc.record({
      kind: kind('lock.backoff'),
      lock: name,
      id,
      code: fc.constantFrom('EDEADLK', 'EALREADY'),
      ctx: id,
    }),
    'buffer.export': fc.record({
      kind: kind('buffer.export'),
      buffer: id,
      exporter: name,
      size: id,
    }),
    'buffer.fd': fc.record({ kind: kind('buffer.fd'), buffer: id, process: name, fd: error }),
    'buffer.get': fc.record({ kind: kind('buffer.get'), buffer: id }),
    'buffer.try-get': fc.record({ kind: kind('buffer.try-get'), buffer: id, ok: flag }),
    'buffer.put': fc.record({ kind: kind('buffer.put'), buffer: id, last: flag }),
    'buffer.release': fc.record({ kind: kind('buffer.release'), buffer: id, phase }),
    'buffer.invalidate': fc.record({ kind: kind('buffer.invalidate'), buffer: id, phase }),
    'fd.close': fc.record({ kind: kind('fd.close'), process: name, fd: error }),
    'attachment.attach': fc.record({
      kind: kind('attachment.attach'),
      ...held,
      device: name,
      dynamic: flag,
      peer2peer: flag,
    }),
    'attachment.refuse': fc.record({
      kind: kind('attachment.refuse'),
      buffer: id,
      device: name,
      call: name,
      code: name,
      reason: name,
      detail,
    }),
    'attachment.detach': fc.record({ kind: kind('attachment.detach'), ...held }),
    'attachment.pin': fc.record({ kind: kind('attachment.pin'), ...held }),
    'attachment.unpin': fc.record({ kind: kind('attachment.unpin'), ...held }),
    'attachment.map': fc.record({
      kind: kind('attachment.map'),
      ...held,
      device: name,
      direction: fc.constantFrom('bidirectional', 'to-device', 'from-device'),
      entries: fc.array(fc.record({ address: id, length: id }), { maxLength: 3 }),
    }),
    'attachment.unmap': fc.record({ kind: kind('attachment.unmap'), ...held, device: name }),
    'attachment.invalidate': fc.record({ kind: kind('attachment.invalidate'), ...held, phase }),
    'fence.init': fc.record({
      kind: kind('fence.init'),
      fence: id,
      context: id,
      seqno: id,
      driver: name,
      timeline: name,
    }),
    'fence.signal': fc.record({ kind: kind('fence.signal'), fence: id, error }),
    'fence.wait': fc.record({ kind: kind('fence.wait'), fence: id, phase }),
    'resv.add-fence': fc.record({
      kind: kind('resv.add-fence'),
      resv: id,
      fence: id,
      usage: name,
    }),
    'dma.read': fc.record({ kind: kind('dma.read'), ...dma }),
    'dma.write': fc.record({ kind: kind('dma.write'), ...dma }),
    'mmio.read': fc.record({ kind: kind('mmio.read'), target: name, length: id, result }),
    'mmio.write': fc.record({ kind: kind('mmio.write'), target: name, length: id, result }),
    'pci.fault': fc.record({
      kind: kind('pci.fault'),
      device: name,
      address: id,
      access,
      at: name,
      why: name,
    }),
    'iommu.map': fc.record({ kind: kind('iommu.map'), ...translation }),
    'iommu.unmap': fc.record({ kind: kind('iommu.unmap'), ...translation }),
    'iommu.fault': fc.record({
      kind: kind('iommu.fault'),
      device: name,
      address: id,
      access,
      why: name,
    }),
    'cache.clean': fc.record({ kind: kind('cache.clean'), phys: id, size: id }),
    'cache.invalidate': fc.record({ kind: kind('cache.invalidate'), phys: id, size: id }),
    'device.reset': fc.record({ kind: kind('device.reset'), device: name, phase }),
    'device.command': fc.record({
      kind: kind('device.command'),
      device: name,
      memory: flag,
      busMaster: flag,
    }),
    'irq.raise': fc.record({ kind: kind('irq.raise'), device: name, vector: id }),
    'wire.send': fc.record({ kind: kind('wire.send'), wire: name, packet: name, length: id }),
    'wire.receive': fc.record({ kind: kind('wire.receive'), wire: name, packet: name, length: id }),
    'kernel.warn': fc.record({ kind: kind('kernel.warn'), call: name, text: name }),
    'kernel.oops': fc.record({ kind: kind('kernel.oops'), text: name }),
  };
}

/** Traces of events of these kinds, or of all, after a `run.begin`. */
export function arbitraryTrace(
  parts: Parts,
  kinds?: readonly TraceKind[],
): fc.Arbitrary<TraceEvent[]> {
  const arbitraries = arbitrariesOf(parts);
  const bodies: readonly fc.Arbitrary<TraceBody>[] = (
    kinds ?? (Object.keys(arbitraries) as TraceKind[])
  ).map((kind) => arbitraries[kind]);
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
