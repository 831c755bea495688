/**
 * Goal: ACS decides at the port where hardware decides: request redirect and egress control at the
 * ports of the switch in which two ways meet, and nowhere else. Method: one machine whose ports can
 * do all of ACS, one register changed at a time; p2p-topology 1.3.
 */

import { describe, expect, test } from 'vitest';
import { p2pRoute } from '../../src/framework/index.ts';
import { FabricRig, full, withAcs } from './fabric-rig.ts';
import { card, machineOf, port, wideMachine } from './test-machines.ts';

const [SV, TB, RR, CR, UF, EC, DT] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40];
const LINUX = SV | RR | CR | UF;

/** Redirected requests go on from the root port, as Linux sets it. */
const ROOT_PORT = { '00:01.0': UF };

/** Where a write ended, and whether it was seen by the root complex. */
function ways(controls: Readonly<Record<string, number>>, from: string, to: string) {
  const changed = { ...ROOT_PORT, ...controls };
  const rig = new FabricRig(withAcs(wideMachine({ peerForwarding: 'all' }), changed));
  const [note] = rig.write(from, rig.busAddressOf(to, 2), [1, 2]);
  const passed = (note?.route ?? []).includes('root-complex');
  const arrived = rig.arrived.map(({ device }) => device);
  return { passed, arrived, fault: rig.machine.faults[0] };
}

const STRAIGHT = (to: string) => ({ passed: false, arrived: [full(to)] });
const REDIRECTED = (to: string) => ({ passed: true, arrived: [full(to)] });

describe('Request redirect', () => {
  test.each([
    ['RR alone', RR],
    ['what Linux sets', LINUX],
  ])('at the downstream port of the sender sends it to the root complex: %s', (_, bits) => {
    expect(ways({ '02:00.0': bits }, '03:00.0', '04:00.0')).toMatchObject(REDIRECTED('04:00.0'));
  });

  test('at the downstream port of the receiver does not touch the request', () => {
    expect(ways({ '02:01.0': LINUX }, '03:00.0', '04:00.0')).toMatchObject(STRAIGHT('04:00.0'));
  });

  test('at the upstream port that both have above them sends it up', () => {
    expect(ways({ '01:00.0': RR }, '03:00.0', '04:00.0')).toMatchObject(REDIRECTED('04:00.0'));
  });

  test.each(['02:02.0', '01:00.0', '00:01.0'])(
    'above the switch in which two ways meet does not matter: %s',
    (above) => {
      expect(ways({ [above]: LINUX }, '07:00.0', '08:00.0')).toMatchObject(STRAIGHT('08:00.0'));
    },
  );

  test('at a cascaded port matters for who leaves the lower switch through it', () => {
    expect(ways({ '02:02.0': RR }, '07:00.0', '03:00.0')).toMatchObject(REDIRECTED('03:00.0'));
    expect(ways({ '02:02.0': RR }, '03:00.0', '07:00.0')).toMatchObject(STRAIGHT('07:00.0'));
  });

  test('at a lower port does not touch what was on its way up anyhow', () => {
    expect(ways({ '06:00.0': RR }, '07:00.0', '03:00.0')).toMatchObject(STRAIGHT('03:00.0'));
  });

  test('of a function keeps it from its siblings in the same slot', () => {
    const bits = { '04:00.0': RR, '02:01.0': LINUX };
    expect(ways({ '04:00.0': 0 }, '04:00.0', '04:00.1')).toMatchObject(STRAIGHT('04:00.1'));
    expect(ways(bits, '04:00.0', '04:00.1')).toMatchObject(REDIRECTED('04:00.1'));
    // The sibling's own control is another register.
    expect(ways(bits, '04:00.1', '04:00.0')).toMatchObject(STRAIGHT('04:00.0'));
  });

  test('turns around at a root port without upstream forwarding, unseen by the IOMMU', () => {
    const spec = wideMachine({ iommu: 'translated' });
    const rig = new FabricRig(withAcs(spec, { '02:00.0': RR, '00:01.0': 0 }));
    const [note] = rig.write('03:00.0', rig.busAddressOf('04:00.0', 2), [1]);
    expect(note).toMatchObject({
      target: '0000:04:00.0 BAR2+0x0',
      route: ['0000:02:00.0', '0000:01:00.0', '0000:00:01.0', '0000:01:00.0', '0000:02:01.0'],
    });
  });

  test('ends at the root complex where that does not forward', () => {
    const rig = new FabricRig(withAcs(wideMachine(), { ...ROOT_PORT, '02:00.0': LINUX }));
    rig.write('03:00.0', rig.busAddressOf('04:00.0', 2), [1]);
    expect(rig.arrived).toEqual([]);
    expect(rig.fault).toMatchObject({
      kind: 'pci.fault',
      device: '0000:03:00.0',
      address: rig.busAddressOf('04:00.0', 2),
      access: 'write',
      at: 'root-complex',
    });
  });
});

describe('Other bits of ACS control', () => {
  test.each([
    ['UF', UF],
    ['SV and UF', SV | UF],
    ['SV, TB, UF and DT', SV | TB | UF | DT],
    ['CR, which is about completions', CR],
  ])('leave a request to a sibling port alone: %s', (_, bits) => {
    const everywhere = { '02:00.0': bits, '02:01.0': bits, '01:00.0': bits, '00:01.0': bits };
    expect(ways(everywhere, '03:00.0', '04:00.0')).toMatchObject(STRAIGHT('04:00.0'));
  });

  test("EC at the sender's port forbids the way, and the fault names the port", () => {
    const { arrived, fault } = ways({ '02:00.0': EC }, '03:00.0', '04:00.0');
    expect(arrived).toEqual([]);
    expect(fault).toMatchObject({ kind: 'pci.fault', device: '0000:03:00.0', at: '0000:02:00.0' });
  });

  test('EC together with RR redirects instead', () => {
    const both = { '02:00.0': EC | RR };
    expect(ways(both, '03:00.0', '04:00.0')).toMatchObject(REDIRECTED('04:00.0'));
  });

  test('UF sends on what would turn around at the port', () => {
    const bits = { '04:00.0': RR, '00:01.0': 0 };
    const turned = { ...bits, '02:01.0': 0 };
    expect(ways(turned, '04:00.0', '04:00.1')).toMatchObject(STRAIGHT('04:00.1'));
    const sentOn = { ...bits, '02:01.0': UF, '00:01.0': UF };
    expect(ways(sentOn, '04:00.0', '04:00.1')).toMatchObject(REDIRECTED('04:00.1'));
  });

  test('leave virtual functions alone that ARI numbers beyond 7', () => {
    const spec = machineOf({ 0: [port('01.0', [card(null, 12)])] }, { iommu: 'translated' });
    const rig = new FabricRig(withAcs(spec, { '00:01.0': SV | UF }));
    const tree = rig.machine.plan.tree;
    const facts = { cpu: null, acsControl: () => SV | UF };
    const far = tree.at('0000:01:01.4');
    expect(p2pRoute(far, tree.at('0000:01:00.0'), facts).mapType).toBe('bus-address');
    rig.write('01:00.0', rig.busAddressOf('01:01.4', 0), [1]);
    expect(rig.machine.faults).toEqual([]);
  });
});

describe('Writing the ACS control register', () => {
  test('changes the way of the next request', () => {
    const rig = new FabricRig(withAcs(wideMachine(), ROOT_PORT));
    const address = rig.busAddressOf('04:00.0', 2);
    const port = rig.at('02:00.0');
    function* setControl(bits: number) {
      yield* port.writeAcsControl(bits);
    }
    rig.write('03:00.0', address, [1]);
    rig.do(setControl(RR));
    rig.write('03:00.0', address, [2]);
    rig.do(setControl(0));
    rig.write('03:00.0', address, [3]);
    const landed = rig
      .device('04:00.0')
      .bar(2)
      .writes.map(({ bytes }) => bytes[0]);
    expect(landed).toEqual([1, 3]);
    expect(rig.fault).toMatchObject({ at: 'root-complex' });
  });
});
