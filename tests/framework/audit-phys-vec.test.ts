/**
 * Goal: the helper for exporters of device memory refuses in the kernel's order, takes what room
 * there is, and takes all back when there is not enough. Method: domains with holes, single
 * failures; reference C.6.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import {
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  type PhysVec,
  type SgTable,
} from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine, ZEN } from '../machine/test-machines.ts';
import { KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

const PAGE = 4096;
const BAR = 2;
const END = 2 ** 48;

const TRANSLATED = wideMachine({ iommu: 'translated', cpu: ZEN, peerForwarding: 'all' });

/** Memory of one device, and a helper that maps pages of it for another. */
function boot(spec: MachineSpec = TRANSLATED) {
  const rig = new KernelRig(spec);
  const owner = rig.at('09:00.0');
  const device = rig.at('0a:00.0');
  const buf = rig.do(rig.export());
  const attachment = rig.do(buf.dynamicAttach(device, PEER_OPS));
  const provider = rig.kernel.p2pdmaOf(owner).provider(BAR) ?? expect.fail('a provider');
  const map = (pages: readonly number[]): Task<SgTable> => {
    const ranges: readonly PhysVec[] = pages.map((page) => {
      return { paddr: physAddr(owner.barStart(BAR) + page * PAGE), length: PAGE };
    });
    return locked(buf.resv, dmaBufPhysVecToSgt(attachment, provider, ranges, 'bidirectional'));
  };
  const free = (table: SgTable): Task =>
    locked(buf.resv, dmaBufFreeSgt(attachment, table, 'bidirectional'));
  const domain = device.domain.value ?? expect.fail('a domain');
  /** Takes all addresses but for single pages at these. */
  const holes = (...at: readonly number[]): void => {
    const starts = [0, ...at.map((iova) => iova + PAGE)];
    const taken = starts.map((iova, i) => ({ iova, size: (at[i] ?? END) - iova }));
    domain.value = taken.map((range) => {
      return { ...range, phys: 0, readable: false, writable: false };
    });
  };
  return { rig, map, free, domain, holes };
}

describe('Several ranges for which there is no block of addresses (C.6)', () => {
  test('go where there is room for each, and come back', () => {
    const { rig, map, free, domain, holes } = boot();
    holes(0x10000, 0x40000, 0x80000);
    const before = domain.value;
    const table = rig.do(map([5, 1]));
    expect(table.entries.map(({ length }) => length)).toEqual([PAGE, PAGE]);
    const free1 = [0x10000, 0x40000, 0x80000];
    for (const { address } of table.entries) {
      expect(free1).toContain(address);
      rig.write(rig.at('0a:00.0'), address, [1]);
    }
    expect(
      rig
        .device('09:00.0')
        .bar(BAR)
        .writes.map(({ offset }) => offset / PAGE),
    ).toEqual([5, 1]);
    rig.do(free(table));
    expect(domain.value).toEqual(before);
  });

  test('are ENOMEM if one of them finds none: those before are taken back', () => {
    const { rig, map, domain, holes } = boot();
    holes(0x10000, 0x40000);
    const before = domain.value;
    const error = rig.do(refused(map([0, 1, 2])));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-io-address-left' });
    expect(domain.value).toEqual(before);
    expect(rig.warnings).toEqual([]);
  });
});

describe('A table of device memory (C.6)', () => {
  /** What the n-th failure makes of a map; `none` if it goes well. */
  function reasonOf(n: number, pages: readonly number[], spec?: MachineSpec) {
    const { rig, map, domain } = boot(spec);
    Object.assign(rig.scheduler, { failAt: n, fallible: 0 });
    const reasons: string[] = [];
    function* attempt(): Task {
      reasons.push((yield* refused(map(pages))).reason);
    }
    rig.do(attempt());
    expect(domain.value).toEqual([]);
    return reasons[0];
  }

  test('is ENOMEM without memory, before anybody asks for the route or the ranges', () => {
    expect(reasonOf(1, [0])).toBe('no-memory-for-a-table');
    expect(reasonOf(1, [])).toBe('no-memory-for-a-table');
    const noRoute = wideMachine({ iommu: 'translated' });
    expect(reasonOf(1, [0], noRoute)).toBe('no-memory-for-a-table');
  });

  test('asks for the route before the ranges: EINVAL both', () => {
    const noRoute = wideMachine({ iommu: 'translated' });
    expect(reasonOf(0, [], noRoute)).toBe('no-peer-to-peer-route');
    expect(reasonOf(0, [])).toBe('no-ranges-to-map');
  });

  test('needs the lock at map and at free: a kernel warning each (C.6, A.18)', () => {
    const { rig } = boot();
    const owner = rig.at('09:00.0');
    const buf = rig.do(rig.export());
    const attachment = rig.do(buf.dynamicAttach(rig.at('0a:00.0'), PEER_OPS));
    const provider = rig.kernel.p2pdmaOf(owner).provider(BAR) ?? expect.fail('a provider');
    const ranges = [{ paddr: physAddr(owner.barStart(BAR)), length: PAGE }];
    const table = rig.do(dmaBufPhysVecToSgt(attachment, provider, ranges, 'to-device'));
    rig.do(dmaBufFreeSgt(attachment, table, 'to-device'));
    expect(rig.warnings).toEqual([
      'dma_buf_phys_vec_to_sgt: called without dma-buf 2 resv',
      'dma_buf_free_sgt: called without dma-buf 2 resv',
    ]);
  });
});
