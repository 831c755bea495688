/** Work that somebody hands to a kernel thread. @source include/linux/workqueue.h */

import {
  type Access,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  SleepStep,
  type Task,
  wholeCell,
} from '../machine/index.ts';

/** Something to do later, by the worker. */
export type Work = () => Task;

/** An ordered work queue with one worker. Its value is the work that nobody has begun. */
export class WorkQueue extends Cell<readonly Work[]> {
  /**
   * @param name - Name of the worker: `kworker/fput`.
   * @context At boot: the worker is spawned here.
   */
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, []);
    scheduler.spawn(this.worker(), { name, role: 'kernel', daemon: true });
  }

  /**
   * Hands work to the worker.
   *
   * @context Any, also interrupt handlers.
   * @source `queue_work()`
   */
  queue(work: Work): PreemptStep<void> {
    return new QueueWork(this, work);
  }

  private *worker(): Task {
    for (;;) {
      const work = yield* new TakeWork(this);
      yield* work();
    }
  }
}

class QueueWork extends PreemptStep<void> {
  readonly cell: WorkQueue;
  private readonly work: Work;

  constructor(cell: WorkQueue, work: Work) {
    super();
    this.cell = cell;
    this.work = work;
  }

  get verb(): string {
    return 'queue work';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = [...this.cell.value, this.work];
  }
}

class TakeWork extends SleepStep<Work> {
  readonly cell: WorkQueue;

  constructor(cell: WorkQueue) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'wait for work';
  }

  override guard(look: Look): boolean {
    return look(this.cell).length > 0;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): Work {
    const [work, ...rest] = this.cell.value;
    this.cell.value = rest;
    return work as Work;
  }
}
