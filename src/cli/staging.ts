/** Puts a story on a machine, as the options say, and makes sure that it can be played there. */

import { InputError, isInputError } from '../base/index.ts';
import { oneLinePath } from '../doctor/index.ts';
import type { P2pRoute } from '../framework/index.ts';
import { formatBdf, type PciNode, parseBdf } from '../machine/index.ts';
import { type Cast, Production, ROLES, type Role } from '../scenarios/index.ts';
import { quoted } from './count.ts';
import type { MachineFlags } from './machine-flags.ts';
import { type MachineSource, missingCpu } from './machine-source.ts';
import type { StorySource } from './story-source.ts';

/** A way between the first two roles of a story. */
export interface StagedRoute {
  readonly provider: PciNode;
  readonly client: PciNode;
  readonly route: P2pRoute;
}

/** A story on a machine, ready to be run. */
export interface Staging {
  readonly story: StorySource;
  readonly machine: MachineSource;
  readonly production: Production;
  /** Null for a story with one device or none. */
  readonly route: StagedRoute | null;
  /** Options that stage it so again, each followed by its value. */
  readonly options: readonly string[];
}

/**
 * Reads `--cast ROLE=BDF`, given any number of times.
 *
 * @throws {@link InputError} One is of another form, or a role is given twice.
 */
export function readWishes(texts: readonly string[]): Partial<Cast> {
  const wishes: Partial<Record<Role, string>> = {};
  for (const text of texts) {
    const [name, address = ''] = text.split(/=(.*)/s);
    const role = ROLES.find((known) => known === name);
    const bdf = parseBdf(address);
    if (role === undefined || bdf === null) {
      const roles = ROLES.join(' or ');
      const expected = `expected ROLE=ADDRESS, ROLE being ${roles}, ADDRESS as in 0000:41:00.0`;
      throw new InputError('--cast', '', `${expected}, got ${quoted(text)}`);
    }
    if (wishes[role] !== undefined) throw new InputError('--cast', role, 'it is given twice');
    wishes[role] = formatBdf(bdf);
  }
  return wishes;
}

/**
 * Makes sure that every wish is for a role that one of the stories has.
 *
 * @throws {@link InputError} One is not.
 */
export function requireRoles(wishes: Partial<Cast>, stories: readonly StorySource[]): void {
  for (const role of ROLES) {
    const isThere = stories.some(({ scenario }) => scenario.roles.includes(role));
    if (wishes[role] !== undefined && !isThere) {
      throw new InputError('--cast', role, 'the story has no such role');
    }
  }
}

/**
 * Puts `story` on `machine`.
 *
 * @param wishes - As {@link readWishes} returns them; roles that the story lacks are passed over.
 * @throws {@link InputError} The machine lacks a device, a wish cannot be met, or something that
 *   decides the run is not known of the machine.
 */
export function stage(
  story: StorySource,
  machine: MachineSource,
  wishes: Partial<Cast>,
  flags: MachineFlags,
): Staging {
  const { plan } = machine;
  const production = produce(story, machine, wishes);
  const { cast } = production;
  for (const role of ROLES) if (cast[role] !== undefined) requireKnownAcs(machine, cast[role]);
  const [first, second] = story.scenario.roles;
  const route =
    first === undefined || second === undefined
      ? null
      : {
          provider: plan.tree.at(cast[first] ?? ''),
          client: plan.tree.at(cast[second] ?? ''),
          route: production.routeBetween(first, second),
        };
  if (route?.route.reason === 'cpu-unknown') {
    const { provider, client } = route;
    const what = `whether ${client.address} reaches ${provider.address} depends on the CPU`;
    throw new InputError(oneLinePath(machine.name), '', `${what}; ${missingCpu('the source')}`);
  }
  const wished = story.scenario.roles.flatMap((role) =>
    wishes[role] === undefined ? [] : ['--cast', `${role}=${wishes[role]}`],
  );
  const options = [...machineOptions(machine, flags), ...wished];
  return { story, machine, production, route, options };
}

/** A machine may go by a name that the user has never seen; errors name it as the user did. */
function produce(
  { scenario }: StorySource,
  { name, plan }: MachineSource,
  wishes: Partial<Cast>,
): Production {
  try {
    return new Production(scenario, plan, wishes);
  } catch (error) {
    if (!isInputError(error)) throw error;
    throw new InputError(oneLinePath(name), error.place, error.problem);
  }
}

/** The devices of a story and the ports above them must be known before they come to life. */
function requireKnownAcs(machine: MachineSource, address: string): void {
  let node: PciNode | null = machine.plan.tree.at(address);
  for (; node !== null; node = node.upstream) {
    if (node.spec.acs !== 'unknown') continue;
    const problem =
      'its ACS could not be seen when the machine was captured: capture it as root, or say ' +
      '--assume-acs clear or --assume-acs redirect';
    throw new InputError(oneLinePath(machine.name), node.address, problem);
  }
}

function machineOptions(machine: MachineSource, flags: MachineFlags): readonly string[] {
  const { cpu, cmdline, assumeAcs } = flags;
  return [
    ...['--machine', machine.name],
    ...(cpu === undefined ? [] : ['--cpu', cpu]),
    ...(cmdline === undefined ? [] : ['--cmdline', cmdline]),
    ...(assumeAcs === undefined ? [] : ['--assume-acs', assumeAcs]),
  ];
}
