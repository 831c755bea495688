/** A user's story that deadlocks in some orders: two tasks take two locks the other way round. */

import { Mutex, type Task } from '../../../src/machine/index.ts';
import { defineScenario, type Ending, type Stage } from '../../../src/scenarios/index.ts';

class TwoLocks implements Ending {
  private readonly stage: Stage;

  constructor(stage: Stage) {
    const { scheduler } = stage;
    const [a, b] = [new Mutex(scheduler, 'lock a'), new Mutex(scheduler, 'lock b')];
    this.stage = stage;
    scheduler.spawn(this.takeBoth(a, b), { name: 'one', role: 'user' });
    scheduler.spawn(this.takeBoth(b, a), { name: 'two', role: 'user' });
  }

  conclude(): string {
    return 'both had both';
  }

  private *takeBoth(first: Mutex, second: Mutex): Task {
    yield* first.lock();
    yield* second.lock();
    this.stage.note('has both');
    yield* second.unlock();
    yield* first.unlock();
  }
}

export default defineScenario({
  id: 'two-locks',
  title: 'two tasks take two locks the other way round',
  story: 'One takes a and then b, two takes b and then a.',
  machine: 'desktop',
  roles: [],
  boot: (stage) => new TwoLocks(stage),
});
