/** Fences that programs put on vgem's buffers. */

import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  DRM_IOCTL,
  drmVgemFenceAttach,
  type DrmVgemFenceAttach,
  drmVgemFenceSignal,
} from '../../src/base/index.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig } from './drm-rig.ts';

const CARD = '/dev/dri/card0';
const READ = 0;
const WRITE = 1;
const SECOND = 1e9;

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** vgem with fences. */
class FenceRig extends DrmRig {
  /** Attaches a fence; gives back its number. */
  *attach(file: DrmFile, args: Partial<DrmVgemFenceAttach>): Task<number> {
    const request = DRM_IOCTL.VGEM_FENCE_ATTACH;
    return (yield* this.app.ioctl(file, request, drmVgemFenceAttach, args)).outFence;
  }

  /** Signals a fence. */
  *signal(file: DrmFile, fence: number, flags = 0): Task {
    const args = { fence, flags };
    yield* this.app.ioctl(file, DRM_IOCTL.VGEM_FENCE_SIGNAL, drmVgemFenceSignal, args);
  }

  /** Runs a body with the card open and one dumb buffer in it. */
  with(body: (file: DrmFile, handle: number) => Task): void {
    const { app } = this;
    this.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file);
        yield* body(file, handle);
      })(),
    );
  }
}

describe('VGEM_FENCE_ATTACH', () => {
  test('twice for writing fails with EBUSY; after 10 s signaling says ETIMEDOUT (N27)', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      const fence = yield* rig.attach(file, { handle, flags: WRITE });
      const second = yield* refused(rig.attach(file, { handle, flags: WRITE }));
      expect(why(second)).toEqual(['EBUSY', 'conflicting-fence-is-pending']);
      yield* rig.scheduler.sleep(10 * SECOND + 1);
      const late = yield* refused(rig.signal(file, fence));
      expect(why(late)).toEqual(['ETIMEDOUT', 'vgem-fence-has-expired']);
      // It is gone all the same.
      expect((yield* refused(rig.signal(file, fence))).code).toBe('ENOENT');
    });
  });

  test('lets readers in together, and no writer beside them (E.4)', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      const one = yield* rig.attach(file, { handle, flags: READ });
      const other = yield* rig.attach(file, { handle, flags: READ });
      expect([one, other]).toEqual([1, 2]);
      expect((yield* refused(rig.attach(file, { handle, flags: WRITE }))).code).toBe('EBUSY');
      yield* rig.signal(file, one);
      yield* rig.signal(file, other);
      yield* rig.attach(file, { handle, flags: WRITE });
      expect((yield* refused(rig.attach(file, { handle, flags: READ }))).code).toBe('EBUSY');
    });
  });

  test('with unknown flags or padding set fails with EINVAL (E.4)', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      for (const args of [
        { handle, flags: 2 },
        { handle, flags: 0x8000_0001 },
        { handle, pad: 1 },
        { handle: 99, pad: 1 },
      ]) {
        const refusal = yield* refused(rig.attach(file, args));
        expect(why(refusal)).toEqual(['EINVAL', 'vgem-flags-or-pad-set']);
      }
    });
  });

  test('to an unknown handle fails with ENOENT (E.4)', () => {
    const rig = new FenceRig();
    rig.with(function* (file) {
      const refusal = yield* refused(rig.attach(file, { handle: 99 }));
      expect(why(refusal)).toEqual(['ENOENT', 'no-such-gem-handle']);
    });
  });

  test('fails with ENOMEM without memory, and nothing is on the buffer then', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      rig.failNth(1);
      const refusal = yield* refused(rig.attach(file, { handle, flags: WRITE }));
      expect(why(refusal)).toEqual(['ENOMEM', 'no-memory-for-vgem-fence']);
      yield* rig.attach(file, { handle, flags: WRITE });
    });
  });

  test('is allowed on a render node (E.4)', () => {
    const rig = new FenceRig();
    const { app } = rig;
    rig.with(function* (file, handle) {
      const render = yield* app.open(rig.vgem.renderPath ?? '');
      const imported = yield* app.toHandle(render, yield* app.toFd(file, handle));
      const fence = yield* rig.attach(render, { handle: imported });
      // Numbers belong to the file.
      expect((yield* refused(rig.signal(file, fence))).code).toBe('ENOENT');
      yield* rig.signal(render, fence);
    });
  });

  test('puts the fence where everybody who shares the buffer finds it (E.4)', () => {
    const rig = new FenceRig();
    const { app } = rig;
    const display = new Display(rig.kernel, rig.at('03:00.0'));
    rig.with(function* () {
      const other = yield* app.open('/dev/dri/card1');
      const { handle } = yield* app.createDumb(other);
      const fd = yield* app.toFd(other, handle);
      const file = yield* app.open(CARD);
      const imported = yield* app.toHandle(file, fd);
      yield* display.show(other, handle);
      yield* rig.attach(file, { handle: imported, flags: WRITE });
      expect(yield* app.bufOf(fd).resv.testSignaled('write')).toBe(false);
      const before = rig.scheduler.t;
      yield* display.scanOut();
      // Nobody signaled it.
      expect(rig.scheduler.t - before).toBe(10 * SECOND);
    });
  });
});

describe('VGEM_FENCE_SIGNAL', () => {
  test('within 10 s ends the wait of others at once', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      const fence = yield* rig.attach(file, { handle, flags: WRITE });
      const { resv } = file.objects.value.get(handle) ?? expect.fail('no object');
      yield* rig.scheduler.sleep(9 * SECOND);
      expect(yield* resv.testSignaled('bookkeep')).toBe(false);
      yield* rig.signal(file, fence);
      expect(yield* resv.testSignaled('bookkeep')).toBe(true);
    });
    // The timer went with the fence.
    expect(rig.scheduler.t).toBe(9 * SECOND);
  });

  test('of an unknown fence, or twice, fails with ENOENT (E.4)', () => {
    const rig = new FenceRig();
    rig.with(function* (file, handle) {
      for (const number of [0, 1, 2 ** 32 - 1]) {
        const refusal = yield* refused(rig.signal(file, number));
        expect(why(refusal)).toEqual(['ENOENT', 'no-such-vgem-fence']);
      }
      const fence = yield* rig.attach(file, { handle });
      yield* rig.signal(file, fence);
      expect((yield* refused(rig.signal(file, fence))).code).toBe('ENOENT');
      // Its number is not given to another.
      expect(yield* rig.attach(file, { handle })).toBe(2);
    });
  });

  test('with flags fails with EINVAL, also for an unknown fence (E.4)', () => {
    const rig = new FenceRig();
    rig.with(function* (file) {
      const refusal = yield* refused(rig.signal(file, 1, 1));
      expect(why(refusal)).toEqual(['EINVAL', 'vgem-signal-flags-set']);
    });
  });
});

describe('Closing the file', () => {
  test('signals its fences, so nobody waits for a program that is gone', () => {
    const rig = new FenceRig();
    const { app } = rig;
    rig.with(function* (file, handle) {
      const buf = app.bufOf(yield* app.toFd(file, handle));
      yield* rig.attach(file, { handle, flags: WRITE });
      const before = rig.scheduler.t;
      yield* app.close(file);
      yield* buf.resv.wait('bookkeep');
      expect(rig.scheduler.t).toBe(before);
    });
    expect(rig.warnings).toEqual([]);
  });
});
