/**
 * Goal: a device reaches through the IOMMU what is mapped for it, as long as it is mapped, with the
 * rights that were given, and nothing else; addresses are handed out once. Method: one domain by
 * hand; random maps and unmaps against a list.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dmaAddr, PAGE_SIZE, physAddr } from '../../src/base/index.ts';
import {
  findMapping,
  type IommuDomain,
  type IovaMapping,
  type IovaRights,
  Scheduler,
} from '../../src/machine/index.ts';
import { IommuDomain as Domain } from '../../src/machine/iommu.ts';
import { complete, FabricRig, oneStep } from './fabric-rig.ts';
import { card, machineOf, port, wideMachine } from './test-machines.ts';

const GIB = 2 ** 30;
const CLIENT = '0a:00.0';
const IOVA = 0x40000000;
const RAM = 0x200000;
const BOTH: IovaRights = { readable: true, writable: true };

/** A client with a domain of its own, and means to fill it. */
function translated() {
  const rig = new FabricRig(wideMachine({ iommu: 'translated', peerForwarding: 'all' }));
  const domain = rig.at(CLIENT).domain.value ?? expect.fail('a domain');
  const map = (iova: number, phys: number, pages = 1, rights = BOTH): boolean => {
    const range = { phys: physAddr(phys), size: pages * PAGE_SIZE };
    return rig.do(oneStep(domain.mapAt(dmaAddr(iova), range, rights)));
  };
  const unmap = (iova: number, pages = 1): number =>
    rig.do(oneStep(domain.unmap(dmaAddr(iova), pages * PAGE_SIZE)));
  return { rig, domain, map, unmap };
}

describe('A request through the IOMMU', () => {
  test('lands where its address is mapped', () => {
    const { rig, map } = translated();
    map(IOVA, RAM);
    const [note] = rig.write(CLIENT, IOVA + 0xff0, [1, 2]);
    expect(note).toMatchObject({
      address: IOVA + 0xff0,
      target: 'node0+0x200ff0',
      route: ['0000:00:03.0', 'root-complex', 'iommu'],
    });
    expect(rig.ram(RAM + 0xff0, 2)).toEqual([1, 2]);
  });

  test('faults without an entry, and the fault names device and address', () => {
    const { rig, map } = translated();
    map(IOVA, RAM);
    for (const address of [IOVA - 1, IOVA + PAGE_SIZE, RAM]) {
      rig.write(CLIENT, address, [1]);
      expect(rig.machine.faults.pop()).toEqual({
        kind: 'iommu.fault',
        device: '0000:0a:00.0',
        address,
        access: 'write',
        why: 'nothing is mapped at this address',
      });
    }
    expect(rig.ram(RAM, 1)).toEqual([0]);
  });

  test('may only do what it has the right to', () => {
    const { rig, map } = translated();
    map(IOVA, RAM, 1, { readable: true, writable: false });
    map(IOVA + PAGE_SIZE, RAM, 1, { readable: false, writable: true });
    rig.write(CLIENT, IOVA, [1]);
    expect(rig.fault).toMatchObject({ access: 'write', why: 'mapped without the right to write' });
    expect(rig.ram(RAM, 1)).toEqual([0]);
    rig.write(CLIENT, IOVA + PAGE_SIZE, [7]);
    expect(rig.read(CLIENT, IOVA, 1)).toEqual({ bytes: Uint8Array.of(7), ok: true });
    expect(rig.read(CLIENT, IOVA + PAGE_SIZE, 1)).toEqual({ bytes: Uint8Array.of(255), ok: false });
    expect(rig.machine.faults[1]).toMatchObject({ why: 'mapped without the right to read' });
  });

  test('faults after the unmap, and follows a new entry at the same address', () => {
    const { rig, map, unmap } = translated();
    map(IOVA, RAM);
    expect(unmap(IOVA)).toBe(PAGE_SIZE);
    rig.write(CLIENT, IOVA, [1]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', address: IOVA });
    map(IOVA, RAM + PAGE_SIZE);
    rig.write(CLIENT, IOVA, [2]);
    expect([rig.ram(RAM, 1), rig.ram(RAM + PAGE_SIZE, 1)]).toEqual([[0], [2]]);
  });

  test('is split where one entry ends and another begins', () => {
    const { rig, map } = translated();
    map(IOVA, RAM + 4 * PAGE_SIZE);
    map(IOVA + PAGE_SIZE, RAM);
    const notes = rig.write(CLIENT, IOVA + PAGE_SIZE - 1, [1, 2, 3]);
    expect(notes.map(({ target, length }) => [target, length])).toEqual([
      ['node0+0x204fff', 1],
      ['node0+0x200000', 2],
    ]);
    expect([rig.ram(RAM + 5 * PAGE_SIZE - 1, 2), rig.ram(RAM, 2)]).toEqual([
      [1, 0],
      [2, 3],
    ]);
  });

  test('stops at the end of an entry that has no successor', () => {
    const { rig, map } = translated();
    map(IOVA, RAM);
    rig.write(CLIENT, IOVA + PAGE_SIZE - 1, [1, 2]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', address: IOVA + PAGE_SIZE });
    expect(rig.ram(RAM + PAGE_SIZE - 1, 2)).toEqual([1, 0]);
  });

  test('that lies in the window of a sibling never gets as far as the IOMMU', () => {
    // A user who chooses I/O addresses himself must stay clear of the windows of the switch.
    const rig = new FabricRig(wideMachine({ iommu: 'translated' }));
    const domain = rig.at('03:00.0').domain.value ?? expect.fail('a domain');
    const window = rig.busAddressOf('04:00.0', 0);
    const range = { phys: physAddr(RAM), size: PAGE_SIZE };
    rig.do(oneStep(domain.mapAt(dmaAddr(window), range, BOTH)));
    rig.write('03:00.0', window, [1]);
    expect(rig.ram(RAM, 1)).toEqual([0]);
    expect(rig.arrived).toEqual([{ device: '0000:04:00.0', bar: 0, offset: 0 }]);
  });
});

describe('A domain', () => {
  test('belongs to an IOMMU group: its functions see the same addresses, others do not', () => {
    const rig = new FabricRig(wideMachine({ iommu: 'translated' }));
    const domainOf = (address: string): IommuDomain | null => rig.at(address).domain.value;
    expect(domainOf('09:00.0')).toBe(domainOf('09:00.1'));
    expect(domainOf('0a:00.0')).not.toBe(domainOf('09:00.0'));
    expect(domainOf('41:00.0')).not.toBe(domainOf('0a:00.0'));
    const alone = { ...wideMachine({ iommu: 'off' }), iommu: 'translated' } as const;
    const other = new FabricRig(alone);
    expect(other.at('09:00.0').domain.value).not.toBe(other.at('09:00.1').domain.value);
  });

  test.each(['off', 'passthrough'] as const)(
    'is not there where nothing translates: %s',
    (iommu) => {
      const rig = new FabricRig(wideMachine({ iommu }));
      expect(rig.at(CLIENT).domain.value).toBeNull();
    },
  );

  test('can be made where there is an IOMMU, and only there', () => {
    const machineWith = (iommu: 'off' | 'passthrough') =>
      new FabricRig(wideMachine({ iommu })).machine;
    expect(machineWith('passthrough').newDomain('mine').value).toEqual([]);
    expect(() => machineWith('off').newDomain('mine')).toThrow('there is an IOMMU');
  });

  test('refuses an address that is taken, wholly or in part', () => {
    const { map, domain } = translated();
    expect(map(IOVA, RAM, 4)).toBe(true);
    for (const [iova, pages] of [
      [IOVA, 4],
      [IOVA + PAGE_SIZE, 1],
      [IOVA - PAGE_SIZE, 2],
      [IOVA + 3 * PAGE_SIZE, 2],
      [IOVA - PAGE_SIZE, 8],
    ] as const) {
      expect(map(iova, RAM, pages)).toBe(false);
    }
    expect(map(IOVA - PAGE_SIZE, RAM, 1)).toBe(true);
    expect(map(IOVA + 4 * PAGE_SIZE, RAM, 1)).toBe(true);
    expect(domain.value.map(({ iova }) => iova)).toEqual([
      IOVA - PAGE_SIZE,
      IOVA,
      IOVA + 4 * PAGE_SIZE,
    ]);
  });

  test('keeps an entry that an unmap does not wholly cover', () => {
    const { map, unmap, domain } = translated();
    map(IOVA, RAM, 4);
    map(IOVA + 4 * PAGE_SIZE, RAM, 1);
    expect(unmap(IOVA + PAGE_SIZE, 4)).toBe(PAGE_SIZE);
    expect(domain.value).toHaveLength(1);
    expect(unmap(IOVA, 4)).toBe(4 * PAGE_SIZE);
    expect(domain.value).toEqual([]);
  });

  test('takes whole pages', () => {
    const { rig, domain } = translated();
    const range = { phys: physAddr(RAM), size: 100 };
    expect(() => rig.do(oneStep(domain.mapAt(dmaAddr(IOVA), range, BOTH)))).toThrow('whole pages');
  });

  test('tells the trace what it maps and unmaps', () => {
    const { rig, map, unmap, domain } = translated();
    map(IOVA, RAM, 2);
    unmap(IOVA, 2);
    const event = { domain: domain.name, iova: IOVA, phys: RAM, size: 2 * PAGE_SIZE };
    expect(rig.trace.filter(({ kind }) => kind.startsWith('iommu'))).toMatchObject([
      { kind: 'iommu.map', ...event },
      { kind: 'iommu.unmap', ...event },
    ]);
  });
});

/** A fresh domain and how to map somewhere in it. */
function emptyDomain(reserved: readonly { base: number; limit: number }[] = []) {
  const scheduler = new Scheduler();
  const domain = new Domain(scheduler, 'domain', reserved);
  const anywhere = (sizes: readonly number[]): number | null =>
    complete(
      scheduler,
      oneStep(
        domain.mapAnywhere(
          sizes.map((size) => ({ phys: physAddr(RAM), size })),
          BOTH,
        ),
      ),
    );
  const unmap = (iova: number, size: number): number =>
    complete(scheduler, oneStep(domain.unmap(dmaAddr(iova), size)));
  return { scheduler, domain, anywhere, unmap };
}

describe('A fresh I/O address', () => {
  test('comes from below 4 GiB, downwards, aligned to the power of two that holds it', () => {
    const { anywhere } = emptyDomain();
    expect(anywhere([PAGE_SIZE])).toBe(0xfffff000);
    expect(anywhere([PAGE_SIZE, 2 * PAGE_SIZE])).toBe(0xffffc000);
    expect(anywhere([PAGE_SIZE])).toBe(0xffffb000);
    expect(anywhere([GIB])).toBe(0x80000000);
  });

  test('is used again after the unmap', () => {
    const { anywhere, unmap } = emptyDomain();
    const first = anywhere([PAGE_SIZE]) ?? expect.fail('room');
    anywhere([PAGE_SIZE]);
    unmap(first, PAGE_SIZE);
    expect(anywhere([PAGE_SIZE])).toBe(first);
  });

  test('is not to be had when nothing is left', () => {
    const { anywhere, unmap, domain } = emptyDomain();
    expect(anywhere([2 * GIB])).toBe(2 * GIB);
    expect(anywhere([GIB])).toBe(GIB);
    const above = { iova: 4 * GIB, size: 2 ** 48 - 4 * GIB, phys: 0, ...BOTH };
    domain.value = [...domain.value, above];
    expect(anywhere([GIB])).toBeNull();
    unmap(2 * GIB, 2 * GIB);
    expect(anywhere([GIB])).toBe(3 * GIB);
  });

  test('never overlaps another, nor the first page or a window, whatever came and went', () => {
    const windows = [
      { base: GIB, limit: GIB + 2 ** 28 - 1 },
      { base: 3 * GIB, limit: 5 * GIB - 1 },
    ];
    const step = fc.record({ pages: fc.integer({ min: 1, max: 2 ** 19 }), drop: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { domain, anywhere, unmap } = emptyDomain(windows);
        const live: { iova: number; size: number }[] = [];
        const kept = windows.map(({ base, limit }) => ({ iova: base, size: limit + 1 - base }));
        for (const { pages, drop } of steps) {
          const size = pages * PAGE_SIZE;
          const iova = anywhere([size]);
          if (iova !== null) {
            expect(iova).toBeGreaterThanOrEqual(PAGE_SIZE);
            for (const other of [...live, ...kept]) {
              expect(iova + size <= other.iova || other.iova + other.size <= iova).toBe(true);
            }
            live.push({ iova, size });
          }
          if (drop % 3 !== 0 || live.length === 0) continue;
          const [gone] = live.splice(drop % live.length, 1);
          expect(unmap(gone?.iova ?? 0, gone?.size ?? 0)).toBe(gone?.size);
        }
        const sorted = live.toSorted((one, other) => one.iova - other.iova);
        expect(domain.value.map(({ iova, size }) => ({ iova, size }))).toEqual(sorted);
      }),
    );
  });

  test('leads back to its entry, and only it: findMapping', () => {
    const gap = fc.record({
      before: fc.integer({ min: 0, max: 3 }),
      size: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(gap, { maxLength: 12 }), fc.nat({ max: 80 }), (gaps, at) => {
        let end = 0;
        const table: IovaMapping[] = gaps.map(({ before, size }) => {
          const iova = end + before;
          end = iova + size;
          return { iova, size, phys: 0, ...BOTH };
        });
        const linear = table.find(({ iova, size }) => at >= iova && at < iova + size) ?? null;
        expect(findMapping(table, at)).toBe(linear);
      }),
    );
  });

  test('never lies in a window of the bridges above the device', () => {
    const two = [port('01.0', [card('00.0'), card('00.1')])];
    const rig = new FabricRig(machineOf({ 0: two }, { iommu: 'translated' }));
    const client = rig.at('01:00.0');
    const domain = client.domain.value ?? expect.fail('a domain');
    const ram = { phys: physAddr(4 * GIB), size: 2 * GIB };
    const iova = rig.do(oneStep(domain.mapAnywhere([ram], BOTH))) ?? expect.fail('no room');
    const sibling = rig.busAddressOf('01:00.1', 0);
    rig.write(client, Math.max(iova, sibling), [1]);
    expect(rig.arrived).toEqual([]);
  });

  test('comes from above 4 GiB when there is no room below', () => {
    const { anywhere } = emptyDomain();
    expect(anywhere([16 * GIB])).not.toBeNull();
  });
});
