/**
 * Goal: poll(2) sleeps until there is news, and misses none. Method: files with queues of their
 * own; random schedules.
 */

import { describe, expect, test } from 'vitest';
import { O } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { POLLERR, POLLIN, POLLNVAL, POLLOUT, WaitQueue } from '../../src/framework/index.ts';
import { Shared, type Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { bytesOf, FAKE, SysRig } from './sys-rig.ts';

/** A program with a file, 3, that says what its cell says. */
class PollRig extends SysRig {
  readonly ready: Shared<number>;
  readonly queue: WaitQueue;

  constructor() {
    super({ fileLimit: 8 });
    const { ready, queue } = {
      ready: new Shared(this.scheduler, 'ready', 0),
      queue: new WaitQueue(this.scheduler, 'queue'),
    };
    this.ready = ready;
    this.queue = queue;
    this.addNode({
      *poll(_file, table) {
        yield* table.wait(queue);
        return yield* ready.read();
      },
    });
    this.do(this.sys.open(FAKE, O.RDWR));
  }

  *become(events: number): Task {
    yield* this.ready.write(events);
    yield* this.queue.wake();
  }
}

describe('poll', () => {
  test('says what was asked for, errors always, and nothing of negative descriptors', () => {
    const rig = new PollRig();
    rig.do(rig.become(POLLIN | POLLOUT | POLLERR));
    const requests = [
      { fd: 3, events: POLLIN },
      { fd: 3, events: 0 },
      { fd: -3, events: POLLIN },
      { fd: 7, events: POLLIN },
    ];
    const events = rig.do(rig.sys.poll(requests, -1));
    expect(events).toEqual([POLLIN | POLLERR, POLLERR, 0, POLLNVAL]);
  });

  test('of more requests than descriptors are allowed is EINVAL', () => {
    const rig = new PollRig();
    const error = rig.fails(rig.sys.poll(new Array(9).fill({ fd: 3, events: 0 }), 0));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'more-requests-than-descriptors' });
  });

  test('returns when its time is over, and only looks when there is none', () => {
    const rig = new PollRig();
    const requests = [{ fd: 3, events: POLLIN }];
    expect(rig.do(rig.sys.poll(requests, 0))).toEqual([0]);
    expect(rig.scheduler.t).toBe(0);
    expect(rig.do(rig.sys.poll(requests, 20))).toEqual([0]);
    expect(rig.scheduler.t).toBe(20_000_000);
    expect(rig.do(rig.sys.poll([], 5))).toEqual([]);
    expect(rig.scheduler.t).toBe(25_000_000);
  });

  test('misses no news, in any of 300 schedules', () => {
    for (let seed = 0; seed < 300; seed += 1) {
      const rig = new PollRig();
      let events: readonly number[] = [];
      rig.thread(
        (function* (): Task {
          events = yield* rig.sys.poll([{ fd: 3, events: POLLIN }], -1);
        })(),
        'poller',
      );
      rig.thread(
        (function* (): Task {
          yield* rig.become(POLLOUT);
          yield* rig.become(POLLIN);
        })(),
        'waker',
      );
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
      expect(events).toEqual([POLLIN]);
    }
  });

  test('keeps a file that another thread closes meanwhile, until it returns', () => {
    const rig = new PollRig();
    rig.thread(
      (function* (): Task {
        yield* rig.sys.poll([{ fd: 3, events: POLLIN }], 10);
        expect(rig.released).toBe(1);
      })(),
      'poller',
    );
    rig.thread(
      (function* (): Task {
        yield* rig.scheduler.sleep(1_000_000);
        yield* rig.sys.close(3);
        expect(rig.released).toBe(0);
      })(),
      'closer',
    );
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('is ended by a signal: EINTR', () => {
    const rig = new PollRig();
    const poll = refused(rig.sys.poll([{ fd: 3, events: POLLIN }], -1));
    const poller = rig.scheduler.spawn(poll, { name: 'poller', role: 'user' });
    rig.thread(
      (function* (): Task {
        yield* rig.scheduler.sleep(10);
        yield* rig.kernel.signals.kill(poller);
      })(),
      'killer',
    );
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(poller.result).toMatchObject({ code: 'EINTR' });
  });

  test('sleeps on several files at once', () => {
    const rig = new PollRig();
    const { sys } = rig;
    const [one, other] = rig.do(sys.socketpair());
    let events: readonly number[] = [];
    rig.thread(
      (function* (): Task {
        const requests = [3, other].map((fd) => ({ fd, events: POLLIN }));
        events = yield* sys.poll(requests, -1);
      })(),
      'poller',
    );
    rig.thread(
      (function* (): Task {
        yield* rig.scheduler.sleep(1);
        yield* sys.sendmsg(one, bytesOf('news'), []);
      })(),
      'sender',
    );
    expect(rig.run().status).toBe('done');
    expect(events).toEqual([0, POLLIN]);
  });
});
