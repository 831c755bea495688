/** Work that somebody hands to a kernel thread. @source include/linux/workqueue.h */

import { Fifo, type PreemptStep, type Scheduler, type Task } from '../machine/index.ts';

/** Something to do later, by the worker. */
export type Work = () => Task;

/** An ordered work queue with one worker. */
export class WorkQueue {
  private readonly fifo: Fifo<Work>;

  /**
   * @param name - Name of the worker: `kworker/fput`.
   * @context At boot: the worker is spawned here.
   */
  constructor(scheduler: Scheduler, name: string) {
    this.fifo = new Fifo(scheduler, name, []);
    scheduler.spawn(this.worker(), { name, role: 'kernel', daemon: true });
  }

  /**
   * Hands work to the worker.
   *
   * @context Any, also interrupt handlers.
   * @source `queue_work()`
   */
  queue(work: Work): PreemptStep<void> {
    return this.fifo.push(work);
  }

  private *worker(): Task {
    for (;;) {
      const work = yield* this.fifo.take();
      yield* work();
    }
  }
}
