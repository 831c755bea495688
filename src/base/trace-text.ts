/**
 * A trace event in plain English: the words of the timeline that the command line prints and that
 * the studio and Perfetto show. One short line each, without who did it and when, which have
 * columns of their own.
 *
 * The words are for people and may change; tools read the events.
 */

import { formatAddress } from './address.ts';
import { assertUnreachable } from './assert.ts';
import type {
  AttachmentEvent,
  BufferEvent,
  CpuAccessEvent,
  DeviceEvent,
  FenceEvent,
  TraceEvent,
  TraceKind,
  TransferEvent,
} from './trace.ts';

const UNITS = ['TiB', 'GiB', 'MiB', 'KiB'] as const;

/**
 * What happened, in one line, such as `maps buffer 1 for 0000:41:00.0: 2 ranges, 12 KiB`.
 *
 * @param event - Any event.
 * @returns A line without control characters, of usually less than 70 characters; texts that come
 *   from stories and drivers are not cut. Addresses are hexadecimal, sizes exact.
 */
export function describeEvent(event: TraceEvent): string {
  // Names and texts may come from a file; a terminal must not obey what stands in them.
  return sentence(event).replace(/[\p{Cc}\u2028\u2029]+/gu, ' ');
}

/** For each kind, whether a person wants to see it first; what must be looked at is a milestone. */
const MILESTONES: Readonly<Record<TraceKind, boolean>> = {
  'run.begin': true,
  'run.end': true,
  'story.note': true,
  'story.fail': true,
  'buffer.export': true,
  'buffer.fd': true,
  'buffer.get': true,
  'buffer.try-get': true,
  'buffer.put': true,
  'buffer.release': true,
  'buffer.invalidate': true,
  'fd.close': true,
  'buffer.name': true,
  'buffer.begin-cpu-access': true,
  'buffer.end-cpu-access': true,
  'buffer.mmap': true,
  'buffer.vmap': true,
  'buffer.vunmap': true,
  'attachment.attach': true,
  'attachment.refuse': true,
  'attachment.detach': true,
  'attachment.pin': true,
  'attachment.unpin': true,
  'attachment.map': true,
  'attachment.unmap': true,
  'attachment.invalidate': true,
  'fence.init': true,
  'fence.signal': true,
  'fence.wait': true,
  'resv.add-fence': true,
  'dma.read': true,
  'dma.write': true,
  'mmio.read': true,
  'mmio.write': true,
  'pci.fault': true,
  'iommu.fault': true,
  'device.reset': true,
  'device.command': true,
  'irq.raise': true,
  'wire.send': true,
  'wire.receive': true,
  'kernel.warn': true,
  'kernel.oops': true,
  'task.end': true,
  'clock.advance': false,
  'task.spawn': false,
  'task.block': false,
  'lock.acquire': false,
  'lock.release': false,
  'lock.backoff': false,
  'iommu.map': false,
  'iommu.unmap': false,
  'cache.clean': false,
  'cache.invalidate': false,
  'cache.stale': true,
};

/**
 * True for the events that a person wants to see first: what happened to buffers, attachments,
 * fences, bytes and devices, and what went wrong. The rest, locks and scheduling among it, is
 * detail.
 *
 * @param event - Any event.
 */
export function isMilestone(event: TraceEvent): boolean {
  return MILESTONES[event.kind] && !(event.kind === 'task.end' && event.failed === null);
}

/**
 * A number of bytes in the largest unit that shows it exactly, in quarters at most: `4 KiB`,
 * `512 B`, `1.5 MiB`. Never rounded: the odd byte is often what one looks for, so 4097 bytes are
 * `4097 B`.
 *
 * @param bytes - A size; not negative.
 */
export function formatSize(bytes: number): string {
  let size = 1024 ** UNITS.length;
  for (const unit of UNITS) {
    if (bytes >= size && bytes % (size / 4) === 0) return `${bytes / size} ${unit}`;
    size /= 1024;
  }
  return `${bytes} B`;
}

function sentence(event: TraceEvent): string {
  switch (event.kind) {
    case 'run.begin':
      return `begins ${event.scenario} on ${event.machine}, strategy ${event.strategy}`;
    case 'run.end':
      return [
        `ends: ${event.status}`,
        plural(event.steps, 'step'),
        plural(event.findings, 'finding'),
      ].join(', ');
    case 'clock.advance':
      return `lets time pass until ${event.to} ns`;
    case 'story.note':
      return event.text === '' ? 'an empty note' : event.text;
    case 'story.fail':
      return `the story fails: ${event.text}`;
    case 'task.spawn':
      return `starts ${event.child} (${event.role}${event.daemon ? ', daemon' : ''})`;
    case 'task.block':
      return `blocks on ${event.on} (${event.verb})`;
    case 'task.end':
      return event.failed === null ? 'ends' : `ends with ${event.failed}`;
    case 'lock.acquire':
      return `takes ${event.lock}${event.mode === 'shared' ? ' (shared)' : ''}${under(event.ctx)}`;
    case 'lock.release':
      return `releases ${event.lock}`;
    case 'lock.backoff':
      return `backs off from ${event.lock}: ${event.code}${under(event.ctx)}`;
    case 'kernel.warn':
      return `kernel warning in ${event.call}: ${event.text}`;
    case 'kernel.oops':
      return `kernel oops: ${event.text}`;
    default:
      return sharingSentence(event);
  }
}

function sharingSentence(
  event: BufferEvent | CpuAccessEvent | AttachmentEvent | FenceEvent | TransferEvent | DeviceEvent,
): string {
  switch (event.kind) {
    case 'buffer.export':
      return `exports buffer ${event.buffer} from ${event.exporter}, ${formatSize(event.size)}`;
    case 'buffer.fd':
      return `gives ${event.process} fd ${event.fd} for buffer ${event.buffer}`;
    case 'buffer.get':
      return `takes a reference to buffer ${event.buffer}`;
    case 'buffer.try-get':
      return `tries to take buffer ${event.buffer}: ${event.ok ? 'has it' : 'too late'}`;
    case 'buffer.put':
      return `drops ${event.last ? 'the last' : 'a'} reference to buffer ${event.buffer}`;
    case 'buffer.release':
      return `${phased(event, 'release', 'released')} buffer ${event.buffer}`;
    case 'buffer.invalidate':
      return `${phased(event, 'invalidate', 'invalidated')} the mappings of buffer ${event.buffer}`;
    case 'fd.close':
      return `closes fd ${event.fd} of ${event.process}`;
    case 'attachment.attach': {
      const traits = `${event.dynamic ? ', dynamic' : ''}${event.peer2peer ? ', p2p' : ''}`;
      const name = `attachment ${event.attachment}`;
      return `attaches ${event.device} to buffer ${event.buffer} (${name}${traits})`;
    }
    case 'attachment.refuse': {
      const reason = event.reason.replaceAll('-', ' ');
      return `refused: ${event.code} (${reason}): ${event.device}, buffer ${event.buffer}`;
    }
    case 'attachment.detach':
      return `detaches ${attachmentOf(event)}`;
    case 'attachment.pin':
      return `pins ${attachmentOf(event)}`;
    case 'attachment.unpin':
      return `unpins ${attachmentOf(event)}`;
    case 'attachment.map': {
      const bytes = event.entries.reduce((sum, entry) => sum + entry.length, 0);
      const ranges = plural(event.entries.length, 'range');
      return `maps buffer ${event.buffer} for ${event.device}: ${ranges}, ${formatSize(bytes)}`;
    }
    case 'attachment.unmap':
      return `unmaps buffer ${event.buffer} for ${event.device}`;
    case 'attachment.invalidate':
      return `${phased(event, 'invalidate', 'invalidated')} ${attachmentOf(event)}`;
    case 'buffer.name':
    case 'buffer.begin-cpu-access':
    case 'buffer.end-cpu-access':
    case 'buffer.mmap':
    case 'buffer.vmap':
    case 'buffer.vunmap':
      return cpuAccessSentence(event);
    default:
      return trafficSentence(event);
  }
}

function cpuAccessSentence(event: CpuAccessEvent): string {
  const buffer = `buffer ${event.buffer}`;
  switch (event.kind) {
    case 'buffer.name':
      return `names ${buffer} "${event.name}"`;
    case 'buffer.begin-cpu-access':
      return `begins CPU access to ${buffer} (${event.direction})`;
    case 'buffer.end-cpu-access':
      return `ends CPU access to ${buffer} (${event.direction})`;
    case 'buffer.mmap': {
      const by = event.forwarded ? ' for another driver' : '';
      return `maps ${plural(event.pages, 'page')} of ${buffer} into a process${by}`;
    }
    case 'buffer.vmap':
      return `maps ${buffer} into the kernel (${plural(event.mappings, 'user')})`;
    case 'buffer.vunmap':
      return `gives the kernel's map of ${buffer} back (${plural(event.mappings, 'user')} left)`;
    default:
      return assertUnreachable(event);
  }
}

function trafficSentence(event: FenceEvent | TransferEvent | DeviceEvent): string {
  switch (event.kind) {
    case 'fence.init': {
      const position = `${event.context}:${event.seqno}`;
      return `makes fence ${event.fence}: ${event.driver} ${event.timeline}, ${position}`;
    }
    case 'fence.signal':
      return `signals fence ${event.fence}${event.error === 0 ? '' : ` with error ${event.error}`}`;
    case 'fence.wait':
      return `${phased(event, 'wait', 'waited')} for fence ${event.fence}`;
    case 'resv.add-fence':
      return `adds fence ${event.fence} to reservation ${event.resv} (${event.usage})`;
    case 'dma.read':
    case 'dma.write':
    case 'mmio.read':
    case 'mmio.write':
      return transferSentence(event);
    case 'pci.fault':
      return `PCI fault at ${event.at}: ${refusedAccess(event)}: ${event.why}`;
    case 'iommu.map': {
      const target = formatAddress(event.phys);
      return `IOMMU maps ${extent(event.iova, event.size)} to ${target} in ${event.domain}`;
    }
    case 'iommu.unmap':
      return `IOMMU unmaps ${extent(event.iova, event.size)} in ${event.domain}`;
    case 'iommu.fault':
      return `IOMMU fault: ${refusedAccess(event)}: ${event.why}`;
    case 'cache.clean':
      return `cleans the cache: ${extent(event.phys, event.size)}`;
    case 'cache.invalidate':
      return `invalidates the cache: ${extent(event.phys, event.size)}`;
    case 'cache.stale': {
      const at = formatAddress(event.phys);
      return `${event.reader} reads ${formatSize(event.size)} that are stale, at ${at}`;
    }
    case 'device.reset':
      return `${phased(event, 'reset', 'reset')} ${event.device}`;
    case 'device.command':
      return `sets ${event.device}: memory ${on(event.memory)}, bus master ${on(event.busMaster)}`;
    case 'irq.raise':
      return `raises interrupt ${event.vector} of ${event.device}`;
    case 'wire.send':
      return `sends ${event.packet} on ${event.wire}, ${formatSize(event.length)}`;
    case 'wire.receive':
      return `receives ${event.packet} on ${event.wire}, ${formatSize(event.length)}`;
    default:
      return assertUnreachable(event);
  }
}

type Transfer = Extract<TransferEvent, { readonly result: unknown }>;

function transferSentence(event: Transfer): string {
  const isRead = event.kind === 'dma.read' || event.kind === 'mmio.read';
  const isMmio = event.kind === 'mmio.read' || event.kind === 'mmio.write';
  const size = `${formatSize(event.length)}${isMmio ? ' (MMIO)' : ''}`;
  if (event.result === 'done') {
    return `${isRead ? 'reads' : 'writes'} ${size} ${isRead ? 'from' : 'to'} ${event.target}`;
  }
  const where = 'address' in event ? ` at ${formatAddress(event.address)}` : '';
  return `cannot ${isRead ? 'read' : 'write'} ${size}${where}: ${event.target}`;
}

function refusedAccess(event: {
  readonly device: string;
  readonly address: number;
  readonly access: 'read' | 'write';
}): string {
  return `${event.device} may not ${event.access} ${formatAddress(event.address)}`;
}

function extent(address: number, size: number): string {
  return `${formatSize(size)} at ${formatAddress(address)}`;
}

function attachmentOf(event: { readonly attachment: number; readonly buffer: number }): string {
  return `attachment ${event.attachment} of buffer ${event.buffer}`;
}

function phased(
  event: { readonly phase: 'begin' | 'end' },
  verb: string,
  participle: string,
): string {
  return event.phase === 'begin' ? `begins to ${verb}` : `has ${participle}`;
}

function under(ctx: number | undefined): string {
  return ctx === undefined ? '' : ` under context ${ctx}`;
}

function on(isOn: boolean): string {
  return isOn ? 'on' : 'off';
}

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}
