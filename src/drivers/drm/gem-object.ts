/**
 * A piece of memory that a DRM driver manages. Programs know it by handles, one number per open
 * file; other devices by a dma-buf. What it is made of, a driver's own kind says.
 *
 * References: the last handle gone takes one away, a dma-buf holds one, a map in a process holds
 * one. While there are handles the object keeps its dma-buf alive too; that circle is cut with the
 * last handle.
 *
 * @source drivers/gpu/drm/drm_gem.c, v7.2; reference/linux-dma-buf.md E.5
 */

import { assert, DmaBufError, isPageAligned, PAGE_SIZE } from '../../base/index.ts';
import {
  type Attachment,
  type DmaBuf,
  DmaResv,
  type IosysMap,
  type PageList,
  type Vma,
} from '../../framework/index.ts';
import {
  Allocation,
  type Atomic,
  type PreemptStep,
  RefCount,
  Shared,
  type Task,
} from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import type { DrmFile } from './drm-file.ts';
import { SpinLocked } from './spin-locked.ts';

/** `struct drm_gem_object`, with `struct drm_gem_object_funcs` as its methods. */
export abstract class GemObject {
  readonly dev: DrmDevice;
  /** Bytes; whole pages. */
  readonly size: number;
  readonly refs: RefCount;
  /** Handles in all files. Guarded by the device's `objectNameLock`. */
  readonly handleCount: Shared<number>;
  /** Its dma-buf, exported or imported; holds a reference. Guarded as {@link handleCount}. */
  readonly dmaBuf: Shared<DmaBuf | null>;
  /** Its own, or that of the buffer it was imported from. */
  resv: DmaResv;
  /** Null: it was not imported. Set before the object is published. */
  importAttach: Attachment | null = null;
  /** Files that may map it, by how many handles. */
  private readonly mappers: SpinLocked<ReadonlyMap<DrmFile, number>>;
  private readonly ownResv: DmaResv;
  private readonly memory: Allocation;

  /** @context Whoever makes one asked for its memory before. */
  constructor(dev: DrmDevice, name: string, size: number) {
    const { scheduler } = dev.kernel;
    assert(size > 0 && isPageAligned(size), 'a GEM object is whole pages');
    this.dev = dev;
    this.size = size;
    this.memory = new Allocation(scheduler, name);
    this.refs = new RefCount(scheduler, `${name} refs`);
    this.handleCount = new Shared<number>(scheduler, `${name} handles`, 0, this.memory);
    this.dmaBuf = new Shared<DmaBuf | null>(scheduler, `${name} dma_buf`, null, this.memory);
    this.mappers = new SpinLocked<ReadonlyMap<DrmFile, number>>(
      scheduler,
      `${name} vma node`,
      new Map(),
      this.memory,
    );
    this.ownResv = new DmaResv(dev.kernel, name);
    this.resv = this.ownResv;
  }

  /**
   * Frees what the object is made of.
   *
   * @context May sleep; the last reference is gone.
   */
  protected abstract free(): Task;

  /**
   * Maps it into a process. The map holds a reference already.
   *
   * @context May sleep. The mmap lock is held for writing.
   */
  abstract mmap(vma: Vma): Task;

  /**
   * Optional; absent: it cannot be exported to devices. The pages it is made of.
   *
   * @context May sleep. The reservation is locked.
   */
  getSgTable?(): Task<PageList>;

  /**
   * Optional, with {@link unpin}: its memory stays where it is.
   *
   * @context May sleep. The reservation is locked.
   */
  pin?(): Task;

  /**
   * Optional, with {@link pin}.
   *
   * @context May sleep. The reservation is locked.
   */
  unpin?(): Task;

  /**
   * Optional. A map in the kernel.
   *
   * @context May sleep. The reservation is locked.
   */
  vmap?(): Task<IosysMap>;

  /**
   * Optional, with {@link vmap}.
   *
   * @context May sleep. The reservation is locked.
   */
  vunmap?(map: IosysMap): Task;

  /** True if its memory is another buffer's. */
  get isImported(): boolean {
    return this.importAttach !== null;
  }

  /**
   * Takes a reference; the caller has one already.
   *
   * @source `drm_gem_object_get()`
   */
  get(): PreemptStep<void> {
    return this.refs.get();
  }

  /**
   * Drops a reference; the last frees the object.
   *
   * @context May sleep; the caller holds no reservation.
   * @source `drm_gem_object_put()`
   */
  *put(): Task {
    if (!(yield* this.refs.put())) return;
    yield* this.free();
    yield* this.dev.offsets.remove(this);
    if ((yield* this.dmaBuf.read()) !== null) {
      this.dev.kernel.scheduler.warn('drm_gem_private_object_fini', 'the object has a dma-buf');
    }
    yield* this.ownResv.fini();
    yield* this.memory.free();
  }

  /**
   * Drops the claim of one handle. With the last the object's hold on its dma-buf goes.
   *
   * @context May sleep; takes the device's `objectNameLock`.
   * @source `drm_gem_object_handle_put_unlocked()`
   */
  *putHandle(): Task {
    const { objectNameLock } = this.dev;
    yield* objectNameLock.lock();
    const left = (yield* this.handleCount.read()) - 1;
    yield* this.handleCount.write(left);
    if (left === 0) {
      const buf = yield* this.dmaBuf.read();
      yield* this.dmaBuf.write(null);
      if (buf !== null) yield* buf.put();
    }
    yield* objectNameLock.unlock();
    if (left === 0) yield* this.put();
  }

  /**
   * Lets a file map the object, once for each of its handles.
   *
   * @context Any.
   * @source `drm_vma_node_allow()`
   */
  *allow(file: DrmFile): Atomic {
    yield* this.mappers.change('allow file', (files) => {
      return [new Map([...files, [file, (files.get(file) ?? 0) + 1]]), undefined];
    });
  }

  /**
   * Takes one {@link allow} back.
   *
   * @context Any.
   * @source `drm_vma_node_revoke()`
   */
  *revoke(file: DrmFile): Atomic {
    yield* this.mappers.change('revoke file', (files) => {
      const left = new Map(files);
      const count = (files.get(file) ?? 0) - 1;
      if (count > 0) left.set(file, count);
      else left.delete(file);
      return [left, undefined];
    });
  }

  /**
   * True while the file has a handle of the object.
   *
   * @context Any.
   * @source `drm_vma_node_is_allowed()`
   */
  *isAllowed(file: DrmFile): Atomic<boolean> {
    return (yield* this.mappers.read()).has(file);
  }
}

/** First page of a device's fake offsets: those below 4 GiB are left to old interfaces. */
const OFFSET_FIRST = 0x10_0000;

/** LIMIT: pages of fake offsets that a device has. */
const OFFSET_PAGES: number = 0xf_ffff * 256;

interface OffsetNode {
  readonly object: GemObject;
  /** In pages. */
  readonly start: number;
}

/** Where in a device's file each object is mapped: offsets that stand for objects. */
export class MmapOffsets {
  private readonly nodes: SpinLocked<readonly OffsetNode[]>;

  /** @param nodes - Empty at first. */
  constructor(nodes: SpinLocked<readonly OffsetNode[]>) {
    this.nodes = nodes;
  }

  /**
   * The offset of an object, made if it has none.
   *
   * @returns Bytes.
   * @throws {@link DmaBufError} `ENOSPC`.
   * @context Any.
   * @source `drm_gem_create_mmap_offset()`
   */
  *create(object: GemObject): Atomic<number> {
    const start = yield* this.nodes.change('add offset', (nodes) => {
      const known = nodes.find((node) => node.object === object);
      if (known !== undefined) return [nodes, known.start];
      const found = findHole(nodes, object.size / PAGE_SIZE);
      if (found === null) return [nodes, null];
      const made = [...nodes, { object, start: found }].sort((a, b) => a.start - b.start);
      return [made, found];
    });
    if (start === null) throw new DmaBufError('ENOSPC', 'MAP_DUMB', 'no-fake-offset-left');
    return start * PAGE_SIZE;
  }

  /**
   * The object whose range begins at page `start` and has at least `pages`; with a reference for
   * the caller. Null: there is none.
   *
   * @context Any.
   * @source `drm_vma_offset_exact_lookup_locked()`
   */
  *lookup(start: number, pages: number): Atomic<GemObject | null> {
    const found = (yield* this.nodes.read()).find((node) => node.start === start);
    if (found === undefined || pages * PAGE_SIZE > found.object.size) return null;
    return (yield* found.object.refs.getUnlessZero()) ? found.object : null;
  }

  /**
   * Forgets an object.
   *
   * @context Any.
   * @source `drm_gem_free_mmap_offset()`
   */
  *remove(object: GemObject): Atomic {
    yield* this.nodes.change('remove offset', (nodes) => {
      return [nodes.filter((node) => node.object !== object), undefined];
    });
  }
}

/** The lowest page from which `pages` are free; null: none. */
function findHole(nodes: readonly OffsetNode[], pages: number): number | null {
  let at = OFFSET_FIRST;
  for (const { object, start } of nodes) {
    if (start - at >= pages) return at;
    at = start + object.size / PAGE_SIZE;
  }
  return at + pages <= OFFSET_FIRST + OFFSET_PAGES ? at : null;
}
