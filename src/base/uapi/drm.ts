/**
 * What a program may ask of a DRM node, as far as buffers are shared: PRIME, dumb buffers,
 * synchronisation objects, and the virtual GPU's fences.
 *
 * @source include/uapi/drm/drm.h, drm_mode.h, vgem_drm.h, v7.2; reference/linux-dma-buf.md G
 */

import { type IoctlDirection, ioctlNumber } from './ioctl-number.ts';
import { type Struct, s32, struct, u32, u64 } from './struct.ts';

function drm(direction: IoctlDirection, nr: number, size: number): number {
  return ioctlNumber(direction, 'd', nr, size);
}

/** Numbers of DRM ioctls. */
export const DRM_IOCTL: Readonly<
  Record<
    | 'VERSION'
    | 'GEM_CLOSE'
    | 'GET_CAP'
    | 'PRIME_HANDLE_TO_FD'
    | 'PRIME_FD_TO_HANDLE'
    | 'MODE_CREATE_DUMB'
    | 'MODE_MAP_DUMB'
    | 'MODE_DESTROY_DUMB'
    | 'SYNCOBJ_CREATE'
    | 'SYNCOBJ_DESTROY'
    | 'SYNCOBJ_HANDLE_TO_FD'
    | 'SYNCOBJ_FD_TO_HANDLE'
    | 'VGEM_FENCE_ATTACH'
    | 'VGEM_FENCE_SIGNAL',
    number
  >
> = {
  VERSION: drm('rw', 0x00, 64),
  GEM_CLOSE: drm('w', 0x09, 8),
  GET_CAP: drm('rw', 0x0c, 16),
  PRIME_HANDLE_TO_FD: drm('rw', 0x2d, 12),
  PRIME_FD_TO_HANDLE: drm('rw', 0x2e, 12),
  MODE_CREATE_DUMB: drm('rw', 0xb2, 32),
  MODE_MAP_DUMB: drm('rw', 0xb3, 16),
  MODE_DESTROY_DUMB: drm('rw', 0xb4, 4),
  SYNCOBJ_CREATE: drm('rw', 0xbf, 8),
  SYNCOBJ_DESTROY: drm('rw', 0xc0, 8),
  SYNCOBJ_HANDLE_TO_FD: drm('rw', 0xc1, 24),
  SYNCOBJ_FD_TO_HANDLE: drm('rw', 0xc2, 24),
  VGEM_FENCE_ATTACH: drm('rw', 0x41, 16),
  VGEM_FENCE_SIGNAL: drm('w', 0x42, 8),
};

/** Values of {@link DrmGetCap.capability}. */
export const DRM_CAP: Readonly<
  Record<'DUMB_BUFFER' | 'PRIME' | 'SYNCOBJ' | 'SYNCOBJ_TIMELINE', number>
> = { DUMB_BUFFER: 1, PRIME: 5, SYNCOBJ: 0x13, SYNCOBJ_TIMELINE: 0x14 };

/** Bits of {@link DrmPrimeHandle.flags}. */
export const DRM_PRIME_FLAG: Readonly<Record<'CLOEXEC' | 'RDWR', number>> = {
  CLOEXEC: 0x8_0000,
  RDWR: 2,
};

/** `struct drm_version`. Lengths are the room at the address; told, the length of the text. */
export interface DrmVersion {
  readonly versionMajor: number;
  readonly versionMinor: number;
  readonly versionPatchlevel: number;
  readonly nameLen: bigint;
  readonly name: bigint;
  readonly dateLen: bigint;
  readonly date: bigint;
  readonly descLen: bigint;
  readonly desc: bigint;
}

/** Layout of {@link DrmVersion}. */
export const drmVersion: Struct<DrmVersion> = struct({
  versionMajor: s32,
  versionMinor: s32,
  versionPatchlevel: s32,
  nameLen: u64,
  name: u64,
  dateLen: u64,
  date: u64,
  descLen: u64,
  desc: u64,
});

/** `struct drm_gem_close`. */
export interface DrmGemClose {
  readonly handle: number;
  readonly pad: number;
}

/** Layout of {@link DrmGemClose}. */
export const drmGemClose: Struct<DrmGemClose> = struct({ handle: u32, pad: u32 });

/** `struct drm_get_cap`. */
export interface DrmGetCap {
  readonly capability: bigint;
  /** Told. */
  readonly value: bigint;
}

/** Layout of {@link DrmGetCap}. */
export const drmGetCap: Struct<DrmGetCap> = struct({ capability: u64, value: u64 });

/** `struct drm_prime_handle`. */
export interface DrmPrimeHandle {
  readonly handle: number;
  readonly flags: number;
  readonly fd: number;
}

/** Layout of {@link DrmPrimeHandle}. */
export const drmPrimeHandle: Struct<DrmPrimeHandle> = struct({ handle: u32, flags: u32, fd: s32 });

/** `struct drm_mode_create_dumb`. */
export interface DrmModeCreateDumb {
  readonly height: number;
  readonly width: number;
  readonly bpp: number;
  readonly flags: number;
  /** Told, as the rest. */
  readonly handle: number;
  readonly pitch: number;
  readonly size: bigint;
}

/** Layout of {@link DrmModeCreateDumb}. */
export const drmModeCreateDumb: Struct<DrmModeCreateDumb> = struct({
  height: u32,
  width: u32,
  bpp: u32,
  flags: u32,
  handle: u32,
  pitch: u32,
  size: u64,
});

/** `struct drm_mode_map_dumb`. */
export interface DrmModeMapDumb {
  readonly handle: number;
  readonly pad: number;
  /** Told: where to map it in the node's file. */
  readonly offset: bigint;
}

/** Layout of {@link DrmModeMapDumb}. */
export const drmModeMapDumb: Struct<DrmModeMapDumb> = struct({
  handle: u32,
  pad: u32,
  offset: u64,
});

/** `struct drm_mode_destroy_dumb`. */
export interface DrmModeDestroyDumb {
  readonly handle: number;
}

/** Layout of {@link DrmModeDestroyDumb}. */
export const drmModeDestroyDumb: Struct<DrmModeDestroyDumb> = struct({ handle: u32 });

/** `struct drm_syncobj_create`. */
export interface DrmSyncobjCreate {
  /** Told. */
  readonly handle: number;
  readonly flags: number;
}

/** Layout of {@link DrmSyncobjCreate}. */
export const drmSyncobjCreate: Struct<DrmSyncobjCreate> = struct({ handle: u32, flags: u32 });

/** `struct drm_syncobj_destroy`. */
export interface DrmSyncobjDestroy {
  readonly handle: number;
  readonly pad: number;
}

/** Layout of {@link DrmSyncobjDestroy}. */
export const drmSyncobjDestroy: Struct<DrmSyncobjDestroy> = struct({ handle: u32, pad: u32 });

/** `struct drm_syncobj_handle`. */
export interface DrmSyncobjHandle {
  readonly handle: number;
  /** 1: the descriptor is a sync file. */
  readonly flags: number;
  readonly fd: number;
  readonly pad: number;
  readonly point: bigint;
}

/** Layout of {@link DrmSyncobjHandle}. */
export const drmSyncobjHandle: Struct<DrmSyncobjHandle> = struct({
  handle: u32,
  flags: u32,
  fd: s32,
  pad: u32,
  point: u64,
});

/** `struct drm_vgem_fence_attach`. */
export interface DrmVgemFenceAttach {
  readonly handle: number;
  /** 1: the fence is for a write. */
  readonly flags: number;
  /** Told. */
  readonly outFence: number;
  readonly pad: number;
}

/** Layout of {@link DrmVgemFenceAttach}. */
export const drmVgemFenceAttach: Struct<DrmVgemFenceAttach> = struct({
  handle: u32,
  flags: u32,
  outFence: u32,
  pad: u32,
});

/** `struct drm_vgem_fence_signal`. */
export interface DrmVgemFenceSignal {
  readonly fence: number;
  readonly flags: number;
}

/** Layout of {@link DrmVgemFenceSignal}. */
export const drmVgemFenceSignal: Struct<DrmVgemFenceSignal> = struct({ fence: u32, flags: u32 });
