/**
 * Goal: a signal ends an interruptible sleep and nothing else, and user space sees EINTR. Method:
 * a thread that sleeps, and one that kills.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { commute, type Step, type Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { FenceRig } from './fence-rig.ts';

describe('A signal', () => {
  test('ends an interruptible sleep with ERESTARTSYS: interrupted-by-a-signal', () => {
    const rig = new FenceRig();
    const { signals } = rig.kernel;
    const got: unknown[] = [];
    function* sleep(): Task {
      const error = yield* refused(signals.interruptible(rig.scheduler.sleep(100), 'nanosleep'));
      got.push(error.code, error.call, error.reason, rig.scheduler.t);
    }
    const sleeper = rig.user(sleep());
    function* kill(): Task {
      yield* rig.scheduler.sleep(10);
      yield* signals.kill(sleeper);
    }
    rig.kthread(kill(), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(got).toEqual(['ERESTARTSYS', 'nanosleep', 'interrupted-by-a-signal', 10]);
  });

  test('ends no sleep of another thread, and no uninterruptible one', () => {
    const rig = new FenceRig();
    const { signals } = rig.kernel;
    const ends: string[] = [];
    function* deaf(): Task {
      yield* rig.scheduler.sleep(100);
      ends.push(`deaf ${rig.scheduler.t}`);
    }
    function* other(): Task {
      yield* signals.interruptible(rig.scheduler.sleep(50), 'nanosleep');
      ends.push(`other ${rig.scheduler.t}`);
    }
    const target = rig.user(deaf(), 'deaf');
    rig.user(other(), 'other');
    rig.kthread(signals.kill(target), 'killer');
    rig.run();
    expect(ends).toEqual(['other 50', 'deaf 100']);
    expect(signals.isPending(target)).toBe(true);
  });

  test('is EINTR for the program, and delivered: system-call-interrupted', () => {
    const rig = new FenceRig();
    const { signals } = rig.kernel;
    const got: unknown[] = [];
    function* call(): Task {
      return yield* signals.interruptible(rig.scheduler.sleep(100), 'nanosleep');
    }
    function* program(): Task {
      const { process } = rig;
      const error = yield* refused(process.syscall(call()));
      got.push(error.code, error.reason);
      yield* process.syscall(call());
      got.push(rig.scheduler.t);
    }
    const thread = rig.user(program());
    rig.kthread(signals.kill(thread), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(got).toEqual(['EINTR', 'system-call-interrupted', 100]);
    expect(signals.isPending(thread)).toBe(false);
  });

  test('that comes with what was waited for does not hide it, in any schedule', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 100; seed += 1) {
      const rig = new FenceRig();
      const { signals } = rig.kernel;
      const resv = rig.resv();
      function* wait(): Task {
        const got = yield* signals.tryInterruptible(resv.lock());
        seen.add(`${got?.result}, ${resv.lockCell.value.owner?.name}`);
        if (got !== null) yield* resv.unlock();
      }
      function* hold(): Task {
        yield* resv.lock();
        yield* resv.unlock();
      }
      const waiter = rig.user(wait(), 'waiter');
      rig.kthread(hold(), 'holder');
      rig.kthread(signals.kill(waiter), 'killer');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
    }
    expect([...seen].sort()).toEqual(['locked, waiter', 'undefined, holder']);
  });

  test('commutes with the sleep of another thread', () => {
    const rig = new FenceRig();
    const { signals } = rig.kernel;
    function* sleep(): Task {
      yield* signals.interruptible(rig.scheduler.sleep(5), 'nanosleep');
    }
    const [one, two] = [rig.user(sleep(), 'one'), rig.user(sleep(), 'two')];
    const kill = signals.kill(two).next().value as Step;
    const look = <V>(cell: { value: V }): V => cell.value;
    const writes = kill.accesses(look, one);
    const clash = (actor: typeof one): boolean =>
      (actor.step?.accesses(look, actor) ?? []).some((read) =>
        writes.some(
          (write) =>
            write.cell === read.cell &&
            write.from < read.to &&
            read.from < write.to &&
            !commute(write.class, read.class),
        ),
      );
    expect([clash(one), clash(two)]).toEqual([false, true]);
  });
});
