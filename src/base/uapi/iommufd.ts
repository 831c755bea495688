/**
 * What a program asks of `/dev/iommu` to map a file's memory for a device.
 *
 * @source include/uapi/linux/iommufd.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { type Struct, s32, struct, u32, u64 } from './struct.ts';

/** Number of the ioctl; it carries neither direction nor size. */
export const IOMMU_IOCTL: Readonly<Record<'IOAS_MAP_FILE', number>> = {
  IOAS_MAP_FILE: ioctlNumber('none', ';', 0x8f, 0),
};

/** Bits of {@link IommuIoasMapFile.flags}. */
export const IOMMU_IOAS_MAP: Readonly<Record<'FIXED_IOVA' | 'WRITEABLE' | 'READABLE', number>> = {
  FIXED_IOVA: 1,
  WRITEABLE: 2,
  READABLE: 4,
};

/** `struct iommu_ioas_map_file`. */
export interface IommuIoasMapFile {
  /** Bytes of this struct. */
  readonly size: number;
  readonly flags: number;
  readonly ioasId: number;
  readonly fd: number;
  /** Byte of the file. */
  readonly start: bigint;
  readonly length: bigint;
  /** Given with `FIXED_IOVA`, else told. */
  readonly iova: bigint;
}

/** Layout of {@link IommuIoasMapFile}. */
export const iommuIoasMapFile: Struct<IommuIoasMapFile> = struct({
  size: u32,
  flags: u32,
  ioasId: u32,
  fd: s32,
  start: u64,
  length: u64,
  iova: u64,
});
