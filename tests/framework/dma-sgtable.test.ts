/**
 * Goal: pages become a table of addresses that work for one device, and nothing is left of it after
 * the unmap. Method: ranges of RAM, with IOMMU and without; reference C.1, C.2.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import { dmaMapSgtable, dmaUnmapSgtable, pageList } from '../../src/framework/index.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { KernelRig } from './kernel-rig.ts';

const CLIENT = '0a:00.0';
const PAGE = 4096;
const BASE = 0x200000;

function boot(spec = wideMachine({ iommu: 'translated' }), address = CLIENT) {
  const rig = new KernelRig(spec);
  return { rig, machine: rig.machine, device: rig.at(address) };
}

function pagesAt(...ranges: readonly (readonly [phys: number, pages: number])[]) {
  return pageList(ranges.map(([phys, count]) => ({ phys: physAddr(phys), size: count * PAGE })));
}

describe('A table behind an IOMMU', () => {
  test('joins pieces up to the segment size of the device (C.2)', () => {
    const { rig, machine, device } = boot();
    device.maxSegmentSize = 2 * PAGE;
    const pages = pagesAt([BASE + 8 * PAGE, 1], [BASE, 1], [BASE + 4 * PAGE, 1]);
    const table = rig.do(dmaMapSgtable(machine, device, pages, 'bidirectional'));
    expect(table.entries.map(({ length }) => length)).toEqual([2 * PAGE, PAGE]);
    rig.do(dmaUnmapSgtable(machine, device, table, 'bidirectional'));
    expect(device.domain.value?.value).toEqual([]);
  });

  test('is ENOMEM when no address is left: no-room-for-the-table (C.2)', () => {
    const { rig, machine, device } = boot();
    useUpAddresses(device);
    const pages = pagesAt([BASE, 1]);
    const error = rig.do(refused(dmaMapSgtable(machine, device, pages, 'bidirectional')));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-room-for-the-table' });
  });
});
