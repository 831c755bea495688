/**
 * What a program may ask of a dma-buf.
 *
 * @source include/uapi/linux/dma-buf.h, v7.2; reference/linux-dma-buf.md G
 */

import { ioctlNumber } from './ioctl-number.ts';
import { type Struct, s32, struct, u32, u64 } from './struct.ts';

/** Numbers of a dma-buf's ioctls. `SET_NAME_B` is what `DMA_BUF_SET_NAME` is on 64 bits. */
export const DMA_BUF_IOCTL: Readonly<
  Record<'SYNC' | 'SET_NAME_A' | 'SET_NAME_B' | 'EXPORT_SYNC_FILE' | 'IMPORT_SYNC_FILE', number>
> = {
  SYNC: ioctlNumber('w', 'b', 0, 8),
  SET_NAME_A: ioctlNumber('w', 'b', 1, 4),
  SET_NAME_B: ioctlNumber('w', 'b', 1, 8),
  EXPORT_SYNC_FILE: ioctlNumber('rw', 'b', 2, 8),
  IMPORT_SYNC_FILE: ioctlNumber('w', 'b', 3, 8),
};

/** Bits of {@link DmaBufSync.flags}; `READ`, `WRITE` and `RW` also say what a sync file is for. */
export const DMA_BUF_SYNC: Readonly<
  Record<'READ' | 'WRITE' | 'RW' | 'START' | 'END' | 'VALID_FLAGS_MASK', number>
> = { READ: 1, WRITE: 2, RW: 3, START: 0, END: 4, VALID_FLAGS_MASK: 7 };

/** LIMIT: bytes of a buffer's name with its NUL. */
export const DMA_BUF_NAME_LEN = 32;

/** `f_type` of the file system that dma-bufs live on: "DMAB". */
export const DMA_BUF_MAGIC = 0x444d_4142;

/** `struct dma_buf_sync`. */
export interface DmaBufSync {
  readonly flags: bigint;
}

/** Layout of {@link DmaBufSync}. */
export const dmaBufSync: Struct<DmaBufSync> = struct({ flags: u64 });

/** `struct dma_buf_export_sync_file` and `struct dma_buf_import_sync_file`. */
export interface DmaBufSyncFile {
  readonly flags: number;
  /** Told by the export, given to the import. */
  readonly fd: number;
}

/** Layout of {@link DmaBufSyncFile} for the export. */
export const dmaBufExportSyncFile: Struct<DmaBufSyncFile> = struct({ flags: u32, fd: s32 });

/** Layout of {@link DmaBufSyncFile} for the import. */
export const dmaBufImportSyncFile: Struct<DmaBufSyncFile> = struct({ flags: u32, fd: s32 });
