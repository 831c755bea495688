/**
 * Sync objects: boxes that hold one fence, which programs fill and empty. They have handles in a
 * file, can be handed on as descriptors, and take fences from sync files and give them to them.
 *
 * Not modelled: waiting for them, resetting, signaling and transferring by ioctl.
 *
 * @source drivers/gpu/drm/drm_syncobj.c, v7.2; reference/linux-dma-buf.md G.2, G.3
 */

import {
  DmaBufError,
  DRM_IOCTL,
  type DrmSyncobjCreate,
  drmSyncobjCreate,
  type DrmSyncobjDestroy,
  drmSyncobjDestroy,
  type DrmSyncobjHandle,
  drmSyncobjHandle,
  isDmaBufError,
} from '../../base/index.ts';
import {
  chainFindSeqno,
  type DmaFence,
  DmaFenceChain,
  type FileOperations,
  type Kernel,
  KernelFile,
  type Process,
  stubFence,
  syncFileCreate,
  syncFileFence,
} from '../../framework/index.ts';
import { RefCount, type Task } from '../../machine/index.ts';
import { type DrmIoctl, drmIoctl } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { SpinLocked } from './spin-locked.ts';

/** `DRM_SYNCOBJ_CREATE_SIGNALED`. */
const CREATE_SIGNALED = 1;
/** `DRM_SYNCOBJ_…_SYNC_FILE`: the descriptor is a sync file's, not the object's. */
const FLAG_SYNC_FILE = 1;
/** `DRM_SYNCOBJ_…_TIMELINE`: `point` counts. */
const FLAG_TIMELINE = 2;

/** `struct drm_syncobj`. */
export class Syncobj {
  readonly kernel: Kernel;
  readonly refs: RefCount;
  /** Holds a reference; null: empty. */
  private readonly fence: SpinLocked<DmaFence | null>;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.refs = new RefCount(kernel.scheduler, 'syncobj refs');
    this.fence = new SpinLocked<DmaFence | null>(kernel.scheduler, 'syncobj fence', null);
  }

  /**
   * What is in it, with a reference for the caller.
   *
   * @context Any.
   * @source `drm_syncobj_fence_get()`
   */
  *fenceGet(): Task<DmaFence | null> {
    for (;;) {
      const fence = yield* this.fence.read();
      // What was just replaced may be gone already; then there is another.
      if (fence === null || (yield* fence.getRcu())) return fence;
    }
  }

  /**
   * Puts a fence in. The caller's reference is taken over.
   *
   * @context Any.
   * @source `drm_syncobj_replace_fence()`
   */
  *replaceFence(fence: DmaFence | null): Task {
    const old = yield* this.fence.change('replace fence', (before) => [fence, before]);
    if (old !== null) yield* old.put();
  }

  /**
   * Drops a reference; the last empties the object.
   *
   * @context Any.
   * @source `drm_syncobj_put()`
   */
  *put(): Task {
    if (yield* this.refs.put()) yield* this.replaceFence(null);
  }
}

/** A descriptor of a sync object. */
class SyncobjFile extends KernelFile {
  /** The file owns a reference. */
  readonly syncobj: Syncobj;

  constructor(kernel: Kernel, syncobj: Syncobj) {
    super(kernel, 'anon_inode:syncobj_file', SYNCOBJ_FILE_OPERATIONS);
    this.syncobj = syncobj;
  }
}

const SYNCOBJ_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    if (file instanceof SyncobjFile) yield* file.syncobj.put();
  },
};

/**
 * Drops all sync objects of a file at its end.
 *
 * @context May sleep; nobody else uses the file.
 * @source `drm_syncobj_release()`
 */
export function* syncobjRelease(file: DrmFile): Task {
  for (const handle of file.syncobjs.value.keys()) {
    const syncobj = yield* file.syncobjs.withdraw(handle);
    if (syncobj !== null) yield* syncobj.put();
  }
}

/** Those of the core that are about sync objects. */
export const SYNCOBJ_IOCTLS: readonly DrmIoctl[] = [
  drmIoctl(DRM_IOCTL.SYNCOBJ_CREATE, drmSyncobjCreate, true, create),
  drmIoctl(DRM_IOCTL.SYNCOBJ_DESTROY, drmSyncobjDestroy, true, destroy),
  drmIoctl(DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD, drmSyncobjHandle, true, handleToFd),
  drmIoctl(DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE, drmSyncobjHandle, true, fdToHandle),
];

/** `drm_syncobj_create_ioctl()`. */
function* create(file: DrmFile, { flags }: DrmSyncobjCreate): Task<Partial<DrmSyncobjCreate>> {
  checkFeature(file, 'SYNCOBJ_CREATE');
  if ((flags & ~CREATE_SIGNALED) !== 0) throw badArguments('SYNCOBJ_CREATE');
  const { kernel } = file;
  if (!(yield* kernel.slab.alloc())) {
    throw new DmaBufError('ENOMEM', 'SYNCOBJ_CREATE', 'no-memory-for-syncobj');
  }
  const syncobj = new Syncobj(kernel);
  if (flags === CREATE_SIGNALED) yield* syncobj.replaceFence(stubFence(kernel));
  return { handle: yield* publish(file, syncobj) };
}

/** `drm_syncobj_destroy_ioctl()`. */
function* destroy(file: DrmFile, args: DrmSyncobjDestroy): Task<Partial<DrmSyncobjDestroy>> {
  checkFeature(file, 'SYNCOBJ_DESTROY');
  if (args.pad !== 0) throw badArguments('SYNCOBJ_DESTROY');
  const syncobj = yield* file.syncobjs.withdraw(args.handle);
  if (syncobj === null) {
    throw new DmaBufError('EINVAL', 'SYNCOBJ_DESTROY', 'no-syncobj-to-destroy');
  }
  yield* file.syncobjs.free(args.handle);
  yield* syncobj.put();
  return {};
}

/** `drm_syncobj_handle_to_fd_ioctl()`. */
function* handleToFd(
  file: DrmFile,
  args: DrmSyncobjHandle,
  process: Process,
): Task<Partial<DrmSyncobjHandle>> {
  const call = 'SYNCOBJ_HANDLE_TO_FD';
  checkHandleArguments(file, args, call);
  const isSyncFile = (args.flags & FLAG_SYNC_FILE) !== 0;
  if (!isSyncFile && args.point !== 0n) throw badArguments(call);
  // The object itself is looked up before a descriptor is, its fence after.
  const known = isSyncFile ? null : yield* file.syncobjs.lookup(args.handle);
  if (!isSyncFile && known === null) {
    throw new DmaBufError('EINVAL', call, 'no-syncobj-to-export');
  }
  const fd = yield* process.fds.reserve({ closeOnExec: true });
  if (fd === null) {
    if (known !== null) yield* known.put();
    throw new DmaBufError('EMFILE', call, 'no-descriptor-for-syncobj');
  }
  try {
    const made =
      known === null
        ? yield* exportSyncFile(file, args.handle, pointOf(args))
        : new SyncobjFile(file.kernel, known);
    yield* process.fds.fill(fd, made);
    return { fd };
  } catch (error) {
    yield* process.fds.unreserve(fd);
    throw error;
  }
}

/** `drm_syncobj_export_sync_file()`. */
function* exportSyncFile(file: DrmFile, handle: number, point: number): Task<KernelFile> {
  const { kernel } = file;
  const fence = yield* findFence(file, handle, point);
  try {
    if (yield* kernel.slab.alloc()) return syncFileCreate(kernel, fence);
    throw new DmaBufError('ENOMEM', 'SYNCOBJ_HANDLE_TO_FD', 'no-memory-for-syncobj-sync-file');
  } finally {
    yield* fence.put();
  }
}

/** `drm_syncobj_find_fence()`, without waiting for one to come. */
function* findFence(file: DrmFile, handle: number, point: number): Task<DmaFence> {
  const call = 'SYNCOBJ_HANDLE_TO_FD';
  const syncobj = yield* file.syncobjs.lookup(handle);
  if (syncobj === null) throw new DmaBufError('ENOENT', call, 'no-syncobj-to-take-a-fence-from');
  const fence = yield* syncobj.fenceGet();
  yield* syncobj.put();
  if (fence === null) throw new DmaBufError('EINVAL', call, 'syncobj-is-empty');
  try {
    return (yield* chainFindSeqno(fence, point)) ?? stubFence(file.kernel);
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    yield* fence.put();
    throw new DmaBufError('EINVAL', call, 'point-not-on-timeline-yet', { cause: error });
  }
}

/** `drm_syncobj_fd_to_handle_ioctl()`. */
function* fdToHandle(
  file: DrmFile,
  args: DrmSyncobjHandle,
  process: Process,
): Task<Partial<DrmSyncobjHandle>> {
  const call = 'SYNCOBJ_FD_TO_HANDLE';
  checkHandleArguments(file, args, call);
  if ((args.flags & FLAG_SYNC_FILE) !== 0) {
    yield* importSyncFile(file, args, pointOf(args), process);
    return {};
  }
  if (args.point !== 0n) throw badArguments(call);
  const from = yield* process.fds.fget(args.fd);
  if (from === null) throw new DmaBufError('EINVAL', call, 'syncobj-descriptor-not-open');
  try {
    if (!(from instanceof SyncobjFile)) {
      throw new DmaBufError('EINVAL', call, 'descriptor-is-no-syncobj');
    }
    yield* from.syncobj.refs.get();
    return { handle: yield* publish(file, from.syncobj) };
  } finally {
    yield* from.put();
  }
}

/** `drm_syncobj_import_sync_file_fence()`. */
function* importSyncFile(
  file: DrmFile,
  args: DrmSyncobjHandle,
  point: number,
  process: Process,
): Task {
  const call = 'SYNCOBJ_FD_TO_HANDLE';
  const from = yield* process.fds.fget(args.fd);
  const fence = from === null ? null : syncFileFence(from);
  if (fence !== null) yield* fence.get();
  if (from !== null) yield* from.put();
  if (fence === null) throw new DmaBufError('EINVAL', call, 'syncobj-from-no-sync-file');
  const syncobj = yield* file.syncobjs.lookup(args.handle);
  if (syncobj === null) {
    yield* fence.put();
    throw new DmaBufError('ENOENT', call, 'no-syncobj-to-put-a-fence-into');
  }
  yield* syncobj.replaceFence(point === 0 ? fence : yield* chained(syncobj, fence, point));
  yield* syncobj.put();
}

/** `drm_syncobj_add_point()`: behind what is there. */
function* chained(syncobj: Syncobj, fence: DmaFence, point: number): Task<DmaFence> {
  return yield* DmaFenceChain.create(syncobj.kernel, yield* syncobj.fenceGet(), fence, point);
}

/** Gives an object a handle, with the caller's reference. */
function* publish(file: DrmFile, syncobj: Syncobj): Task<number> {
  const handle = yield* file.syncobjs.reserve();
  if (handle === null) {
    yield* syncobj.put();
    throw new DmaBufError('ENOMEM', 'syncobj', 'no-memory-for-syncobj-handle');
  }
  yield* file.syncobjs.publish(handle, syncobj);
  return handle;
}

function checkHandleArguments(file: DrmFile, { flags, pad }: DrmSyncobjHandle, call: string): void {
  checkFeature(file, call);
  if (pad !== 0 || (flags & ~(FLAG_SYNC_FILE | FLAG_TIMELINE)) !== 0) throw badArguments(call);
}

function checkFeature(file: DrmFile, call: string): void {
  if (file.dev.has('syncobj')) return;
  throw new DmaBufError('EOPNOTSUPP', call, 'driver-has-no-syncobjs');
}

function badArguments(call: string): DmaBufError {
  return new DmaBufError('EINVAL', call, 'syncobj-flags-pad-or-point-set');
}

/**
 * The point that is meant; without the flag every call is about the object as it is.
 *
 * DIFFERS: points are exact up to 2^53 only; what is beyond is refused with `EINVAL`.
 */
function pointOf({ flags, point }: DrmSyncobjHandle): number {
  if ((flags & FLAG_TIMELINE) === 0) return 0;
  if (point <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(point);
  throw new DmaBufError('EINVAL', 'syncobj', 'syncobj-point-too-large');
}
