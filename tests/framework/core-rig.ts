/**
 * Buffers of real memory to try the core on, and a program's way to a buffer's file: system calls
 * with arguments in its own memory.
 */

import { expect } from 'vitest';
import {
  type DmaBufError,
  type DmaDirection,
  PAGE_SIZE,
  type PhysAddr,
  type UserAddr,
} from '../../src/base/index.ts';
import {
  type Attachment,
  DmaBuf,
  type DmaBufOps,
  type DmaResvUsage,
  DmaFence,
  dmaMapSgtable,
  dmaSyncForCpu,
  dmaSyncForDevice,
  dmaUnmapSgtable,
  IosysMap,
  type KernelFile,
  type KernelOptions,
  pageList,
  type SgTable,
  type Vma,
} from '../../src/framework/index.ts';
import type { Device, PhysRange, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { type MachineOptions, wideMachine } from '../machine/test-machines.ts';
import { KernelRig, locked } from './kernel-rig.ts';

/** What a RAM exporter may be told to do. */
export interface RamOptions {
  /** No mmap, or no vmap. */
  readonly without?: readonly ('mmap' | 'vmap' | 'beginCpuAccess' | 'endCpuAccess')[];
  /** What a callback of this name throws. */
  readonly fails?: Readonly<Record<string, DmaBufError>>;
}

/** An exporter of RAM, as dma-heaps are: cached, mapped for whoever attaches. */
export class RamExporter {
  readonly rig: KernelRig;
  readonly range: PhysRange;
  /** What was asked, in order. */
  readonly calls: string[] = [];
  /** Devices that have it mapped. */
  readonly mapped: Device[] = [];
  readonly options: RamOptions;

  constructor(rig: KernelRig, range: PhysRange, options: RamOptions) {
    this.rig = rig;
    this.range = range;
    this.options = options;
  }

  /** Notes a call; fails if that is what was wanted. */
  note(call: string, { resv }: DmaBuf<RamExporter>): void {
    this.calls.push(resv.lockCell.value.owner === null ? call : `${call} locked`);
    const error = this.options.fails?.[call.split(' ')[0] ?? ''];
    if (error !== undefined) throw error;
  }
}

const RAM_OPS: DmaBufOps<RamExporter> = {
  *mapDmaBuf(attachment: Attachment<RamExporter>, direction: DmaDirection): Task<SgTable> {
    const { buf, device } = attachment;
    const { rig, range, mapped } = buf.priv;
    buf.priv.note(`map ${direction}`, buf);
    const table = yield* dmaMapSgtable(rig.machine, device, pageList([range]), direction);
    mapped.push(device);
    return table;
  },

  *unmapDmaBuf({ buf, device }, table: SgTable, direction: DmaDirection): Task {
    const { rig, mapped } = buf.priv;
    buf.priv.note(`unmap ${direction}`, buf);
    mapped.splice(mapped.indexOf(device), 1);
    yield* dmaUnmapSgtable(rig.machine, device, table, direction);
  },

  *beginCpuAccess(buf, direction: DmaDirection): Task {
    const { rig, range, mapped } = buf.priv;
    buf.priv.note(`begin ${direction}`, buf);
    for (const device of mapped) yield* dmaSyncForCpu(rig.machine, device, range, direction);
  },

  *endCpuAccess(buf, direction: DmaDirection): Task {
    const { rig, range, mapped } = buf.priv;
    buf.priv.note(`end ${direction}`, buf);
    for (const device of mapped) yield* dmaSyncForDevice(rig.machine, device, range);
  },

  *mmap(buf, vma: Vma): Task {
    buf.priv.note('mmap', buf);
    const entries = Array.from({ length: vma.pages }, (_, i) => ({
      phys: (buf.priv.range.phys + (vma.pgoff + i) * PAGE_SIZE) as PhysAddr,
      kind: 'ram' as const,
    }));
    yield* vma.insertPages(0, entries);
  },

  *vmap(buf): Task<IosysMap> {
    buf.priv.note('vmap', buf);
    return new IosysMap(buf.priv.rig.machine, [buf.priv.range], false);
  },

  *vunmap(buf): Task {
    buf.priv.note('vunmap', buf);
  },

  *release(buf): Task {
    const { rig, range } = buf.priv;
    buf.priv.calls.push('release');
    yield* rig.machine.memory.free(range.phys, range.size / PAGE_SIZE);
  },
};

/** A kernel with programs that use buffers. */
export class CoreRig extends KernelRig {
  constructor(machine: MachineOptions = {}, options: KernelOptions = {}) {
    super(wideMachine(machine), options);
  }

  /** Exports RAM; `tail` bytes less than whole pages. */
  *exportRam(pages = 1, options: RamOptions = {}, tail = 0): Task<DmaBuf<RamExporter>> {
    const phys = (yield* this.machine.memory.allocate(pages)) ?? expect.fail('pages');
    const size = pages * PAGE_SIZE;
    const priv = new RamExporter(this, { phys, size }, options);
    const without = new Set<string>(options.without);
    const some = Object.entries(RAM_OPS).filter(([name]) => !without.has(name));
    const ops = Object.fromEntries(some) as unknown as DmaBufOps<RamExporter>;
    const info = { exporterName: 'ram', ops, size: size - tail, priv };
    return yield* DmaBuf.export(this.kernel, info);
  }

  /** Puts bytes into memory of the program. */
  *userBytes(bytes: Uint8Array, at = 0): Task<UserAddr> {
    const { phys } = yield* this.process.allocate(2 * PAGE_SIZE);
    const rights = { read: true, write: true, isShared: false, file: null };
    const vma = yield* this.process.mm.map({ size: 2 * PAGE_SIZE, pgoff: 0, ...rights }, fill);
    function* fill(made: Vma): Task {
      const second = (phys + PAGE_SIZE) as PhysAddr;
      yield* made.insertPages(0, [
        { phys, kind: 'ram' },
        { phys: second, kind: 'ram' },
      ]);
    }
    const address = (vma.start + at) as UserAddr;
    yield* this.process.mm.store(address, bytes);
    return address;
  }

  /** `ioctl(2)` with a struct; gives back what stands there afterwards. */
  *ioctl(buf: DmaBuf, request: number, bytes: Uint8Array): Task<Uint8Array> {
    const address = yield* this.userBytes(bytes);
    yield* this.ioctlAt(buf, request, address);
    return yield* this.process.mm.load(address, bytes.length);
  }

  /** `ioctl(2)` with an argument that may point nowhere. */
  *ioctlAt(buf: DmaBuf, request: number, arg: number): Task<number> {
    const call = buf.file.operations.ioctl?.(buf.file, request, arg, this.process);
    return yield* this.process.syscall(call ?? expect.fail('an ioctl'));
  }

  /** The error number of a call, or what it returns. */
  codeOf(task: Task<unknown>): unknown {
    function* attempt(): Task<unknown> {
      const error = yield* refused(task);
      return error.code;
    }
    return this.do(attempt());
  }

  /** `read(2)` of a whole text file of the kernel. */
  *readAll(path: string): Task<string> {
    const node = this.kernel.nodes.find(path) ?? expect.fail(`no ${path}`);
    const mode = { read: true, write: false, isNonBlocking: false };
    const file: KernelFile = yield* node.open(this.process, mode);
    let text = '';
    for (;;) {
      const bytes = yield* file.operations.read?.(file, 100) ?? expect.fail('a read');
      if (bytes.length === 0) break;
      text += String.fromCharCode(...bytes);
    }
    yield* file.put();
    return text;
  }

  /** A pending fence on a context of its own, in a buffer's reservation. */
  *publish(buf: DmaBuf, usage: DmaResvUsage, context = 100): Task<DmaFence> {
    const origin = { driver: 'card', timeline: 'jobs', context, seqno: 1 };
    const fence = new DmaFence(this.kernel, origin);
    function* add(): Task {
      yield* buf.resv.reserveFences(1);
      yield* buf.resv.addFence(fence, usage);
    }
    yield* locked(buf.resv, add());
    return fence;
  }
}
