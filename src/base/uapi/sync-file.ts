/**
 * What a program may ask of a sync file, and of the debugging timeline that makes some.
 *
 * @source include/uapi/linux/sync_file.h, drivers/dma-buf/sw_sync.c, v7.2; reference G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { chars, type Struct, s32, struct, u32, u64 } from './struct.ts';

/** Numbers of a sync file's ioctls. */
export const SYNC_IOC: Readonly<Record<'MERGE' | 'FILE_INFO' | 'SET_DEADLINE', number>> = {
  MERGE: ioctlNumber('rw', '>', 3, 48),
  FILE_INFO: ioctlNumber('rw', '>', 4, 56),
  SET_DEADLINE: ioctlNumber('w', '>', 5, 16),
};

/** Numbers of the ioctls of debugfs's `sw_sync`; `GET_DEADLINE` has no `IOC` in its name. */
export const SW_SYNC_IOC: Readonly<Record<'CREATE_FENCE' | 'INC' | 'GET_DEADLINE', number>> = {
  CREATE_FENCE: ioctlNumber('rw', 'W', 0, 40),
  INC: ioctlNumber('w', 'W', 1, 4),
  GET_DEADLINE: ioctlNumber('rw', 'W', 2, 16),
};

/** `struct sync_merge_data`. */
export interface SyncMergeData {
  readonly name: string;
  /** The other sync file. */
  readonly fd2: number;
  /** Told: the new sync file. */
  readonly fence: number;
  readonly flags: number;
  readonly pad: number;
}

/** Layout of {@link SyncMergeData}. */
export const syncMergeData: Struct<SyncMergeData> = struct({
  name: chars(32),
  fd2: s32,
  fence: s32,
  flags: u32,
  pad: u32,
});

/** `struct sync_fence_info`. */
export interface SyncFenceInfo {
  readonly objName: string;
  readonly driverName: string;
  /** 1 signaled, 0 active, or a negative error number. */
  readonly status: number;
  readonly flags: number;
  readonly timestampNs: bigint;
}

/** Layout of {@link SyncFenceInfo}. */
export const syncFenceInfo: Struct<SyncFenceInfo> = struct({
  objName: chars(32),
  driverName: chars(32),
  status: s32,
  flags: u32,
  timestampNs: u64,
});

/** `struct sync_file_info`. */
export interface SyncFileInfo {
  readonly name: string;
  /** As {@link SyncFenceInfo.status}, of all fences together. */
  readonly status: number;
  readonly flags: number;
  /** Given: the room at {@link syncFenceInfo}; told: how many there are. */
  readonly numFences: number;
  readonly pad: number;
  /** Address of an array of `sync_fence_info`. */
  readonly syncFenceInfo: bigint;
}

/** Layout of {@link SyncFileInfo}. */
export const syncFileInfo: Struct<SyncFileInfo> = struct({
  name: chars(32),
  status: s32,
  flags: u32,
  numFences: u32,
  pad: u32,
  syncFenceInfo: u64,
});

/** `struct sync_set_deadline`. */
export interface SyncSetDeadline {
  readonly deadlineNs: bigint;
  readonly pad: bigint;
}

/** Layout of {@link SyncSetDeadline}. */
export const syncSetDeadline: Struct<SyncSetDeadline> = struct({ deadlineNs: u64, pad: u64 });

/** `struct sw_sync_create_fence_data`. */
export interface SwSyncCreateFenceData {
  /** The point of the timeline at which the fence signals. */
  readonly value: number;
  readonly name: string;
  /** Told: the sync file. */
  readonly fence: number;
}

/** Layout of {@link SwSyncCreateFenceData}. */
export const swSyncCreateFenceData: Struct<SwSyncCreateFenceData> = struct({
  value: u32,
  name: chars(32),
  fence: s32,
});

/** The argument of `SW_SYNC_IOC_INC`: how far the timeline goes. */
export interface SwSyncInc {
  readonly value: number;
}

/** Layout of {@link SwSyncInc}. */
export const swSyncInc: Struct<SwSyncInc> = struct({ value: u32 });

/** `struct sw_sync_get_deadline`. */
export interface SwSyncGetDeadline {
  /** Told. */
  readonly deadlineNs: bigint;
  readonly pad: number;
  readonly fenceFd: number;
}

/** Layout of {@link SwSyncGetDeadline}. */
export const swSyncGetDeadline: Struct<SwSyncGetDeadline> = struct({
  deadlineNs: u64,
  pad: u32,
  fenceFd: s32,
});
