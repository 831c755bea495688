/**
 * Coherent memory for a device other than its own: the exporter's half of sharing memory that may
 * have no pages. The table holds device addresses only, made for the device that asks, its IOMMU
 * included; no cache is touched, and nothing is bounced.
 *
 * DIFFERS: Linux has no such call. Exporters there ask for pages that may not exist, or hand
 * out one address for every device (armada); thread S002 ended with the wish for what this does.
 *
 * @source reference/linux-dma-buf.md C.1, E.5, I.4; thread S002
 */

import { type DmaAddr, DmaBufError, type DmaDirection } from '../../base/index.ts';
import type { Atomic, Device, IommuDomain, Machine } from '../../machine/index.ts';
import { CoherentMemory } from './dma-coherent.ts';
import { physToDma, streamingLimit } from './dma-direct.ts';
import { domainOf, mayMap, rightsFor } from './dma-mapping.ts';
import type { SgEntry, SgTable } from './scatterlist.ts';

/** A table that knows where it was mapped. */
class CoherentSgTable implements SgTable {
  readonly entries: readonly SgEntry[];
  readonly domain: IommuDomain | null;

  constructor(entry: SgEntry, domain: IommuDomain | null) {
    this.entries = [entry];
    this.domain = domain;
  }
}

/**
 * Maps coherent memory for a device.
 *
 * @returns One entry: whole pages.
 * @throws {@link DmaBufError} `EIO` the device cannot send such an address, or has no mask: a copy
 *   would not be coherent; `ENOMEM` no I/O address left.
 * @context Any.
 */
export function* dmaMapCoherent(
  machine: Machine,
  device: Device,
  memory: CoherentMemory,
  direction: DmaDirection,
): Atomic<SgTable> {
  const call = 'dma_map_coherent';
  const { phys, size: length } = CoherentMemory.rangeOf(memory);
  if (device === memory.device) {
    return new CoherentSgTable({ address: memory.address, length }, null);
  }
  const domain = domainOf(device);
  if (domain !== null && mayMap(machine, device, direction, call)) {
    const ranges = [{ phys, size: length }];
    const limit = streamingLimit(device);
    const address = yield* domain.mapAnywhere(ranges, rightsFor(direction), limit);
    if (address === null) throw new DmaBufError('ENOMEM', call, 'no-address-to-share-it-at');
    return new CoherentSgTable({ address, length }, domain);
  }
  const address: DmaAddr = physToDma(device, phys);
  const inReach = address + length <= streamingLimit(device) && device.forceBounce !== true;
  if (!inReach || !mayMap(machine, device, direction, call)) {
    throw new DmaBufError('EIO', call, 'coherent-memory-out-of-reach');
  }
  return new CoherentSgTable({ address, length }, null);
}

/**
 * Takes a table of {@link dmaMapCoherent} back.
 *
 * @context Any.
 */
export function* dmaUnmapCoherent(machine: Machine, table: SgTable): Atomic {
  if (!(table instanceof CoherentSgTable)) {
    machine.scheduler.warn('dma_unmap_coherent', 'the table is of other memory');
    return;
  }
  const [entry] = table.entries;
  if (table.domain === null || entry === undefined) return;
  yield* table.domain.unmap(entry.address, entry.length);
}
