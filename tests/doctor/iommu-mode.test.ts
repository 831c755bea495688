/**
 * Goal: the mode follows the evidence, strongest first. Method: one case for each kind of evidence.
 */

import { describe, expect, test } from 'vitest';
import { type IommuEvidence, iommuModeOf } from '../../src/doctor/iommu-mode.ts';

function modeOf(evidence: Partial<IommuEvidence>): [string, string[]] {
  const notes: string[] = [];
  const all = { hasIommu: true, groupTypes: [], cmdline: null, ...evidence };
  return [iommuModeOf(all, notes), notes];
}

describe('the IOMMU mode', () => {
  test.each([
    ['translated', { groupTypes: ['DMA'] }],
    ['translated', { groupTypes: ['DMA-FQ'], cmdline: 'iommu=pt' }],
    ['passthrough', { groupTypes: ['identity', 'unmanaged'] }],
    ['passthrough', { cmdline: 'quiet iommu=pt' }],
    ['passthrough', { cmdline: 'intel_iommu=on iommu=nopt iommu=soft,pt' }],
    ['passthrough', { cmdline: 'iommu.passthrough=1' }],
    ['translated', { cmdline: 'iommu.passthrough=0' }],
    ['translated', { cmdline: 'iommu=nopt' }],
    ['off', { hasIommu: false, cmdline: 'iommu=pt' }],
    ['off', { hasIommu: null, cmdline: 'amd_iommu=off iommu=off' }],
    ['off', { hasIommu: null, cmdline: 'intel_iommu=off' }],
  ] as const)('is %s for %j, and nothing is assumed', (mode, evidence) => {
    expect(modeOf(evidence)).toEqual([mode, []]);
  });

  test.each([
    ['translated', {}, /^The kernel command line is not in the source/],
    ['translated', { cmdline: 'quiet intel_iommu=on' }, /^Nothing says otherwise/],
    ['translated', { groupTypes: ['identity', 'DMA'] }, /^Some IOMMU groups are not translated/],
    ['off', { hasIommu: null }, /^The source shows no IOMMU group/],
  ] as const)('is assumed to be %s for %j', (mode, evidence, note) => {
    const [found, notes] = modeOf(evidence);
    expect(found).toBe(mode);
    expect(notes).toEqual([expect.stringMatching(note)]);
  });
});
