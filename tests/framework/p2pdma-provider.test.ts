/**
 * Goal: a function's BARs become providers with the bus address of their memory, and a verdict once
 * given stays, as in Linux. Method: the Arm board, on which addresses differ; ACS changed between
 * two questions. Reference C.5, D.5.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import { type P2pRoute, pciP2pdmaBusAddrMap } from '../../src/framework/index.ts';
import { commute, type Device, NOW, PlatformDevice } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { endpoint } from '../../src/machine/presets/build.ts';
import { ioBar, prefetchBar } from '../../src/machine/presets/part.ts';
import { oneStep, withAcs } from '../machine/fabric-rig.ts';
import { CARD, machineOf, port, wideMachine } from '../machine/test-machines.ts';
import { KernelRig } from './kernel-rig.ts';

function ask(rig: KernelRig, provider: string, client: string | Device): P2pRoute | null {
  const device = typeof client === 'string' ? rig.at(client) : client;
  return rig.do(oneStep(rig.kernel.p2pdmaOf(rig.at(provider)).mapType(device)));
}

describe('A provider', () => {
  test('is there for every memory BAR that has an address, and no other', () => {
    const part = { ...CARD, bars: [prefetchBar(0, 0x1000), ioBar(2, 64), prefetchBar(4, 0x1000)] };
    const built = machineOf({ 0: [port('01.0', [endpoint(part)])] });
    const functions = built.functions.map((fn) => ({
      ...fn,
      bars: fn.bars.map((bar) => (bar.index === 4 ? { ...bar, address: 0 } : bar)),
    }));
    const rig = new KernelRig({ ...built, functions });
    const p2pdma = rig.kernel.p2pdmaOf(rig.at('01:00.0'));
    expect([0, 1, 2, 3, 4, 5].map((bar) => p2pdma.provider(bar) !== null)).toEqual([
      ...[true, false, false],
      ...[false, false, false],
    ]);
    expect(p2pdma.provider(0)).toMatchObject({ bar: 0, busOffset: 0 });
    expect(rig.kernel.p2pdmaOf(rig.at('01:00.0'))).toBe(p2pdma);
  });

  test('knows the bus address of its memory where the CPU has another', () => {
    const rig = new KernelRig(ARM_SOC);
    const drive = rig.at('03:00.0');
    const provider = rig.kernel.p2pdmaOf(drive).provider(2) ?? expect.fail('a provider');
    expect(provider.busOffset).toBe(0xc0000000 - 0x600000000);
    const phys = physAddr(drive.barStart(2) + 0x42);
    expect(pciP2pdmaBusAddrMap(provider, phys)).toBe(rig.busAddressOf('03:00.0', 2) + 0x42);
  });
});

describe('A verdict', () => {
  test('for a device that is not on PCI is none: no distance either (S000-8)', () => {
    const rig = new KernelRig();
    expect(ask(rig, '04:00.0', new PlatformDevice('rxe0', true))).toBeNull();
    expect(rig.kernel.p2pdmaOf(rig.at('04:00.0')).value.size).toBe(0);
  });

  test('is kept: ACS that changes later does not change it, as in Linux', () => {
    const rig = new KernelRig();
    const before = ask(rig, '04:00.0', '03:00.0');
    expect(before?.mapType).toBe('bus-address');
    rig.do(oneStep(rig.at('02:00.0').writeAcsControl(0x1d)));
    expect(ask(rig, '04:00.0', '03:00.0')).toBe(before);
    // Who asks for the first time is judged by what is now; so is the other direction.
    expect(ask(rig, '04:00.1', '03:00.0')?.mapType).toBe('not-supported');
    expect(ask(rig, '03:00.0', '04:00.0')?.mapType).toBe('not-supported');
    expect(ask(rig, '04:00.0', '07:00.0')?.mapType).toBe('bus-address');
  });

  test('that is stale sends bytes to the IOMMU, where they end', () => {
    const spec = withAcs(wideMachine({ iommu: 'translated' }), { '00:01.0': 0x10 });
    const rig = new KernelRig(spec);
    ask(rig, '04:00.0', '03:00.0');
    rig.do(oneStep(rig.at('02:00.0').writeAcsControl(0x1d)));
    expect(ask(rig, '04:00.0', '03:00.0')?.mapType).toBe('bus-address');
    rig.write('03:00.0', rig.busAddressOf('04:00.0', 2), [1]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', device: '0000:03:00.0' });
  });

  test('looks at the register of a running port, and at the description of another', () => {
    const rig = new KernelRig(withAcs(wideMachine(), { '02:01.0': 0x04 }));
    expect(ask(rig, '04:00.0', '03:00.0')?.mapType).toBe('not-supported');
    const other = new KernelRig(withAcs(wideMachine(), { '02:01.0': 0x04 }));
    other.do(oneStep(other.at('02:01.0').writeAcsControl(0)));
    expect(ask(other, '04:00.0', '03:00.0')?.mapType).toBe('bus-address');
  });

  test('is a step that says what it looks at: only the first one writes', () => {
    const rig = new KernelRig();
    const port = rig.at('02:00.0');
    const p2pdma = rig.kernel.p2pdmaOf(rig.at('04:00.0'));
    const actor = rig.kthread(oneStep(p2pdma.mapType(rig.at('03:00.0'))), 'asker');
    const first = p2pdma.mapType(rig.at('03:00.0')).accesses(NOW, actor);
    expect(first.map(({ cell }) => cell)).toContain(port.acsControl);
    expect(first[0]).toMatchObject({ cell: p2pdma, class: 'W' });
    rig.run();
    const second = p2pdma.mapType(rig.at('03:00.0')).accesses(NOW, actor);
    expect(second).toMatchObject([{ cell: p2pdma, class: 'R' }]);
    expect(commute('R', 'R')).toBe(true);
  });
});
