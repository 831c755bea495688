/**
 * Whether devices' addresses are translated, from what the kernel left behind: IOMMU units, groups,
 * their types, and its command line.
 *
 * The line `Default domain type: Translated` of a boot log is no evidence: kernels print it without
 * any IOMMU.
 *
 * @source reference/p2p-topology.md 1.6
 */

import type { IommuMode } from '../machine/index.ts';

/** LIMIT: characters of a command line; the kernel takes 4096. */
const CMDLINE_MAX = 65_536;

/** What a source shows. */
export interface IommuEvidence {
  /**
   * True if there is an IOMMU unit, or a function in a group. Null: the source could not show it.
   */
  readonly hasIommu: boolean | null;
  /** `type` of the groups that have one: `identity`, `DMA`, `DMA-FQ` and others. */
  readonly groupTypes: readonly string[];
  /** The kernel command line; null if unknown. */
  readonly cmdline: string | null;
}

/** Tells the mode. Says in `notes` what is assumed. */
export function iommuModeOf(evidence: IommuEvidence, notes: string[]): IommuMode {
  const { hasIommu, groupTypes, cmdline } = evidence;
  const words = wordsOf(cmdline);
  if (hasIommu !== true) {
    if (hasIommu === null && !saysOff(words)) {
      notes.push('The source shows no IOMMU group; no IOMMU driver is assumed.');
    }
    return 'off';
  }
  const hasIdentity = groupTypes.includes('identity');
  if (groupTypes.some((type) => type.startsWith('DMA'))) {
    if (hasIdentity) notes.push('Some IOMMU groups are not translated; all are taken to be.');
    return 'translated';
  }
  if (hasIdentity) return 'passthrough';
  const said = modeByWords(words);
  if (said !== null) return said;
  const why =
    cmdline === null ? 'The kernel command line is not in the source' : 'Nothing says otherwise';
  notes.push(`${why}; the IOMMU is assumed to translate for every device.`);
  return 'translated';
}

/** `key=value` by key; of several the last counts, as in the kernel. */
function wordsOf(cmdline: string | null): ReadonlyMap<string, string> {
  const words = new Map<string, string>();
  for (const word of (cmdline ?? '').slice(0, CMDLINE_MAX).split(/\s+/)) {
    const equals = word.indexOf('=');
    if (equals > 0) words.set(word.slice(0, equals), word.slice(equals + 1));
  }
  return words;
}

function saysOff(words: ReadonlyMap<string, string>): boolean {
  return ['iommu', 'intel_iommu', 'amd_iommu'].some((key) =>
    words.get(key)?.split(',').includes('off'),
  );
}

function modeByWords(words: ReadonlyMap<string, string>): IommuMode | null {
  const iommu = words.get('iommu')?.split(',') ?? [];
  const passthrough = words.get('iommu.passthrough')?.toLowerCase();
  if (iommu.includes('pt') || /^(?:1|y|yes|on)$/.test(passthrough ?? '')) return 'passthrough';
  if (iommu.includes('nopt') || /^(?:0|n|no|off)$/.test(passthrough ?? '')) return 'translated';
  return null;
}
