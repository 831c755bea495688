/**
 * What to take for ACS that could not be seen: only root can read it, so copies of a machine that a
 * user took have none. A story cannot run on hardware whose ports may do one thing or another.
 */

import { InputError } from '../base/index.ts';
import type { AcsSpec, MachineSpec } from '../machine/index.ts';
import { quoted } from './count.ts';

/** `clear`: no function has the capability. `redirect`: every one that may have it redirects. */
export type AssumedAcs = 'clear' | 'redirect';

/** What Linux switches on with an IOMMU: SV, RR, CR and UF, of a port that can also do TB. */
const REDIRECTING: AcsSpec = { capability: 0x1f, control: 0x1d };

/**
 * Reads what the user wants to assume.
 *
 * @throws {@link InputError} It is neither of the two.
 */
export function readAssumedAcs(text: string): AssumedAcs {
  if (text === 'clear' || text === 'redirect') return text;
  throw new InputError('--assume-acs', '', `expected clear or redirect, got ${quoted(text)}`);
}

/** The number of functions whose ACS is not known. */
export function unknownAcsCount({ functions }: MachineSpec): number {
  return functions.filter(({ acs }) => acs === 'unknown').length;
}

/** The machine with every unknown ACS replaced, and a note that says so. */
export function assumeAcs(spec: MachineSpec, assumed: AssumedAcs): MachineSpec {
  const count = unknownAcsCount(spec);
  if (count === 0) return spec;
  const acs = assumed === 'clear' ? null : REDIRECTING;
  const functions = spec.functions.map((fn) => (fn.acs === 'unknown' ? { ...fn, acs } : fn));
  const what =
    assumed === 'clear' ? 'nothing redirects there' : 'requests and completions are redirected';
  const note = `The ACS of ${count} functions is not known; as told, ${what}.`;
  return { ...spec, functions, notes: [...spec.notes, note] };
}
