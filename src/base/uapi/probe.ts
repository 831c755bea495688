/**
 * What a program asks of `/dev/peerbuf-probe`: the in-kernel API of dma-buf, call by call. Here are
 * the numbers; the structs are in `probe-structs.ts`.
 *
 * @source docs/probe-abi.md
 */

import { type IoctlDirection, ioctlNumber } from './ioctl-number.ts';

/** Goes up with every change that a program could see. */
export const PROBE_VERSION = 1;

/** Bytes of a device's name with its NUL. */
export const PROBE_NAME_LEN = 32;

function probe(direction: IoctlDirection, nr: number, size: number): number {
  return ioctlNumber(direction, '~', nr, size);
}

/** Numbers of the probe's ioctls. */
export const PROBE_IOCTL: Readonly<
  Record<
    | 'VERSION'
    | 'IMPORT'
    | 'ATTACH'
    | 'MAP'
    | 'UNMAP'
    | 'PIN'
    | 'UNPIN'
    | 'DETACH'
    | 'PUT'
    | 'BEGIN_CPU'
    | 'END_CPU'
    | 'VMAP'
    | 'VREAD'
    | 'VWRITE'
    | 'VUNMAP'
    | 'EVENTS'
    | 'EXPORT'
    | 'EXPORT_INFO'
    | 'INVALIDATE'
    | 'FENCE_ADD'
    | 'FENCE_SIGNAL'
    | 'FENCES',
    number
  >
> = {
  VERSION: probe('r', 0, 16),
  IMPORT: probe('rw', 1, 16),
  ATTACH: probe('rw', 2, 56),
  MAP: probe('rw', 3, 32),
  UNMAP: probe('w', 4, 8),
  PIN: probe('w', 5, 8),
  UNPIN: probe('w', 6, 8),
  DETACH: probe('w', 7, 8),
  PUT: probe('w', 8, 8),
  BEGIN_CPU: probe('w', 9, 16),
  END_CPU: probe('w', 10, 16),
  VMAP: probe('rw', 11, 32),
  VREAD: probe('w', 12, 32),
  VWRITE: probe('w', 13, 32),
  VUNMAP: probe('w', 14, 8),
  EVENTS: probe('rw', 15, 24),
  EXPORT: probe('rw', 16, 40),
  EXPORT_INFO: probe('rw', 17, 32),
  INVALIDATE: probe('w', 18, 8),
  FENCE_ADD: probe('rw', 19, 24),
  FENCE_SIGNAL: probe('w', 20, 16),
  FENCES: probe('rw', 21, 32),
};

/** `enum dma_data_direction`. */
export const PROBE_DIRECTION: Readonly<
  Record<'BIDIRECTIONAL' | 'TO_DEVICE' | 'FROM_DEVICE', number>
> = { BIDIRECTIONAL: 0, TO_DEVICE: 1, FROM_DEVICE: 2 };

/** Bits of `ProbeAttach.mode`. None: a static importer. All others need `DYNAMIC`. */
export const PROBE_ATTACH: Readonly<
  Record<'DYNAMIC' | 'PEER2PEER' | 'INVALIDATE' | 'UNMAP_AT_ONCE', number>
> = { DYNAMIC: 1, PEER2PEER: 2, INVALIDATE: 4, UNMAP_AT_ONCE: 8 };

/** Bits of `ProbeAttach.state`: what came of the attach. */
export const PROBE_ATTACHED: Readonly<Record<'PEER2PEER' | 'REVOCABLE', number>> = {
  PEER2PEER: 1,
  REVOCABLE: 2,
};

/** The one bit of `ProbeVmap.state`: the map is of a device's memory. */
export const PROBE_VMAP_IOMEM = 1;

/** Bits of `ProbeExport.flags`. */
export const PROBE_EXPORT: Readonly<Record<'DYNAMIC' | 'SCATTERED', number>> = {
  DYNAMIC: 1,
  SCATTERED: 2,
};

/** `enum dma_resv_usage`. */
export const PROBE_USAGE: Readonly<Record<'KERNEL' | 'WRITE' | 'READ' | 'BOOKKEEP', number>> = {
  KERNEL: 0,
  WRITE: 1,
  READ: 2,
  BOOKKEEP: 3,
};
