/**
 * Goal: a program's own timeline signals what it has passed, in order, and ends with an error.
 * Method: ioctls on the node, random points against a plain counter; reference B.6.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  SW_SYNC_IOC,
  SYNC_IOC,
  swSyncCreateFenceData,
  swSyncGetDeadline,
  swSyncInc,
  syncSetDeadline,
} from '../../src/base/index.ts';
import {
  type DmaFence,
  SW_SYNC_PATH,
  swSyncInit,
  syncFileFence,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { FenceRig } from './fence-rig.ts';

const { CREATE_FENCE, INC, GET_DEADLINE } = SW_SYNC_IOC;
const NOWHERE = 0x10;

/** A program with a timeline of its own. */
class SwSyncRig extends FenceRig {
  constructor() {
    super();
    if (this.kernel.nodes.find(SW_SYNC_PATH) === null) swSyncInit(this.kernel);
  }

  *open(): Task<number> {
    const node = this.kernel.nodes.find(SW_SYNC_PATH) ?? expect.fail('the node');
    const mode = { read: true, write: true, isNonBlocking: false };
    const file = yield* node.open(this.process, mode);
    return (yield* this.process.fds.install(file)) ?? expect.fail('a descriptor');
  }

  /** A point, by its descriptor. */
  *point(timeline: number, value: number, name = ''): Task<number> {
    return (yield* this.call(timeline, CREATE_FENCE, swSyncCreateFenceData, { value, name })).fence;
  }

  fenceAt(fd: number): DmaFence {
    return this.do(this.lookUp(fd));
  }

  private *lookUp(fd: number): Task<DmaFence> {
    const file = (yield* this.process.fds.fget(fd)) ?? expect.fail('a file');
    const fence = syncFileFence(file) ?? expect.fail('a sync file');
    yield* file.put();
    return fence;
  }

  inc(timeline: number, value: number): void {
    this.do(this.call(timeline, INC, swSyncInc, { value }));
  }
}

function boot() {
  const rig = new SwSyncRig();
  return { rig, timeline: rig.do(rig.open()) };
}

describe('A point of a program’s timeline', () => {
  test('is signaled when the timeline has come so far', () => {
    const { rig, timeline } = boot();
    const [two, five] = [2, 5].map((value) => rig.fenceAt(rig.do(rig.point(timeline, value))));
    const stands = (): unknown => [two?.value.signaled, five?.value.signaled];
    rig.inc(timeline, 1);
    expect(stands()).toEqual([false, false]);
    rig.inc(timeline, 2);
    expect(stands()).toEqual([true, false]);
    rig.inc(timeline, 2);
    expect(stands()).toEqual([true, true]);
  });

  test('that is passed is signaled at once', () => {
    const { rig, timeline } = boot();
    rig.inc(timeline, 3);
    expect(rig.fenceAt(rig.do(rig.point(timeline, 3))).value.signaled).toBe(true);
  });

  test('is named after the program, on a context for each open (B.6)', () => {
    const { rig, timeline } = boot();
    const other = rig.do(rig.open());
    const origins = [timeline, other].map((fd) => rig.fenceAt(rig.do(rig.point(fd, 1))).origin);
    expect(origins).toMatchObject([
      { driver: 'sw_sync', timeline: 'app', context: 1, seqno: 1 },
      { driver: 'sw_sync', timeline: 'app', context: 2, seqno: 1 },
    ]);
  });

  test('is one fence for two who ask for the same pending value (B.6)', () => {
    const { rig, timeline } = boot();
    const [one, other] = [rig.do(rig.point(timeline, 4)), rig.do(rig.point(timeline, 4))];
    expect(rig.fenceAt(one)).toBe(rig.fenceAt(other));
    expect(one).not.toBe(other);
  });

  test('whose file is closed is forgotten, and never signaled', () => {
    const { rig, timeline } = boot();
    const fd = rig.do(rig.point(timeline, 4));
    const fence = rig.fenceAt(fd);
    rig.do(rig.process.close(fd));
    expect(fence.refs.value).toBe(0);
    rig.inc(timeline, 9);
    expect(fence.value.signaled).toBe(false);
  });

  test('signals with the others exactly as a counter says, in order', () => {
    const act = fc.oneof(
      fc.record({ add: fc.integer({ min: 0, max: 12 }) }),
      fc.record({ inc: fc.integer({ min: 0, max: 4 }) }),
    );
    fc.assert(
      fc.property(fc.array(act, { maxLength: 12 }), (acts) => {
        const { rig, timeline } = boot();
        const points: { readonly value: number; readonly fence: DmaFence }[] = [];
        let counter = 0;
        for (const one of acts) {
          if ('inc' in one) {
            rig.inc(timeline, one.inc);
            counter += one.inc;
          } else {
            const fence = rig.fenceAt(rig.do(rig.point(timeline, one.add)));
            points.push({ value: one.add, fence });
          }
          for (const { value, fence } of points)
            expect(fence.value.signaled).toBe(value <= counter);
        }
        expect(rig.warnings).toEqual([]);
      }),
      { numRuns: 25 },
    );
  });

  test('wraps at 32 bits, and far steps are taken in several (B.6)', () => {
    const { rig, timeline } = boot();
    const near = rig.fenceAt(rig.do(rig.point(timeline, 0x7000_0000)));
    rig.inc(timeline, 0xffff_fff0);
    expect(near.value.signaled).toBe(true);
    const wrapped = rig.fenceAt(rig.do(rig.point(timeline, 5)));
    expect(wrapped.value.signaled).toBe(false);
    rig.inc(timeline, 0x15);
    expect(wrapped.value.signaled).toBe(true);
  });
});

describe('The end of a timeline', () => {
  test('signals what is pending with ENOENT (B.6)', () => {
    const { rig, timeline } = boot();
    const fences = [1, 2].map((value) => rig.fenceAt(rig.do(rig.point(timeline, value))));
    rig.inc(timeline, 1);
    rig.kthread(rig.process.close(timeline), 'closer');
    expect(rig.run().findings).toEqual([]);
    expect(fences.map(({ value }) => value.error)).toEqual([0, -2]);
    expect(fences.every(({ value }) => value.signaled)).toBe(true);
  });
});

describe('GET_DEADLINE (B.6)', () => {
  test('tells the earliest that anybody asked for', () => {
    const { rig, timeline } = boot();
    const fenceFd = rig.do(rig.point(timeline, 3));
    for (const deadlineNs of [500n, 300n, 400n]) {
      rig.do(rig.call(fenceFd, SYNC_IOC.SET_DEADLINE, syncSetDeadline, { deadlineNs }));
    }
    const told = rig.do(rig.call(timeline, GET_DEADLINE, swSyncGetDeadline, { fenceFd }));
    expect(told.deadlineNs).toBe(300n);
  });

  test('without one is ENOENT: no-deadline-was-set', () => {
    const { rig, timeline } = boot();
    const fenceFd = rig.do(rig.point(timeline, 3));
    const error = rig.errorOf(rig.call(timeline, GET_DEADLINE, swSyncGetDeadline, { fenceFd }));
    expect(error).toMatchObject({ code: 'ENOENT', reason: 'no-deadline-was-set' });
  });

  test('with reserved fields, or of another fence, is EINVAL', () => {
    const { rig, timeline } = boot();
    const fenceFd = rig.do(rig.point(timeline, 3));
    const foreign = rig.do(rig.syncFd(rig.fence()));
    const reasons = [
      { fenceFd, deadlineNs: 1n },
      { fenceFd, pad: 1 },
      { fenceFd: -1 },
      { fenceFd: timeline },
      { fenceFd: foreign },
    ].map((fields) => {
      const error = rig.errorOf(rig.call(timeline, GET_DEADLINE, swSyncGetDeadline, fields));
      expect(error.code).toBe('EINVAL');
      return error.reason;
    });
    const [reserved, other] = ['reserved-get-deadline-fields-set', 'fence-is-not-of-sw-sync'];
    expect(reasons).toEqual([reserved, reserved, other, other, other]);
  });
});

describe('The node of sw_sync', () => {
  test('knows no other command: ENOTTY, no-such-sw-sync-command', () => {
    const { rig, timeline } = boot();
    const error = rig.errorOf(rig.callAt(timeline, 0x5709, 0));
    expect(error).toMatchObject({ code: 'ENOTTY', reason: 'no-such-sw-sync-command' });
  });

  test.each([CREATE_FENCE, INC, GET_DEADLINE])('at no address is EFAULT: %d', (request) => {
    const { rig, timeline } = boot();
    const before = rig.process.fds.value.size;
    expect(rig.codeOf(rig.callAt(timeline, request, NOWHERE))).toBe('EFAULT');
    expect(rig.process.fds.value.size).toBe(before);
  });

  test('without memory is ENOMEM, and leaves nothing', () => {
    const { rig, timeline } = boot();
    expect(rig.errorWithout(1, rig.open()).reason).toBe('no-memory-for-a-timeline');
    const at = rig.do(rig.userBytes(swSyncCreateFenceData.encode({ value: 3 })));
    const before = rig.process.fds.value.size;
    const reasons = [2, 3].map(
      (n) => rig.errorWithout(n, rig.callAt(timeline, CREATE_FENCE, at)).reason,
    );
    expect(reasons).toEqual(['no-memory-for-a-sync-point', 'no-memory-for-a-sync-points-file']);
    expect(rig.process.fds.value.size).toBe(before);
    rig.inc(timeline, 5);
    expect(rig.warnings).toEqual([]);
  });
});
