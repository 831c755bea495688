/**
 * A loadable module that exports buffers: it cannot be unloaded while one of them lives.
 *
 * @source kernel/module/main.c, v7.2
 */

import { Cell, changeCell, type PreemptStep, type Scheduler } from '../machine/index.ts';

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
    return changeCell(this, 'module get', (state) => {
      const { references, isLive } = state;
      return isLive ? [{ references: references + 1, isLive }, true] : [state, false];
    });
  }

  /**
   * A step that gives up one {@link tryGet}. False, and a kernel warning, if there was none.
   *
   * @source `module_put()`
   */
  put(): PreemptStep<boolean> {
    return changeCell(this, 'module put', (state) => {
      const { references, isLive } = state;
      if (references > 0) return [{ references: references - 1, isLive }, true];
      this.scheduler.warn('module_put', `${this.name} is not held`);
      return [state, false];
    });
  }

  /**
   * A step that unloads the module. False: somebody keeps it.
   *
   * @source `delete_module(2)`
   */
  unload(): PreemptStep<boolean> {
    return changeCell(this, 'unload', (state) => {
      return state.references === 0 ? [{ references: 0, isLive: false }, true] : [state, false];
    });
  }
}
