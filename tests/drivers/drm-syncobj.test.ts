/** Sync objects: made, handed on, filled from sync files and read into them. */

import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  DRM_IOCTL,
  drmSyncobjCreate,
  drmSyncobjDestroy,
  type DrmSyncobjHandle,
  drmSyncobjHandle,
} from '../../src/base/index.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import {
  DmaFence,
  type KernelFile,
  syncFileCreate,
  syncFileFence,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig, Program } from './drm-rig.ts';

const CARD = '/dev/dri/card1';
const SYNC_FILE = 1;
const TIMELINE = 2;

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** A display with sync objects. */
class SyncobjRig extends DrmRig {
  readonly display: Display;

  constructor() {
    super();
    this.display = new Display(this.kernel, this.at('03:00.0'), ['syncobj']);
  }

  /** A fence that nobody signaled yet. */
  fence(context = 1): DmaFence {
    return new DmaFence(this.kernel, { driver: 'test', timeline: 'test', context, seqno: 1 });
  }

  /** A descriptor of a sync file of a fence, which takes the caller's reference over. */
  *syncFile(fence: DmaFence): Task<number> {
    const file: KernelFile = syncFileCreate(this.kernel, fence);
    yield* fence.put();
    return (yield* this.app.process.fds.install(file)) ?? expect.fail('no descriptor');
  }

  /** Makes an object. */
  *create(file: DrmFile, flags = 0): Task<number> {
    const request = DRM_IOCTL.SYNCOBJ_CREATE;
    return (yield* this.app.ioctl(file, request, drmSyncobjCreate, { flags })).handle;
  }

  /** Destroys an object. */
  *destroy(file: DrmFile, handle: number, pad = 0): Task {
    const request = DRM_IOCTL.SYNCOBJ_DESTROY;
    yield* this.app.ioctl(file, request, drmSyncobjDestroy, { handle, pad });
  }

  /** HANDLE_TO_FD. */
  *toFd(file: DrmFile, args: Partial<DrmSyncobjHandle>): Task<number> {
    const request = DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD;
    return (yield* this.app.ioctl(file, request, drmSyncobjHandle, args)).fd;
  }

  /** FD_TO_HANDLE. */
  *toHandle(file: DrmFile, args: Partial<DrmSyncobjHandle>): Task<number> {
    const request = DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE;
    return (yield* this.app.ioctl(file, request, drmSyncobjHandle, args)).handle;
  }

  /** The fence behind a descriptor of a sync file. */
  fenceOf(fd: number): DmaFence {
    return syncFileFence(this.app.fileOf(fd)) ?? expect.fail('no sync file');
  }

  /** Runs a body with the card open. */
  with(body: (file: DrmFile) => Task): void {
    const { app } = this;
    this.do(
      (function* () {
        yield* body(yield* app.open(CARD));
      })(),
    );
  }
}

describe('A sync object', () => {
  test('takes the fence of a sync file and gives it to another', () => {
    const rig = new SyncobjRig();
    const fence = rig.fence();
    rig.with(function* (file) {
      const fd = yield* rig.syncFile(fence);
      const handle = yield* rig.create(file);
      expect(yield* rig.toHandle(file, { handle, flags: SYNC_FILE, fd })).toBe(handle);
      yield* rig.app.process.close(fd);
      const out = yield* rig.toFd(file, { handle, flags: SYNC_FILE });
      expect(rig.fenceOf(out) === fence).toBe(true);
      expect(rig.app.process.fds.value.get(out)?.closeOnExec).toBe(true);
      yield* fence.signal();
      yield* rig.app.process.close(out);
      yield* rig.destroy(file, handle);
    });
    expect(fence.refs.value).toBe(0);
  });

  test('is the same one for all who have a descriptor of it', () => {
    const rig = new SyncobjRig();
    const guest = new Program(rig, 'guest');
    const fence = rig.fence();
    rig.with(function* (file) {
      const handle = yield* rig.create(file);
      const fd = yield* rig.toFd(file, { handle });
      expect(rig.app.fileOf(fd).path).toBe('anon_inode:syncobj_file');
      const other = yield* guest.open(CARD);
      yield* rig.app.fileOf(fd).get();
      const shared = (yield* guest.process.fds.install(rig.app.fileOf(fd))) ?? -1;
      const request = DRM_IOCTL.SYNCOBJ_FD_TO_HANDLE;
      const told = yield* guest.ioctl(other, request, drmSyncobjHandle, { fd: shared });
      const from = yield* rig.syncFile(fence);
      yield* rig.toHandle(file, { handle, flags: SYNC_FILE, fd: from });
      yield* rig.destroy(file, handle);
      const args = { handle: told.handle, flags: SYNC_FILE };
      const out = yield* guest.ioctl(other, DRM_IOCTL.SYNCOBJ_HANDLE_TO_FD, drmSyncobjHandle, args);
      expect(syncFileFence(guest.fileOf(out.fd)) === fence).toBe(true);
      yield* fence.signal();
      yield* guest.close(other);
      yield* guest.process.exit();
      yield* rig.app.process.exit();
    });
    expect(fence.refs.value).toBe(0);
  });

  test('made signaled holds a fence that is signaled', () => {
    const rig = new SyncobjRig();
    rig.with(function* (file) {
      const handle = yield* rig.create(file, 1);
      const out = yield* rig.toFd(file, { handle, flags: SYNC_FILE });
      expect(yield* rig.fenceOf(out).getStatus()).toBe(1);
    });
  });

  test('as a timeline holds a fence for each point', () => {
    const rig = new SyncobjRig();
    const fences = [rig.fence(1), rig.fence(2)];
    rig.with(function* (file) {
      const handle = yield* rig.create(file);
      const flags = SYNC_FILE | TIMELINE;
      for (const [i, fence] of fences.entries()) {
        const fd = yield* rig.syncFile(fence);
        yield* rig.toHandle(file, { handle, flags, fd, point: BigInt(10 * (i + 1)) });
        yield* rig.app.process.close(fd);
      }
      const early = yield* rig.toFd(file, { handle, flags, point: 5n });
      const late = yield* rig.toFd(file, { handle, flags, point: 11n });
      yield* fences[0]?.signal() ?? [];
      expect(yield* rig.fenceOf(early).getStatus()).toBe(1);
      expect(yield* rig.fenceOf(late).getStatus()).toBe(0);
      yield* fences[1]?.signal() ?? [];
      expect(yield* rig.fenceOf(late).getStatus()).toBe(1);
      const beyond = yield* refused(rig.toFd(file, { handle, flags, point: 21n }));
      expect(why(beyond)).toEqual(['EINVAL', 'point-not-on-timeline-yet']);
      const far = yield* refused(rig.toFd(file, { handle, flags, point: 2n ** 60n }));
      expect(why(far)).toEqual(['EINVAL', 'syncobj-point-too-large']);
      yield* rig.app.process.close(early);
      yield* rig.app.process.close(late);
      yield* rig.destroy(file, handle);
    });
    expect(fences.map(({ refs }) => refs.value)).toEqual([0, 0]);
  });

  test('goes with its file', () => {
    const rig = new SyncobjRig();
    const fence = rig.fence();
    rig.with(function* (file) {
      const handle = yield* rig.create(file);
      yield* rig.create(file);
      const fd = yield* rig.syncFile(fence);
      yield* rig.toHandle(file, { handle, flags: SYNC_FILE, fd });
      yield* rig.app.process.close(fd);
      yield* fence.signal();
      yield* rig.app.close(file);
    });
    expect(fence.refs.value).toBe(0);
  });
});

describe('The ioctls of sync objects', () => {
  test('fail with EOPNOTSUPP at a driver that has none, and at vgem', () => {
    const rig = new SyncobjRig();
    rig.do(
      (function* () {
        const file = yield* rig.app.open('/dev/dri/card0');
        for (const call of [
          rig.create(file, 99),
          rig.destroy(file, 1, 99),
          rig.toFd(file, { pad: 99 }),
          rig.toHandle(file, { pad: 99 }),
        ]) {
          expect(why(yield* refused(call))).toEqual(['EOPNOTSUPP', 'driver-has-no-syncobjs']);
        }
      })(),
    );
  });

  test('refuse flags, padding and points that they do not know with EINVAL', () => {
    const rig = new SyncobjRig();
    rig.with(function* (file) {
      const handle = yield* rig.create(file);
      for (const call of [
        rig.create(file, 2),
        rig.destroy(file, handle, 1),
        rig.toFd(file, { handle, flags: 4 }),
        rig.toFd(file, { handle, pad: 1 }),
        rig.toFd(file, { handle, point: 1n }),
        rig.toHandle(file, { handle, flags: 4 }),
        rig.toHandle(file, { handle, pad: 1 }),
        rig.toHandle(file, { handle, point: 1n }),
      ]) {
        const refusal = yield* refused(call);
        expect(why(refusal)).toEqual(['EINVAL', 'syncobj-flags-pad-or-point-set']);
      }
    });
  });

  test('say what they did not find', () => {
    const rig = new SyncobjRig();
    rig.with(function* (file) {
      const handle = yield* rig.create(file);
      const fd = yield* rig.syncFile(rig.fence());
      const found: (readonly string[])[] = [];
      for (const call of [
        rig.destroy(file, 9),
        rig.toFd(file, { handle: 9 }),
        rig.toFd(file, { handle: 9, flags: SYNC_FILE }),
        rig.toFd(file, { handle, flags: SYNC_FILE }),
        rig.toHandle(file, { fd: 99 }),
        rig.toHandle(file, { fd }),
        rig.toHandle(file, { handle, fd: 99, flags: SYNC_FILE }),
        rig.toHandle(file, { handle: 9, fd, flags: SYNC_FILE }),
      ]) {
        found.push(why(yield* refused(call)));
      }
      expect(found).toEqual([
        ['EINVAL', 'no-syncobj-to-destroy'],
        ['EINVAL', 'no-syncobj-to-export'],
        ['ENOENT', 'no-syncobj-to-take-a-fence-from'],
        ['EINVAL', 'syncobj-is-empty'],
        ['EINVAL', 'syncobj-descriptor-not-open'],
        ['EINVAL', 'descriptor-is-no-syncobj'],
        ['EINVAL', 'syncobj-from-no-sync-file'],
        ['ENOENT', 'no-syncobj-to-put-a-fence-into'],
      ]);
      expect([...rig.app.process.fds.value.keys()]).toEqual([fd]);
    });
  });

  test('fail with ENOMEM without memory, and with EMFILE without a descriptor', () => {
    const rig = new SyncobjRig();
    rig.with(function* (file) {
      yield* rig.app.scratch();
      rig.failNth(1);
      expect(why(yield* refused(rig.create(file)))).toEqual(['ENOMEM', 'no-memory-for-syncobj']);
      rig.failNth(2);
      const none = yield* refused(rig.create(file));
      expect(why(none)).toEqual(['ENOMEM', 'no-memory-for-syncobj-handle']);
      const handle = yield* rig.create(file, 1);
      rig.failNth(2);
      const out = yield* refused(rig.toFd(file, { handle, flags: SYNC_FILE }));
      expect(why(out)).toEqual(['ENOMEM', 'no-memory-for-syncobj-sync-file']);
      for (const flags of [0, SYNC_FILE]) {
        rig.failNth(1);
        const full = yield* refused(rig.toFd(file, { handle, flags }));
        expect(why(full)).toEqual(['EMFILE', 'no-descriptor-for-syncobj']);
      }
      expect(file.syncobjs.value.get(handle)?.refs.value).toBe(1);
    });
  });
});
