/**
 * Goal: what a capture cannot show is filled in as told, and said. Method: presets as captures
 * would show them, and what Linux believes of every pair compared with what is then assumed.
 */

import { describe, expect, test } from 'vitest';
import { assumeAcs, unknownAcsCount } from '../../src/cli/assume-acs.ts';
import { assumeForwarding } from '../../src/doctor/index.ts';
import { cpuSupportsP2pdma, hostBridgesAllow } from '../../src/framework/index.ts';
import {
  findPreset,
  MachinePlan,
  type MachineSpec,
  type PeerForwarding,
  PRESETS,
} from '../../src/machine/index.ts';

function preset(name: string): MachineSpec {
  return findPreset(name) ?? expect.fail('the preset is there');
}

/** As a capture shows it. */
function captured(spec: MachineSpec): MachineSpec {
  const hostBridges = spec.hostBridges.map((bridge) => {
    return { ...bridge, peerForwarding: 'none' } as const;
  });
  return { ...spec, hostBridges };
}

function forwardingOf(spec: MachineSpec): readonly PeerForwarding[] {
  return assumeForwarding(captured(spec)).hostBridges.map((bridge) => bridge.peerForwarding);
}

/** The machine with another first function on its root bus. */
function withRootDevice(vendor: number, device: number): MachineSpec {
  const spec = preset('desktop');
  const functions = spec.functions.map((fn, at) => (at === 0 ? { ...fn, vendor, device } : fn));
  return { ...spec, functions };
}

describe('assumeForwarding', () => {
  test('lets every root complex carry requests if Linux trusts the CPU', () => {
    expect(new Set(forwardingOf(preset('epyc-2s')))).toEqual(new Set(['all']));
    expect(forwardingOf({ ...preset('desktop'), cpu: preset('epyc-2s').cpu })).toEqual(['all']);
  });

  test('follows the list of host bridges if it does not', () => {
    expect(forwardingOf(preset('desktop'))).toEqual(['none']);
    expect(new Set(forwardingOf(preset('icelake-2s')))).toEqual(new Set(['all']));
    expect(forwardingOf(withRootDevice(0x8086, 0x2f00))).toEqual(['same-host-bridge']);
    expect(forwardingOf(withRootDevice(0x8086, 0x2030))).toEqual(['all']);
    expect(forwardingOf(withRootDevice(0x1234, 0x2030))).toEqual(['none']);
    expect(forwardingOf({ ...preset('icelake-2s'), cpu: null })).toContain('all');
  });

  test('is what Linux believes of every pair of host bridges of every preset', () => {
    for (const spec of PRESETS) {
      const assumed = assumeForwarding(captured(spec));
      const { hostBridges } = new MachinePlan(assumed).tree;
      const isTrusted = spec.cpu !== null && cpuSupportsP2pdma(spec.cpu);
      for (const one of hostBridges) {
        for (const other of hostBridges) {
          const believes = isTrusted || hostBridgesAllow(one, other) === 'allowed';
          const both = [one.spec.peerForwarding, other.spec.peerForwarding];
          const carries = one === other ? both[0] !== 'none' : both.every((way) => way === 'all');
          expect([spec.name, one.name, other.name, carries]).toEqual([
            spec.name,
            one.name,
            other.name,
            believes,
          ]);
        }
      }
    }
  });

  test('says so, and changes nothing else', () => {
    const spec = captured(preset('icelake-2s'));
    const { hostBridges, notes, ...rest } = assumeForwarding(spec);
    expect({ ...rest, hostBridges: spec.hostBridges, notes: spec.notes }).toEqual(spec);
    expect(notes).toEqual([...spec.notes, expect.stringContaining('what Linux believes')]);
  });
});

describe('assumeAcs', () => {
  const spec = preset('server-switch');
  const functions = spec.functions.map((fn, at) =>
    at % 2 === 0 ? ({ ...fn, acs: 'unknown' } as const) : fn,
  );
  const blind: MachineSpec = { ...spec, functions };

  test.each([
    ['clear', null],
    ['redirect', { capability: 0x1f, control: 0x1d }],
  ] as const)('%s replaces what is unknown, and nothing else', (assumed, acs) => {
    const seeing = assumeAcs(blind, assumed);
    expect(unknownAcsCount(blind)).toBe(6);
    expect(unknownAcsCount(seeing)).toBe(0);
    for (const [at, fn] of seeing.functions.entries()) {
      expect(fn).toEqual(at % 2 === 0 ? { ...spec.functions[at], acs } : spec.functions[at]);
    }
    expect(seeing.notes).toEqual([expect.stringContaining('The ACS of 6 functions is not known')]);
  });

  test('leaves a machine that knows its ACS as it is', () => {
    expect(assumeAcs(spec, 'redirect')).toBe(spec);
  });
});
