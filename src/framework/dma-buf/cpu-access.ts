/**
 * The CPU's ways to a buffer: the bracket around an access, maps in processes, maps in the kernel.
 * The verbs themselves are methods of `DmaBuf`; here is what they do.
 *
 * @source drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.15
 */

import { DmaBufError, type DmaDirection, PAGE_SIZE } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { IosysMap } from './iosys-map.ts';
import { assertNotHeld, callback } from './lock-context.ts';
import { dmaResvUsageRw } from '../fence/dma-resv.ts';
import type { Vma } from '../user/vma.ts';

/** How often the kernel has mapped a buffer, at least once, and where it is. */
export interface Vmapping {
  readonly count: number;
  readonly map: IosysMap;
}

/** LIMIT: page numbers have 52 bits, as `unsigned long` has 64. */
const PGOFF_MAX = 2 ** 52 - 1;

/**
 * The exporter's cache maintenance, then a wait for devices: a CPU that reads waits for who writes,
 * one that writes for everybody.
 *
 * @context May sleep, interruptibly; the reservation is not locked.
 * @source `dma_buf_begin_cpu_access()`
 */
export function* beginCpuAccess(buf: DmaBuf, direction: DmaDirection): Task {
  assertNotHeld(buf.resv, 'dma_buf_begin_cpu_access');
  if (buf.ops.beginCpuAccess !== undefined) {
    const begin = buf.ops.beginCpuAccess(buf, direction);
    yield* callback(buf.resv, 'begin_cpu_access', begin);
  }
  const usage = dmaResvUsageRw(direction !== 'from-device');
  yield* buf.resv.waitTimeout(usage, true, Number.POSITIVE_INFINITY);
  const kind = 'buffer.begin-cpu-access';
  buf.kernel.scheduler.record?.({ kind, buffer: buf.number, direction });
}

/**
 * The exporter's cache maintenance; no wait.
 *
 * @context May sleep; the reservation is not locked.
 * @source `dma_buf_end_cpu_access()`
 */
export function* endCpuAccess(buf: DmaBuf, direction: DmaDirection): Task {
  assertNotHeld(buf.resv, 'dma_buf_end_cpu_access');
  if (buf.ops.endCpuAccess !== undefined) {
    yield* callback(buf.resv, 'end_cpu_access', buf.ops.endCpuAccess(buf, direction));
  }
  const kind = 'buffer.end-cpu-access';
  buf.kernel.scheduler.record?.({ kind, buffer: buf.number, direction });
}

/**
 * `mmap(2)` of the buffer's own descriptor.
 *
 * @throws {@link DmaBufError} `EINVAL` the exporter has no mmap, or the range goes beyond the
 *   buffer; what the exporter says.
 * @context May sleep. The process's mmap lock is held for writing; the reservation is not locked.
 * @source `dma_buf_mmap_internal()`
 */
export function* mmapInternal(buf: DmaBuf, vma: Vma): Task {
  if (buf.ops.mmap === undefined) {
    throw new DmaBufError('EINVAL', 'mmap', 'exporter-has-no-mmap');
  }
  if (isBeyond(buf, vma, vma.pgoff)) {
    throw new DmaBufError('EINVAL', 'mmap', 'map-beyond-the-buffer');
  }
  yield* callMmap(buf, buf.ops.mmap(buf, vma), vma, false);
}

/**
 * A driver's own mmap, forwarded to the buffer: the map is the buffer's afterwards, also if the
 * exporter then refuses.
 *
 * @param pgoff - Pages into the buffer.
 * @throws {@link DmaBufError} `EINVAL` as above; `EOVERFLOW` the range wraps.
 * @context May sleep. The process's mmap lock is held for writing; the reservation is not locked.
 * @source `dma_buf_mmap()`
 */
export function* mmapForwarded(buf: DmaBuf, vma: Vma, pgoff: number): Task {
  if (buf.ops.mmap === undefined) {
    throw new DmaBufError('EINVAL', 'mmapBuffer', 'no-mmap-to-forward-to');
  }
  if (pgoff + vma.pages > PGOFF_MAX) {
    throw new DmaBufError('EOVERFLOW', 'mmapBuffer', 'page-offset-wraps');
  }
  if (isBeyond(buf, vma, pgoff)) {
    throw new DmaBufError('EINVAL', 'mmapBuffer', 'forwarded-map-beyond-the-buffer');
  }
  yield* buf.file.get();
  const before = vma.file;
  vma.file = buf.file;
  if (before !== null) yield* before.put();
  vma.pgoff = pgoff;
  yield* callMmap(buf, buf.ops.mmap(buf, vma), vma, true);
}

/**
 * The kernel's own map of the whole buffer. Everybody gets the same one.
 *
 * @throws {@link DmaBufError} `EINVAL` the exporter has no vmap; what the exporter says, with a
 *   kernel warning.
 * @context May sleep. The caller holds the reservation.
 * @source `dma_buf_vmap()`
 */
export function* vmap(buf: DmaBuf): Task<IosysMap> {
  const { scheduler } = buf.kernel;
  buf.resv.assertHeld('dma_buf_vmap');
  if (buf.ops.vmap === undefined) {
    throw new DmaBufError('EINVAL', 'vmap', 'exporter-has-no-vmap');
  }
  const mapped = yield* buf.vmapping.read();
  const map = mapped === null ? yield* vmapAnew(buf, buf.ops.vmap(buf)) : mapped.map;
  const count = (mapped?.count ?? 0) + 1;
  yield* buf.vmapping.write({ count, map });
  scheduler.record?.({ kind: 'buffer.vmap', buffer: buf.number, mappings: count });
  return map;
}

/**
 * Takes the kernel's map back; the last one to do so unmaps.
 *
 * @param map - As {@link vmap} gave it; another stops the kernel (BUG).
 * @context May sleep. The caller holds the reservation.
 * @source `dma_buf_vunmap()`
 */
export function* vunmap(buf: DmaBuf, map: IosysMap): Task {
  const { scheduler } = buf.kernel;
  buf.resv.assertHeld('dma_buf_vunmap');
  const mapped = yield* buf.vmapping.read();
  if (mapped === null) {
    scheduler.oops(`dma_buf_vunmap: dma-buf ${buf.number} is not mapped`);
    return;
  }
  if (mapped.map !== map) {
    scheduler.oops(`dma_buf_vunmap: this is not the map of dma-buf ${buf.number}`);
    return;
  }
  const left = mapped.count - 1;
  if (left === 0 && buf.ops.vunmap !== undefined) {
    yield* callback(buf.resv, 'vunmap', buf.ops.vunmap(buf, map));
  }
  yield* buf.vmapping.write(left === 0 ? null : { count: left, map });
  scheduler.record?.({ kind: 'buffer.vunmap', buffer: buf.number, mappings: left });
}

function* vmapAnew(buf: DmaBuf, task: Task<IosysMap>): Task<IosysMap> {
  try {
    return yield* callback(buf.resv, 'vmap', task);
  } catch (error) {
    buf.kernel.scheduler.warn('dma_buf_vmap', 'the exporter cannot map');
    throw error;
  }
}

function* callMmap(buf: DmaBuf, task: Task, vma: Vma, forwarded: boolean): Task {
  assertNotHeld(buf.resv, 'dma_buf_mmap');
  const { number: buffer, kernel } = buf;
  kernel.scheduler.record?.({ kind: 'buffer.mmap', buffer, pages: vma.pages, forwarded });
  yield* callback(buf.resv, 'mmap', task);
}

/** True if a map goes beyond the buffer's last whole page. */
function isBeyond({ size }: DmaBuf, { pages }: Vma, pgoff: number): boolean {
  return pgoff + pages > Math.floor(size / PAGE_SIZE);
}
