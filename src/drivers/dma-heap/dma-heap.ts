/**
 * `/dev/dma_heap/NAME`: a program asks a heap for memory and gets a dma-buf. What kind of memory it
 * is, the heap's own file says; here are the device nodes and their one ioctl.
 *
 * @source drivers/dma-buf/dma-heap.c, v7.2; reference/linux-dma-buf.md E.3
 */

import {
  DMA_HEAP_IOCTL,
  DmaBufError,
  dmaHeapAllocationData,
  ioctlParts,
  O,
  PAGE_SIZE,
  type UserAddr,
} from '../../base/index.ts';
import {
  type DmaBuf,
  type FileOperations,
  type Kernel,
  KernelFile,
  type OpenMode,
  type Process,
} from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';

/** LIMIT: heaps of a kernel: `NUM_HEAP_MINORS`. */
export const DMA_HEAP_MINORS = 128;

/** What may stand in `fd_flags`. */
const VALID_FD_FLAGS = O.CLOEXEC | O.ACCMODE;

/** LIMIT: an argument up to this length is kept on the stack; a longer one needs memory. */
const STACK_ARGUMENT_SIZE = 128;

/** What a heap does (`struct dma_heap_ops`). */
export interface DmaHeapOps {
  /**
   * Allocates, and exports what it got.
   *
   * @param pages - At least 1. A program may ask for as many as 64 bits of bytes hold.
   * @param fdFlags - For the export.
   * @throws {@link DmaBufError} `ENOMEM`; `EINTR` the thread is being killed.
   * @context May sleep; no lock held.
   */
  allocate(heap: DmaHeap, pages: number, fdFlags: number): Task<DmaBuf>;
}

/** A heap to add (`struct dma_heap_export_info`). */
export interface DmaHeapExportInfo {
  /** Its file below `/dev/dma_heap`, and the exporter's name of its buffers. */
  readonly name: string;
  /** Null is refused. */
  readonly ops: DmaHeapOps | null;
}

/** `struct dma_heap`. */
export class DmaHeap {
  readonly kernel: Kernel;
  readonly name: string;
  readonly ops: DmaHeapOps;

  constructor(kernel: Kernel, name: string, ops: DmaHeapOps) {
    this.kernel = kernel;
    this.name = name;
    this.ops = ops;
  }

  /** Its device node. */
  get path(): string {
    return `/dev/dma_heap/${this.name}`;
  }
}

/** All heaps of a kernel. */
export class DmaHeaps {
  readonly kernel: Kernel;
  private readonly heaps: DmaHeap[] = [];

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }

  /** In the order in which they were added. */
  get all(): readonly DmaHeap[] {
    return this.heaps;
  }

  /**
   * Adds a heap and its device node. At boot.
   *
   * @throws {@link DmaBufError} `EINVAL` no name, no operations, or the name is taken; `EBUSY` 128
   *   heaps are there.
   * @source `dma_heap_add()`
   */
  add({ name, ops }: DmaHeapExportInfo): DmaHeap {
    const call = 'dma_heap_add';
    if (name === '') throw new DmaBufError('EINVAL', call, 'heap-without-a-name');
    if (ops === null) throw new DmaBufError('EINVAL', call, 'heap-that-cannot-allocate');
    if (this.heaps.length >= DMA_HEAP_MINORS) {
      throw new DmaBufError('EBUSY', call, 'no-minor-left-for-a-heap');
    }
    if (this.heaps.some((heap) => heap.name === name)) {
      throw new DmaBufError('EINVAL', call, 'heap-of-that-name-is-there', { detail: { name } });
    }
    const heap = new DmaHeap(this.kernel, name, ops);
    this.heaps.push(heap);
    this.kernel.nodes.add(heap.path, {
      *open(_process: Process, mode: OpenMode): Task<KernelFile> {
        return new HeapFile(heap, mode);
      },
    });
    return heap;
  }
}

/** An open heap. */
class HeapFile extends KernelFile {
  readonly heap: DmaHeap;

  constructor(heap: DmaHeap, mode: OpenMode) {
    super(heap.kernel, heap.path, HEAP_FILE_OPERATIONS, mode);
    this.heap = heap;
  }
}

const HEAP_FILE_OPERATIONS: FileOperations = {
  *release(): Task {},

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    if (!(file instanceof HeapFile)) return 0;
    return yield* heapIoctl(file.heap, request, arg, process);
  },
};

/**
 * Only the number counts, not the magic. The size and the direction that the program encoded say
 * how much is copied in and out; what is missing is zero.
 *
 * @source `dma_heap_ioctl()`
 */
function* heapIoctl(heap: DmaHeap, request: number, arg: number, process: Process): Task<number> {
  const { nr, size, direction } = ioctlParts(request);
  if (nr > ioctlParts(DMA_HEAP_IOCTL.ALLOC).nr) {
    throw new DmaBufError('EINVAL', 'dma_heap_ioctl', 'unknown-heap-ioctl', { detail: { nr } });
  }
  const inSize = direction === 'w' || direction === 'rw' ? size : 0;
  const outSize = direction === 'r' || direction === 'rw' ? size : 0;
  const length = Math.max(inSize, outSize, dmaHeapAllocationData.size);
  if (length > STACK_ARGUMENT_SIZE && !(yield* heap.kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'dma_heap_ioctl', 'no-memory-for-the-argument');
  }
  const address = arg as UserAddr;
  const bytes = new Uint8Array(length);
  bytes.set(yield* process.mm.load(address, inSize));
  const { len, fd: given, fdFlags, heapFlags } = dmaHeapAllocationData.decode(bytes);
  checkFlags(given, fdFlags, heapFlags);
  const buf = yield* heap.ops.allocate(heap, pagesOfLength(len), fdFlags);
  const fd = yield* reserveOrPut(buf, fdFlags, process);
  bytes.set(dmaHeapAllocationData.encode({ len, fd, fdFlags, heapFlags }));
  try {
    yield* process.mm.store(address, bytes.subarray(0, outSize));
  } catch (error) {
    yield* process.fds.unreserve(fd);
    yield* buf.put();
    throw error;
  }
  yield* buf.fdInstall(process, fd);
  return 0;
}

/** @source `dma_heap_ioctl_allocate()` */
function checkFlags(fd: number, fdFlags: number, heapFlags: bigint): void {
  const call = 'dma_heap_ioctl_allocate';
  if (fd !== 0) throw new DmaBufError('EINVAL', call, 'descriptor-is-an-output');
  if ((fdFlags & ~VALID_FD_FLAGS) !== 0) {
    throw new DmaBufError('EINVAL', call, 'unknown-descriptor-flags', { detail: { fdFlags } });
  }
  if (heapFlags !== 0n) {
    const detail = { heapFlags: `0x${heapFlags.toString(16)}` };
    throw new DmaBufError('EINVAL', call, 'unknown-heap-flags', { detail });
  }
}

/** Rounded up to pages in 64 bits: the very longest lengths wrap to none. */
function pagesOfLength(len: bigint): number {
  const pages = Number(BigInt.asUintN(64, len + BigInt(PAGE_SIZE - 1)) / BigInt(PAGE_SIZE));
  if (pages > 0) return pages;
  throw new DmaBufError('EINVAL', 'dma_heap_buffer_alloc', 'heap-buffer-of-no-pages');
}

/** A number for the buffer's descriptor; without one the buffer goes. */
function* reserveOrPut(buf: DmaBuf, fdFlags: number, process: Process): Task<number> {
  const fd = yield* process.fds.reserve({ closeOnExec: (fdFlags & O.CLOEXEC) !== 0 });
  if (fd !== null) return fd;
  yield* buf.put();
  throw new DmaBufError('EMFILE', 'dma_heap_ioctl', 'no-descriptor-for-the-heap-buffer');
}
