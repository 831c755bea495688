/**
 * Goal: the rule counts distances and finds redirects as Linux does, on every shape of pair.
 * Method: the shapes of p2p-topology 1.2, 1.8 and 9 by hand; what Linux itself said of 2,552 pairs
 * is in `p2pdma-verdicts.test.ts`.
 */

import { describe, expect, test } from 'vitest';
import { p2pDistance } from '../../src/framework/index.ts';
import type { MachineSpec } from '../../src/machine/index.ts';
import { integrated } from '../../src/machine/presets/build.ts';
import { full, withAcs } from '../machine/fabric-rig.ts';
import {
  CARD,
  card,
  INTEL,
  LISTED,
  machineOf,
  port,
  switchOf,
  wideMachine,
  ZEN,
} from '../machine/test-machines.ts';
import { judge, withCpu } from './p2p-facts.ts';

/** A card that brings a switch of its own, an integrated device, and switches on two root ports. */
const SHAPES: MachineSpec = machineOf(
  {
    0: [
      port('01.0', [switchOf([card()])]),
      port('02.0', [card()]),
      port('03.0', [switchOf([card()], [card()])]),
      integrated(CARD, '04.0'),
      integrated(CARD, '04.1'),
      port('05.0', [card(null, 12)]),
    ],
  },
  { cpu: ZEN },
);

/** Shape, machine, provider, client, distance, where they meet. */
const EXAMPLES: readonly (readonly [string, MachineSpec, string, string, number, string | null])[] =
  [
    ['the same function', SHAPES, '03:00.0', '03:00.0', 0, '03:00.0'],
    ['two functions of one device', wideMachine(), '04:00.0', '04:00.1', 2, '02:01.0'],
    ['two functions below one root port', wideMachine(), '09:00.0', '09:00.1', 2, '00:02.0'],
    ['two ports of one switch', wideMachine(), '03:00.0', '04:00.0', 4, '01:00.0'],
    ['a cascaded switch', wideMachine(), '03:00.0', '07:00.0', 6, '01:00.0'],
    ['two ports of the lower switch', wideMachine(), '07:00.0', '08:00.0', 4, '05:00.0'],
    ['two root ports', wideMachine({ cpu: ZEN }), '09:00.0', '0a:00.0', 4, null],
    ['an integrated device and one in a slot', SHAPES, '00:04.0', '04:00.0', 3, null],
    ['two integrated devices', SHAPES, '00:04.0', '00:04.1', 2, null],
    ['a card with a switch of its own, and one in a slot', SHAPES, '03:00.0', '04:00.0', 6, null],
    ['two switches on two root ports', SHAPES, '03:00.0', '07:00.0', 8, null],
    ['two host bridges', wideMachine({ cpu: ZEN }), '03:00.0', '41:00.0', 6, null],
    ['a physical and a virtual function', SHAPES, '09:00.0', '09:00.3', 2, '00:05.0'],
    ['two virtual functions, one in the next slot', SHAPES, '09:00.5', '09:01.4', 2, '00:05.0'],
    ['a virtual function and another card', SHAPES, '09:01.4', '04:00.0', 4, null],
  ];

describe('The distance (D.3)', () => {
  test.each(EXAMPLES)('of %s is as in the table', (_, spec, provider, client, distance, common) => {
    for (const [one, other] of [
      [provider, client],
      [client, provider],
    ] as const) {
      const route = judge(spec, one, other);
      expect(route.distance).toBe(distance);
      expect(p2pDistance(route)).toBe(distance);
      expect(route.common?.address ?? null).toBe(common === null ? null : full(common));
      const through = common === null ? 'through-host-bridge' : 'bus-address';
      expect(route.mapType).toBe(through);
    }
  });

  test('is the same for one switch and for two root ports: it does not tell the route', () => {
    const spec = wideMachine({ cpu: ZEN });
    const [direct, rooted] = [judge(spec, '03:00.0', '04:00.0'), judge(spec, '09:00.0', '0a:00.0')];
    expect([direct.distance, rooted.distance]).toEqual([4, 4]);
    expect([direct.mapType, rooted.mapType]).toEqual(['bus-address', 'through-host-bridge']);
  });

  test('is -1 for a pair that is not supported, though the steps are counted', () => {
    const route = judge(wideMachine(), '09:00.0', '0a:00.0');
    expect(route).toMatchObject({ mapType: 'not-supported', distance: 4, redirects: [] });
    expect(p2pDistance(route)).toBe(-1);
  });
});

describe('ACS redirect (D.3)', () => {
  const [RR, CR, EC] = [0x04, 0x08, 0x20];

  test.each([
    ['RR', RR],
    ['CR', CR],
    ['EC', EC],
    ['what Linux sets', 0x1d],
  ])('is any of RR, CR and EC: %s', (_, control) => {
    const route = judge(withAcs(wideMachine(), { '02:00.0': control }), '04:00.0', '03:00.0');
    expect(route.mapType).toBe('not-supported');
    expect(route.redirects.map(({ address }) => address)).toEqual(['0000:02:00.0']);
  });

  test.each([
    ['SV and UF', 0x11],
    ['SV, TB, UF and DT', 0x53],
    ['nothing', 0],
    ['no capability', null],
  ])('is none of the others: %s', (_, control) => {
    const all = { '01:00.0': control, '02:00.0': control, '02:01.0': control };
    const route = judge(withAcs(wideMachine(), all), '04:00.0', '03:00.0');
    expect(route).toMatchObject({ mapType: 'bus-address', reason: 'common-bridge', redirects: [] });
  });

  test('is not what a port can do but what is switched on', () => {
    const { functions } = wideMachine();
    expect(functions.find(({ address }) => address === '0000:02:00.0')?.acs).toEqual({
      capability: 0x7f,
      control: 0,
    });
    expect(judge(wideMachine(), '04:00.0', '03:00.0').mapType).toBe('bus-address');
  });

  test.each([
    ['the port of the provider', '02:01.0'],
    ['the port of the client', '02:00.0'],
    ['the upstream port in which they meet', '01:00.0'],
    ['the provider itself', '04:00.0'],
    ['the client itself', '03:00.0'],
  ])('counts at %s', (_, at) => {
    const route = judge(withAcs(wideMachine(), { [at]: RR }), '04:00.0', '03:00.0');
    expect(route.redirects.map(({ address }) => address)).toEqual([full(at)]);
    expect(route.mapType).toBe('not-supported');
    expect(route.distance).toBe(4);
  });

  test('counts at a root port in which two functions meet', () => {
    const route = judge(withAcs(wideMachine(), { '00:02.0': 0x1d }), '09:00.0', '09:00.1');
    expect(route).toMatchObject({ mapType: 'not-supported', distance: 2 });
  });

  test('does not count above the bridge in which they meet, nor beside it', () => {
    const beside = { '00:01.0': 0x1d, '02:02.0': 0x1d, '00:02.0': 0x1d, '04:00.1': RR };
    const route = judge(withAcs(wideMachine(), beside), '04:00.0', '03:00.0');
    expect(route.mapType).toBe('bus-address');
  });

  test('at a cascaded upper port does not count for a pair below the lower switch', () => {
    const spec = withAcs(wideMachine(), { '02:02.0': 0x1d, '01:00.0': RR, '00:01.0': 0x1d });
    expect(judge(spec, '07:00.0', '08:00.0').mapType).toBe('bus-address');
    expect(judge(spec, '03:00.0', '08:00.0').redirects.map(({ address }) => address)).toEqual([
      '0000:01:00.0',
      '0000:02:02.0',
    ]);
  });

  test('does not count at all where the paths do not meet', () => {
    const everywhere = { '00:02.0': 0x1d, '00:03.0': 0x1d, '09:00.0': RR };
    const route = judge(withAcs(wideMachine({ cpu: ZEN }), everywhere), '09:00.0', '0a:00.0');
    expect(route).toMatchObject({ mapType: 'through-host-bridge', reason: 'cpu', redirects: [] });
  });

  test("is listed in the kernel's order: up from the provider, then up from the client", () => {
    const all = { '03:00.0': RR, '02:00.0': RR, '01:00.0': RR, '02:01.0': RR, '04:00.0': RR };
    const route = judge(withAcs(wideMachine(), all), '04:00.0', '03:00.0');
    expect(route.redirects.map(({ address }) => address.slice(5))).toEqual([
      '04:00.0',
      '02:01.0',
      '01:00.0',
      '03:00.0',
      '02:00.0',
    ]);
  });
});

describe('A redirected pair', () => {
  const spec = withAcs(wideMachine(), { '02:00.0': 0x1d, '02:01.0': 0x1d });
  const pair = ['04:00.0', '03:00.0'] as const;

  test('goes through a host bridge that is trusted, at the same distance (N39)', () => {
    expect(judge(wideMachine(), ...pair)).toMatchObject({ mapType: 'bus-address', distance: 4 });
    expect(judge(withCpu(spec, ZEN), ...pair)).toMatchObject({
      mapType: 'through-host-bridge',
      reason: 'cpu',
      distance: 4,
    });
    const listed = withAcs(wideMachine({ host: LISTED }), { '02:00.0': 0x1d });
    expect(judge(listed, ...pair)).toMatchObject({
      mapType: 'through-host-bridge',
      reason: 'host-bridge-listed',
      distance: 4,
    });
    expect(judge(spec, ...pair)).toMatchObject({
      mapType: 'not-supported',
      reason: 'host-bridge-not-listed',
    });
  });

  test('across two root ports depends on the CPU alone (N40)', () => {
    const [zen, intel] = [withCpu(spec, ZEN), withCpu(spec, INTEL)];
    expect(judge(zen, '09:00.0', '0a:00.0')).toMatchObject({
      mapType: 'through-host-bridge',
      distance: 4,
    });
    expect(judge(intel, '09:00.0', '0a:00.0').mapType).toBe('not-supported');
  });
});

describe('What could not be seen', () => {
  function unseen(spec: MachineSpec, ...addresses: readonly string[]): MachineSpec {
    const names = addresses.map(full);
    const functions = spec.functions.map((fn) =>
      names.includes(fn.address) ? ({ ...fn, acs: 'unknown' } as const) : fn,
    );
    return { ...spec, functions };
  }

  test('makes a pair unknown if it is the ACS of a port between them', () => {
    for (const at of ['02:00.0', '02:01.0', '01:00.0', '04:00.0', '03:00.0']) {
      const route = judge(unseen(wideMachine(), at), '04:00.0', '03:00.0');
      expect(route).toMatchObject({ mapType: 'unknown', reason: 'acs-unknown', distance: 4 });
    }
  });

  test('does not matter elsewhere, nor where the paths do not meet', () => {
    const spec = unseen(wideMachine({ cpu: ZEN }), '00:01.0', '02:02.0', '00:02.0', '00:03.0');
    expect(judge(spec, '04:00.0', '03:00.0').mapType).toBe('bus-address');
    expect(judge(spec, '09:00.0', '0a:00.0').mapType).toBe('through-host-bridge');
  });

  test('does not matter either where another port redirects for sure', () => {
    const spec = unseen(withAcs(wideMachine(), { '02:00.0': 0x1d }), '02:01.0');
    expect(judge(spec, '04:00.0', '03:00.0')).toMatchObject({ mapType: 'not-supported' });
  });

  test('of the CPU makes a pair unknown if neither list nor switch decides', () => {
    const spec = withCpu(wideMachine(), null);
    expect(judge(spec, '04:00.0', '03:00.0').mapType).toBe('bus-address');
    expect(judge(spec, '09:00.0', '0a:00.0')).toMatchObject({
      mapType: 'unknown',
      reason: 'cpu-unknown',
    });
    const listed = withCpu(wideMachine({ host: LISTED }), null);
    expect(judge(listed, '09:00.0', '0a:00.0').reason).toBe('host-bridge-listed');
  });
});
