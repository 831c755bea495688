/** Dumb buffers: made, mapped at an offset that stands for them, destroyed. */

import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  DRM_IOCTL,
  drmModeDestroyDumb,
  type DrmModeCreateDumb,
  PAGE_SIZE,
} from '../../src/base/index.ts';
import { gemMmap } from '../../src/drivers/drm/gem-mmap.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig, Program } from './drm-rig.ts';

const CARD = '/dev/dri/card0';
const GIB = 2 ** 30;

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** Runs a body with vgem's card open. */
function withCard(rig: DrmRig, body: (file: DrmFile) => Task): void {
  rig.do(
    (function* () {
      yield* body(yield* rig.app.open(CARD));
    })(),
  );
}

describe('CREATE_DUMB', () => {
  test('tells the pitch, in whole pixels and multiples of 8, and the size in pages (E.4)', () => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      const told: (readonly [number, bigint])[] = [];
      for (const [width, height, bpp] of [
        [1, 1, 32],
        [33, 3, 24],
        [640, 480, 32],
        [17, 1, 12],
        [9, 1, 1],
      ] as const) {
        const { pitch, size } = yield* rig.app.createDumb(file, { width, height, bpp });
        told.push([pitch, size]);
      }
      expect(told).toEqual([
        [8, 4096n],
        [104, 4096n],
        [2560, 1228800n],
        [40, 4096n],
        [8, 4096n],
      ]);
    });
  });

  test.each<readonly [string, Partial<DrmModeCreateDumb>]>([
    ['no width', { width: 0 }],
    ['no height', { height: 0 }],
    ['no bits', { bpp: 0 }],
    ['more bits than there are', { bpp: 2 ** 32 - 1 }],
    ['lines that are too long', { width: 2 ** 31, height: 1 }],
    ['too many lines', { width: 2 ** 15, height: 2 ** 15, bpp: 32 }],
    ['a size that wraps when rounded up', { width: 2 ** 32 - 1, height: 1, bpp: 8 }],
  ])('with %s fails with EINVAL (G.3)', (_, args) => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      const refusal = yield* refused(rig.app.createDumb(file, args));
      expect(why(refusal)).toEqual(['EINVAL', 'dumb-buffer-of-bad-size']);
      expect(file.objects.value.size).toBe(0);
    });
  });

  test('fails with EINVAL if only the alignment of lines makes it too large', () => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      const args = { width: 1, height: 2 ** 29, bpp: 8 };
      const refusal = yield* refused(rig.app.createDumb(file, args));
      expect(why(refusal)).toEqual(['EINVAL', 'aligned-dumb-buffer-too-large']);
    });
  });

  test('fails with ENOMEM without memory for the object or the handle', () => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      yield* rig.app.scratch();
      rig.failNth(1);
      const object = yield* refused(rig.app.createDumb(file));
      expect(why(object)).toEqual(['ENOMEM', 'no-memory-for-shmem-object']);
      rig.failNth(2);
      const handle = yield* refused(rig.app.createDumb(file));
      expect(why(handle)).toEqual(['ENOMEM', 'no-memory-for-gem-handle']);
    });
  });

  test('and its fellows fail with ENOSYS at a driver that has none (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const display = new Display(rig.kernel, rig.at('03:00.0'));
    Object.assign(display.drm.driver, { dumbCreate: undefined });
    rig.do(
      (function* () {
        const file = yield* app.open('/dev/dri/card1');
        for (const call of [
          app.createDumb(file, { width: 0 }),
          app.mapDumb(file, 1),
          app.ioctl(file, DRM_IOCTL.MODE_DESTROY_DUMB, drmModeDestroyDumb, { handle: 1 }),
        ]) {
          expect(why(yield* refused(call))).toEqual(['ENOSYS', 'driver-has-no-dumb-buffers']);
        }
      })(),
    );
  });

  test('of more than 1 TiB in all runs out of offsets with ENOSPC', () => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      const args = { width: 2 ** 15, height: 2 ** 16 - 1, bpp: 16 };
      let made = 0;
      let refusal: DmaBufError | null = null;
      while (refusal === null) {
        const task = rig.app.createDumb(file, args);
        try {
          yield* task;
          made += 1;
        } catch (error) {
          refusal = error as DmaBufError;
        }
      }
      expect(why(refusal)).toEqual(['ENOSPC', 'no-fake-offset-left']);
      expect(made).toBe(256);
      yield* rig.app.close(file);
    });
    expect(rig.machine.memory.pagesInUse).toBe(1);
  });
});

describe('DESTROY_DUMB', () => {
  test('closes the handle; an unknown one fails with EINVAL', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const request = DRM_IOCTL.MODE_DESTROY_DUMB;
      yield* app.ioctl(file, request, drmModeDestroyDumb, { handle });
      const again = app.ioctl(file, request, drmModeDestroyDumb, { handle });
      expect(why(yield* refused(again))).toEqual(['EINVAL', 'no-gem-handle-to-close']);
    });
  });
});

describe('MAP_DUMB', () => {
  test('gives each object an offset of its own, from 4 GiB on, and always the same', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle: one } = yield* app.createDumb(file, { width: 1024, height: 2 });
      const { handle: two } = yield* app.createDumb(file);
      const offsets = [yield* app.mapDumb(file, one), yield* app.mapDumb(file, two)];
      expect(offsets).toEqual([4 * GIB, 4 * GIB + 2 * PAGE_SIZE]);
      expect(yield* app.mapDumb(file, one)).toBe(offsets[0]);
      yield* app.gemClose(file, one);
      // The hole is used again.
      const { handle: three } = yield* app.createDumb(file);
      expect(yield* app.mapDumb(file, three)).toBe(offsets[0]);
    });
  });

  test('of an unknown handle fails with ENOENT (G.3)', () => {
    const rig = new DrmRig();
    withCard(rig, function* (file) {
      const refusal = yield* refused(rig.app.mapDumb(file, 5));
      expect(why(refusal)).toEqual(['ENOENT', 'no-such-gem-handle']);
    });
  });

  test('of an imported object fails with EINVAL (N26) (E.5) (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const other = yield* app.open('/dev/dri/card1');
      const imported = yield* app.toHandle(other, yield* app.toFd(file, handle));
      const refusal = yield* refused(app.mapDumb(other, imported));
      expect(why(refusal)).toEqual(['EINVAL', 'imported-object-has-no-offset']);
    });
  });
});

describe('A map of a DRM node', () => {
  test('shows the object at its offset, to all who map it', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const offset = yield* app.mapDumb(file, handle);
      const one = yield* app.mmap(file, { offset });
      const other = yield* app.mmap(file, { offset });
      yield* app.poke(one, 4090, [1, 2, 3]);
      expect(yield* app.peek(other, 4089, 5)).toEqual([0, 1, 2, 3, 0]);
    });
  });

  test('fails with EINVAL where nothing is, or beyond the object', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file, { width: 1024, height: 2 });
      const offset = yield* app.mapDumb(file, handle);
      for (const options of [
        { offset: 0 },
        { offset: offset + PAGE_SIZE },
        { offset, size: 3 * PAGE_SIZE },
      ]) {
        const refusal = yield* refused(app.mmap(file, options));
        expect(why(refusal)).toEqual(['EINVAL', 'no-object-at-fake-offset']);
      }
    });
  });

  test('fails with EACCES in a file that has no handle of the object', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const guest = new Program(rig, 'guest');
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const offset = yield* app.mapDumb(file, handle);
      const other = yield* guest.open(rig.vgem.renderPath ?? '');
      const refusal = yield* refused(guest.mmap(other, { offset }));
      expect(why(refusal)).toEqual(['EACCES', 'file-has-no-handle-of-object']);
      const object = file.objects.value.get(handle);
      expect(object?.refs.value).toBe(1);
    });
  });

  test('of pages that lie anywhere must be shared: EINVAL', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const offset = yield* app.mapDumb(file, handle);
      const refusal = yield* refused(app.mmap(file, { offset, isShared: false }));
      expect(why(refusal)).toEqual(['EINVAL', 'shmem-object-mapped-private']);
    });
  });

  test('keeps the object when handle and file are closed', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
      yield* app.poke(map, 0, [7]);
      yield* app.gemClose(file, handle);
      yield* app.close(file);
      expect(rig.vgem.refs.value).toBe(2);
      expect(yield* app.peek(map, 0, 1)).toEqual([7]);
      yield* app.munmap(map);
    });
    expect(rig.vgem.refs.value).toBe(1);
    // The page for arguments is left.
    expect(rig.machine.memory.pagesInUse).toBe(1);
  });

  test('finds its bytes again after all maps were gone: pages stay with the object', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const offset = yield* app.mapDumb(file, handle);
      const map = yield* app.mmap(file, { offset });
      yield* app.poke(map, 5, [9]);
      yield* app.munmap(map);
      expect(yield* app.peek(yield* app.mmap(file, { offset }), 5, 1)).toEqual([9]);
    });
  });

  test('fails with ENOMEM when there are no pages, and gives back those it got', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file, { width: 1024, height: 3 });
      const offset = yield* app.mapDumb(file, handle);
      rig.failNth(3);
      const refusal = yield* refused(app.mmap(file, { offset }));
      expect(why(refusal)).toEqual(['ENOMEM', 'no-page-for-shmem-object']);
      expect(rig.machine.memory.pagesInUse).toBe(1);
      yield* app.mmap(file, { offset });
    });
  });

  test('that is larger than the object ends in a bus error behind it', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const object = file.objects.value.get(handle) ?? expect.fail('no object');
      // Only a driver that does not check the size gets so far.
      const request = { size: 2 * PAGE_SIZE, pgoff: 0, read: true, write: true, isShared: true };
      const map = yield* app.process.mm.map({ ...request, file }, (vma) => gemMmap(object, vma));
      expect(yield* app.peek(map, PAGE_SIZE - 1, 1)).toEqual([0]);
      const refusal = yield* refused(app.peek(map, PAGE_SIZE, 1));
      expect(why(refusal)).toEqual(['EFAULT', 'beyond-the-shmem-object']);
    });
  });

  test('of an imported object is refused by a display: EINVAL', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const other = yield* app.open('/dev/dri/card1');
      const imported = yield* app.toHandle(other, yield* app.toFd(file, handle));
      const object = other.objects.value.get(imported) ?? expect.fail('no object');
      const request = { size: PAGE_SIZE, pgoff: 0, read: true, write: true, isShared: true };
      const map = app.process.mm.map({ ...request, file: other }, (vma) => gemMmap(object, vma));
      const refusal = yield* refused(map);
      expect(why(refusal)).toEqual(['EINVAL', 'imported-object-has-no-memory-of-its-own']);
    });
  });

  test('also a copy after a fork keeps pages and object', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const child = new Program(rig, 'child');
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file);
      const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
      yield* app.poke(map, 0, [3]);
      yield* child.process.mm.copyFrom(app.process.mm);
      yield* app.munmap(map);
      yield* app.close(file);
      expect(yield* child.peek(map, 0, 1)).toEqual([3]);
      yield* child.process.mm.unmapAll();
    });
    expect(rig.vgem.refs.value).toBe(1);
    expect(rig.warnings).toEqual([]);
  });
});

describe('A map through the descriptor of the dma-buf', () => {
  test('shows the same bytes, from the first page whatever the offset, as Linux does', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withCard(rig, function* (file) {
      const { handle } = yield* app.createDumb(file, { width: 1024, height: 2 });
      const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
      yield* app.poke(map, 0, [1]);
      const fd = yield* app.toFd(file, handle);
      const through = app.fileOf(fd);
      for (const offset of [0, PAGE_SIZE]) {
        expect(yield* app.peek(yield* app.mmap(through, { offset }), 0, 1)).toEqual([1]);
      }
    });
  });

  test('of an imported object is forwarded to its exporter', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    rig.do(
      (function* () {
        const other = yield* app.open('/dev/dri/card1');
        const { handle } = yield* app.createDumb(other, { width: 1024, height: 2 });
        const map = yield* app.mmap(other, {
          offset: yield* app.mapDumb(other, handle),
          size: 2 * PAGE_SIZE,
        });
        yield* app.poke(map, PAGE_SIZE, [4]);
        const fd = yield* app.toFd(other, handle);
        const file = yield* app.open(CARD);
        const importedHandle = yield* app.toHandle(file, fd);
        const imported = file.objects.value.get(importedHandle);
        const request = { size: PAGE_SIZE, pgoff: 0, read: true, write: true, isShared: true };
        const vma = yield* app.process.mm.map({ ...request, file }, function* (made): Task {
          yield* imported?.get() ?? [];
          yield* imported?.mmap(made) ?? [];
        });
        expect(vma.file === app.fileOf(fd)).toBe(true);
        yield* app.poke(vma, 1, [5]);
        expect(yield* app.peek(map, 1, 1)).toEqual([5]);
        const second = yield* app.mmap(app.fileOf(fd), { offset: PAGE_SIZE });
        expect(yield* app.peek(second, 0, 1)).toEqual([4]);
        yield* app.munmap(second);
        yield* app.munmap(vma);
        yield* app.munmap(map);
        yield* app.process.close(fd);
        yield* app.close(file);
        yield* app.close(other);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(1);
    expect(rig.warnings).toEqual([]);
  });
});
