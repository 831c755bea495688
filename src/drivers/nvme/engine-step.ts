/**
 * The steps of the controller's engine, each bound to the reset that started it: when another reset
 * came in between, the step does nothing and the engine learns of it.
 *
 * Why this is enough: whatever the engine remembers (heads and tails of queues, a command half
 * done, data on its way) lives in its generators, and no step of those has an effect once the count
 * of resets has moved on. The step that the engine had pending when the reset came is the only one
 * that it can still take; it finds the count changed *as it takes effect*, so it neither sends a
 * request nor posts a completion nor sets CSTS.RDY. It throws in the engine instead, which drops
 * all that it remembered.
 */

import {
  type Access,
  type Actor,
  type Cell,
  COMMAND_BUS_MASTER,
  type Look,
  type PciFunction,
  type Register,
  SleepStep,
  type Step,
  wholeCell,
} from '../../machine/index.ts';

/** Thrown inside the engine by a step that found a reset; who runs the engine starts it anew. */
export class WasReset extends Error {
  override readonly name = 'WasReset';
}

/** The time between two resets. */
export class Epoch {
  /** Counts resets. */
  readonly resets: Register;
  /** Its value in this epoch. */
  readonly number: number;
  private readonly fn: PciFunction;

  constructor(fn: PciFunction, resets: Register, number: number) {
    this.fn = fn;
    this.resets = resets;
    this.number = number;
  }

  /**
   * `inner` as a step inside the device, without the bus.
   *
   * @context The engine only.
   */
  inside<R>(inner: Step<R>): SleepStep<R> {
    return new EngineStep(inner, this, null);
  }

  /**
   * `inner` as a request on the bus. It waits until bus mastering is on: a function without it does
   * not send, and what it has to send stays where it is.
   *
   * @context The engine only.
   */
  onBus<R>(inner: Step<R>): SleepStep<R> {
    return new EngineStep(inner, this, this.fn.command);
  }
}

const WAS_RESET: unique symbol = Symbol('was reset');

class EngineStep<R> extends SleepStep<R> {
  readonly cell: Cell;
  private readonly inner: Step<R>;
  private readonly epoch: Epoch;
  private readonly command: Cell<number> | null;

  constructor(inner: Step<R>, epoch: Epoch, command: Cell<number> | null) {
    super();
    this.cell = command ?? epoch.resets;
    this.inner = inner;
    this.epoch = epoch;
    this.command = command;
  }

  get verb(): string {
    return this.inner.verb;
  }

  override guard(look: Look, actor: Actor): boolean {
    const { epoch, command } = this;
    if (look(epoch.resets) !== epoch.number) return true;
    if (command !== null && (look(command) & COMMAND_BUS_MASTER) === 0) return false;
    return this.inner.guard(look, actor);
  }

  override accesses(look: Look, actor: Actor): readonly Access[] {
    const { epoch, command } = this;
    const looked = command === null ? [] : [wholeCell(command, 'R')];
    looked.push(wholeCell(epoch.resets, 'R'));
    if (look(epoch.resets) !== epoch.number) return looked;
    return [...looked, ...this.inner.accesses(look, actor)];
  }

  apply(actor: Actor): R {
    const { epoch } = this;
    if (epoch.resets.value !== epoch.number) return WAS_RESET as R;
    return this.inner.apply(actor);
  }

  /** Called by `yield*` with the result: here the engine, not the scheduler, sees the reset. */
  override next(sent: unknown): this {
    if (sent === WAS_RESET) throw new WasReset('the function was reset');
    return super.next(sent);
  }
}
