/**
 * Goal: a verdict is explained in words that name the functions and ports concerned, and what is
 * advised does help. Method: each reason once, word for word; advice applied to the machine, on
 * random fabrics too.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { explainRoute, type P2pExplanation, p2pRoute } from '../../src/framework/index.ts';
import { generateFabric, type MachineSpec, PciTree } from '../../src/machine/index.ts';
import { full, withAcs } from '../machine/fabric-rig.ts';
import {
  card,
  LISTED,
  machineOf,
  port,
  switchOf,
  wideMachine,
  ZEN,
} from '../machine/test-machines.ts';
import { factsOf, judge, withCpu, withIds } from './p2p-facts.ts';

function explain(spec: MachineSpec, provider: string, client: string): P2pExplanation {
  const tree = new PciTree(spec);
  const [one, other] = [tree.at(full(provider)), tree.at(full(client))];
  return explainRoute(one, other, p2pRoute(one, other, factsOf(spec)));
}

/** The machine as Linux would boot it with the parameter that was advised. */
function withParameter(spec: MachineSpec, parameter: string): MachineSpec {
  const match = /^pci=disable_acs_redir=(.+)$/.exec(parameter);
  const ports = match?.[1]?.split(';') ?? expect.fail(`no such parameter: ${parameter}`);
  const functions = spec.functions.map((fn) => {
    const { acs } = fn;
    if (!ports.includes(fn.address) || acs === null || acs === 'unknown') return fn;
    return { ...fn, acs: { ...acs, control: acs.control & ~0x2c } };
  });
  return { ...spec, functions };
}

const REDIRECTED = withAcs(wideMachine(), { '02:00.0': 0x1d, '02:01.0': 0x1d });

describe('An explanation', () => {
  test.each([
    [
      'of a common bridge',
      wideMachine(),
      '04:00.0',
      '03:00.0',
      '0000:03:00.0 and 0000:04:00.0 meet at 0000:01:00.0; no ACS control on the way redirects',
    ],
    [
      'of one function',
      wideMachine(),
      '04:00.0',
      '04:00.0',
      '0000:04:00.0 is the provider; no ACS control on the way redirects',
    ],
    [
      'of a redirect to an unlisted bridge',
      REDIRECTED,
      '04:00.0',
      '03:00.0',
      '0000:03:00.0 and 0000:04:00.0 meet at 0000:01:00.0, but ACS redirects peer requests at ' +
        '0000:02:01.0, 0000:02:00.0; host bridge pci0000:00 (8086:6f00) is not in ' +
        "Linux's list of trusted root complexes",
    ],
    [
      'of a trusted CPU',
      wideMachine({ cpu: ZEN }),
      '09:00.0',
      '0a:00.0',
      '0000:0a:00.0 and 0000:09:00.0 share no bridge; ' +
        'Linux trusts the root complex of AMD CPUs from Zen on',
    ],
    [
      'of listed bridges',
      wideMachine({ host: LISTED }),
      '09:00.0',
      '41:00.0',
      '0000:41:00.0 and 0000:09:00.0 share no bridge; ' +
        "host bridges pci0000:00 (8086:09a2) and pci0000:40 (8086:09a2) are in Linux's list",
    ],
    [
      'of bridges that are listed for themselves only',
      wideMachine({ host: { ...LISTED, device: 0x2f00 } }),
      '09:00.0',
      '41:00.0',
      '0000:41:00.0 and 0000:09:00.0 share no bridge; host bridges pci0000:00 (8086:2f00) and ' +
        'pci0000:40 (8086:2f00) are listed for pairs below one host bridge only',
    ],
    [
      'of a CPU that was not captured',
      withCpu(wideMachine(), null),
      '09:00.0',
      '0a:00.0',
      '0000:0a:00.0 and 0000:09:00.0 share no bridge; ' +
        'the CPU was not captured, and the host bridges are not listed',
    ],
  ])('%s', (_, spec, provider, client, why) => {
    expect(explain(spec, provider, client).why).toBe(why);
  });

  test('names a host bridge for which no device stands', () => {
    const spec = wideMachine();
    const functions = spec.functions.filter(({ address }) => address !== '0000:00:00.0');
    const bare = withIds({ ...spec, functions }, {});
    const types = bare.functions.map((fn) =>
      fn.address === '0000:00:01.0' ? ({ ...fn, type: 'pci-to-pcie-bridge' } as const) : fn,
    );
    expect(explain({ ...bare, functions: types }, '09:00.0', '0a:00.0').why).toContain(
      'host bridge pci0000:00 (no device stands for it) is not in',
    );
  });
});

describe('Advice', () => {
  test('is not given for a pair that works', () => {
    expect(explain(wideMachine(), '04:00.0', '03:00.0').advice).toEqual([]);
    expect(explain(wideMachine({ cpu: ZEN }), '09:00.0', '0a:00.0').advice).toEqual([]);
  });

  test('names the ports that redirect, and clearing them makes the pair work (AC-26)', () => {
    const [first, ...others] = explain(REDIRECTED, '04:00.0', '03:00.0').advice;
    expect(first).toMatchObject({
      change: 'kernel-parameter',
      value: 'pci=disable_acs_redir=0000:02:01.0;0000:02:00.0',
    });
    expect(first?.text).toContain('weakens the isolation');
    expect(others.map(({ change }) => change)).toEqual(['machine']);
    const changed = withParameter(REDIRECTED, first?.value ?? '');
    expect(judge(changed, '04:00.0', '03:00.0').mapType).toBe('bus-address');
    // SV and UF stay on.
    const port = changed.functions.find(({ address }) => address === '0000:02:00.0');
    expect(port?.acs).toMatchObject({ control: 0x11 });
  });

  test('helps every refused pair below a common bridge, on any fabric (AC-26)', () => {
    const pairs = fc.record({
      seed: fc.nat(),
      endpoints: fc.integer({ min: 2, max: 60 }),
      provider: fc.nat(),
      client: fc.integer({ min: 1, max: 6 }),
    });
    let helped = 0;
    fc.assert(
      fc.property(pairs, ({ seed, endpoints, provider, client }) => {
        const spec = generateFabric({ seed, endpoints });
        const ends = spec.functions.filter(({ bridge, type }) => !bridge && type === 'endpoint');
        const at = provider % ends.length;
        const one = ends[at]?.address ?? '';
        const other = ends[(at + client) % ends.length]?.address ?? '';
        const route = judge(spec, one, other);
        if (route.mapType !== 'not-supported') return;
        const { advice } = explain(spec, one, other);
        expect(advice.length).toBeGreaterThan(0);
        const [parameter] = advice.filter(({ change }) => change === 'kernel-parameter');
        expect(parameter !== undefined).toBe(route.common !== null);
        if (parameter === undefined) return;
        helped += 1;
        const changed = withParameter(spec, parameter.value);
        expect(judge(changed, one, other).mapType).toBe('bus-address');
      }),
      { numRuns: 500 },
    );
    expect(helped).toBeGreaterThan(20);
  });

  test('for a pair on two root ports is one switch or another machine: both help (AC-26)', () => {
    const spec = machineOf({ 0: [port('01.0', [card()]), port('02.0', [card()])] });
    const { advice } = explain(spec, '01:00.0', '02:00.0');
    expect(advice.map(({ change, value }) => [change, value])).toEqual([
      ['slot', ''],
      ['machine', ''],
    ]);
    const moved = machineOf({ 0: [port('01.0', [switchOf([card()], [card()])])] });
    expect(judge(moved, '03:00.0', '04:00.0').mapType).toBe('bus-address');
    expect(judge(withCpu(spec, ZEN), '01:00.0', '02:00.0').mapType).toBe('through-host-bridge');
  });

  test('for bridges listed for themselves only is one host bridge, which helps (AC-26)', () => {
    const host = { ...LISTED, device: 0x2f00 };
    const spec = wideMachine({ host });
    const { advice } = explain(spec, '09:00.0', '41:00.0');
    expect(advice.map(({ text }) => text)).toEqual([
      'put both devices below one PCIe switch: its ports then carry the requests',
      'put both devices into slots of one host bridge',
    ]);
    expect(judge(spec, '09:00.0', '0a:00.0').mapType).toBe('through-host-bridge');
  });

  test('for what could not be seen is to look again', () => {
    const spec = wideMachine();
    const functions = spec.functions.map((fn) =>
      fn.address === '0000:02:00.0' ? ({ ...fn, acs: 'unknown' } as const) : fn,
    );
    expect(explain({ ...spec, functions }, '04:00.0', '03:00.0')).toEqual({
      why:
        '0000:03:00.0 and 0000:04:00.0 meet at 0000:01:00.0; ' +
        'the ACS control of a port between them was not captured',
      advice: [
        {
          change: 'capture',
          value: '',
          text: 'capture the machine again as root: only root sees ACS',
        },
      ],
    });
    const { advice } = explain(withCpu(spec, null), '09:00.0', '0a:00.0');
    expect(advice).toEqual([
      { change: 'capture', value: '', text: 'say which CPU it is with --cpu' },
    ]);
  });
});
