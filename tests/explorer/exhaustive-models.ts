/** Small programs, to compare searches with each other and with what is known of them. */

import type { Program } from '../../src/explorer/index.ts';
import {
  Mutex,
  type Outcome,
  RefCount,
  RwSemaphore,
  type Scheduler,
  Shared,
  type Task,
} from '../../src/machine/index.ts';

/** A world: its threads, and what is to be said of it at the end. */
export interface World {
  readonly threads: readonly Task[];
  readonly conclude: () => string;
}

/** A program of threads that all begin at once. */
export function programOf(id: string, make: (scheduler: Scheduler) => World): Program {
  return {
    id,
    machine: 'none',
    boot(scheduler) {
      const { threads, conclude } = make(scheduler);
      for (const [i, task] of threads.entries()) {
        scheduler.spawn(task, { name: `t${i}`, role: 'user' });
      }
      return { conclude: (_outcome: Outcome) => conclude() };
    },
  };
}

function cells(scheduler: Scheduler, count: number): readonly Shared<number>[] {
  return Array.from({ length: count }, (_, i) => new Shared<number>(scheduler, `c${i}`, 0));
}

function at<T>(list: readonly T[], index: number): T {
  return list[index] as T;
}

function threads(count: number, make: (index: number) => Task): readonly Task[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** One writer, N readers that first read something of their own. */
export function readers(n: number): Program {
  return programOf(`readers ${n}`, (scheduler) => {
    const [x, ...own] = cells(scheduler, n + 1) as [Shared<number>, ...Shared<number>[]];
    function* reader(i: number): Task {
      yield* at(own, i).read();
      yield* x.read();
    }
    function* writer(): Task {
      yield* x.write(1);
    }
    return { threads: [writer(), ...threads(n, reader)], conclude: () => '' };
  });
}

/** N writers of an array, one reader that looks for the last zero. */
export function lastZero(n: number): Program {
  return programOf(`lastzero ${n}`, (scheduler) => {
    const array = cells(scheduler, n + 1);
    function* scan(): Task {
      let i = n;
      while ((yield* at(array, i).read()) !== 0) i -= 1;
    }
    function* bump(i: number): Task {
      const value = yield* at(array, i).read();
      yield* at(array, i + 1).write(value + 1);
    }
    return { threads: [scan(), ...threads(n, bump)], conclude: () => '' };
  });
}

/** N threads, each writes its cell and reads the next one's. */
export function storeBuffer(n: number): Program {
  return programOf(`sb ${n}`, (scheduler) => {
    const x = cells(scheduler, n);
    function* thread(i: number): Task {
      yield* at(x, i).write(1);
      yield* at(x, (i + 1) % n).read();
    }
    return { threads: threads(n, thread), conclude: () => '' };
  });
}

/** N threads that read a cell and write one more to it; or, blindly, only write. */
export function increments(n: number, blind: boolean): Program {
  return programOf(`${blind ? 'writers' : 'incr'} ${n}`, (scheduler) => {
    const x = new Shared<number>(scheduler, 'x', 0);
    function* thread(i: number): Task {
      const value = blind ? i : yield* x.read();
      yield* x.write(value + 1);
    }
    return { threads: threads(n, thread), conclude: () => `${x.value}` };
  });
}

/** N threads, each R times under a lock. */
export function lockCounter(n: number, r: number): Program {
  return programOf(`lockctr ${n} ${r}`, (scheduler) => {
    const lock = new Mutex(scheduler, 'm');
    let count = 0;
    function* thread(): Task {
      for (let k = 0; k < r; k += 1) {
        yield* lock.lock();
        count += 1;
        yield* lock.unlock();
      }
    }
    return { threads: threads(n, thread), conclude: () => `${count}` };
  });
}

/** Philosophers; who takes the left fork first, all alike, can starve. */
export function philosophers(n: number, ordered: boolean): Program {
  return programOf(`philosophers ${n}`, (scheduler) => {
    const forks = Array.from({ length: n }, (_, i) => new Mutex(scheduler, `fork ${i}`));
    function* eat(i: number): Task {
      const pair = [i, (i + 1) % n];
      if (ordered) pair.sort((a, b) => a - b);
      const [one, other] = pair.map((f) => at(forks, f)) as [Mutex, Mutex];
      yield* one.lock();
      yield* other.lock();
      yield* other.unlock();
      yield* one.unlock();
    }
    return { threads: threads(n, eat), conclude: () => '' };
  });
}

/** R readers and W writers of a read-write semaphore. */
export function readWrite(r: number, w: number): Program {
  return programOf(`rw ${r} ${w}`, (scheduler) => {
    const lock = new RwSemaphore(scheduler, 'rw');
    function* read(): Task {
      yield* lock.downRead();
      yield* lock.upRead();
    }
    function* write(): Task {
      yield* lock.downWrite();
      yield* lock.upWrite();
    }
    return { threads: [...threads(r, read), ...threads(w, write)], conclude: () => '' };
  });
}

/** N times get, put, put of a count that begins at N. */
export function getPutPut(n: number): Program {
  return programOf(`get put put ${n}`, (scheduler) => {
    const refs = new RefCount(scheduler, 'refs');
    refs.value = n;
    function* thread(): Task {
      yield* refs.getHeld();
      yield* refs.put();
      yield* refs.put();
    }
    return { threads: threads(n, thread), conclude: () => `${refs.value}` };
  });
}

/** A last put against N times try-get, put. */
export function lastPut(n: number): Program {
  return programOf(`last put ${n}`, (scheduler) => {
    const refs = new RefCount(scheduler, 'refs');
    function* putter(): Task {
      yield* refs.put();
    }
    function* taker(): Task {
      if (yield* refs.getUnlessZero()) yield* refs.put();
    }
    return { threads: [putter(), ...threads(n, taker)], conclude: () => `${refs.value}` };
  });
}

/** P1, the try-get race of the models: the list is plain data under the lock. */
export function tryGetModel(buffers: number, selfDeadlock = false): Program {
  return programOf(`p1 ${buffers}`, (scheduler) => {
    const lock = new Mutex(scheduler, 'memory_lock');
    const refs = Array.from({ length: buffers }, (_, i) => new RefCount(scheduler, `f${i}`));
    const listed = refs.map(() => true);
    function* release(i: number): Task {
      yield* lock.lock();
      listed[i] = false;
      yield* lock.unlock();
    }
    function* closer(i: number): Task {
      if (yield* at(refs, i).put()) yield* release(i);
    }
    function* revoker(): Task {
      const later: number[] = [];
      yield* lock.lock();
      for (const [i, ref] of refs.entries()) {
        if (!listed[i] || !(yield* ref.getUnlessZero())) continue;
        if (!(yield* ref.put())) continue;
        if (selfDeadlock) yield* release(i);
        else later.push(i);
      }
      yield* lock.unlock();
      for (const i of later) yield* release(i);
    }
    return { threads: [revoker(), ...threads(buffers, closer)], conclude: () => listed.join() };
  });
}
