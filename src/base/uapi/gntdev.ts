/**
 * What a program in a Xen guest asks of `/dev/xen/gntdev` about dma-bufs.
 *
 * @source include/uapi/xen/gntdev.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { arrayOf, type Struct, struct, u32 } from './struct.ts';

/** Numbers of its ioctls; they carry no direction. */
export const GNTDEV_DMABUF: Readonly<
  Record<'EXP_FROM_REFS' | 'EXP_WAIT_RELEASED' | 'IMP_TO_REFS' | 'IMP_RELEASE', number>
> = {
  EXP_FROM_REFS: ioctlNumber('none', 'G', 9, 20),
  EXP_WAIT_RELEASED: ioctlNumber('none', 'G', 10, 8),
  IMP_TO_REFS: ioctlNumber('none', 'G', 11, 20),
  IMP_RELEASE: ioctlNumber('none', 'G', 12, 8),
};

/** Bits of {@link GntdevDmabufExpFromRefs.flags}. */
export const GNTDEV_DMA_FLAG: Readonly<Record<'WC' | 'COHERENT', number>> = { WC: 1, COHERENT: 2 };

/** `struct ioctl_gntdev_dmabuf_exp_from_refs`; more references follow the first. */
export interface GntdevDmabufExpFromRefs {
  readonly flags: number;
  readonly count: number;
  /** Told. */
  readonly fd: number;
  readonly domid: number;
  readonly refs: readonly number[];
}

/** Layout of {@link GntdevDmabufExpFromRefs}. */
export const gntdevDmabufExpFromRefs: Struct<GntdevDmabufExpFromRefs> = struct({
  flags: u32,
  count: u32,
  fd: u32,
  domid: u32,
  refs: arrayOf(u32, 1),
});

/** `struct ioctl_gntdev_dmabuf_exp_wait_released`. */
export interface GntdevDmabufExpWaitReleased {
  readonly fd: number;
  readonly waitToMs: number;
}

/** Layout of {@link GntdevDmabufExpWaitReleased}. */
export const gntdevDmabufExpWaitReleased: Struct<GntdevDmabufExpWaitReleased> = struct({
  fd: u32,
  waitToMs: u32,
});

/** `struct ioctl_gntdev_dmabuf_imp_to_refs`; more references follow the first. */
export interface GntdevDmabufImpToRefs {
  readonly fd: number;
  readonly count: number;
  readonly domid: number;
  readonly reserved: number;
  readonly refs: readonly number[];
}

/** Layout of {@link GntdevDmabufImpToRefs}. */
export const gntdevDmabufImpToRefs: Struct<GntdevDmabufImpToRefs> = struct({
  fd: u32,
  count: u32,
  domid: u32,
  reserved: u32,
  refs: arrayOf(u32, 1),
});

/** `struct ioctl_gntdev_dmabuf_imp_release`. */
export interface GntdevDmabufImpRelease {
  readonly fd: number;
  readonly reserved: number;
}

/** Layout of {@link GntdevDmabufImpRelease}. */
export const gntdevDmabufImpRelease: Struct<GntdevDmabufImpRelease> = struct({
  fd: u32,
  reserved: u32,
});
