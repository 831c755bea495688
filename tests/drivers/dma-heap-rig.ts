/**
 * A kernel with both heaps, a program that asks them for memory and maps it, and devices that do
 * DMA to it.
 */

import { expect } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  dmaBufSync,
  type DmaHeapAllocationData,
  dmaHeapAllocationData,
  isDmaBufError,
  O,
  PAGE_SIZE,
  type UserAddr,
} from '../../src/base/index.ts';
import { addCmaHeap, addSystemHeap, DmaHeaps, reserveCmaArea } from '../../src/drivers/index.ts';
import {
  DmaBuf,
  type KernelFile,
  ModelSys,
  type Process,
  type SgTable,
  type Sys,
  type Vma,
} from '../../src/framework/index.ts';
import type { Device, MachineSpec, SlotPool, Task } from '../../src/machine/index.ts';
import { KernelRig } from '../framework/kernel-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** Device nodes of the heaps. */
export const SYSTEM = '/dev/dma_heap/system';
/** The heap of contiguous memory. */
export const CMA = '/dev/dma_heap/default_cma_region';
/** Bytes set aside for it. */
export const CMA_SIZE: number = 8 * 2 ** 20;
/** Devices on two root ports. */
export const [NEAR, FAR] = ['03:00.0', '0a:00.0'] as const;

const READ_WRITE = { read: true, write: true, isNonBlocking: false };

/** What mmap(2) is asked for; the rest as most programs do it. */
export interface MapRequest {
  readonly size?: number;
  readonly pgoff?: number;
  readonly isShared?: boolean;
}

/** Memory of a program, and how to map files into it, for drivers with device nodes. */
export class ProgramRig extends KernelRig {
  /** What the program calls. */
  readonly sys: Sys = new ModelSys(this.process);

  /** Pages of the program, mapped for reading and writing. */
  *scratch(size = PAGE_SIZE): Task<UserAddr> {
    const { phys } = yield* this.process.allocate(size);
    const request = { size, pgoff: 0, read: true, write: true, isShared: true, file: null };
    const vma = yield* this.process.mm.map(request, function* (made: Vma): Task {
      const entries = Array.from({ length: size / PAGE_SIZE }, (_, i) => {
        return { phys: (phys + i * PAGE_SIZE) as typeof phys, kind: 'ram' as const };
      });
      yield* made.insertPages(0, entries);
    });
    return vma.start;
  }

  /** An address with these bytes. */
  *argument(bytes: Uint8Array): Task<UserAddr> {
    const at = yield* this.scratch(Math.ceil(bytes.length / PAGE_SIZE) * PAGE_SIZE);
    yield* this.process.mm.store(at, bytes);
    return at;
  }

  /** An open device node. */
  *open(path: string): Task<KernelFile> {
    const node = this.kernel.nodes.find(path) ?? expect.fail(`no ${path}`);
    return yield* node.open(this.process, READ_WRITE);
  }

  /** One ioctl of a freshly opened node. */
  *ioctl(
    path: string,
    request: number,
    arg: number,
    process: Process = this.process,
  ): Task<number> {
    const file = yield* this.open(path);
    try {
      const { ioctl } = file.operations;
      return yield* ioctl?.(file, request, arg, process) ?? expect.fail('no ioctl');
    } finally {
      yield* file.put();
    }
  }

  /** The buffer behind a descriptor, which keeps it. */
  *bufOf(fd: number): Task<DmaBuf> {
    const buf = yield* DmaBuf.get(this.process, fd);
    yield* buf.put();
    return buf;
  }

  /** Maps a buffer as mmap(2) of its descriptor does. */
  *mmap(buf: DmaBuf, request: MapRequest = {}): Task<Vma> {
    const { size = buf.size, pgoff = 0, isShared = true } = request;
    const { file } = buf;
    const asked = { size, pgoff, read: true, write: true, isShared, file };
    return yield* this.process.mm.map(asked, function* (vma: Vma): Task {
      yield* file.operations.mmap?.(file, vma) ?? expect.fail('no mmap');
    });
  }

  /** `DMA_BUF_IOCTL_SYNC` on a buffer. */
  *sync(buf: DmaBuf, flags: number): Task {
    const at = yield* this.argument(dmaBufSync.encode({ flags: BigInt(flags) }));
    const { ioctl } = buf.file.operations;
    const call = ioctl?.(buf.file, DMA_BUF_IOCTL.SYNC, at, this.process);
    yield* call ?? expect.fail('no ioctl');
  }

  /** A device writes into a mapped buffer. */
  *deviceWrites(device: Device, table: SgTable, offset: number, bytes: readonly number[]): Task {
    const address = addressIn(table, offset);
    yield* this.machine.dma.write(device, address, Uint8Array.from(bytes));
  }

  /** A device reads from a mapped buffer. */
  *deviceReads(device: Device, table: SgTable, offset: number, length: number): Task<number[]> {
    const got = yield* this.machine.dma.read(device, addressIn(table, offset), length);
    expect(got.ok).toBe(true);
    return [...got.bytes];
  }

  /** The program reads its own memory. */
  *loads(vma: Vma, offset: number, length: number): Task<number[]> {
    return [...(yield* this.process.mm.load((vma.start + offset) as UserAddr, length))];
  }

  /** The program writes its own memory. */
  *stores(vma: Vma, offset: number, bytes: readonly number[]): Task {
    yield* this.process.mm.store((vma.start + offset) as UserAddr, Uint8Array.from(bytes));
  }

  /**
   * Runs a task again and again on fresh rigs, each time with another of its fallible steps
   * refused, and gives back the reasons it failed for. After each, all memory must be back.
   */
  static reasonsOf<R extends ProgramRig>(make: () => R, body: (rig: R) => Task): Set<string> {
    const reasons = new Set<string>();
    for (let failAt = 1; ; failAt += 1) {
      const rig = make();
      Object.assign(rig.scheduler, { failAt, fallible: 0 });
      rig.do(
        (function* (): Task {
          try {
            yield* body(rig);
          } catch (error) {
            if (!isDmaBufError(error)) throw error;
            reasons.add(error.reason);
          }
        })(),
      );
      const isOver = rig.scheduler.fallible < failAt;
      Object.assign(rig.scheduler, { failAt: 0 });
      rig.do(rig.end());
      expect(rig.kernel.bufferList.value).toBe(0);
      expect(rig.machine.memory.pagesInUse).toBe(0);
      expect(rig.scheduler.allocations.filter(({ value }) => value === null)).toEqual([]);
      if (isOver) return reasons;
    }
  }

  /** Everything the program has goes, and nothing may be left. */
  *end(): Task {
    yield* this.process.exit();
  }
}

/** A kernel with the heaps `system` and `default_cma_region`. */
export class HeapRig extends ProgramRig {
  readonly heaps: DmaHeaps;
  private readonly reserved: SlotPool | null = null;

  constructor(spec: MachineSpec = wideMachine(), heaps: readonly string[] = [SYSTEM, CMA]) {
    super(spec);
    this.heaps = new DmaHeaps(this.kernel);
    if (heaps.includes(SYSTEM)) addSystemHeap(this.heaps);
    if (heaps.includes(CMA)) {
      this.reserved = reserveCmaArea(this.machine, 'cma', CMA_SIZE);
      addCmaHeap(this.heaps, this.reserved);
    }
  }

  /** What the CMA heap allocates from. */
  get area(): SlotPool {
    return this.reserved ?? expect.fail('there is no CMA heap');
  }

  /** `DMA_HEAP_IOCTL_ALLOC`; gives back the argument as the kernel left it. */
  *allocIoctl(
    path: string,
    data: Partial<DmaHeapAllocationData>,
    request: number = DMA_HEAP_IOCTL.ALLOC,
  ): Task<DmaHeapAllocationData> {
    const bytes = dmaHeapAllocationData.encode({ fdFlags: O.RDWR | O.CLOEXEC, ...data });
    const at = yield* this.argument(bytes);
    expect(yield* this.ioctl(path, request, at)).toBe(0);
    return dmaHeapAllocationData.decode(yield* this.process.mm.load(at, bytes.length));
  }

  /** A buffer of a heap. Its descriptor, the lowest free one, keeps it. */
  *alloc(path: string, size: number): Task<DmaBuf> {
    const { fd } = yield* this.allocIoctl(path, { len: BigInt(size) });
    return yield* this.bufOf(fd);
  }
}

/** Where a device finds a byte of a buffer. */
function addressIn(table: SgTable, offset: number): SgTable['entries'][number]['address'] {
  let start = 0;
  for (const { address, length } of table.entries) {
    if (offset < start + length) return (address + offset - start) as typeof address;
    start += length;
  }
  return expect.fail('the buffer is shorter');
}
