/**
 * A loadable module that exports buffers: it cannot be unloaded while one of them lives.
 *
 * @source kernel/module/main.c, v7.2
 */

import { type Access, Cell, PreemptStep, type Scheduler, wholeCell } from '../machine/index.ts';

interface ModuleState {
  readonly references: number;
  /** False from the unload on. */
  readonly isLive: boolean;
}

/** `struct module`, as far as its life goes. */
export class KernelModule extends Cell<ModuleState> {
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, { references: 0, isLive: true });
    this.scheduler = scheduler;
  }

  /**
   * A step that keeps the module loaded. False: it is on its way out.
   *
   * @source `try_module_get()`
   */
  tryGet(): PreemptStep<boolean> {
    return new ModuleStep(this, 'module get', ({ references, isLive }) =>
      isLive ? { references: references + 1, isLive } : null,
    );
  }

  /**
   * A step that gives up one {@link tryGet}. False, and a kernel warning, if there was none.
   *
   * @source `module_put()`
   */
  put(): PreemptStep<boolean> {
    return new ModuleStep(this, 'module put', ({ references, isLive }) => {
      if (references > 0) return { references: references - 1, isLive };
      this.scheduler.warn('module_put', `${this.name} is not held`);
      return null;
    });
  }

  /**
   * A step that unloads the module. False: somebody keeps it.
   *
   * @source `delete_module(2)`
   */
  unload(): PreemptStep<boolean> {
    return new ModuleStep(this, 'unload', ({ references }) =>
      references === 0 ? { references, isLive: false } : null,
    );
  }
}

type Change = (state: ModuleState) => ModuleState | null;

class ModuleStep extends PreemptStep<boolean> {
  readonly cell: KernelModule;
  readonly verb: string;
  private readonly change: Change;

  constructor(cell: KernelModule, verb: string, change: Change) {
    super();
    this.cell = cell;
    this.verb = verb;
    this.change = change;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): boolean {
    const next = this.change(this.cell.value);
    if (next !== null) this.cell.value = next;
    return next !== null;
  }
}
