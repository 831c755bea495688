/**
 * Goal: with ACS off a request takes the shortest way to the device that has the address, and the
 * trace names the ports it passes. Method: one machine, every kind of pair; memory in the BARs that
 * remembers what arrived.
 */

import { describe, expect, test } from 'vitest';
import { FabricRig, full } from './fabric-rig.ts';
import { card, machineOf, port, switchOf, wideMachine } from './test-machines.ts';

const BYTES = [0xca, 0xfe, 0x01];

/** Client, provider, ports passed. */
const DIRECT: readonly (readonly [string, string, string, readonly string[]])[] = [
  ['across one switch', '03:00.0', '04:00.0', ['02:00.0', '02:01.0']],
  ['back across it', '04:00.0', '03:00.0', ['02:01.0', '02:00.0']],
  ['down to a cascaded switch', '03:00.0', '07:00.0', ['02:00.0', '02:02.0', '05:00.0', '06:00.0']],
  ['up from it', '08:00.0', '04:00.1', ['06:01.0', '05:00.0', '02:02.0', '02:01.0']],
  ['across the lower switch', '07:00.0', '08:00.0', ['06:00.0', '06:01.0']],
  ['to another function of one device', '04:00.0', '04:00.1', []],
  ['to another function below a root port', '09:00.1', '09:00.0', []],
];

/** The same by way of the root complex. */
const ROOTED: typeof DIRECT = [
  ['across root ports', '09:00.0', '0a:00.0', ['00:02.0', 'root-complex', '00:03.0']],
  [
    'from a switch to a root port',
    '03:00.0',
    '0a:00.0',
    ['02:00.0', '01:00.0', '00:01.0', 'root-complex', '00:03.0'],
  ],
  [
    'across host bridges, down a cascade',
    '41:00.0',
    '07:00.0',
    [...['40:01.0', 'root-complex', '00:01.0', '01:00.0'], ...['02:02.0', '05:00.0', '06:00.0']],
  ],
];

function route(ports: readonly string[]): readonly string[] {
  return ports.map((name) => (name === 'root-complex' ? name : full(name)));
}

describe('A request for the memory of a device', () => {
  test.each(DIRECT)('goes %s, from %s to %s, without the root complex', (_, from, to, ports) => {
    const rig = new FabricRig(wideMachine());
    const [note, ...others] = rig.write(from, rig.busAddressOf(to, 2) + 0x100, BYTES);
    expect(others).toEqual([]);
    expect(note).toMatchObject({
      device: full(from),
      target: `${full(to)} BAR2+0x100`,
      route: route(ports),
      result: 'done',
    });
    expect(rig.device(to).bar(2).writes).toEqual([{ offset: 0x100, bytes: BYTES }]);
    expect(rig.arrived).toHaveLength(1);
    expect(rig.machine.faults).toEqual([]);
  });

  test.each(ROOTED)('goes %s, from %s to %s', (_, from, to, ports) => {
    const rig = new FabricRig(wideMachine({ peerForwarding: 'all' }));
    const [note] = rig.write(from, rig.busAddressOf(to, 0), BYTES);
    expect(note).toMatchObject({ target: `${full(to)} BAR0+0x0`, route: route(ports) });
    expect(rig.device(to).bar(0).writes).toEqual([{ offset: 0, bytes: BYTES }]);
    expect(rig.arrived).toHaveLength(1);
  });

  test.each(DIRECT)('is answered the same way %s, from %s to %s', (_, from, to, ports) => {
    const rig = new FabricRig(wideMachine());
    rig.device(to).bar(2).write(8, Uint8Array.from(BYTES));
    const { bytes, ok } = rig.read(from, rig.busAddressOf(to, 2) + 8, BYTES.length);
    expect([[...bytes], ok]).toEqual([BYTES, true]);
    const read = rig.trace.find((event) => event.kind === 'dma.read');
    expect(read).toMatchObject({ route: route(ports), result: 'done' });
  });

  test('of a virtual function is routed to the BAR of that function', () => {
    const spec = machineOf({ 0: [port('01.0', [switchOf([card(null, 12)], [card()])])] });
    const rig = new FabricRig(spec);
    const [client] = [...rig.devices.keys()].reverse();
    // Virtual functions 1 to 7 are in the slot of the physical one, the others in the next.
    for (const virtual of ['03:00.1', '03:00.7', '03:01.4']) {
      const base = rig.busAddressOf(virtual, 0);
      rig.write(client ?? '', base, BYTES);
      rig.write('03:00.0', base + 16, BYTES);
      expect(rig.device(virtual).writes.map(({ offset }) => offset)).toEqual([0, 16]);
    }
    expect(rig.machine.faults).toEqual([]);
    expect(rig.arrived).toHaveLength(6);
  });
});

describe('A request for RAM', () => {
  test('passes every port up to the root complex and lands on the node that has it', () => {
    const rig = new FabricRig(wideMachine());
    const [note] = rig.write('08:00.0', 4 * 2 ** 30 + 0x40, BYTES);
    expect(note).toMatchObject({
      target: 'node1+0x100000040',
      route: route(['06:01.0', '05:00.0', '02:02.0', '01:00.0', '00:01.0', 'root-complex']),
      result: 'done',
    });
    expect(rig.ram(4 * 2 ** 30 + 0x3f, 5)).toEqual([0, ...BYTES, 0]);
    expect(rig.arrived).toEqual([]);
  });

  test('comes back with the bytes that are there', () => {
    const rig = new FabricRig(wideMachine());
    rig.write('03:00.0', 0x200000, BYTES);
    const { bytes, ok } = rig.read('41:00.0', 0x200000, 4);
    expect([[...bytes], ok]).toEqual([[...BYTES, 0], true]);
  });
});
