/**
 * Goal: a device owned by user space reaches the pages that were mapped for it, where they were
 * mapped. Method: every IOMMU mode, and the Arm board; bytes by DMA.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import { VfioContainer } from '../../src/drivers/index.ts';
import type { UserPages } from '../../src/framework/index.ts';
import type { MachineSpec } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { KernelRig } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

const PAGE = 4096;
const IOVA = 0x10000000;
const DEVICE = '0a:00.0';

function boot(spec: MachineSpec = wideMachine({ iommu: 'translated' }), address = DEVICE) {
  const rig = new KernelRig(spec);
  const fn = rig.at(address);
  const kernelDomain = fn.domain.value;
  const container = new VfioContainer(fn);
  const pages: UserPages = rig.do(rig.process.allocate(2 * PAGE));
  return { rig, fn, kernelDomain, container, pages };
}

describe('With an IOMMU', () => {
  test.each(['translated', 'passthrough'] as const)(
    "the device leaves the kernel's domain: %s",
    (iommu) => {
      const { fn, kernelDomain, container } = boot(wideMachine({ iommu }));
      expect(container.isNoIommu).toBe(false);
      expect(fn.domain.value).not.toBe(kernelDomain);
      expect(fn.domain.value?.value).toEqual([]);
    },
  );

  test('pages are where the process wants them, until it unmaps them', () => {
    const { rig, container, pages } = boot();
    const at = rig.do(container.mapDma(IOVA, pages));
    expect(at).toBe(IOVA);
    rig.write(DEVICE, at + PAGE, [1, 2]);
    expect(rig.ram(pages.phys + PAGE, 2)).toEqual([1, 2]);
    expect([...rig.read(DEVICE, at + PAGE, 2).bytes]).toEqual([1, 2]);
    rig.write(DEVICE, pages.phys, [9]);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', address: pages.phys });
    rig.do(container.unmapDma(at, pages.size));
    rig.write(DEVICE, at, [9]);
    expect(rig.machine.faults[1]).toMatchObject({ kind: 'iommu.fault', address: IOVA });
    expect(rig.ram(pages.phys, 1)).toEqual([0]);
  });

  test('an address that is taken, also in part, is EEXIST: io-address-is-taken', () => {
    const { rig, container, pages } = boot();
    rig.do(container.mapDma(IOVA, pages));
    for (const iova of [IOVA, IOVA + PAGE, IOVA - PAGE]) {
      const error = rig.do(refused(container.mapDma(iova, pages)));
      expect(error).toMatchObject({
        code: 'EEXIST',
        call: 'ioctl(VFIO_IOMMU_MAP_DMA)',
        reason: 'io-address-is-taken',
      });
    }
    rig.do(container.mapDma(IOVA + 2 * PAGE, pages));
  });

  test('an address within a page is EINVAL: io-address-is-not-aligned', () => {
    const { rig, container, pages } = boot();
    const error = rig.do(refused(container.mapDma(IOVA + 8, pages)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'io-address-is-not-aligned' });
  });

  test('two devices have two containers', () => {
    const { rig, container, pages } = boot();
    const other = new VfioContainer(rig.at('09:00.0'));
    rig.do(container.mapDma(IOVA, pages));
    rig.do(other.mapDma(IOVA, { phys: physAddr(pages.phys + PAGE), size: PAGE }));
    rig.write(DEVICE, IOVA, [1]);
    rig.write('09:00.0', IOVA, [2]);
    expect([rig.ram(pages.phys, 1), rig.ram(pages.phys + PAGE, 1)]).toEqual([[1], [2]]);
  });
});

describe('Without an IOMMU', () => {
  test('the device sees physical addresses, whatever was asked for', () => {
    const { rig, fn, container, pages } = boot(wideMachine({ iommu: 'off' }));
    expect([container.isNoIommu, fn.domain.value]).toEqual([true, null]);
    const at = rig.do(container.mapDma(IOVA + 8, pages));
    expect(at).toBe(pages.phys);
    rig.write(DEVICE, at, [1]);
    expect(rig.ram(pages.phys, 1)).toEqual([1]);
    rig.do(container.unmapDma(at, pages.size));
    rig.write(DEVICE, at, [2]);
    expect(rig.ram(pages.phys, 1)).toEqual([2]);
  });

  test('the address is where devices see RAM, on a machine where that is elsewhere', () => {
    const { rig, container, pages } = boot(ARM_SOC, '03:00.0');
    const at = rig.do(container.mapDma(0, pages));
    expect(at).toBe(pages.phys + 0x4_0000_0000);
    rig.write('03:00.0', at, [3]);
    expect(rig.ram(pages.phys, 1)).toEqual([3]);
  });
});
