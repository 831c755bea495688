/**
 * Signals, as far as the kernel cares: a thread that sleeps interruptibly is woken by one, and its
 * system call ends early. What a signal means to the program is not modelled.
 *
 * @source kernel/signal.c, v7.2; reference/linux-dma-buf.md 0.2 (ERESTARTSYS)
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type Access,
  type AccessClass,
  type Actor,
  type Atomic,
  Cell,
  type Look,
  NOW,
  PreemptStep,
  type Scheduler,
  SleepStep,
  type Task,
} from '../../machine/index.ts';

/** Who has a signal pending (`TIF_SIGPENDING` of every thread). Its value is the set of them. */
export class Signals extends Cell<ReadonlySet<Actor>> {
  constructor(scheduler: Scheduler) {
    super(scheduler, 'pending signals', new Set());
  }

  /**
   * Sends a thread a signal. If it sleeps interruptibly it wakes; else the next such sleep of its
   * system call is none.
   *
   * @context Any.
   * @source `kill(2)`, `signal_wake_up()`
   */
  *kill(actor: Actor): Atomic {
    yield* new ChangePending(this, actor, true);
  }

  /**
   * Delivers what is pending to the current thread, on its way back to user mode.
   *
   * DIFFERS: there are no handlers, so no call is restarted: `ERESTARTSYS` always becomes `EINTR`.
   * A signal that comes between two calls waits for the next one, as if it had come at its start.
   *
   * @context Any.
   * @source `exit_to_user_mode_loop()`
   */
  *deliver(actor: Actor): Atomic {
    if (this.value.has(actor)) yield* new ChangePending(this, actor, false);
  }

  /** True if `actor` has a signal pending, at the moment that `look` looks at. */
  isPending(actor: Actor, look: Look = NOW): boolean {
    return look<ReadonlySet<Actor>>(this).has(actor);
  }

  /** How a step touches the signals of one actor; those of others do not matter to it. */
  access(actor: Actor, accessClass: AccessClass): Access {
    return { cell: this, class: accessClass, from: actor.id, to: actor.id + 1 };
  }

  /**
   * Does a step that sleeps; a signal ends the sleep. What has come true while the signal came is
   * not lost: the step is done then.
   *
   * @param call - Named in the error.
   * @throws {@link DmaBufError} `ERESTARTSYS` a signal came first.
   * @context May sleep.
   * @source `wait_event_interruptible()`
   */
  *interruptible<R>(step: SleepStep<R>, call: string): Task<R> {
    const got = yield* this.tryInterruptible(step);
    if (got !== null) return got.result;
    throw new DmaBufError('ERESTARTSYS', call, 'interrupted-by-a-signal');
  }

  /**
   * As {@link interruptible}; null: a signal came first.
   *
   * @context May sleep.
   */
  tryInterruptible<R>(step: SleepStep<R>): SleepStep<{ readonly result: R } | null> {
    return new Interruptible(this, step);
  }
}

class ChangePending extends PreemptStep<void> {
  readonly cell: Signals;
  private readonly actor: Actor;
  private readonly pending: boolean;

  constructor(cell: Signals, actor: Actor, pending: boolean) {
    super();
    this.cell = cell;
    this.actor = actor;
    this.pending = pending;
  }

  get verb(): string {
    return this.pending ? 'kill' : 'deliver';
  }

  override accesses(): readonly Access[] {
    return [this.cell.access(this.actor, 'W')];
  }

  apply(): void {
    const rest = [...this.cell.value].filter((other) => other !== this.actor);
    this.cell.value = new Set(this.pending ? [...rest, this.actor] : rest);
  }
}

/** Null: a signal came first. */
class Interruptible<R> extends SleepStep<{ readonly result: R } | null> {
  private readonly signals: Signals;
  private readonly inner: SleepStep<R>;

  constructor(signals: Signals, inner: SleepStep<R>) {
    super();
    this.signals = signals;
    this.inner = inner;
  }

  get cell(): Cell {
    return this.inner.cell;
  }

  get verb(): string {
    return this.inner.verb;
  }

  override guard(look: Look, actor: Actor): boolean {
    return this.inner.guard(look, actor) || this.signals.isPending(actor, look);
  }

  override accesses(look: Look, actor: Actor): readonly Access[] {
    const signal = this.signals.access(actor, 'R');
    if (this.inner.guard(look, actor)) return [...this.inner.accesses(look, actor), signal];
    // The sleep ends without its effect, because what it waits for has not come.
    return [
      ...this.inner.accesses(look, actor).map((one) => ({ ...one, class: 'R' as const })),
      signal,
    ];
  }

  override deadline(): number | undefined {
    return this.inner.deadline();
  }

  override waitsFor(): readonly string[] {
    return this.inner.waitsFor();
  }

  apply(actor: Actor): { readonly result: R } | null {
    return this.inner.guard(NOW, actor) ? { result: this.inner.apply(actor) } : null;
  }
}
