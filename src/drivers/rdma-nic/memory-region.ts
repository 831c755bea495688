/**
 * A memory region: a window of a dma-buf that a remote card may use, under a key and under
 * addresses of its own. Here is what does not change while it is registered; the rest is in its
 * gate.
 *
 * @source `struct ib_mr`, include/rdma/ib_verbs.h, v7.2
 */

import { addressPlus, alignDown, type DmaAddr, DmaBufError, PAGE_SIZE } from '../../base/index.ts';
import type { Process, SgEntry } from '../../framework/index.ts';
import { MESSAGE_SIZE_MAX, type NakStatus, type RdmaRequest } from './packets.ts';
import type { RegionGate, Translation } from './region-gate.ts';
import type { UmemDmabuf } from './umem-dmabuf.ts';

/** Access flag: the card may write for local requests. Needed for {@link ACCESS_REMOTE_WRITE}. */
export const ACCESS_LOCAL_WRITE = 0x1;
/** Access flag: remote cards may write. */
export const ACCESS_REMOTE_WRITE = 0x2;
/** Access flag: remote cards may read. */
export const ACCESS_REMOTE_READ = 0x4;

/** The flags that this card knows. */
const ACCESS_MASK = 0x7;

/**
 * How a driver holds the memory of a region. `on-demand`: mapped when it is used, given back when
 * the exporter asks, mapped again at the next use (mlx5). `pinned-revocable`: mapped until the
 * exporter revokes it, dead then (irdma). `pinned`: mapped for good; exporters that must be able to
 * take memory back refuse (efa, bnxt_re, mana, ionic).
 */
export type MrMode = 'on-demand' | 'pinned-revocable' | 'pinned';

/** What to register (`UVERBS_METHOD_REG_DMABUF_MR`). */
export interface RegDmabufMr {
  readonly fd: number;
  /** First byte in the buffer. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** The address that requests will use for the first byte. */
  readonly iova: number;
  /** A sum of `ACCESS_…` flags. */
  readonly access: number;
  /** How the driver holds the memory. Default `on-demand`. */
  readonly mode?: MrMode;
}

/** A registered region. */
export class MemoryRegion {
  /** Names the region on the wire. */
  readonly rkey: number;
  /** Who registered it. */
  readonly process: Process;
  /** First byte, in addresses of the region's own, which requests use. */
  readonly iova: number;
  /** Bytes. */
  readonly length: number;
  /** A sum of `ACCESS_…` flags. */
  readonly access: number;
  readonly mode: MrMode;
  readonly umem: UmemDmabuf<RegionGate>;

  constructor(
    rkey: number,
    process: Process,
    { iova, access, mode }: { iova: number; access: number; mode: MrMode },
    umem: UmemDmabuf<RegionGate>,
  ) {
    this.rkey = rkey;
    this.process = process;
    this.iova = iova;
    this.length = umem.size;
    this.access = access;
    this.mode = mode;
    this.umem = umem;
  }

  /** What the hardware looks at. */
  get gate(): RegionGate {
    return this.umem.priv;
  }

  /**
   * Why a request must not use this region; null if it may.
   *
   * @context Any: nothing that it looks at changes.
   */
  refuses(request: RdmaRequest): NakStatus | null {
    const right = request.kind === 'rdma-write' ? ACCESS_REMOTE_WRITE : ACCESS_REMOTE_READ;
    const end = request.va + lengthOf(request);
    const isInside = request.va >= this.iova && end <= this.iova + this.length;
    return isInside && (this.access & right) !== 0 ? null : 'remote-access-error';
  }
}

/**
 * Bytes that a request moves.
 *
 * @context Any.
 */
export function lengthOf(request: RdmaRequest): number {
  return request.kind === 'rdma-write' ? request.payload.length : request.length;
}

/**
 * True if the numbers in a request are such as could stand in a packet.
 *
 * @context Any.
 */
export function isWellFormed(request: RdmaRequest): boolean {
  const length = lengthOf(request);
  const isLength = Number.isInteger(length) && length >= 0 && length <= MESSAGE_SIZE_MAX;
  return isLength && request.va >= 0 && Number.isSafeInteger(request.va + length);
}

/**
 * Refuses what no card would register, whatever the buffer.
 *
 * @throws {@link DmaBufError} `EINVAL`, in this order: offset and iova lie differently in their
 *   pages; the iova's range overflows; an access flag that nobody knows; remote writes without
 *   local ones.
 * @context Any.
 * @source `UVERBS_METHOD_REG_DMABUF_MR`, `ib_check_mr_access()`
 */
export function checkRegDmabufMr(request: RegDmabufMr): void {
  const { offset, length, iova, access } = request;
  const fail = (reason: string): DmaBufError =>
    new DmaBufError('EINVAL', 'regDmabufMr', reason, {
      detail: { offset, length, iova, access },
    });
  if (offset % PAGE_SIZE !== iova % PAGE_SIZE) {
    throw fail('mr-offset-and-iova-differ-in-their-page');
  }
  // LIMIT: addresses here are exact up to 2^53; in Linux they wrap at 2^64.
  if (iova < 0 || !Number.isSafeInteger(iova + length)) throw fail('mr-iova-range-overflows');
  if ((access & ~ACCESS_MASK) !== 0) throw fail('mr-access-flag-unknown');
  if ((access & ACCESS_REMOTE_WRITE) !== 0 && (access & ACCESS_LOCAL_WRITE) === 0) {
    throw fail('mr-remote-write-needs-local-write');
  }
}

/**
 * The translation that the card is given: whole pages, from the one that holds `iova` on.
 *
 * @param entries - The pages of the window as the card sees them.
 * @context Any.
 * @source `mlx5_ib_populate_pas()`
 */
export function translate(iova: number, entries: readonly SgEntry[]): Translation {
  let at = alignDown(iova, PAGE_SIZE);
  return entries.map(({ address, length }) => {
    const entry = { iova: at, length, dmaAddress: address };
    at += length;
    return entry;
  });
}

/** A part of a request that becomes one request of the card on its bus. */
export interface Piece {
  /** First byte in the request. */
  readonly at: number;
  readonly address: DmaAddr;
  /** Bytes. */
  readonly length: number;
}

/**
 * Cuts a range of a region into what the card moves at once.
 *
 * @param va - First byte; the range lies within the translation.
 * @param sizeMax - Bytes in a piece at most.
 * @returns Pieces in order.
 * @context Any.
 */
export function piecesOf(
  translation: Translation,
  va: number,
  length: number,
  sizeMax: number,
): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const entry of translation) {
    const end = Math.min(va + length, entry.iova + entry.length);
    for (let from = Math.max(va, entry.iova); from < end; from += sizeMax) {
      const address = addressPlus(entry.dmaAddress, from - entry.iova);
      pieces.push({ at: from - va, address, length: Math.min(sizeMax, end - from) });
    }
  }
  return pieces;
}
