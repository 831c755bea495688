/**
 * Goal: device memory is mapped for another device the way its route wants it, and all of it is
 * taken back. Method: the helper itself, under an exporter that does nothing else; bytes sent to
 * what it hands out. Reference C.6.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import {
  type Attachment,
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  ENTRY_SIZE_MAX,
  type PhysVec,
  type SgTable,
} from '../../src/framework/index.ts';
import {
  type Device,
  type MachineSpec,
  PlatformDevice,
  type Task,
} from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { refused, useUpAddresses, withAcs } from '../machine/fabric-rig.ts';
import { LISTED, wideMachine, ZEN } from '../machine/test-machines.ts';
import { KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const BAR = 2;

/** A provider, a client attached to some buffer, and the helper between them. */
function boot(spec: MachineSpec, providerAt: string, client: string | Device) {
  const rig = new KernelRig(spec);
  const owner = rig.at(providerAt);
  const device = typeof client === 'string' ? rig.at(client) : client;
  const buf = rig.do(rig.export());
  const attachment: Attachment = rig.do(buf.dynamicAttach(device, PEER_OPS));
  const provider = rig.kernel.p2pdmaOf(owner).provider(BAR) ?? expect.fail('a provider');
  const rangesOf = (list: readonly (readonly [number, number])[]): readonly PhysVec[] =>
    list.map(([page, pages]) => ({
      paddr: physAddr(owner.barStart(BAR) + page * PAGE),
      length: pages * PAGE,
    }));
  const mapTask = (list: readonly (readonly [number, number])[]): Task<SgTable> => {
    const ranges = rangesOf(list);
    return locked(buf.resv, dmaBufPhysVecToSgt(attachment, provider, ranges, 'bidirectional'));
  };
  return {
    rig,
    mapTask,
    map: (...list: readonly (readonly [number, number])[]): SgTable => rig.do(mapTask(list)),
    free: (table: SgTable): void =>
      rig.do(locked(buf.resv, dmaBufFreeSgt(attachment, table, 'bidirectional'))),
    mapRaw: (ranges: readonly PhysVec[]): SgTable =>
      rig.do(locked(buf.resv, dmaBufPhysVecToSgt(attachment, provider, ranges, 'bidirectional'))),
    /** Writes the number of each page of the table into that page; says where they came out. */
    probe: (table: SgTable): readonly number[] => {
      const bar = rig.device(providerAt).bar(BAR);
      for (const { address, length } of table.entries) {
        for (let at = 0; at < length; at += PAGE) rig.write(device, address + at, [1]);
      }
      return bar.writes.map(({ offset }) => offset / PAGE);
    },
    table: () => (device.pci?.domain.value ?? null)?.value ?? [],
  };
}

const MODES = ['off', 'passthrough', 'translated'] as const;

describe('Device memory below one switch', () => {
  test.each(MODES)('is mapped by bus addresses, past any IOMMU: %s (S004-9)', (iommu) => {
    const { rig, map, free, probe, table } = boot(wideMachine({ iommu }), '04:00.0', '03:00.0');
    const mapped = map([3, 2], [0, 1]);
    const bus = rig.busAddressOf('04:00.0', BAR);
    expect(mapped.entries).toEqual([
      { address: bus + 3 * PAGE, length: 2 * PAGE },
      { address: bus, length: PAGE },
    ]);
    expect(probe(mapped)).toEqual([3, 4, 0]);
    expect(table()).toEqual([]);
    free(mapped);
    expect(rig.events('iommu.map', 'iommu.unmap')).toEqual([]);
  });

  test('has bus addresses where the CPU has others', () => {
    const { rig, map, probe } = boot(ARM_SOC, '03:00.0', '04:00.0');
    const mapped = map([1, 1]);
    expect(mapped.entries[0]?.address).toBe(rig.busAddressOf('03:00.0', BAR) + PAGE);
    expect(mapped.entries[0]?.address).not.toBe(rig.at('03:00.0').barStart(BAR) + PAGE);
    expect(probe(mapped)).toEqual([1]);
  });
});

describe('Device memory beyond a trusted root complex', () => {
  const spec = (iommu: (typeof MODES)[number]) =>
    wideMachine({ iommu, cpu: ZEN, peerForwarding: 'all' });

  test('has one block of I/O addresses for all ranges, gone after the free (S002-11, C.6)', () => {
    const { rig, map, free, probe, table } = boot(spec('translated'), '09:00.0', '0a:00.0');
    const mapped = map([3, 2], [0, 1], [3, 1]);
    expect(mapped.entries).toEqual([{ address: mapped.entries[0]?.address, length: 4 * PAGE }]);
    const start = rig.at('09:00.0').barStart(BAR);
    expect(table().map(({ phys, size }) => [(phys - start) / PAGE, size / PAGE])).toEqual([
      [3, 2],
      [0, 1],
      [3, 1],
    ]);
    expect(probe(mapped)).toEqual([3, 4, 0, 3]);
    free(mapped);
    expect(table()).toEqual([]);
    const [entry] = mapped.entries;
    rig.write('0a:00.0', entry?.address ?? 0, [1]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', address: entry?.address });
  });

  test('is one table for each mapping, and each goes by itself', () => {
    const { map, free, probe, table } = boot(spec('translated'), '09:00.0', '0a:00.0');
    const [one, other] = [map([0, 1]), map([0, 1])];
    expect(one.entries[0]?.address).not.toBe(other.entries[0]?.address);
    free(one);
    expect(table()).toHaveLength(1);
    expect(probe(other)).toEqual([0]);
    free(other);
    expect(table()).toEqual([]);
  });

  test.each(['off', 'passthrough'] as const)('is mapped range by range without: %s', (iommu) => {
    const { rig, map, free, probe } = boot(spec(iommu), '09:00.0', '0a:00.0');
    const mapped = map([3, 2], [0, 1]);
    const start = rig.at('09:00.0').barStart(BAR);
    expect(mapped.entries).toEqual([
      { address: start + 3 * PAGE, length: 2 * PAGE },
      { address: start, length: PAGE },
    ]);
    expect(probe(mapped)).toEqual([3, 4, 0]);
    free(mapped);
  });

  test('has I/O addresses below a switch, too, where that redirects (N39)', () => {
    const redirecting = withAcs(spec('translated'), { '02:00.0': 0x1d, '00:01.0': 0x10 });
    const { rig, map, probe } = boot(redirecting, '04:00.0', '03:00.0');
    const mapped = map([0, 1]);
    expect(mapped.entries[0]?.address).not.toBe(rig.busAddressOf('04:00.0', BAR));
    expect(probe(mapped)).toEqual([0]);
    const route = rig.trace.find((event) => event.kind === 'dma.write');
    expect(route).toMatchObject({ route: expect.arrayContaining(['iommu']) });
  });

  test('is ENOMEM when no I/O address is left, and leaves what was there (C.6)', () => {
    const { rig, mapTask, table } = boot(spec('translated'), '09:00.0', '0a:00.0');
    useUpAddresses(rig.at('0a:00.0'));
    const before = table();
    const error = rig.do(refused(mapTask([[0, 4]])));
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-io-address-left' });
    expect(table()).toEqual(before);
  });
});

describe('Long ranges', () => {
  test('are cut at 4 GiB less a page, and each range begins anew (MP-014, C.6)', () => {
    expect(ENTRY_SIZE_MAX).toBe(4 * GIB - PAGE);
    const { rig, mapRaw } = boot(wideMachine(), '04:00.0', '03:00.0');
    const start = physAddr(rig.at('04:00.0').barStart(BAR));
    const lengths = [10 * GIB, ENTRY_SIZE_MAX, ENTRY_SIZE_MAX + PAGE, PAGE];
    const { entries } = mapRaw(lengths.map((length) => ({ paddr: start, length })));
    const bus = rig.busAddressOf('04:00.0', BAR);
    expect(entries).toEqual([
      { address: bus, length: ENTRY_SIZE_MAX },
      { address: bus + ENTRY_SIZE_MAX, length: ENTRY_SIZE_MAX },
      { address: bus + 2 * ENTRY_SIZE_MAX, length: 2 * GIB + 2 * PAGE },
      { address: bus, length: ENTRY_SIZE_MAX },
      { address: bus, length: ENTRY_SIZE_MAX },
      { address: bus + ENTRY_SIZE_MAX, length: PAGE },
      { address: bus, length: PAGE },
    ]);
    const total = entries.reduce((sum, { length }) => sum + length, 0);
    expect(total).toBe(lengths.reduce((sum, length) => sum + length, 0));
  });

  test('are cut in the same way where each is mapped by itself', () => {
    const { rig, mapRaw } = boot(wideMachine({ cpu: ZEN }), '09:00.0', '0a:00.0');
    const start = physAddr(rig.at('09:00.0').barStart(BAR));
    const { entries } = mapRaw([{ paddr: start, length: ENTRY_SIZE_MAX + 2 * PAGE }]);
    expect(entries).toEqual([
      { address: start, length: ENTRY_SIZE_MAX },
      { address: start + ENTRY_SIZE_MAX, length: 2 * PAGE },
    ]);
  });
});

describe('What cannot be mapped', () => {
  test.each([
    ['not supported', '09:00.0', '0a:00.0', 'not-supported'],
    ['redirected to a root complex that is not', '04:00.0', '03:00.0', 'not-supported'],
  ])('because the route is %s is EINVAL with the reason (N33)', (_, owner, client, verdict) => {
    const { rig, mapTask } = boot(withAcs(wideMachine(), { '02:00.0': 0x1d }), owner, client);
    const error = rig.do(refused(mapTask([[0, 1]])));
    expect(error).toMatchObject({
      code: 'EINVAL',
      call: 'mapDmaBuf',
      reason: 'no-peer-to-peer-route',
      detail: {
        refusedBy: 'core',
        rule: 'p2p-only-if-reachable',
        provider: `0000:${owner}`,
        bar: BAR,
        client: `0000:${client}`,
        verdict,
        distance: -1,
      },
    });
    expect(error.detail).toHaveProperty('why');
    expect(error.detail).toHaveProperty('advice');
    expect(JSON.parse(JSON.stringify(error.detail))).toEqual(error.detail);
  });

  test('because the importer is not on PCI is EINVAL, too (S000-8)', () => {
    const scaler = new PlatformDevice('gsc.0', true);
    const { rig, mapTask } = boot(wideMachine({ host: LISTED }), '04:00.0', scaler);
    const error = rig.do(refused(mapTask([[0, 1]])));
    expect(error).toMatchObject({
      code: 'EINVAL',
      reason: 'no-peer-to-peer-route',
      detail: { client: 'gsc.0', why: 'gsc.0 is not a PCI device', advice: [] },
    });
  });

  test('because there are no ranges is EINVAL: no-ranges-to-map (C.6)', () => {
    const { rig, mapTask } = boot(wideMachine(), '04:00.0', '03:00.0');
    const error = rig.do(refused(mapTask([])));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'no-ranges-to-map' });
  });

  test('is asked after the route: without ranges and without route it is the route', () => {
    const { rig, mapTask } = boot(wideMachine(), '09:00.0', '0a:00.0');
    expect(rig.do(refused(mapTask([]))).reason).toBe('no-peer-to-peer-route');
  });
});

describe('Taking a table back', () => {
  test('that the helper did not make is a mistake of ours', () => {
    const { free } = boot(wideMachine(), '04:00.0', '03:00.0');
    expect(() => free({ entries: [] })).toThrow('is one of dmaBufPhysVecToSgt');
  });
});
