/**
 * What a program asks to be exported, and the checks of it in the kernel's order.
 *
 * @source `vfio_pci_core_feature_dma_buf()`, drivers/vfio/pci/vfio_pci_dmabuf.c, v7.2;
 *   reference/linux-dma-buf.md E.1
 */

import { addressPlus, DmaBufError, isPageAligned } from '../../base/index.ts';
import type { P2pdma } from '../../framework/index.ts';
import type { PciFunction } from '../../machine/index.ts';
import type { VfioExport } from './vfio-dma-buf.ts';

/** A range of a BAR. */
export interface VfioRegionDmaRange {
  /** From the start of the BAR; page aligned. */
  readonly offset: number;
  /** Bytes; whole pages. */
  readonly length: number;
}

/** `struct vfio_device_feature_dma_buf`. */
export interface VfioDmaBufRequest {
  /** The BAR, 0 to 5. */
  readonly regionIndex: number;
  readonly ranges: readonly VfioRegionDmaRange[];
  /** Must be 0. */
  readonly flags?: number;
  /** As open(2) has them: an access mode and `O_CLOEXEC`. Default: read and write. */
  readonly openFlags?: number;
}

/** A sum of lengths has no sign. */
const SIZES_END = 2 ** 63;

/** Sums of addresses and lengths are 64 bits wide; whole pages are exact as numbers up to here. */
const ADDRESSES_END = 2 ** 64;

/** First region that is not a BAR: the expansion ROM. */
const ROM_REGION_INDEX = 6;

/** The fields that name a region and say how many ranges follow. */
export interface VfioDmaBufHeader {
  readonly regionIndex: number;
  readonly nrRanges: number;
  readonly flags: number;
}

/**
 * The first checks, before any range is read.
 *
 * @throws {@link DmaBufError} in this order: `EINVAL` no ranges, or flags; `ENODEV` no such BAR.
 * @context Any.
 */
export function checkExportHeader(
  fn: PciFunction,
  header: VfioDmaBufHeader,
  asked: object = header,
): void {
  const { regionIndex, nrRanges, flags } = header;
  if (nrRanges === 0 || flags !== 0) throw refusal('EINVAL', 'no-ranges-or-flags-set', fn, asked);
  const bar = fn.node.spec.bars.find(({ index }) => index === regionIndex);
  if (regionIndex >= ROM_REGION_INDEX || bar === undefined || bar.address === 0) {
    throw refusal('ENODEV', 'region-is-not-an-assigned-bar', fn, asked);
  }
}

/**
 * All checks.
 *
 * @returns What is to be exported.
 * @throws {@link DmaBufError} as {@link checkExportHeader}; then in this order: `EINVAL` a range
 *   that is empty or not whole pages; `EINVAL` a sum of 2^63 or more; `EINVAL` not a memory BAR;
 *   `EOVERFLOW`; `EINVAL` beyond the BAR.
 * @context Any.
 */
export function checkExport(
  fn: PciFunction,
  p2pdma: P2pdma,
  { regionIndex, ranges, flags = 0 }: VfioDmaBufRequest,
): VfioExport {
  const asked = { regionIndex, ranges };
  checkExportHeader(fn, { regionIndex, nrRanges: ranges.length, flags }, asked);
  let size = 0;
  for (const { offset, length } of ranges) {
    if (length === 0 || !isPageAligned(offset) || !isPageAligned(length)) {
      throw refusal('EINVAL', 'range-is-not-whole-pages', fn, asked);
    }
    size += length;
    if (size >= SIZES_END) throw refusal('EINVAL', 'sum-of-ranges-has-no-sign', fn, asked);
  }
  const provider = p2pdma.provider(regionIndex);
  if (provider === null) throw refusal('EINVAL', 'bar-is-not-memory', fn, asked);
  const start = fn.barStart(regionIndex);
  const physVec = ranges.map(({ offset, length }) => {
    if (start + offset + length >= ADDRESSES_END)
      throw refusal('EOVERFLOW', 'range-overflows', fn, asked);
    if (offset + length > fn.barSize(regionIndex)) {
      throw refusal('EINVAL', 'range-ends-beyond-the-bar', fn, asked);
    }
    return { paddr: addressPlus(start, offset), length };
  });
  return { size, physVec, provider };
}

function refusal(
  code: 'EINVAL' | 'ENODEV' | 'EOVERFLOW',
  reason: string,
  { name: device }: PciFunction,
  asked: object,
): DmaBufError {
  const detail = { device, ...asked };
  return new DmaBufError(code, 'ioctl(VFIO_DEVICE_FEATURE_DMA_BUF)', reason, { detail });
}
