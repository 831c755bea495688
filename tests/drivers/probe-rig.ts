/**
 * A program that drives `/dev/peerbuf-probe`: it has memory of its own, puts structs there and
 * makes system calls, as a C program would.
 */

import { expect } from 'vitest';
import {
  type DmaBufError,
  isDmaBufError,
  PAGE_SIZE,
  type PhysAddr,
  PROBE_IOCTL,
  type ProbeAttach,
  probeAttach,
  type ProbeEntry,
  probeEntry,
  probeEvent,
  type ProbeEventRecord,
  probeEvents,
  type ProbeExport,
  probeExport,
  type ProbeExportInfo,
  probeExportInfo,
  probeFence,
  probeFenceAdd,
  probeFences,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeCopy,
  probeCpu,
  probeVmap,
  type Struct,
  type UserAddr,
  userAddr,
} from '../../src/base/index.ts';
import { PROBE_PATH, ProbeDevice } from '../../src/drivers/index.ts';
import { type KernelFile, type Process, type Vma } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { VfioRig } from './vfio-pci-rig.ts';

/** Bytes of memory that the program has. */
const MEMORY_SIZE = 4 * PAGE_SIZE;
/** Where it puts lists; structs are at its beginning. */
const LISTS_AT = PAGE_SIZE;

/** The name of a call. */
export type CallName = keyof typeof PROBE_IOCTL;

/** A machine with VFIO, the probe and a program. */
export class ProbeRig extends VfioRig {
  readonly probe: ProbeDevice = new ProbeDevice(this.kernel);

  /** A program that has opened the probe. */
  *program(process: Process = this.process): Task<ProbeProgram> {
    const node = this.kernel.nodes.find(PROBE_PATH) ?? expect.fail('the probe is there');
    const file = yield* node.open(process, { read: true, write: true, isNonBlocking: false });
    const fd = (yield* process.fds.install(file)) ?? expect.fail('a descriptor');
    const memory = yield* process.allocate(MEMORY_SIZE);
    const vma = yield* process.mm.map(
      { size: MEMORY_SIZE, pgoff: 0, read: true, write: true, isShared: true, file: null },
      (made) => fill(made, memory.phys),
    );
    return new ProbeProgram(this, process, file, fd, vma.start);
  }
}

function* fill(vma: Vma, phys: number): Task {
  const pages = Array.from({ length: vma.pages }, (_, i) => ({
    phys: (phys + i * PAGE_SIZE) as PhysAddr,
    kind: 'ram' as const,
  }));
  yield* vma.insertPages(0, pages);
}

/** A program that has opened the probe. */
export class ProbeProgram {
  readonly rig: ProbeRig;
  readonly process: Process;
  readonly file: KernelFile;
  readonly fd: number;
  /** Where its memory begins. */
  readonly base: UserAddr;
  private readOnly = 0;

  constructor(rig: ProbeRig, process: Process, file: KernelFile, fd: number, base: UserAddr) {
    this.rig = rig;
    this.process = process;
    this.file = file;
    this.fd = fd;
    this.base = base;
  }

  /** Where lists go. */
  get listsAt(): bigint {
    return BigInt(this.base + LISTS_AT);
  }

  /** An ioctl with any number and any pointer. */
  *raw(request: number, arg: number): Task<number> {
    const { operations } = this.file;
    const { ioctl } = operations;
    if (ioctl === undefined) return expect.fail('the probe has ioctls');
    return yield* this.process.syscall(
      ioctl.call(operations, this.file, request, arg, this.process),
    );
  }

  /** An ioctl with a struct; gives back what the struct says afterwards. */
  *call<V extends object>(name: CallName, layout: Struct<V>, values: Partial<V>): Task<V> {
    const { mm } = this.process;
    yield* mm.store(this.base, layout.encode(values));
    yield* this.raw(PROBE_IOCTL[name], this.base);
    return layout.decode(yield* mm.load(this.base, layout.size));
  }

  /** What an ioctl that must fail fails with. The struct stays as it was. */
  *fails<V extends object>(
    name: CallName,
    layout: Struct<V>,
    values: Partial<V>,
  ): Task<DmaBufError> {
    const before = layout.encode(values);
    try {
      yield* this.call(name, layout, values);
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      expect(yield* this.process.mm.load(this.base, layout.size)).toEqual(before);
      return error;
    }
    return expect.fail(`${name} succeeded`);
  }

  /** Items of a list. */
  *list<V extends object>(layout: Struct<V>, count: number): Task<readonly V[]> {
    const items: V[] = [];
    for (let i = 0; i < count; i += 1) {
      const at = userAddr(this.base + LISTS_AT + i * layout.size);
      items.push(layout.decode(yield* this.process.mm.load(at, layout.size)));
    }
    return items;
  }

  *import(fd: number): Task<number> {
    return (yield* this.call('IMPORT', probeImport, { fd })).import;
  }

  *attach(buffer: number, device: string, mode: number): Task<ProbeAttach> {
    return yield* this.call('ATTACH', probeAttach, { import: buffer, device, mode });
  }

  /** Maps, and reads up to 32 entries. */
  *map(
    attachment: number,
    direction = 0,
  ): Task<{ readonly id: number; readonly entries: readonly ProbeEntry[] }> {
    const args = { attachment, direction, entries: this.listsAt, capacity: 32 };
    const { mapping, count } = yield* this.call('MAP', probeMap, args);
    return { id: mapping, entries: yield* this.list(probeEntry, Math.min(count, 32)) };
  }

  *byId(name: CallName, id: number): Task {
    yield* this.call(name, probeId, { id });
  }

  *failsById(name: CallName, id: number): Task<DmaBufError> {
    return yield* this.fails(name, probeId, { id });
  }

  *cpu(name: 'BEGIN_CPU' | 'END_CPU', buffer: number, direction: number): Task {
    yield* this.call(name, probeCpu, { import: buffer, direction });
  }

  *vmap(buffer: number): Task<number> {
    return (yield* this.call('VMAP', probeVmap, { import: buffer })).vmap;
  }

  *vread(vmap: number, offset: number, length: number): Task<Uint8Array> {
    const args = { vmap, offset: BigInt(offset), length: BigInt(length), data: this.listsAt };
    yield* this.call('VREAD', probeCopy, args);
    return yield* this.process.mm.load(userAddr(this.base + LISTS_AT), length);
  }

  *vwrite(vmap: number, offset: number, bytes: Uint8Array): Task {
    yield* this.process.mm.store(userAddr(this.base + LISTS_AT), bytes);
    const length = BigInt(bytes.length);
    const args = { vmap, offset: BigInt(offset), length, data: this.listsAt };
    yield* this.call('VWRITE', probeCopy, args);
  }

  *events(capacity = 32): Task<readonly ProbeEventRecord[]> {
    const args = { events: this.listsAt, capacity };
    const { count } = yield* this.call('EVENTS', probeEvents, args);
    return yield* this.list(probeEvent, count);
  }

  *export(order: Partial<ProbeExport> = {}): Task<{ readonly fd: number; readonly id: number }> {
    const { fd, export: id } = yield* this.call('EXPORT', probeExport, { pages: 1, ...order });
    return { fd, id };
  }

  *info(id: number): Task<Pick<ProbeExportInfo, 'attachments' | 'mappings' | 'pins'>> {
    const seen = yield* this.call('EXPORT_INFO', probeExportInfo, { export: id });
    return { attachments: seen.attachments, mappings: seen.mappings, pins: seen.pins };
  }

  *fenceAdd(buffer: number, usage: number): Task<number> {
    return (yield* this.call('FENCE_ADD', probeFenceAdd, { import: buffer, usage })).fence;
  }

  *fenceSignal(fence: number, error = 0): Task {
    yield* this.call('FENCE_SIGNAL', probeFenceSignal, { fence, error });
  }

  /** Signals with a struct at another place: the program has several threads. */
  *signalElsewhere(fence: number): Task {
    const at = userAddr(this.base + MEMORY_SIZE - PAGE_SIZE);
    yield* this.process.mm.store(at, probeFenceSignal.encode({ fence }));
    yield* this.raw(PROBE_IOCTL.FENCE_SIGNAL, at);
  }

  *failsVmap(buffer: number): Task<DmaBufError> {
    return yield* this.fails('VMAP', probeVmap, { import: buffer });
  }

  /** How many fences there are up to a usage. */
  *fences(buffer: number, usage: number): Task<number> {
    const args = { import: buffer, usage, fences: this.listsAt, capacity: 32 };
    const { count } = yield* this.call('FENCES', probeFences, args);
    expect(yield* this.list(probeFence, count)).toHaveLength(count);
    return count;
  }

  /** A page of its memory once more, not to be written through: where it is. */
  *readOnlyPage(): Task<UserAddr> {
    const { process, rig } = this;
    const { phys } = yield* process.allocate(PAGE_SIZE);
    this.readOnly = phys;
    const vma = yield* process.mm.map(
      { size: PAGE_SIZE, pgoff: 0, read: true, write: false, isShared: true, file: null },
      (made) => fill(made, phys),
    );
    expect(rig.machine.memory.pagesInUse).toBeGreaterThan(0);
    return vma.start;
  }

  /** Puts bytes into that page by another way. */
  *putReadOnly(bytes: Uint8Array): Task {
    yield* this.rig.machine.cpu.store(this.readOnly as PhysAddr, bytes);
  }

  /** The program ends; nothing must be left. */
  *exit(): Task {
    yield* this.process.exit();
  }
}
