/**
 * Which handle of a file belongs to which dma-buf, for buffers that went in or out through it: so
 * that the same buffer gets the same handle again. Each entry holds a reference on its buffer.
 *
 * @source `struct drm_prime_file_private`, drivers/gpu/drm/drm_prime.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import type { DmaBuf, Kernel } from '../../framework/index.ts';
import { Mutex, Shared, type Task } from '../../machine/index.ts';

interface Member {
  readonly buf: DmaBuf;
  readonly handle: number;
}

/** The lookup of one file. */
export class PrimeCache {
  /** Guards the entries; held over a whole export or import, so that two do not cross. */
  readonly lock: Mutex;
  private readonly kernel: Kernel;
  private readonly members: Shared<readonly Member[]>;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.lock = new Mutex(kernel.scheduler, `${name} prime.lock`);
    this.members = new Shared<readonly Member[]>(kernel.scheduler, `${name} prime`, []);
  }

  /**
   * The handle of a buffer; null: the file does not know it.
   *
   * @context The caller holds {@link lock}.
   * @source `drm_prime_lookup_buf_handle()`
   */
  *handleOf(buf: DmaBuf): Task<number | null> {
    return (yield* this.members.read()).find((one) => one.buf === buf)?.handle ?? null;
  }

  /**
   * The buffer of a handle; null: it never went out or in here.
   *
   * @context The caller holds {@link lock}.
   * @source `drm_prime_lookup_buf_by_handle()`
   */
  *bufOf(handle: number): Task<DmaBuf | null> {
    return (yield* this.members.read()).find((one) => one.handle === handle)?.buf ?? null;
  }

  /**
   * Remembers a pair.
   *
   * @throws {@link DmaBufError} `ENOMEM`.
   * @context May sleep; the caller holds {@link lock} and a reference on the buffer.
   * @source `drm_prime_add_buf_handle()`
   */
  *add(buf: DmaBuf, handle: number): Task {
    if (!(yield* this.kernel.slab.alloc())) {
      throw new DmaBufError('ENOMEM', 'prime', 'no-memory-for-prime-member');
    }
    yield* buf.getDmaBuf();
    yield* this.members.write([...(yield* this.members.read()), { buf, handle }]);
  }

  /**
   * Forgets a handle, if it is there.
   *
   * @context May sleep; takes {@link lock}.
   * @source `drm_prime_remove_buf_handle()`
   */
  *remove(handle: number): Task {
    yield* this.lock.lock();
    const all = yield* this.members.read();
    const found = all.find((one) => one.handle === handle);
    if (found !== undefined) {
      yield* this.members.write(all.filter((one) => one !== found));
      yield* found.buf.put();
    }
    yield* this.lock.unlock();
  }

  /**
   * Warns if anything is left: at the end of the file.
   *
   * @context Any.
   * @source `drm_prime_destroy_file_private()`
   */
  *destroy(): Task {
    const left = yield* this.members.read();
    if (left.length === 0) return;
    this.kernel.scheduler.warn('drm_prime_destroy_file_private', `${left.length} buffers are left`);
  }
}
