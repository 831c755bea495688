/**
 * What a user-space driver asks of its VFIO device, as far as it is about dma-bufs.
 *
 * @source include/uapi/linux/vfio.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { type Struct, struct, u32, u64 } from './struct.ts';

/** Numbers of a VFIO device's ioctls; they carry neither direction nor size. */
export const VFIO_IOCTL: Readonly<Record<'DEVICE_FEATURE' | 'DEVICE_RESET', number>> = {
  DEVICE_FEATURE: ioctlNumber('none', ';', 117, 0),
  DEVICE_RESET: ioctlNumber('none', ';', 111, 0),
};

/** Parts of {@link VfioDeviceFeature.flags}: what to do, and in the low half with which feature. */
export const VFIO_DEVICE_FEATURE: Readonly<
  Record<'MASK' | 'GET' | 'SET' | 'PROBE' | 'DMA_BUF', number>
> = { MASK: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000, DMA_BUF: 11 };

/** `struct vfio_device_feature`, without the payload, which follows. */
export interface VfioDeviceFeature {
  /** Bytes with the payload. */
  readonly argsz: number;
  readonly flags: number;
}

/** Layout of {@link VfioDeviceFeature}. */
export const vfioDeviceFeature: Struct<VfioDeviceFeature> = struct({ argsz: u32, flags: u32 });

/** `struct vfio_device_feature_dma_buf`, without its ranges, which follow. */
export interface VfioDeviceFeatureDmaBuf {
  readonly regionIndex: number;
  /** `O_CLOEXEC` and an access mode. */
  readonly openFlags: number;
  readonly flags: number;
  readonly nrRanges: number;
}

/** Layout of {@link VfioDeviceFeatureDmaBuf}. */
export const vfioDeviceFeatureDmaBuf: Struct<VfioDeviceFeatureDmaBuf> = struct({
  regionIndex: u32,
  openFlags: u32,
  flags: u32,
  nrRanges: u32,
});

/** `struct vfio_region_dma_range`. */
export interface VfioRegionDmaRange {
  /** From the start of the BAR. */
  readonly offset: bigint;
  readonly length: bigint;
}

/** Layout of {@link VfioRegionDmaRange}. */
export const vfioRegionDmaRange: Struct<VfioRegionDmaRange> = struct({ offset: u64, length: u64 });
