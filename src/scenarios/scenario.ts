/**
 * What a story is: devices on a machine, a few tasks, and what must have come of it at the end. The
 * same story runs on every machine that has the devices for it.
 */

import { assert, present } from '../base/index.ts';
import { Kernel, type P2pRoute, p2pFactsAtBoot, p2pRoute } from '../framework/index.ts';
import { Machine, type MachinePlan, type Outcome, type Scheduler } from '../machine/index.ts';
import { type Cast, castFor, type Role } from './cast.ts';

/** A story. */
export interface Scenario {
  /** `spdk-nvme-rdma`. */
  readonly id: string;
  /** One line. */
  readonly title: string;
  /** Two or three sentences. */
  readonly story: string;
  /** The preset it runs on unless told otherwise. */
  readonly machine: string;
  /** The devices it needs. */
  readonly roles: readonly Role[];
  /** Sets the stage and spawns the actors. */
  boot(stage: Stage): Ending;
}

/** Where a story plays. */
export interface Stage {
  readonly scheduler: Scheduler;
  readonly machine: Machine;
  readonly kernel: Kernel;
  /** Which function plays which role. */
  readonly cast: Cast;
  /** What Linux says of the way between two roles. */
  routeBetween(provider: Role, client: Role): P2pRoute;
  /** Puts a sentence of the story into the trace, said by the actor that is running. */
  note(text: string): void;
}

/** The end of a story. */
export interface Ending {
  /**
   * Looks whether all is as it must be.
   *
   * @returns What came out, in a line.
   * @throws {@link WrongResult} it is not.
   */
  conclude(outcome: Outcome): string;
}

/** Checks a story's shape and returns it. */
export function defineScenario(scenario: Scenario): Scenario {
  assert(/^[a-z0-9]+(-[a-z0-9]+)*$/.test(scenario.id), `an id is kebab-case: ${scenario.id}`);
  return scenario;
}

/** A story on a machine, ready to be run again and again. */
export class Production {
  readonly id: string;
  readonly machine: string;
  readonly scenario: Scenario;
  readonly cast: Cast;
  private readonly plan: MachinePlan;

  /**
   * @param wishes - Functions that shall play certain roles; the others are found.
   * @throws {@link InputError} the machine lacks a device, or a wish cannot be met.
   */
  constructor(scenario: Scenario, plan: MachinePlan, wishes: Partial<Cast> = {}) {
    this.id = scenario.id;
    this.machine = plan.spec.name;
    this.scenario = scenario;
    this.plan = plan;
    this.cast = castFor(plan, scenario.roles, wishes);
  }

  /** Builds the world on a fresh scheduler. */
  boot(scheduler: Scheduler): Ending {
    const { cast } = this;
    const machine = new Machine(this.plan, scheduler);
    const kernel = new Kernel(machine);
    return this.scenario.boot({
      scheduler,
      machine,
      kernel,
      cast,
      routeBetween: (provider, client) => this.routeBetween(provider, client),
      note: (text) => scheduler.record?.({ kind: 'story.note', text }),
    });
  }

  /** What Linux says of the way between two roles. */
  routeBetween(provider: Role, client: Role): P2pRoute {
    const { tree, spec } = this.plan;
    const nodeOf = (role: Role) => tree.at(present(this.cast[role], `a function for ${role}`));
    return p2pRoute(nodeOf(provider), nodeOf(client), p2pFactsAtBoot(spec));
  }
}
