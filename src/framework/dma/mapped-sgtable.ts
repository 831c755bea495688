/**
 * A mapped table as its exporter has it: where each piece of the pages went, and so what is to be
 * synced and taken back. What importers see of it is an `SgTable`.
 *
 * DIFFERS: Linux merges device entries past a device's segment size when the entry before is
 * already longer than that, because a subtraction wraps; here such entries stay apart.
 *
 * @source `__finalise_sg()`, drivers/iommu/dma-iommu.c, v7.2; reference/linux-dma-buf.md C.1, C.2
 */

import type { DmaAddr, DmaDirection } from '../../base/index.ts';
import {
  Cell,
  changeCell,
  type Device,
  type IommuDomain,
  MAX_SEGMENT_SIZE_DEFAULT,
  type PreemptStep,
  type Scheduler,
  type SlotAllocation,
} from '../../machine/index.ts';
import type { PageRange } from './page-list.ts';
import type { SgEntry, SgTable } from './scatterlist.ts';

/** Entries of a table do not cross a multiple of this (`dma_get_seg_boundary()`). */
const SEGMENT_BOUNDARY = 2 ** 32;

/**
 * What becomes of a piece: RAM; another device's memory through the host bridge; or straight, at
 * its bus address.
 */
export type PieceKind = 'ram' | 'mmio' | 'bus';

/** A piece of the CPU part. */
export interface Piece extends PageRange {
  readonly kind: PieceKind;
}

/** Where a piece went. */
export interface MappedPiece extends Piece {
  readonly address: DmaAddr;
  /** Its copy, if it was bounced. */
  readonly slots: SlotAllocation | null;
}

/** What a table stands for. */
export interface Mapping {
  readonly device: Device;
  readonly direction: DmaDirection;
  readonly pieces: readonly MappedPiece[];
  /** Where its I/O addresses are from; null: it has none. */
  readonly domain: IommuDomain | null;
  /** The block of them. */
  readonly block: { readonly address: DmaAddr; readonly size: number } | null;
}

/**
 * A table that {@link dmaMapSgtable} made, with what is needed to sync it and take it back. It is
 * the exporter's; importers see an {@link SgTable}. Its cell says whether it is still mapped.
 */
export class MappedSgTable extends Cell<boolean> implements SgTable {
  readonly entries: readonly SgEntry[];
  private readonly mapping: Mapping;

  constructor(scheduler: Scheduler, mapping: Mapping) {
    super(scheduler, `table for ${mapping.device.name}`, true);
    this.mapping = mapping;
    this.entries = joined(mapping);
  }

  /** Which device it was mapped for. */
  get device(): Device {
    return this.mapping.device;
  }

  /** As it was mapped. */
  get direction(): DmaDirection {
    return this.mapping.direction;
  }

  /** True if the device works on a copy: others who share the buffer do not see what it does. */
  get isBounced(): boolean {
    return this.mapping.pieces.some(({ slots }) => slots !== null);
  }

  /** What was mapped where. For the DMA API only. */
  static mappingOf(table: MappedSgTable): Mapping {
    return table.mapping;
  }

  /** A step that ends it; false if it was ended before. */
  end(): PreemptStep<boolean> {
    return changeCell(this, 'end mapping', (isMapped) => [false, isMapped]);
  }
}

/** Neighbours in a block of I/O addresses become one entry, if the device can have such. */
function joined({ device, domain, pieces }: Mapping): readonly SgEntry[] {
  const longest = device.maxSegmentSize ?? MAX_SEGMENT_SIZE_DEFAULT;
  const entries: SgEntry[] = [];
  let before: PieceKind = 'bus';
  for (const { address, size, kind } of pieces) {
    const last = entries.at(-1);
    const fits =
      domain !== null &&
      last !== undefined &&
      kind !== 'bus' &&
      before !== 'bus' &&
      last.length + size <= longest &&
      address % SEGMENT_BOUNDARY !== 0;
    if (fits) entries[entries.length - 1] = { ...last, length: last.length + size };
    else entries.push({ address, length: size });
    before = kind;
  }
  return entries;
}
