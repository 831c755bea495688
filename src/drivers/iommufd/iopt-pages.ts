/**
 * A dma-buf as the source of pages for I/O page tables. It is attached for a device that does no
 * DMA, and never mapped: the exporter opens a window onto its memory, and whoever fills tables puts
 * that into them. When the exporter takes the memory back, every table loses it at once, for good.
 *
 * LOCKING: {@link IoptPages.mutex} guards what is tracked; the reservation comes before it.
 *
 * @source drivers/iommu/iommufd/pages.c (`iopt_map_dmabuf()`, `iopt_revoke_notify()`), v7.2;
 *   reference/linux-dma-buf.md F.2
 */

import type { DmaAddr } from '../../base/index.ts';
import {
  type Attachment,
  type AttachOps,
  type DmaBuf,
  mapAs,
  PHYSICAL_WINDOW,
  type PhysicalWindow,
  unmapAs,
} from '../../framework/index.ts';
import {
  type Device,
  type IommuDomain,
  type IovaRights,
  Mutex,
  Shared,
  type Task,
} from '../../machine/index.ts';

/** A place in a table where the window was put. */
interface TrackedDomain {
  readonly domain: IommuDomain;
  readonly iova: DmaAddr;
  readonly size: number;
}

/** Told that the memory is taken back, with the reservation held. */
const ATTACH_OPS: AttachOps = {
  allowPeer2Peer: true,
  *invalidateMappings({ importerPriv }: Attachment): Task {
    if (importerPriv instanceof IoptPages) yield* importerPriv.revoke();
  },
};

/** `struct iopt_pages` of a dma-buf. */
export class IoptPages {
  readonly buf: DmaBuf;
  /** Guards all that follows. */
  readonly mutex: Mutex;
  /** Null: before the first query; and after it was taken back, when its length is 0 in Linux. */
  private readonly window: Shared<PhysicalWindow | null>;
  private readonly tracked: Shared<readonly TrackedDomain[]>;
  private attachment: Attachment | null = null;

  private constructor(buf: DmaBuf) {
    const { scheduler } = buf.kernel;
    this.buf = buf;
    this.mutex = new Mutex(scheduler, 'iopt_pages.mutex');
    this.window = new Shared<PhysicalWindow | null>(scheduler, 'iopt_pages window', null);
    this.tracked = new Shared<readonly TrackedDomain[]>(scheduler, 'iopt_pages tracked', []);
  }

  /**
   * Attaches, pins and asks for the window.
   *
   * @param device - iommufd's own, which does no DMA.
   * @param buf - The caller's reference on it becomes the pages' if this succeeds.
   * @throws {@link DmaBufError} what attach and pin say; `EOPNOTSUPP` the exporter has no window to
   *   offer, or its memory is in several ranges; `ENODEV` it is taken back.
   * @context May sleep. The reservation is not locked.
   * @source `iopt_map_dmabuf()`
   */
  static *create(device: Device, buf: DmaBuf): Task<IoptPages> {
    const pages = new IoptPages(buf);
    const attachment = yield* buf.dynamicAttach(device, ATTACH_OPS, pages);
    pages.attachment = attachment;
    yield* buf.resv.lock();
    try {
      yield* attachment.pin();
      try {
        yield* pages.openWindow(attachment);
      } catch (error) {
        yield* attachment.unpin();
        throw error;
      }
    } catch (error) {
      yield* buf.resv.unlock();
      yield* buf.detach(attachment);
      throw error;
    }
    yield* buf.resv.unlock();
    return pages;
  }

  /**
   * Puts a part of the memory into a table. Memory that was taken back is skipped: the address
   * leads nowhere then.
   *
   * @param offset - Bytes into the buffer.
   * @context May sleep; no lock held.
   * @source `iopt_dmabuf_track_domain()`, `iopt_area_fill_domain()`
   */
  *mapInto(
    domain: IommuDomain,
    iova: DmaAddr,
    offset: number,
    size: number,
    rights: IovaRights,
  ): Task {
    yield* this.mutex.lock();
    const window = yield* this.window.read();
    if (window !== null) {
      yield* window.mapInto(domain, iova, offset, size, rights);
      const others = yield* this.tracked.read();
      yield* this.tracked.write([...others, { domain, iova, size }]);
    }
    yield* this.mutex.unlock();
  }

  /**
   * Takes it out of a table.
   *
   * @context May sleep; no lock held.
   * @source `iopt_dmabuf_untrack_domain()`
   */
  *unmapFrom(domain: IommuDomain, iova: DmaAddr): Task {
    yield* this.mutex.lock();
    const all = yield* this.tracked.read();
    const isMeant = (one: TrackedDomain): boolean => one.domain === domain && one.iova === iova;
    yield* this.tracked.write(all.filter((one) => !isMeant(one)));
    for (const { size } of all.filter(isMeant)) yield* domain.unmap(iova, size);
    yield* this.mutex.unlock();
  }

  /**
   * The exporter takes the memory back: no table holds any of it when this returns, and none will.
   *
   * @context May sleep. The reservation is locked.
   * @source `iopt_revoke_notify()`
   */
  *revoke(): Task {
    yield* this.mutex.lock();
    for (const { domain, iova, size } of yield* this.tracked.read()) {
      yield* domain.unmap(iova, size);
    }
    yield* this.tracked.write([]);
    yield* this.window.write(null);
    yield* this.mutex.unlock();
  }

  /**
   * The last user is gone: unpins, detaches, drops the buffer. Nothing is in a table any more.
   *
   * @context May sleep. The reservation is not locked.
   * @source `iopt_release_pages()`
   */
  *release(): Task {
    const { attachment, buf } = this;
    if (attachment === null) return;
    this.attachment = null;
    yield* buf.resv.lock();
    const window = yield* this.window.read();
    if (window !== null) yield* unmapAs(attachment, PHYSICAL_WINDOW, window, null);
    yield* attachment.unpin();
    yield* buf.resv.unlock();
    yield* buf.detach(attachment);
    yield* buf.put();
  }

  private *openWindow(attachment: Attachment): Task {
    const window = yield* mapAs(attachment, PHYSICAL_WINDOW, null);
    yield* this.mutex.lock();
    yield* this.window.write(window);
    yield* this.mutex.unlock();
  }
}
