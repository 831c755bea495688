/**
 * What a program may ask of `/dev/udmabuf`: to make a dma-buf of pieces of memfds.
 *
 * @source include/uapi/linux/udmabuf.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { type Struct, struct, u32, u64 } from './struct.ts';

/** Numbers of its ioctls. */
export const UDMABUF_IOCTL: Readonly<Record<'CREATE' | 'CREATE_LIST', number>> = {
  CREATE: ioctlNumber('w', 'u', 0x42, 24),
  CREATE_LIST: ioctlNumber('w', 'u', 0x43, 8),
};

/** The one bit of both `flags`: the descriptor is closed on exec. */
export const UDMABUF_FLAGS_CLOEXEC = 1;

/** `struct udmabuf_create`. */
export interface UdmabufCreate {
  readonly memfd: number;
  readonly flags: number;
  readonly offset: bigint;
  readonly size: bigint;
}

/** Layout of {@link UdmabufCreate}. */
export const udmabufCreate: Struct<UdmabufCreate> = struct({
  memfd: u32,
  flags: u32,
  offset: u64,
  size: u64,
});

/** `struct udmabuf_create_list`, without its items, which follow. */
export interface UdmabufCreateList {
  readonly flags: number;
  readonly count: number;
}

/** Layout of {@link UdmabufCreateList}. */
export const udmabufCreateList: Struct<UdmabufCreateList> = struct({ flags: u32, count: u32 });

/** `struct udmabuf_create_item`. */
export interface UdmabufCreateItem {
  readonly memfd: number;
  readonly pad: number;
  readonly offset: bigint;
  readonly size: bigint;
}

/** Layout of {@link UdmabufCreateItem}. */
export const udmabufCreateItem: Struct<UdmabufCreateItem> = struct({
  memfd: u32,
  pad: u32,
  offset: u64,
  size: u64,
});
