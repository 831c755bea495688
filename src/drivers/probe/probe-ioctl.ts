/**
 * The probe's ioctls: which call a number is, and what the importer's calls do with their
 * arguments. Checks come in the order that docs/probe-abi.md gives.
 *
 * @source docs/probe-abi.md
 */

import {
  DmaBufError,
  type DmaDirection,
  PROBE_ATTACH,
  PROBE_ATTACHED,
  PROBE_IOCTL,
  PROBE_NAME_LEN,
  PROBE_VERSION,
  PROBE_VMAP_IOMEM,
  type ProbeAttach,
  probeAttach,
  probeCopy,
  probeCpu,
  probeEntry,
  probeId,
  probeImport,
  type ProbeMap,
  probeMap,
  probeVersion,
  type ProbeVmap,
  probeVmap,
} from '../../base/index.ts';
import { DmaBuf, type Process } from '../../framework/index.ts';
import type { Device, Task } from '../../machine/index.ts';
import {
  AttachmentHandle,
  ImportHandle,
  MappingHandle,
  type AttachMode,
  VmapHandle,
} from './importer.ts';
import type { ProbeCall } from './probe-call.ts';
import { ProbeCaller } from './probe-caller.ts';
import type { ProbeFile } from './probe-file.ts';
import { PROBE_OTHER_CALLS } from './probe-ioctl-export.ts';

/** LIMIT: bytes that one VREAD or VWRITE moves, so that it does not hold the kernel up for long. */
export const PROBE_COPY_MAX: number = 2 ** 20;

/**
 * One ioctl of a probe file.
 *
 * @throws {@link DmaBufError} `ENOTTY` unknown number; what the call says.
 * @context May sleep; no lock held.
 */
export function* probeIoctl(
  file: ProbeFile,
  request: number,
  arg: number,
  process: Process,
): Task<number> {
  const found = CALLS.get(request);
  if (found === undefined) {
    throw new DmaBufError('ENOTTY', 'ioctl', 'probe-knows-no-such-ioctl', { detail: { request } });
  }
  yield* found.does(file, new ProbeCaller(process, `ioctl(PROBE_${found.name})`, arg));
  return 0;
}

/** Numbers of {@link PROBE_DIRECTION}, as an index. */
const DIRECTIONS: readonly DmaDirection[] = ['bidirectional', 'to-device', 'from-device'];

const ATTACH_MODE_MASK = 0xf;

function* version(_file: ProbeFile, caller: ProbeCaller): Task {
  yield* caller.answer(probeVersion, { version: PROBE_VERSION, reserved: 0, features: 0n });
}

function* importFd(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeImport);
  caller.mustBeZero(args.flags, args.reserved);
  yield* file.create(
    caller,
    () => getBuffer(caller.process, args.fd),
    (id) => caller.answer(probeImport, { ...args, import: id }),
  );
}

function* getBuffer(process: Process, fd: number): Task<ImportHandle> {
  return new ImportHandle(yield* DmaBuf.get(process, fd));
}

function* attach(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeAttach);
  caller.mustBeZero(args.flags, args.reserved);
  const mode = attachMode(caller, args.mode);
  if (args.device.length >= PROBE_NAME_LEN) throw caller.invalid('device name without an end');
  yield* file.createOn(
    caller,
    [ImportHandle, args.import],
    ({ buf }, id) =>
      attachTo(file, new AttachmentHandle(id, args.import, buf, mode, file.news), args.device),
    (id, handle) => tellAttachment(caller, args, id, handle),
  );
}

function* attachTo(
  file: ProbeFile,
  handle: AttachmentHandle,
  name: string,
): Task<AttachmentHandle> {
  yield* handle.attach(deviceNamed(file, name));
  return handle;
}

function* tellAttachment(
  caller: ProbeCaller,
  args: ProbeAttach,
  id: number,
  { attachment }: AttachmentHandle,
): Task {
  const peers = attachment?.peer2peer === true ? PROBE_ATTACHED.PEER2PEER : 0;
  const revocable = attachment?.isRevocable === true ? PROBE_ATTACHED.REVOCABLE : 0;
  yield* caller.answer(probeAttach, { ...args, attachment: id, state: peers | revocable });
}

/** The device that a program names. */
function deviceNamed({ kernel, platformDevice }: ProbeFile, name: string): Device | null {
  if (name === '') return null;
  return name === platformDevice.name ? platformDevice : kernel.machine.function(name);
}

function attachMode(caller: ProbeCaller, bits: number): AttachMode {
  caller.mustBeZero(bits & ~ATTACH_MODE_MASK);
  const has = (bit: number): boolean => (bits & bit) !== 0;
  const mode = {
    isDynamic: has(PROBE_ATTACH.DYNAMIC),
    allowPeer2Peer: has(PROBE_ATTACH.PEER2PEER),
    canInvalidate: has(PROBE_ATTACH.INVALIDATE),
    unmapsAtOnce: has(PROBE_ATTACH.UNMAP_AT_ONCE),
  };
  if (!mode.isDynamic && bits !== 0) throw caller.invalid('mode of a static importer');
  if (mode.unmapsAtOnce && !mode.canInvalidate) throw caller.invalid('mode without callback');
  return mode;
}

/** What a direction's number stands for. */
function directionOf(caller: ProbeCaller, direction: number): DmaDirection {
  const found = DIRECTIONS[direction];
  if (found === undefined) throw caller.invalid('direction');
  return found;
}

function* map(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeMap);
  caller.mustBeZero(args.flags);
  const direction = directionOf(caller, args.direction);
  yield* file.createOn(
    caller,
    [AttachmentHandle, args.attachment],
    (attachment) => attachment.map(direction),
    (id, handle) => tellMapping(caller, args, id, handle),
  );
}

function* tellMapping(
  caller: ProbeCaller,
  args: ProbeMap,
  id: number,
  { table }: MappingHandle,
): Task {
  const shown = table.entries.slice(0, args.capacity).map(({ address, length }) => ({
    address: BigInt(address),
    length: BigInt(length),
  }));
  yield* caller.storeList(args.entries, probeEntry, shown);
  yield* caller.answer(probeMap, { ...args, mapping: id, count: table.entries.length });
}

function* readId(caller: ProbeCaller): Task<number> {
  const { id, reserved } = yield* caller.read(probeId);
  caller.mustBeZero(reserved);
  return id;
}

function* unmap(file: ProbeFile, caller: ProbeCaller): Task {
  yield* file.remove(caller, MappingHandle, yield* readId(caller));
}

function* pin(file: ProbeFile, caller: ProbeCaller): Task {
  const id = yield* readId(caller);
  yield* file.keep(caller, AttachmentHandle, id, (attachment) => attachment.pin());
}

function* unpin(file: ProbeFile, caller: ProbeCaller): Task {
  const id = yield* readId(caller);
  yield* file.use(caller, AttachmentHandle, id, (attachment) => attachment.unpin());
  yield* file.handles.drop(id);
}

function* detach(file: ProbeFile, caller: ProbeCaller): Task {
  yield* file.remove(caller, AttachmentHandle, yield* readId(caller));
}

function* put(file: ProbeFile, caller: ProbeCaller): Task {
  yield* file.remove(caller, ImportHandle, yield* readId(caller));
}

function* beginCpu(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeCpu);
  caller.mustBeZero(args.reserved);
  const direction = directionOf(caller, args.direction);
  yield* file.use(caller, ImportHandle, args.import, ({ buf }) => buf.beginCpuAccess(direction));
}

function* endCpu(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeCpu);
  caller.mustBeZero(args.reserved);
  const direction = directionOf(caller, args.direction);
  yield* file.use(caller, ImportHandle, args.import, ({ buf }) => buf.endCpuAccess(direction));
}

function* vmap(file: ProbeFile, caller: ProbeCaller): Task {
  const args = yield* caller.read(probeVmap);
  caller.mustBeZero(args.flags, args.reserved);
  yield* file.createOn(
    caller,
    [ImportHandle, args.import],
    ({ buf }) => VmapHandle.make(args.import, buf),
    (id, handle) => tellVmap(caller, args, id, handle),
  );
}

function* tellVmap(caller: ProbeCaller, args: ProbeVmap, id: number, handle: VmapHandle): Task {
  const state = handle.map.isIomem ? PROBE_VMAP_IOMEM : 0;
  const size = BigInt(handle.map.size);
  yield* caller.answer(probeVmap, { ...args, vmap: id, state, size });
}

function* vread(file: ProbeFile, caller: ProbeCaller): Task {
  yield* copy(file, caller, readVmap);
}

function* vwrite(file: ProbeFile, caller: ProbeCaller): Task {
  yield* copy(file, caller, writeVmap);
}

interface Copied {
  readonly offset: number;
  readonly length: number;
  readonly data: number;
}

type CopyBody = (caller: ProbeCaller, handle: VmapHandle, range: Copied) => Task;

function* copy(file: ProbeFile, caller: ProbeCaller, body: CopyBody): Task {
  const { vmap: id, reserved, ...range } = yield* caller.read(probeCopy);
  caller.mustBeZero(reserved);
  if (range.length > PROBE_COPY_MAX) throw caller.invalid('length');
  yield* file.use(caller, VmapHandle, id, (handle) => {
    if (range.offset + range.length > handle.map.size) throw caller.invalid('range');
    const { offset, length, data } = range;
    return body(caller, handle, {
      offset: Number(offset),
      length: Number(length),
      data: Number(data),
    });
  });
}

function* readVmap(caller: ProbeCaller, { map: from }: VmapHandle, range: Copied): Task {
  yield* caller.store(range.data, yield* from.load(range.offset, range.length));
}

function* writeVmap(caller: ProbeCaller, { map: to }: VmapHandle, range: Copied): Task {
  yield* to.store(range.offset, yield* caller.load(range.data, range.length));
}

function* vunmap(file: ProbeFile, caller: ProbeCaller): Task {
  yield* file.remove(caller, VmapHandle, yield* readId(caller));
}

const NAMED: Readonly<Record<keyof typeof PROBE_IOCTL, ProbeCall>> = {
  VERSION: version,
  IMPORT: importFd,
  ATTACH: attach,
  MAP: map,
  UNMAP: unmap,
  PIN: pin,
  UNPIN: unpin,
  DETACH: detach,
  PUT: put,
  BEGIN_CPU: beginCpu,
  END_CPU: endCpu,
  VMAP: vmap,
  VREAD: vread,
  VWRITE: vwrite,
  VUNMAP: vunmap,
  ...PROBE_OTHER_CALLS,
};

const CALLS: ReadonlyMap<number, { readonly name: string; readonly does: ProbeCall }> = new Map(
  Object.entries(NAMED).map(([name, does]) => [
    PROBE_IOCTL[name as keyof typeof PROBE_IOCTL],
    { name, does },
  ]),
);
