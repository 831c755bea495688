/**
 * The probe's calls for exporters, about fences and about news: what they do with their arguments.
 *
 * @source docs/probe-abi.md
 */

import {
  DmaBufError,
  ERRNO,
  type ErrnoCode,
  O,
  PROBE_EXPORT,
  probeEvent,
  probeEvents,
  probeExport,
  probeExportInfo,
  probeFence,
  probeFenceAdd,
  probeFences,
  probeFenceSignal,
  probeId,
} from '../../base/index.ts';
import type { DmaBuf, DmaFence, DmaResvUsage } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import { ExportHandle, type ProbeBuffer } from './exporter.ts';
import { FenceHandle, ImportHandle } from './importer.ts';
import type { ProbeCaller } from './probe-caller.ts';
import type { ProbeCall } from './probe-call.ts';
import type { ProbeFile } from './probe-file.ts';

/** LIMIT: pages of one buffer: 64 MiB. */
export const PROBE_PAGES_MAX = 16384;

const EXPORT_FLAGS_MASK: number = PROBE_EXPORT.DYNAMIC | PROBE_EXPORT.SCATTERED;

/** LIMIT: `MAX_ERRNO`. */
const ERRNO_MAX = 4095;

/** Numbers of `PROBE_USAGE`, as an index. */
const USAGES: readonly DmaResvUsage[] = ['kernel', 'write', 'read', 'bookkeep'];

/** Error numbers that a program may ask for. */
const CODES: ReadonlyMap<number, ErrnoCode> = new Map(
  (Object.entries(ERRNO) as [ErrnoCode, number][])
    .filter(([code]) => code !== 'ERESTARTSYS')
    .map(([code, errno]) => [errno, code]),
);

function codeOf(caller: ProbeCaller, errno: number): ErrnoCode | null {
  if (errno === 0) return null;
  const code = CODES.get(errno);
  if (code === undefined) throw caller.invalid('error number');
  return code;
}

function usageOf(caller: ProbeCaller, usage: number): DmaResvUsage {
  const found = USAGES[usage];
  if (found === undefined) throw caller.invalid('usage');
  return found;
}

function* exportPages(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeExport);
  caller.mustBeZero(args.reserved, args.flags & ~EXPORT_FLAGS_MASK);
  caller.mustBeZero(args.openFlags & ~(O.CLOEXEC | O.ACCMODE));
  if (args.pages === 0 || args.pages > PROBE_PAGES_MAX) throw caller.invalid('pages');
  const order = {
    pages: args.pages,
    isDynamic: (args.flags & PROBE_EXPORT.DYNAMIC) !== 0,
    isScattered: (args.flags & PROBE_EXPORT.SCATTERED) !== 0,
    attachError: codeOf(caller, args.attachErrno),
    mapError: codeOf(caller, args.mapErrno),
    pinError: codeOf(caller, args.pinErrno),
    openFlags: args.openFlags,
  };
  const { fds } = caller.process;
  const fd = yield* fds.reserve({ closeOnExec: (args.openFlags & O.CLOEXEC) !== 0 });
  if (fd === null) throw new DmaBufError('EMFILE', caller.call, 'probe-finds-no-descriptor');
  try {
    // The descriptor comes last: what a program can use cannot be taken back.
    const handle = yield* file.create(
      caller,
      (id) => new ExportHandle(file.kernel.scheduler, file.handles, id).export(file.kernel, order),
      (id) => caller.answer(probeExport, { ...args, fd, export: id }),
    );
    yield* handle.install(caller.process, fd);
  } catch (error) {
    yield* fds.unreserve(fd);
    throw error;
  }
}

function* withBuffer(
  file: ProbeFile,
  caller: ProbeCaller,
  id: number,
  body: (buf: DmaBuf<ProbeBuffer>) => Task,
): Task {
  yield* file.use(caller, ExportHandle, id, (handle) => handle.with(caller.call, body));
}

function* invalidate(file: ProbeFile, caller: ProbeCaller): Task {
  const { id, reserved } = yield* caller.read(probeId);
  caller.mustBeZero(reserved);
  yield* withBuffer(file, caller, id, invalidateBuffer);
}

function* invalidateBuffer(buf: DmaBuf<ProbeBuffer>): Task {
  yield* buf.resv.lock();
  yield* buf.invalidateMappings();
  yield* buf.resv.unlock();
}

function* exportInfo(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeExportInfo);
  caller.mustBeZero(args.flags, args.reserved32, args.reserved);
  const seen = { attachments: 0, mappings: 0, pins: 0 };
  yield* withBuffer(file, caller, args.export, (buf) => lookAt(buf, seen));
  yield* caller.answer(probeExportInfo, { ...args, ...seen });
}

function* lookAt(
  { resv, attachments, priv }: DmaBuf<ProbeBuffer>,
  seen: { attachments: number; mappings: number; pins: number },
): Task {
  yield* resv.lock();
  seen.attachments = (yield* attachments.read()).length;
  seen.mappings = (yield* priv.mapped.read()).length;
  seen.pins = yield* priv.pins.read();
  yield* resv.unlock();
}

function* readEvents(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeEvents);
  caller.mustBeZero(args.flags);
  const { events } = file.news;
  yield* file.reading.lock();
  try {
    const news = yield* events.peek(args.capacity);
    const records = news.map((event) => ({ ...event, sequence: BigInt(event.sequence) }));
    yield* caller.storeList(args.events, probeEvent, records);
    const count = news.length;
    const last = news.at(-1)?.sequence ?? 0;
    const left = yield* events.countAfter(last);
    yield* caller.answer(probeEvents, { ...args, count, left });
    yield* events.forget(last);
  } finally {
    yield* file.reading.unlock();
  }
}

function* fenceAdd(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeFenceAdd);
  caller.mustBeZero(args.flags, args.reserved);
  const usage = usageOf(caller, args.usage);
  yield* file.use(caller, ImportHandle, args.import, ({ buf }) =>
    file.create(
      caller,
      () => FenceHandle.make(file.kernel),
      (id, { fence }) =>
        publishFence(buf, fence, usage, () => caller.answer(probeFenceAdd, { ...args, fence: id })),
    ),
  );
}

/** The program knows the number before anybody can wait for the fence. */
function* publishFence(
  { resv }: DmaBuf,
  fence: DmaFence,
  usage: DmaResvUsage,
  tell: () => Task,
): Task {
  yield* tell();
  yield* resv.lock();
  try {
    yield* resv.reserveFences(1);
    yield* resv.addFence(fence, usage);
  } finally {
    yield* resv.unlock();
  }
}

function* fenceSignal(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeFenceSignal);
  caller.mustBeZero(args.reserved);
  if (args.error > 0 || args.error < -ERRNO_MAX) throw caller.invalid('error of a fence');
  const handle = yield* file.take(caller, FenceHandle, args.fence);
  yield* handle.signal(args.error);
}

function* listFences(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeFences);
  caller.mustBeZero(args.flags, args.reserved);
  const usage = usageOf(caller, args.usage);
  const fences = yield* file.use(caller, ImportHandle, args.import, ({ buf }) =>
    buf.resv.getFences(usage),
  );
  const shown = fences.slice(0, args.capacity).map(({ origin }) => ({
    context: BigInt(origin.context),
    seqno: BigInt(origin.seqno),
  }));
  for (const fence of fences) yield* fence.put();
  yield* caller.storeList(args.fences, probeFence, shown);
  yield* caller.answer(probeFences, { ...args, count: fences.length });
}

/** The calls that are not an importer's, by name. */
export const PROBE_OTHER_CALLS: Readonly<
  Record<
    'EVENTS' | 'EXPORT' | 'EXPORT_INFO' | 'INVALIDATE' | 'FENCE_ADD' | 'FENCE_SIGNAL' | 'FENCES',
    ProbeCall
  >
> = {
  EVENTS: readEvents,
  EXPORT: exportPages,
  EXPORT_INFO: exportInfo,
  INVALIDATE: invalidate,
  FENCE_ADD: fenceAdd,
  FENCE_SIGNAL: fenceSignal,
  FENCES: listFences,
};
