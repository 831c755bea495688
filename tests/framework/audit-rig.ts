/**
 * A program that knows nothing but system calls, on a kernel with heaps and a timeline of its own:
 * what the reference says of the core is asked for as a program asks.
 */

import { expect } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
  dmaBufSync,
  dmaHeapAllocationData,
  O,
  type Struct,
  SW_SYNC_IOC,
  swSyncCreateFenceData,
  swSyncInc,
  SYNC_IOC,
  syncFileInfo,
  type SyncFileInfo,
  syncMergeData,
  type UserAddr,
} from '../../src/base/index.ts';
import { DmaFence, SW_SYNC_PATH, swSyncInit, syncFileFence } from '../../src/framework/index.ts';
import type { Actor, Task } from '../../src/machine/index.ts';
import { HeapRig, SYSTEM } from '../drivers/dma-heap-rig.ts';
import { refused } from '../machine/fabric-rig.ts';

/** Bits of sync flags. */
export const READ = 1;
/** The other. */
export const WRITE = 2;

/** Two descriptors: a timeline, and a sync file of a point of it. */
export interface Timeline {
  readonly timeline: number;
  readonly point: number;
}

/** As many as were asked for, at most three. */
export type Timelines = readonly [Timeline, Timeline, Timeline];

/** The kernel, and one program on it. */
export class AuditRig extends HeapRig {
  /** Every fence of the program. */
  readonly fences: DmaFence[] = [];
  private timeline = -1;

  constructor() {
    super();
    if (this.kernel.nodes.find(SW_SYNC_PATH) === null) swSyncInit(this.kernel);
  }

  /** A buffer of the system heap, by its descriptor. */
  *buffer(length = 8192, fdFlags: number = O.RDWR | O.CLOEXEC): Task<number> {
    const heap = yield* this.sys.open(SYSTEM, O.RDWR);
    const asked = { len: BigInt(length), fdFlags };
    const { fd } = yield* this.call(heap, DMA_HEAP_IOCTL.ALLOC, dmaHeapAllocationData, asked);
    yield* this.sys.close(heap);
    return fd;
  }

  /** `ioctl(2)` with a struct; gives it back as it is then. */
  *call<V extends object>(
    fd: number,
    request: number,
    layout: Struct<V>,
    values: Partial<V>,
  ): Task<V> {
    const at = yield* this.bytes(layout.encode(values));
    yield* this.sys.ioctl(fd, request, at);
    return layout.decode(yield* this.sys.load(at, layout.size));
  }

  /** Bytes in the program's memory. */
  *bytes(bytes: Uint8Array): Task<UserAddr> {
    const at = yield* this.sys.alloc(4096);
    yield* this.sys.store(at, bytes);
    return at;
  }

  /** `DMA_BUF_IOCTL_SYNC`. */
  *syncIoctl(fd: number, flags: number | bigint): Task {
    yield* this.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: BigInt(flags) });
  }

  /** `DMA_BUF_SET_NAME`. */
  *setName(fd: number, name: string): Task {
    const text = Uint8Array.from(`${name}\0`, (character) => character.charCodeAt(0));
    yield* this.sys.ioctl(fd, DMA_BUF_IOCTL.SET_NAME_B, yield* this.bytes(text));
  }

  /** A sync file of a fence that is pending until `value` on the program's timeline. */
  *pending(value: number): Task<number> {
    if (this.timeline < 0) this.timeline = yield* this.sys.open(SW_SYNC_PATH, O.RDWR);
    const asked = { value, name: 'work' };
    const { CREATE_FENCE } = SW_SYNC_IOC;
    const made = yield* this.call(this.timeline, CREATE_FENCE, swSyncCreateFenceData, asked);
    yield* this.remember(made.fence);
    return made.fence;
  }

  /** The program's timeline goes on. */
  *advance(value: number): Task {
    yield* this.call(this.timeline, SW_SYNC_IOC.INC, swSyncInc, { value });
  }

  /** Timelines of their own, each with a sync file of its first point. */
  *timelines(count: number): Task<Timelines> {
    const made: Timeline[] = [];
    for (let i = 0; i < count; i += 1) {
      const timeline = yield* this.sys.open(SW_SYNC_PATH, O.RDWR);
      const asked = { value: 1, name: 'work' };
      const { CREATE_FENCE } = SW_SYNC_IOC;
      const { fence } = yield* this.call(timeline, CREATE_FENCE, swSyncCreateFenceData, asked);
      yield* this.remember(fence);
      made.push({ timeline, point: fence });
    }
    return made as unknown as Timelines;
  }

  /** A timeline goes on by one. */
  *goOn(timeline: number): Task {
    yield* this.call(timeline, SW_SYNC_IOC.INC, swSyncInc, { value: 1 });
  }

  /** Two sync files made one. */
  *merge(one: number, fd2: number): Task<number> {
    return (yield* this.call(one, SYNC_IOC.MERGE, syncMergeData, { name: 'both', fd2 })).fence;
  }

  /** `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`. */
  *exportSync(fd: number, flags: number): Task<number> {
    const { EXPORT_SYNC_FILE } = DMA_BUF_IOCTL;
    return (yield* this.call(fd, EXPORT_SYNC_FILE, dmaBufExportSyncFile, { flags })).fd;
  }

  /** `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`. */
  *importSync(fd: number, flags: number, sync: number): Task {
    const asked = { flags, fd: sync };
    yield* this.call(fd, DMA_BUF_IOCTL.IMPORT_SYNC_FILE, dmaBufImportSyncFile, asked);
  }

  /** `SYNC_IOC_FILE_INFO` without room for fences. */
  *info(sync: number): Task<SyncFileInfo> {
    return yield* this.call(sync, SYNC_IOC.FILE_INFO, syncFileInfo, {});
  }

  /** poll(2) of one descriptor, without sleeping. */
  *ready(fd: number, events: number): Task<number> {
    const [found = 0] = yield* this.sys.poll([{ fd, events }], 0);
    return found;
  }

  /** The error numbers of several calls, one after the other. */
  *codes(calls: readonly Task<unknown>[]): Task<readonly string[]> {
    const codes: string[] = [];
    for (const call of calls) codes.push((yield* refused(call)).code);
    return codes;
  }

  /** A pending fence of a driver, on a context of its own. */
  kernelFence(): DmaFence {
    const origin = { driver: 'card', timeline: 'moves', context: 1000, seqno: 1 };
    return new DmaFence(this.kernel, origin);
  }

  private *remember(fd: number): Task {
    const file = (yield* this.process.fds.fget(fd)) ?? expect.fail('a sync file');
    this.fences.push(syncFileFence(file) ?? expect.fail('a fence'));
    yield* file.put();
  }

  /** Ends the program, and looks that nothing is left of it. */
  leavesNothing(): void {
    this.do(this.end());
    expect(this.kernel.bufferList.value).toBe(0);
    expect(this.fences.filter(({ refs }) => refs.value !== 0)).toEqual([]);
    expect(this.machine.memory.pagesInUse).toBe(0);
    expect(this.warnings).toEqual([]);
  }

  /** Sends a thread a signal in `ns`. */
  killLater(thread: Actor, ns: number): void {
    const { scheduler, kernel } = this;
    function* killer(): Task {
      yield* scheduler.sleep(ns);
      yield* kernel.signals.kill(thread);
    }
    this.kthread(killer(), 'killer');
  }
}
