/**
 * Fences that a program puts on a buffer and signals itself, as a device would. They must not
 * hang anybody for ever, so each expires after ten seconds.
 *
 * @source drivers/gpu/drm/vgem/vgem_fence.c, v7.2; reference/linux-dma-buf.md E.4
 */

import {
  DmaBufError,
  DRM_IOCTL,
  type DrmVgemFenceAttach,
  drmVgemFenceAttach,
  type DrmVgemFenceSignal,
  drmVgemFenceSignal,
} from '../../base/index.ts';
import { DmaFence, type DmaResv, type Kernel } from '../../framework/index.ts';
import {
  type Access,
  type Cell,
  type Look,
  SleepStep,
  type Task,
  wholeCell,
} from '../../machine/index.ts';
import { type DrmIoctl, drmIoctl } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { gemObjectLookup } from './gem-handles.ts';
import { SpinLocked } from './spin-locked.ts';

/** `VGEM_FENCE_WRITE`. */
const FLAG_WRITE = 1;

/** LIMIT: so long may a fence be pending. */
const FENCE_TIMEOUT_NS = 10e9;

/** Fences of one file by number, from 1; null: signaled by its program. Numbers are not reused. */
type Fences = ReadonlyMap<number, DmaFence | null>;

/**
 * A file was opened.
 *
 * @context May sleep.
 * @source `vgem_fence_open()`
 */
export function* vgemFenceOpen(file: DrmFile): Task {
  const { scheduler } = file.kernel;
  file.driverPriv = new SpinLocked<Fences>(scheduler, `${file.name} fence_idr`, new Map());
}

/**
 * A file was closed: nobody can signal its fences any more, so they are signaled now.
 *
 * @context May sleep.
 * @source `vgem_fence_close()`
 */
export function* vgemFenceClose(file: DrmFile): Task {
  const fences = yield* fencesOf(file).change('empty', (all) => [new Map(), all]);
  for (const fence of fences.values()) {
    if (fence === null) continue;
    yield* fence.signal();
    yield* fence.put();
  }
}

/** What vgem adds to the core's ioctls. */
export const VGEM_IOCTLS: readonly DrmIoctl[] = [
  drmIoctl(DRM_IOCTL.VGEM_FENCE_ATTACH, drmVgemFenceAttach, true, attach),
  drmIoctl(DRM_IOCTL.VGEM_FENCE_SIGNAL, drmVgemFenceSignal, true, signal),
];

/** `vgem_fence_attach_ioctl()`. */
function* attach(file: DrmFile, args: DrmVgemFenceAttach): Task<Partial<DrmVgemFenceAttach>> {
  const { handle, flags, pad } = args;
  if ((flags & ~FLAG_WRITE) !== 0 || pad !== 0) {
    throw new DmaBufError('EINVAL', 'VGEM_FENCE_ATTACH', 'vgem-flags-or-pad-set');
  }
  const isWrite = (flags & FLAG_WRITE) !== 0;
  const object = yield* gemObjectLookup(file, handle, 'VGEM_FENCE_ATTACH');
  try {
    const fence = yield* createFence(file.kernel);
    let outFence: number;
    try {
      yield* addToResv(object.resv, fence, isWrite);
      outFence = yield* fencesOf(file).change('number fence', (all) => {
        const number = all.size + 1;
        return [new Map([...all, [number, fence]]), number];
      });
    } catch (error) {
      yield* fence.signal();
      yield* fence.put();
      throw error;
    }
    return { outFence };
  } finally {
    yield* object.put();
  }
}

/** A writer is in everybody's way, a reader in the way of writers. */
function* addToResv(resv: DmaResv, fence: DmaFence, isWrite: boolean): Task {
  if (!(yield* resv.testSignaled(isWrite ? 'read' : 'write'))) {
    throw new DmaBufError('EBUSY', 'VGEM_FENCE_ATTACH', 'conflicting-fence-is-pending');
  }
  yield* resv.lock();
  try {
    yield* resv.reserveFences(1);
    yield* resv.addFence(fence, isWrite ? 'write' : 'read');
  } finally {
    yield* resv.unlock();
  }
}

/** `vgem_fence_signal_ioctl()`. */
function* signal(file: DrmFile, args: DrmVgemFenceSignal): Task<Partial<DrmVgemFenceSignal>> {
  if (args.flags !== 0) {
    throw new DmaBufError('EINVAL', 'VGEM_FENCE_SIGNAL', 'vgem-signal-flags-set');
  }
  const fence = yield* fencesOf(file).change('take fence', (all) => {
    const found = all.get(args.fence) ?? null;
    return found === null ? [all, null] : [new Map([...all, [args.fence, null]]), found];
  });
  if (fence === null) throw new DmaBufError('ENOENT', 'VGEM_FENCE_SIGNAL', 'no-such-vgem-fence');
  const isLate = yield* fence.isSignaled();
  yield* fence.signal();
  yield* fence.put();
  if (isLate) throw new DmaBufError('ETIMEDOUT', 'VGEM_FENCE_SIGNAL', 'vgem-fence-has-expired');
  return {};
}

function fencesOf(file: DrmFile): SpinLocked<Fences> {
  return file.driverPriv as SpinLocked<Fences>;
}

/** `vgem_fence_create()`: the fence, and its timer. */
function* createFence(kernel: Kernel): Task<DmaFence> {
  const { scheduler, slab } = kernel;
  if (!(yield* slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'VGEM_FENCE_ATTACH', 'no-memory-for-vgem-fence');
  }
  const context = yield* kernel.fenceContexts.next();
  const fence = new DmaFence(kernel, { driver: 'vgem', timeline: 'unbound', context, seqno: 1 });
  const until = scheduler.t + FENCE_TIMEOUT_NS;
  const name = `vgem timer ${context}`;
  scheduler.spawn(expire(fence, until), { name, role: 'kernel', daemon: true });
  return fence;
}

/**
 * `vgem_fence_timeout()`. The timer holds no reference: what is signaled needs none, and what is
 * pending is held by its file.
 */
function* expire(fence: DmaFence, until: number): Task {
  yield* new UntilSignaledOr(fence, fence.kernel.scheduler.clock, until);
  yield* fence.signal();
}

/** Waits for the clock, or until there is nothing more to time out. */
class UntilSignaledOr extends SleepStep<void> {
  readonly cell: DmaFence;
  private readonly clock: Cell<number>;
  private readonly until: number;

  constructor(fence: DmaFence, clock: Cell<number>, until: number) {
    super();
    this.cell = fence;
    this.clock = clock;
    this.until = until;
  }

  get verb(): string {
    return 'time out';
  }

  override guard(look: Look): boolean {
    return look(this.cell).signaled || look(this.clock) >= this.until;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R'), wholeCell(this.clock, 'R')];
  }

  override deadline(): number {
    return this.until;
  }

  apply(): void {}
}
