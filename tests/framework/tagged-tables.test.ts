/**
 * Goal: the design that thread S002 rejected, played through: the exporter tags a table as memory
 * without pages, and every consumer must look at the tag. It works where somebody looks, takes the
 * kernel down where somebody does not, and there are many places to look. Method: the variant as a
 * test's own code; the places are counted in the sources.
 */

import { describe, expect, test } from 'vitest';
import { type DmaAddr, dmaAddr } from '../../src/base/index.ts';
import {
  declareCoherentMemory,
  dmaAllocCoherent,
  dmaGetSgtableUnchecked,
  dmaMapSgtable,
  type PageList,
  reserveMemory,
} from '../../src/framework/index.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { sourcesIn, textOf } from '../tidy/source-files.ts';
import { DmaRig, PAGE } from './dma-rig.ts';

/** A table as the thread proposed it: pages that may be none, an address, and the tag. */
interface TaggedTable {
  readonly pages: PageList;
  readonly address: DmaAddr;
  readonly isDeviceCoherent: boolean;
}

function exported(): { readonly rig: DmaRig; readonly table: TaggedTable } {
  const rig = new DmaRig(wideMachine());
  const { machine, card } = rig;
  const { phys } = rig.do(reserveMemory(machine, PAGE));
  declareCoherentMemory(machine, card, { phys, size: PAGE }, dmaAddr(phys));
  const memory = rig.do(dmaAllocCoherent(machine, card, PAGE));
  const pages = dmaGetSgtableUnchecked(memory);
  return { rig, table: { pages, address: dmaAddr(phys), isDeviceCoherent: true } };
}

/** An importer that looks at the tag. */
function addressFor(table: TaggedTable): DmaAddr | null {
  return table.isDeviceCoherent ? table.address : null;
}

describe('A table with a tag for memory without pages', () => {
  test('works for a consumer that looks at the tag (S002-2)', () => {
    const { rig, table } = exported();
    rig.write('03:00.0', addressFor(table) ?? expect.fail('the tag'), [7]);
    expect(rig.ram(table.address, 1)).toEqual([7]);
  });

  test('takes the kernel down at one that does not (S002-2)', () => {
    const { rig, table } = exported();
    const map = dmaMapSgtable(rig.machine, rig.at('03:00.0'), table.pages, 'bidirectional');
    expect(rig.try(map).outcome.status).toBe('oops');
  });

  test('would have to be looked at in every importer, which all get by without (S002-2)', () => {
    const importers = sourcesIn('src/drivers').filter((path) =>
      /\.mapAttachment(Unlocked)?\(/.test(textOf(path)),
    );
    console.log(`${importers.length} files would need the check`);
    expect(importers.length).toBeGreaterThan(3);
    expect(importers.filter((path) => /isDeviceCoherent|hasPages/.test(textOf(path)))).toEqual([]);
  });
});
