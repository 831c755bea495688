/**
 * Goal: polling a buffer tells when its fences are done, keeps it alive meanwhile and shares its
 * two slots among all. Method: fences of each usage, pollers that sleep, descriptors that close;
 * reference A.9.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  type DmaBuf,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  PollTable,
  waitForAny,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, locked } from './kernel-rig.ts';

const BOTH = POLLIN | POLLOUT;

function boot() {
  const rig = new CoreRig();
  return { rig, buf: rig.do(rig.export(new FakeExporter())) };
}

/** One look. */
function* look({ file }: DmaBuf, events: number, table = new PollTable(events)): Task<number> {
  return yield* file.operations.poll?.(file, table) ?? expect.fail('a poll');
}

/** `poll(2)` without a timeout. */
function* poll(rig: CoreRig, buf: DmaBuf, events: number): Task<number> {
  for (;;) {
    const table = new PollTable(events);
    const ready = yield* look(buf, events, table);
    if (ready !== 0) return ready;
    yield* waitForAny(rig.scheduler.clock, table.entries, Number.POSITIVE_INFINITY);
  }
}

describe('Polling a buffer (A.9)', () => {
  test('that is idle finds it readable and writable, and leaves nothing', () => {
    const { rig, buf } = boot();
    expect(rig.do(look(buf, BOTH))).toBe(BOTH);
    expect(rig.do(look(buf, POLLIN))).toBe(POLLIN);
    expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([0, 1]);
  });

  test('with a pending READ fence finds it readable and not writable (N11)', () => {
    const { rig, buf } = boot();
    rig.do(rig.publish(buf, 'read'));
    expect(rig.do(look(buf, POLLIN))).toBe(POLLIN);
    expect(rig.do(look(buf, POLLOUT))).toBe(0);
    expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([POLLOUT, 2]);
  });

  test('with a pending WRITE fence finds neither (N12)', () => {
    const { rig, buf } = boot();
    rig.do(rig.publish(buf, 'write'));
    expect(rig.do(look(buf, BOTH))).toBe(0);
    expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([BOTH, 3]);
  });

  test.each([
    ['kernel', 0],
    ['bookkeep', BOTH],
  ] as const)('with a pending fence of usage %s finds %d', (usage, events) => {
    const { rig, buf } = boot();
    rig.do(rig.publish(buf, usage));
    expect(rig.do(look(buf, BOTH))).toBe(events);
  });

  test('for anything else finds nothing and takes no lock', () => {
    const { rig, buf } = boot();
    expect(rig.do(locked(buf.resv, look(buf, POLLERR | POLLHUP | 2)))).toBe(0);
  });

  test('waits for the reservation, whoever has it, and for its own for ever (LK-002)', () => {
    const { rig, buf } = boot();
    rig.kthread(locked(buf.resv, look(buf, POLLIN)));
    expect(rig.run().status).toBe('deadlock');
  });

  test('while the slot is taken finds nothing, though another direction does', () => {
    const { rig, buf } = boot();
    rig.do(rig.publish(buf, 'read'));
    expect([1, 2, 3].map(() => rig.do(look(buf, BOTH)))).toEqual([POLLIN, POLLIN, POLLIN]);
    expect(buf.file.refs.value).toBe(2);
  });

  test('skips fences that are signaled and waits for the first that is not', () => {
    const { rig, buf } = boot();
    const fences = [1, 2, 3].map((context) => rig.do(rig.publish(buf, 'write', context)));
    rig.do(fences[0]?.signal() ?? expect.fail('a fence'));
    const seen: number[] = [];
    function* poller(): Task {
      seen.push(yield* poll(rig, buf, POLLIN));
    }
    function* card(): Task {
      for (const fence of fences.slice(1)) {
        yield* rig.scheduler.sleep(10);
        seen.push(fence.origin.context);
        yield* fence.signal();
      }
    }
    rig.user(poller(), 'poller');
    rig.kthread(card(), 'card');
    expect(rig.run().findings).toEqual([]);
    expect(seen).toEqual([2, 3, POLLIN]);
    expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([0, 1]);
  });

  test('by several shares the slots, and all wake, in any of 100 schedules', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const { rig, buf } = boot();
      const fence = rig.do(rig.publish(buf, 'write'));
      const seen: number[] = [];
      function* poller(events: number): Task {
        seen.push(yield* poll(rig, buf, events));
      }
      for (const [i, events] of [POLLIN, POLLIN, POLLOUT].entries()) {
        rig.user(poller(events), `poller ${i}`);
      }
      rig.kthread(fence.signal(), 'card');
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(seen.sort()).toEqual([POLLIN, POLLIN, POLLOUT]);
      expect([buf.pollSlots.value, buf.file.refs.value]).toEqual([0, 1]);
    }
  });
});

describe('A buffer whose descriptors are closed while a fence is pending', () => {
  test.each([true, false])('stays until the fence signals if it was polled: %s (N13)', (polled) => {
    const { rig, buf } = boot();
    const fd = rig.do(buf.fd(rig.process));
    const fence = rig.do(rig.publish(buf, 'write'));
    if (polled) rig.do(look(buf, POLLIN));
    rig.do(rig.process.close(fd));
    expect(buf.priv.calls).toEqual(polled ? [] : ['release']);
    expect(rig.kernel.bufferList.value).toBe(polled ? 1 : 0);
    rig.do(fence.signal());
    expect(buf.priv.calls).toEqual(['release']);
    expect(rig.warnings).toEqual([]);
  });

  test('and whose references are dropped once too often stops the kernel (A.5)', () => {
    const { rig, buf } = boot();
    rig.do(rig.publish(buf, 'write'));
    rig.do(look(buf, POLLIN));
    function* twice(): Task {
      yield* buf.put();
      yield* buf.put();
    }
    expect(rig.try(twice()).outcome.findings).toMatchObject([
      { kind: 'oops', title: 'dma_buf_release: a poll callback of dma-buf 1 is pending' },
    ]);
  });
});
