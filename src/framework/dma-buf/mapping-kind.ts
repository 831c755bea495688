/**
 * The seam between what an exporter has and what an importer wants. The exporter describes its
 * backing (ranges, provider, attributes), the importer says what it wants; the two are types of
 * their own that meet in a kind of mapping, and there only. The kind that everybody uses, device
 * addresses, is here.
 *
 * It is not the broker of several offers and wants: docs/adr/0011-mapping-kinds.md.
 *
 * @source reference/requirements.md 3.5; thread S001
 */

import { DmaBufError, type DmaDirection } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { Attachment } from './attachment.ts';
import type { DmaBuf } from './dma-buf.ts';
import { dmaBufFreeSgt, dmaBufPhysVecToSgt, type PhysVec } from './dma-buf-mapping.ts';
import type { DmaBufOps } from './dma-buf-ops.ts';
import type { SgTable } from '../dma/scatterlist.ts';
import type { P2pProvider } from '../p2pdma/p2pdma-provider.ts';

/**
 * One way to have a buffer: code that is neither the exporter's nor the importer's, and sees both
 * what the one has and what the other wants.
 */
export interface MappingKind<Backing, Want, Mapping> {
  readonly name: string;
  /**
   * @throws {@link DmaBufError} as a map does.
   * @context May sleep. The reservation is locked.
   */
  map(attachment: Attachment, backing: Backing, want: Want): Task<Mapping>;
  /** @context May sleep. The reservation is locked. */
  unmap(attachment: Attachment, mapping: Mapping, want: Want): Task;
}

/** An exporter's readiness to describe its backing for one kind. Importers cannot open it. */
export class Offer<P> {
  readonly kind: MappingKind<never, never, unknown>;
  readonly #describe: (buf: DmaBuf<never>) => Task<unknown>;

  constructor(
    kind: MappingKind<never, never, unknown>,
    describe: (buf: DmaBuf<P>) => Task<unknown>,
  ) {
    this.kind = kind;
    this.#describe = describe as (buf: DmaBuf<never>) => Task<unknown>;
  }

  /** What the exporter has. For the core, with the reservation locked. */
  open(buf: DmaBuf<P>): Task<unknown> {
    return this.#describe(buf as DmaBuf<never>);
  }
}

/**
 * Makes an offer, for {@link DmaBufOps.offers}.
 *
 * @param describe - Tells the backing of a buffer, anew for each map, with the reservation locked.
 */
export function offer<P, B, W, M>(
  kind: MappingKind<B, W, M>,
  describe: (buf: DmaBuf<P>) => Task<B>,
): Offer<P> {
  return new Offer<P>(kind, describe);
}

/** Memory of a device, as its exporter describes it. */
export interface DeviceBacking {
  readonly provider: P2pProvider;
  /** In the order of the buffer. */
  readonly ranges: readonly PhysVec[];
}

/** The kind that every importer of today wants: addresses for one device. */
export const DEVICE_ADDRESSES: MappingKind<DeviceBacking, DmaDirection, SgTable> = {
  name: 'device addresses',
  map(attachment, { provider, ranges }, direction): Task<SgTable> {
    return dmaBufPhysVecToSgt(attachment, provider, ranges, direction);
  },
  unmap: dmaBufFreeSgt,
};

/** The two operations that every exporter must have, made of a description alone. */
export function mapByDescription<P>(
  describe: (buf: DmaBuf<P>) => Task<DeviceBacking>,
): Pick<DmaBufOps<P>, 'mapDmaBuf' | 'unmapDmaBuf'> {
  return {
    *mapDmaBuf(attachment, direction): Task<SgTable> {
      const backing = yield* describe(attachment.buf);
      return yield* DEVICE_ADDRESSES.map(attachment as Attachment, backing, direction);
    },
    unmapDmaBuf(attachment, table, direction): Task {
      return DEVICE_ADDRESSES.unmap(attachment as Attachment, table, direction);
    },
  };
}

/**
 * Maps a buffer in a way that both sides know. Whoever does not know it is not concerned: device
 * addresses are had of every exporter, and an exporter without offers has no other kind.
 *
 * @throws {@link DmaBufError} `EOPNOTSUPP` the exporter does not offer the kind, or the importer
 *   cannot give the memory back; what the kind says.
 * @context May sleep. The caller holds the reservation.
 */
export function* mapAs<B, W, M>(
  attachment: Attachment,
  kind: MappingKind<B, W, M>,
  want: W,
): Task<M> {
  if (isDeviceAddresses(kind)) {
    return (yield* attachment.mapAttachment(want as DmaDirection)) as M;
  }
  const { buf } = attachment;
  buf.resv.assertHeld('dma_buf_map_as');
  const found = buf.ops.offers?.find((one) => one.kind === (kind as unknown));
  if (found === undefined) throw refusal(attachment, kind.name, 'kind-of-mapping-not-offered');
  // No kind but the old one is pinned around the map, so the duty to give back comes with it.
  if (!attachment.isRevocable) {
    throw refusal(attachment, kind.name, 'kind-for-revocable-importers-only');
  }
  return yield* kind.map(attachment, (yield* found.open(buf)) as B, want);
}

/**
 * Takes a mapping of {@link mapAs} back.
 *
 * @context May sleep. The caller holds the reservation.
 */
export function* unmapAs<B, W, M>(
  attachment: Attachment,
  kind: MappingKind<B, W, M>,
  mapping: M,
  want: W,
): Task {
  if (isDeviceAddresses(kind)) {
    yield* attachment.unmapAttachment(mapping as SgTable, want as DmaDirection);
    return;
  }
  attachment.buf.resv.assertHeld('dma_buf_unmap_as');
  yield* kind.unmap(attachment, mapping, want);
}

function isDeviceAddresses(kind: unknown): boolean {
  return kind === DEVICE_ADDRESSES;
}

function refusal({ buf, device }: Attachment, kind: string, reason: string): DmaBufError {
  const { exporterName: exporter } = buf;
  return new DmaBufError('EOPNOTSUPP', 'mapAs', reason, {
    detail: { refusedBy: 'core', class: 'policy', exporter, client: device.name, kind },
  });
}
