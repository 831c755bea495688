/**
 * Goal: the DMA API gives each device an address that works for it, cleans and invalidates where
 * caches need it, and takes everything back. Method: RAM and BARs, with IOMMU and without, coherent
 * or not; reference C.2 to C.4.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DmaAddr, type DmaDirection, dmaAddr, physAddr } from '../../src/base/index.ts';
import {
  dmaIovaDestroy,
  dmaIovaMap,
  dmaMapPhys,
  dmaMapResource,
  dmaSyncForCpu,
  dmaSyncForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPhys,
  dmaUnmapResource,
  type MappedKind,
} from '../../src/framework/index.ts';
import { type PciFunction, PlatformDevice, type Task } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { oneStep, refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { KernelRig } from './kernel-rig.ts';

const CLIENT = '0a:00.0';
const PAGE = 4096;
const GIB = 2 ** 30;
const BASE = 0x200000;

/** A machine, one device on it, and the DMA API for it. */
function boot(spec = wideMachine({ iommu: 'translated' }), address = CLIENT) {
  const rig = new KernelRig(spec);
  const device = rig.at(address);
  const { machine } = rig;
  return {
    rig,
    device,
    map: (phys: number, size: number, direction: DmaDirection, kind: MappedKind = 'ram') =>
      rig.do(dmaMapPhys(machine, device, { phys: physAddr(phys), size }, direction, kind)),
    unmap: (
      at: DmaAddr,
      phys: number,
      size: number,
      direction: DmaDirection,
      kind: MappedKind = 'ram',
    ) => rig.do(dmaUnmapPhys(machine, device, at, { phys: physAddr(phys), size }, direction, kind)),
    store: (phys: number, bytes: readonly number[]): void =>
      rig.do(oneStep(machine.cpu.store(physAddr(phys), Uint8Array.from(bytes)))),
    load: (phys: number, length: number): readonly number[] => [
      ...rig.do(oneStep(machine.cpu.load(physAddr(phys), length))),
    ],
    table: () => device.domain.value?.value ?? [],
  };
}

describe('Mapping RAM with an IOMMU', () => {
  test('gives an I/O address, and rights for the direction', () => {
    for (const [direction, readable, writable] of [
      ['to-device', true, false],
      ['from-device', false, true],
      ['bidirectional', true, true],
    ] as const) {
      const { rig, map, table } = boot();
      const at = map(BASE, PAGE, direction);
      expect(table()).toEqual([{ iova: at, phys: BASE, size: PAGE, readable, writable }]);
      rig.write(CLIENT, at, [1]);
      expect(rig.ram(BASE, 1)).toEqual([writable ? 1 : 0]);
      expect(rig.read(CLIENT, at, 1).ok).toBe(readable);
    }
  });

  test('covers whole pages and keeps the offset within one (unaligned address and size)', () => {
    const { map, unmap, table } = boot();
    const at = map(BASE + 0x123, PAGE, 'bidirectional');
    expect(at % PAGE).toBe(0x123);
    expect(table()).toMatchObject([{ iova: at - 0x123, phys: BASE, size: 2 * PAGE }]);
    unmap(at, BASE + 0x123, PAGE, 'bidirectional');
    expect(table()).toEqual([]);
  });

  test('of any piece lands where it should and leaves nothing behind', () => {
    const piece = fc.record({
      phys: fc.integer({ min: BASE, max: BASE + 8 * PAGE }),
      size: fc.integer({ min: 1, max: 3 * PAGE }),
      place: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        const { rig, map, unmap, table } = boot();
        const at = pieces.map(({ phys, size }) => map(phys, size, 'bidirectional'));
        for (const [i, { phys, size, place }] of pieces.entries()) {
          const offset = place % size;
          rig.write(CLIENT, (at[i] ?? 0) + offset, [i + 1]);
          expect(rig.ram(phys + offset, 1)).toEqual([i + 1]);
        }
        expect(rig.machine.faults).toEqual([]);
        for (const [i, { phys, size }] of pieces.entries()) {
          unmap(at[i] ?? dmaAddr(0), phys, size, 'bidirectional');
        }
        expect(table()).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  test('ends: a DMA after the unmap faults, and names device and address', () => {
    const { rig, map, unmap } = boot();
    const at = map(BASE, PAGE, 'bidirectional');
    unmap(at, BASE, PAGE, 'bidirectional');
    rig.write(CLIENT, at, [1]);
    expect(rig.fault).toMatchObject({
      kind: 'iommu.fault',
      device: rig.at(CLIENT).name,
      address: at,
    });
    expect(rig.ram(BASE, 1)).toEqual([0]);
  });

  test('is ENOMEM when no address is left: no-io-address-left', () => {
    const { rig, device } = boot();
    useUpAddresses(rig.at(CLIENT));
    const big = { phys: physAddr(4 * GIB), size: 2 * GIB };
    const error = rig.do(refused(dmaMapPhys(rig.machine, device, big, 'bidirectional', 'ram')));
    expect(error).toMatchObject({
      code: 'ENOMEM',
      call: 'dma_map_phys',
      reason: 'no-io-address-left',
    });
  });
});

describe('Mapping without translation', () => {
  test.each(['off', 'passthrough'] as const)('gives the physical address: IOMMU %s', (iommu) => {
    const { rig, map, unmap } = boot(wideMachine({ iommu }));
    const at = map(BASE + 5, 10, 'bidirectional');
    expect(at).toBe(BASE + 5);
    rig.write(CLIENT, at, [1]);
    expect(rig.ram(BASE + 5, 1)).toEqual([1]);
    unmap(at, BASE + 5, 10, 'bidirectional');
    expect(rig.events('iommu.map', 'iommu.unmap')).toEqual([]);
  });

  test('gives RAM where the device sees it, and a BAR at its CPU address (I.7)', () => {
    const { rig, map } = boot(ARM_SOC, '04:00.0');
    expect(map(BASE, PAGE, 'to-device')).toBe(BASE + 0x4_0000_0000);
    const bar = rig.at('03:00.0').barStart(2);
    expect(map(bar, PAGE, 'to-device', 'mmio')).toBe(bar);
  });

  test('of a BAR without asking the rule first goes astray on such a bus (S004-9, MP-011)', () => {
    const { rig, map } = boot(ARM_SOC, '04:00.0');
    const at = map(rig.at('03:00.0').barStart(2), PAGE, 'bidirectional', 'mmio');
    rig.write('04:00.0', at, [1]);
    expect(rig.arrived).toEqual([]);
    expect(rig.fault).toMatchObject({ at: 'root-complex', address: at });
  });

  test('serves a device that is not on PCI', () => {
    const rig = new KernelRig(ARM_SOC);
    const scaler = new PlatformDevice('gsc.0', false);
    const range = { phys: physAddr(BASE), size: PAGE };
    expect(rig.do(dmaMapPhys(rig.machine, scaler, range, 'to-device', 'ram'))).toBe(BASE);
    expect(rig.do(dmaIovaMap(scaler, [range], 'to-device'))).toBeNull();
  });
});

/** RAM that both use, on a machine where neither sees the other's cache. */
function sharedRam(coherentDma: boolean) {
  const it = boot(wideMachine({ coherentDma }));
  const range = { phys: physAddr(BASE), size: PAGE };
  const { rig, device } = it;
  const { machine } = rig;
  return {
    ...it,
    at: it.map(BASE, PAGE, 'bidirectional'),
    forDevice: () => rig.do(dmaSyncForDevice(machine, device, range)),
    forCpu: (direction: DmaDirection) => rig.do(dmaSyncForCpu(machine, device, range, direction)),
  };
}

describe('On a machine that is not coherent', () => {
  test('the map hands over what the CPU wrote before', () => {
    const { rig, store, map } = boot(wideMachine({ coherentDma: false }));
    store(BASE, [1, 2]);
    const at = map(BASE, 2, 'to-device');
    expect([...rig.read(CLIENT, at, 2).bytes]).toEqual([1, 2]);
    expect(rig.events('cache.clean')).toMatchObject([{ phys: BASE, size: 2 }]);
  });

  test('the device reads old bytes without a sync for the device, and new ones with it', () => {
    const { rig, at, store, forDevice } = sharedRam(false);
    store(BASE, [1]);
    expect([...rig.read(CLIENT, at, 1).bytes]).toEqual([0]);
    forDevice();
    expect([...rig.read(CLIENT, at, 1).bytes]).toEqual([1]);
  });

  test('the CPU reads stale bytes without a sync for the CPU, and fresh ones with it', () => {
    const { rig, at, load, forCpu } = sharedRam(false);
    expect(load(BASE, 1)).toEqual([0]);
    rig.write(CLIENT, at, [7]);
    expect(load(BASE, 1)).toEqual([0]);
    // With the wrong direction nothing is fetched.
    forCpu('to-device');
    expect(load(BASE, 1)).toEqual([0]);
    forCpu('from-device');
    expect(load(BASE, 1)).toEqual([7]);
  });

  test('the unmap shows the CPU what the device wrote, unless it could not write', () => {
    for (const [direction, seen] of [
      ['from-device', 7],
      ['bidirectional', 7],
      ['to-device', 0],
    ] as const) {
      const { rig, load, map, unmap } = boot(wideMachine({ coherentDma: false }));
      expect(load(BASE, 1)).toEqual([0]);
      const at = map(BASE, PAGE, direction);
      rig.write(CLIENT, at, [7]);
      unmap(at, BASE, PAGE, direction);
      expect(load(BASE, 1)).toEqual([seen]);
    }
  });

  test('a BAR is never cached: nothing is cleaned for it (S002-18, B098)', () => {
    const { rig, map, unmap } = boot(wideMachine({ coherentDma: false }));
    const bar = rig.at('09:00.0').barStart(2);
    const at = map(bar, PAGE, 'bidirectional', 'mmio');
    unmap(at, bar, PAGE, 'bidirectional', 'mmio');
    expect(rig.events('cache.clean', 'cache.invalidate')).toEqual([]);
  });
});

describe('On a coherent machine', () => {
  test('neither sync is needed, and neither does anything', () => {
    const { rig, at, store, load, forDevice, forCpu } = sharedRam(true);
    store(BASE, [1]);
    expect([...rig.read(CLIENT, at, 1).bytes]).toEqual([1]);
    rig.write(CLIENT, at, [7]);
    expect(load(BASE, 1)).toEqual([7]);
    forDevice();
    forCpu('bidirectional');
    expect(rig.events('cache.clean', 'cache.invalidate')).toEqual([]);
  });
});

describe('A block of I/O addresses', () => {
  const RANGES = [
    { phys: physAddr(BASE + 4 * PAGE), size: PAGE },
    { phys: physAddr(4 * GIB), size: 2 * PAGE },
    { phys: physAddr(BASE), size: PAGE },
  ];

  test('holds several ranges one behind the other, and goes as a whole', () => {
    const { rig, device, table } = boot();
    const block = rig.do(dmaIovaMap(device, RANGES, 'bidirectional')) ?? expect.fail('a block');
    expect(block.size).toBe(4 * PAGE);
    for (const [page, phys] of [BASE + 4 * PAGE, 4 * GIB, 4 * GIB + PAGE, BASE].entries()) {
      rig.write(CLIENT, block.address + page * PAGE, [page + 1]);
      expect(rig.ram(phys, 1)).toEqual([page + 1]);
    }
    rig.write(CLIENT, block.address + PAGE - 1, [8, 9]);
    expect([rig.ram(BASE + 5 * PAGE - 1, 1), rig.ram(4 * GIB, 1)]).toEqual([[8], [9]]);
    rig.do(dmaIovaDestroy(block));
    expect(table()).toEqual([]);
  });

  test('is not to be had without a domain', () => {
    const { rig, device } = boot(wideMachine({ iommu: 'passthrough' }));
    expect(rig.do(dmaIovaMap(device, RANGES, 'bidirectional'))).toBeNull();
  });

  test('is ENOMEM when there is no room for it: no-io-block-left', () => {
    const { rig, device } = boot();
    const all = [{ phys: physAddr(4 * GIB), size: 2 * GIB }];
    useUpAddresses(rig.at(CLIENT));
    const error = rig.do(refused(dmaIovaMap(device, all, 'bidirectional')));
    expect(error).toMatchObject({
      code: 'ENOMEM',
      call: 'dma_iova_link',
      reason: 'no-io-block-left',
    });
  });

  test('is of whole pages', () => {
    const { rig, device } = boot();
    const part: readonly { phys: ReturnType<typeof physAddr>; size: number }[] = [
      { phys: physAddr(BASE + 1), size: PAGE },
    ];
    expect(() => rig.do(dmaIovaMap(device, part, 'to-device'))).toThrow('whole pages');
  });
});

describe('Two devices', () => {
  test('of one IOMMU group share addresses, others do not (I.7)', () => {
    const rig = new KernelRig(wideMachine({ iommu: 'translated' }));
    const range = { phys: physAddr(BASE), size: PAGE };
    function* mapFor(device: PciFunction): Task<DmaAddr> {
      return yield* dmaMapPhys(rig.machine, device, range, 'bidirectional', 'ram');
    }
    const at = rig.do(mapFor(rig.at('09:00.0')));
    rig.write('09:00.1', at, [1]);
    expect(rig.ram(BASE, 1)).toEqual([1]);
    rig.write('0a:00.0', at, [2]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', device: '0000:0a:00.0' });
    expect(rig.ram(BASE, 1)).toEqual([1]);
  });
});

describe('What dma_mapping_error says', () => {
  /** A map that must fail, and what the kernel warned of. */
  function failing(rig: KernelRig, attrs = {}) {
    const range = { phys: physAddr(4 * GIB), size: PAGE };
    const device = rig.at(CLIENT);
    const call = dmaMapPhys(rig.machine, device, range, 'bidirectional', 'ram', attrs);
    const { code, reason } = rig.do(refused(call));
    return { code, reason, warnings: rig.warnings.length };
  }

  test('is ENOMEM, with a warning, for a device without a mask (C.3)', () => {
    const { rig, device } = boot();
    device.dmaMask = null;
    const expected = { code: 'ENOMEM', reason: 'device-without-a-dma-mask', warnings: 1 };
    expect(failing(rig)).toEqual(expected);
  });

  test('is ENOMEM if it must be coherent: range-for-a-device-that-is-not-coherent (C.3)', () => {
    const { rig } = boot(wideMachine({ coherentDma: false }));
    expect(failing(rig, { requireCoherent: true })).toEqual({
      code: 'ENOMEM',
      reason: 'range-for-a-device-that-is-not-coherent',
      warnings: 0,
    });
  });

  test('is ENOMEM, with a warning, beyond the mask: range-out-of-reach (C.3)', () => {
    const { rig, device } = boot(wideMachine());
    device.dmaMask = 32;
    expect(failing(rig)).toEqual({ code: 'ENOMEM', reason: 'range-out-of-reach', warnings: 1 });
    device.dmaMask = 33;
    const range = { phys: physAddr(4 * GIB), size: PAGE };
    const at = rig.do(dmaMapPhys(rig.machine, device, range, 'to-device', 'ram'));
    expect(at).toBe(4 * GIB);
  });

  test('is nothing behind an IOMMU: the address is made to fit the mask (C.3)', () => {
    const { device, map } = boot();
    device.dmaMask = 32;
    expect(map(4 * GIB, PAGE, 'to-device')).toBeLessThan(4 * GIB);
  });

  test('is not asked for no direction at all: the kernel stops (C.3)', () => {
    const { rig, device } = boot();
    const range = { phys: physAddr(BASE), size: PAGE };
    const none = 'none' as DmaDirection;
    const { outcome } = rig.try(dmaMapPhys(rig.machine, device, range, none, 'ram'));
    expect(outcome.status).toBe('oops');
  });
});

describe('dma_map_resource', () => {
  test('asks no rule: across a switch with another view it goes astray (MP-011, S004-9)', () => {
    const rig = new KernelRig(ARM_SOC);
    const { machine } = rig;
    const client = rig.at('04:00.0');
    const range = { phys: rig.at('03:00.0').barStart(2), size: PAGE };
    const at = rig.do(dmaMapResource(machine, client, range, 'bidirectional'));
    expect(at).toBe(range.phys);
    rig.write(client, at, [1]);
    expect(rig.arrived).toEqual([]);
    expect(rig.fault).toMatchObject({ at: 'root-complex', address: at });
    // The rule would have said the bus address, and that arrives.
    rig.write(client, rig.busAddressOf('03:00.0', 2), [1]);
    expect(rig.arrived).toHaveLength(1);
  });

  test('succeeds also where the hardware forwards nothing (MP-011)', () => {
    const { rig, device } = boot(wideMachine({ peerForwarding: 'none' }));
    const range = { phys: rig.at('41:00.0').barStart(2), size: PAGE };
    const at = rig.do(dmaMapResource(rig.machine, device, range, 'bidirectional'));
    rig.write(device, at, [1]);
    expect(rig.fault).toMatchObject({ kind: 'pci.fault' });
  });

  test('behind an IOMMU makes an entry, and the unmap takes it away (C.3)', () => {
    const { rig, device, table } = boot(
      wideMachine({ iommu: 'translated', peerForwarding: 'all' }),
    );
    const range = { phys: rig.at('03:00.0').barStart(2), size: PAGE };
    const at = rig.do(dmaMapResource(rig.machine, device, range, 'bidirectional'));
    rig.write(device, at, [1]);
    expect(rig.arrived).toHaveLength(1);
    rig.do(dmaUnmapResource(rig.machine, device, at, range, 'bidirectional'));
    expect(table()).toEqual([]);
  });
});

describe('A sync by address', () => {
  test('maintains just its part, behind an IOMMU, too (C.2, I.5)', () => {
    for (const iommu of ['off', 'translated'] as const) {
      const { rig, device, map, store, load } = boot(wideMachine({ coherentDma: false, iommu }));
      const { machine } = rig;
      const at = map(BASE, PAGE, 'bidirectional');
      store(BASE + 0x80, [1]);
      rig.do(dmaSyncSingleForDevice(machine, device, dmaAddr(at + 0x80), 1, 'to-device'));
      expect([...rig.read(device, at + 0x80, 1).bytes]).toEqual([1]);
      rig.write(device, at + 0x80, [7]);
      expect(load(BASE + 0x80, 1)).toEqual([1]);
      rig.do(dmaSyncSingleForCpu(machine, device, dmaAddr(at + 0x80), 1, 'from-device'));
      expect(load(BASE + 0x80, 1)).toEqual([7]);
      expect(rig.events('cache.invalidate')).toMatchObject([{ phys: BASE + 0x80, size: 1 }]);
    }
  });

  test('of an address that is not mapped is a warning (C.2)', () => {
    const { rig, device } = boot();
    rig.do(dmaSyncSingleForCpu(rig.machine, device, dmaAddr(BASE), 1, 'from-device'));
    rig.do(dmaSyncSingleForDevice(rig.machine, device, dmaAddr(BASE), 1, 'to-device'));
    expect(rig.warnings).toHaveLength(2);
  });
});
