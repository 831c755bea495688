/** Judging pairs of a described machine, and changing what the rule looks at. */

import { type P2pFacts, type P2pRoute, p2pRoute } from '../../src/framework/index.ts';
import { type CpuSpec, type MachineSpec, PciTree } from '../../src/machine/index.ts';
import type { Part } from '../../src/machine/presets/part.ts';
import { full } from '../machine/fabric-rig.ts';

/** The facts as the description has them. */
export function factsOf({ cpu }: MachineSpec): P2pFacts {
  return {
    cpu,
    acsControl: ({ spec: { acs } }) => (acs === null || acs === 'unknown' ? acs : acs.control),
  };
}

/** Judges a pair; domains may be left out if they are 0. */
export function judge(spec: MachineSpec, provider: string, client: string): P2pRoute {
  const tree = new PciTree(spec);
  return p2pRoute(tree.at(full(provider)), tree.at(full(client)), factsOf(spec));
}

/** The same machine with another CPU. */
export function withCpu(spec: MachineSpec, cpu: CpuSpec | null): MachineSpec {
  return { ...spec, cpu };
}

/** The same machine with other ids in the functions named. */
export function withIds(
  spec: MachineSpec,
  ids: Readonly<Record<string, Pick<Part, 'vendor' | 'device'>>>,
): MachineSpec {
  const functions = spec.functions.map((fn) => {
    const changed = ids[fn.address.slice(5)];
    return changed === undefined ? fn : { ...fn, ...changed };
  });
  return { ...spec, functions };
}
