/**
 * Goal: what reaches the root complex is translated or not, forwarded or not, as the machine says;
 * and an address of one kind in the place of another goes astray where one can see it. Method: each
 * IOMMU mode, each forwarding, and the Arm board on which the three kinds of address differ.
 */

import { describe, expect, test } from 'vitest';
import { dmaAddr, physAddr } from '../../src/base/index.ts';
import type { IommuDomain, PeerForwarding, Task } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { FabricRig, withAcs } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const MIB = 2 ** 20;
const IOVA = 0x12345000;
const LINUX = 0x1d;
/** The ports between 03:00.0 and 04:00.0, as Linux leaves them where an IOMMU is. */
const REDIRECT = { '02:00.0': LINUX, '02:01.0': LINUX, '00:01.0': LINUX };
const BOTH = { readable: true, writable: true };

function* mapAt(domain: IommuDomain, iova: number, phys: number): Task<boolean> {
  return yield* domain.mapAt(dmaAddr(iova), { phys: physAddr(phys), size: MIB }, BOTH);
}

/** Client and provider below one switch that redirects. */
function redirected(iommu: 'off' | 'passthrough' | 'translated', forwards: PeerForwarding) {
  const rig = new FabricRig(withAcs(wideMachine({ iommu, peerForwarding: forwards }), REDIRECT));
  return { rig, bus: rig.busAddressOf('04:00.0', 2), client: rig.at('03:00.0') };
}

describe('A redirected request with an IOMMU domain', () => {
  test('faults at the IOMMU if it carries the bus address (S004-8)', () => {
    const { rig, bus, client } = redirected('translated', 'all');
    rig.write(client, bus, [1, 2]);
    expect(rig.fault).toEqual({
      kind: 'iommu.fault',
      device: '0000:03:00.0',
      address: bus,
      access: 'write',
      why: 'nothing is mapped at this address',
    });
    expect(rig.read(client, bus, 3)).toEqual({ bytes: Uint8Array.of(0xff, 0xff, 0xff), ok: false });
    expect(rig.machine.faults[1]).toMatchObject({ kind: 'iommu.fault', access: 'read' });
    expect(rig.arrived).toEqual([]);
  });

  test('arrives by an I/O address that is mapped to the BAR', () => {
    const { rig, client } = redirected('translated', 'same-host-bridge');
    const domain = client.domain.value ?? expect.fail('a domain');
    const phys = rig.at('04:00.0').barStart(2);
    expect(rig.do(mapAt(domain, IOVA, phys))).toBe(true);
    const [note] = rig.write(client, IOVA + 0x10, [1, 2]);
    expect(note?.target).toBe('0000:04:00.0 BAR2+0x10');
    expect(note?.route.slice(2, 5)).toEqual(['0000:00:01.0', 'root-complex', 'iommu']);
    expect(rig.device('04:00.0').bar(2).writes).toEqual([{ offset: 0x10, bytes: [1, 2] }]);
  });

  test('is refused behind the IOMMU where the root complex does not forward', () => {
    const { rig, client } = redirected('translated', 'none');
    const domain = client.domain.value ?? expect.fail('a domain');
    rig.do(mapAt(domain, IOVA, rig.at('04:00.0').barStart(2)));
    rig.write(client, IOVA, [1]);
    expect(rig.fault).toMatchObject({ kind: 'pci.fault', at: 'root-complex', address: IOVA });
  });

  test('is refused if the entry leads to an address that nobody has', () => {
    const { rig, client } = redirected('translated', 'all');
    const domain = client.domain.value ?? expect.fail('a domain');
    rig.do(mapAt(domain, IOVA, 0x7_0000_0000_0000));
    rig.write(client, IOVA, [1]);
    expect(rig.fault).toMatchObject({ at: 'root-complex', address: IOVA });
  });
});

describe('A redirected request without translation', () => {
  test.each(['off', 'passthrough'] as const)('arrives by its bus address: IOMMU %s', (mode) => {
    const { rig, bus, client } = redirected(mode, 'same-host-bridge');
    expect(client.domain.value).toBeNull();
    const [note] = rig.write(client, bus, [7]);
    expect(note?.route).toContain('root-complex');
    expect(note?.route).not.toContain('iommu');
    expect(rig.device('04:00.0').bar(2).writes).toEqual([{ offset: 0, bytes: [7] }]);
  });
});

describe('A root complex that forwards', () => {
  test.each([
    ['none', 'nothing', []],
    ['same-host-bridge', 'what stays below one host bridge', ['0000:0a:00.0']],
    ['all', 'everything', ['0000:0a:00.0', '0000:41:00.0']],
  ] as const)('%s lets pass %s', (peerForwarding, _, arrives) => {
    const rig = new FabricRig(wideMachine({ peerForwarding }));
    rig.write('09:00.0', rig.busAddressOf('0a:00.0', 2), [1]);
    rig.write('09:00.0', rig.busAddressOf('41:00.0', 2), [1]);
    expect(rig.arrived.map(({ device }) => device)).toEqual(arrives);
    expect(rig.machine.faults).toHaveLength(2 - arrives.length);
    for (const fault of rig.machine.faults) expect(fault).toMatchObject({ at: 'root-complex' });
  });

  test('none still lets RAM be reached, and devices below one switch', () => {
    const rig = new FabricRig(wideMachine({ peerForwarding: 'none' }));
    rig.write('09:00.0', 0x300000, [1]);
    rig.write('07:00.0', rig.busAddressOf('08:00.0', 2), [1]);
    expect(rig.machine.faults).toEqual([]);
    expect(rig.ram(0x300000, 1)).toEqual([1]);
    expect(rig.arrived).toHaveLength(1);
  });
});

describe('On a machine with three kinds of address', () => {
  const [DRIVE, CARD] = ['03:00.0', '04:00.0'];
  const RAM = 0x20_0000;
  const TO_DEVICE = 0x4_0000_0000;

  test('the address of each kind works in its own place (I.7)', () => {
    const rig = new FabricRig(ARM_SOC);
    rig.write(CARD, rig.busAddressOf(DRIVE, 2), [1]);
    rig.write(CARD, RAM + TO_DEVICE, [2]);
    expect(rig.device(DRIVE).bar(2).writes).toEqual([{ offset: 0, bytes: [1] }]);
    expect(rig.ram(RAM, 1)).toEqual([2]);
    expect(rig.machine.faults).toEqual([]);
  });

  test('a CPU address of a BAR in the place of a bus address goes nowhere (S002-10)', () => {
    const rig = new FabricRig(ARM_SOC);
    const phys = rig.at(DRIVE).barStart(2);
    expect(phys).not.toBe(rig.busAddressOf(DRIVE, 2));
    rig.write(CARD, phys, [1]);
    expect(rig.fault).toMatchObject({ device: '0000:04:00.0', address: phys, at: 'root-complex' });
    expect(rig.arrived).toEqual([]);
  });

  test('a CPU address of RAM in the place of a device address goes nowhere', () => {
    const rig = new FabricRig(ARM_SOC);
    rig.write(CARD, RAM, [1]);
    expect(rig.fault).toMatchObject({ device: '0000:04:00.0', address: RAM, at: 'root-complex' });
    expect(rig.ram(RAM, 1)).toEqual([0]);
  });

  test('a CPU address of RAM that is a bus address of the drive damages the drive', () => {
    const rig = new FabricRig(ARM_SOC);
    const both = rig.busAddressOf(DRIVE, 0);
    expect(rig.machine.memory.bankAt(both)).not.toBeNull();
    rig.write(CARD, both, [0xee]);
    expect(rig.device(DRIVE).bar(0).writes).toEqual([{ offset: 0, bytes: [0xee] }]);
    expect(rig.ram(both, 1)).toEqual([0]);
  });

  test('a bus address in the hand of the CPU is RAM, or nothing', () => {
    const rig = new FabricRig(ARM_SOC);
    const bus = physAddr(rig.busAddressOf(DRIVE, 2));
    rig.device(DRIVE).bar(2).write(0, Uint8Array.of(9));
    function* byLoad(): Task<Uint8Array> {
      return yield* rig.machine.cpu.load(bus, 1);
    }
    function* byMmio(): Task<Uint8Array> {
      return yield* rig.machine.cpu.mmioRead(bus, 1);
    }
    expect(rig.do(byLoad())).toEqual(Uint8Array.of(0));
    expect(rig.do(byMmio())).toEqual(Uint8Array.of(0xff));
    expect(rig.fault).toMatchObject({ device: 'cpu', address: bus, at: 'root-complex' });
  });
});
