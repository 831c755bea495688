/**
 * What a program asks of an IIO buffer and of a functionfs endpoint, to move data through dma-bufs.
 *
 * @source include/uapi/linux/iio/buffer.h, include/uapi/linux/usb/functionfs.h, v7.2; reference G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { packedStruct, type Struct, s32, struct, u32, u64 } from './struct.ts';

/** Numbers of an IIO buffer's ioctls. `ATTACH` and `DETACH` take a pointer to a descriptor. */
export const IIO_BUFFER_DMABUF: Readonly<Record<'ATTACH' | 'DETACH' | 'ENQUEUE', number>> = {
  ATTACH: ioctlNumber('w', 'i', 0x92, 4),
  DETACH: ioctlNumber('w', 'i', 0x93, 4),
  ENQUEUE: ioctlNumber('w', 'i', 0x94, 16),
};

/** The one bit of {@link IioDmabuf.flags}. */
export const IIO_BUFFER_DMABUF_CYCLIC = 1;

/** `struct iio_dmabuf`. */
export interface IioDmabuf {
  readonly fd: number;
  readonly flags: number;
  readonly bytesUsed: bigint;
}

/** Layout of {@link IioDmabuf}. */
export const iioDmabuf: Struct<IioDmabuf> = struct({ fd: u32, flags: u32, bytesUsed: u64 });

/** Numbers of a functionfs endpoint's ioctls; arguments as those of {@link IIO_BUFFER_DMABUF}. */
export const FUNCTIONFS_DMABUF: Readonly<Record<'ATTACH' | 'DETACH' | 'TRANSFER', number>> = {
  ATTACH: ioctlNumber('w', 'g', 131, 4),
  DETACH: ioctlNumber('w', 'g', 132, 4),
  TRANSFER: ioctlNumber('w', 'g', 133, 16),
};

/** `struct usb_ffs_dmabuf_transfer_req`, which is packed. */
export interface UsbFfsDmabufTransferReq {
  readonly fd: number;
  readonly flags: number;
  readonly length: bigint;
}

/** Layout of {@link UsbFfsDmabufTransferReq}. */
export const usbFfsDmabufTransferReq: Struct<UsbFfsDmabufTransferReq> = packedStruct({
  fd: s32,
  flags: u32,
  length: u64,
});

/** A descriptor in memory: what `ATTACH` and `DETACH` of both point to. */
export interface DescriptorArgument {
  readonly fd: number;
}

/** Layout of {@link DescriptorArgument}. */
export const descriptorArgument: Struct<DescriptorArgument> = struct({ fd: s32 });
