/** PRIME: which descriptor, which buffer, which handle; and who holds what meanwhile. */

import { describe, expect, test } from 'vitest';
import { type DmaBufError, O } from '../../src/base/index.ts';
import { type DrmFile, Display } from '../../src/drivers/index.ts';
import { KernelFile } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { FakeExporter } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig, Program } from './drm-rig.ts';

const CARD = '/dev/dri/card0';
const OTHER_CARD = '/dev/dri/card1';

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** Runs a body with vgem's card open and one dumb buffer in it. */
function withBuffer(rig: DrmRig, body: (file: DrmFile, handle: number) => Task): void {
  rig.do(
    (function* () {
      const file = yield* rig.app.open(CARD);
      const { handle } = yield* rig.app.createDumb(file);
      yield* body(file, handle);
    })(),
  );
}

describe('PRIME_HANDLE_TO_FD', () => {
  test('gives two descriptors of one buffer when called twice (N22) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const one = yield* app.toFd(file, handle);
      const other = yield* app.toFd(file, handle);
      expect(other).not.toBe(one);
      expect(app.fileOf(other)).toBe(app.fileOf(one));
      expect(app.bufOf(one)).toMatchObject({ exporterName: 'drm', size: 4096 });
    });
  });

  test('gives the buffer once more after all descriptors are closed', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      const buf = app.bufOf(fd);
      yield* app.process.close(fd);
      expect(app.bufOf(yield* app.toFd(file, handle))).toBe(buf);
    });
  });

  test('refuses flags that it does not know with EINVAL (N25) (E.5)', () => {
    const rig = new DrmRig();
    withBuffer(rig, function* (file, handle) {
      for (const flags of [1, 4, 0x8_0001, 0x8000_0002]) {
        const refusal = yield* refused(rig.app.toFd(file, handle, flags));
        expect(why(refusal)).toEqual(['EINVAL', 'prime-flags-unknown']);
      }
    });
  });

  test('of an unknown handle fails with ENOENT and leaves no descriptor (E.5)', () => {
    const rig = new DrmRig();
    withBuffer(rig, function* (file) {
      const refusal = yield* refused(rig.app.toFd(file, 99));
      expect(why(refusal)).toEqual(['ENOENT', 'no-such-gem-handle']);
      expect(rig.app.process.fds.value.size).toBe(0);
    });
  });

  test('fails with EMFILE when the table is full, before it looks for the handle', () => {
    const rig = new DrmRig();
    const { fds } = rig.app.process;
    withBuffer(rig, function* (file) {
      while ((yield* fds.reserve()) !== null);
      const refusal = yield* refused(rig.app.toFd(file, 99));
      expect(why(refusal)).toEqual(['EMFILE', 'no-descriptor-for-prime']);
    });
  });

  test('fails with ENOMEM when it cannot remember the buffer, and frees the descriptor', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const reasons: string[] = [];
      for (let n = 1; ; n += 1) {
        rig.failNth(n);
        const { fds } = app.process;
        try {
          yield* app.toFd(file, handle);
          break;
        } catch (error) {
          reasons.push((error as DmaBufError).reason);
        }
        expect(fds.value.size).toBe(0);
      }
      expect(reasons).toContain('no-memory-for-prime-member');
      expect(reasons).toContain('no-descriptor-for-prime');
    });
  });

  test('lets the first call decide how the file is open, each call its descriptor (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const readOnly = yield* app.toFd(file, handle, 0);
      const other = yield* app.toFd(file, handle, 0x8_0002);
      expect(app.fileOf(other).mode).toMatchObject({ read: true, write: false });
      expect(app.process.fds.value.get(readOnly)?.closeOnExec).toBe(false);
      expect(app.process.fds.value.get(other)?.closeOnExec).toBe(true);
    });
    expect(O.CLOEXEC).toBe(0x8_0000);
  });

  test('gives the foreign buffer itself for an imported object (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withBuffer(rig, function* (file, handle) {
      const buf = app.bufOf(yield* app.toFd(file, handle));
      const other = yield* app.open(OTHER_CARD);
      const imported = yield* app.toHandle(other, yield* app.toFd(file, handle));
      expect(app.bufOf(yield* app.toFd(other, imported))).toBe(buf);
    });
  });

  test('does so also for another file that imports anew', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      for (const card of [yield* app.open(OTHER_CARD), yield* app.open(OTHER_CARD)]) {
        const imported = yield* app.toHandle(card, fd);
        expect(app.bufOf(yield* app.toFd(card, imported))).toBe(app.bufOf(fd));
      }
      // Each file has an object of its own, and each object an attachment.
      expect(app.bufOf(fd).attachments.value).toHaveLength(2);
    });
  });
});

describe('PRIME_FD_TO_HANDLE', () => {
  test('twice gives the same handle, and one GEM_CLOSE removes it (N23) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      const other = yield* app.open(OTHER_CARD);
      const imported = yield* app.toHandle(other, fd);
      expect(yield* app.toHandle(other, fd)).toBe(imported);
      yield* app.gemClose(other, imported);
      expect((yield* refused(app.gemClose(other, imported))).code).toBe('EINVAL');
    });
  });

  test('of what the same file exported gives the original handle (N24) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      expect(yield* app.toHandle(file, fd)).toBe(handle);
      expect(app.bufOf(fd).attachments.value).toEqual([]);
    });
  });

  test('in another file of the device gives the same object without attaching (N24) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const guest = new Program(rig, 'guest');
    withBuffer(rig, function* (file, handle) {
      yield* app.createDumb(file);
      const fd = yield* app.toFd(file, handle);
      const shared = yield* guest.process.fds.install(app.fileOf(fd));
      yield* app.fileOf(fd).get();
      const other = yield* guest.open(rig.vgem.renderPath ?? '');
      const imported = yield* guest.toHandle(other, shared ?? -1);
      expect(imported).toBe(1);
      expect(other.objects.value.get(imported)).toBe(file.objects.value.get(handle));
      expect(app.bufOf(fd).attachments.value).toEqual([]);
      expect(file.objects.value.get(handle)?.handleCount.value).toBe(2);
    });
  });

  test('finds the object again when only the descriptor kept it alive', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      const object = file.objects.value.get(handle);
      const fd = yield* app.toFd(file, handle);
      yield* app.gemClose(file, handle);
      expect([object?.handleCount.value, object?.dmaBuf.value]).toEqual([0, null]);
      const again = yield* app.toHandle(file, fd);
      expect(file.objects.value.get(again)).toBe(object);
      expect(object?.dmaBuf.value).toBe(app.bufOf(fd));
    });
  });

  test('of a descriptor that is none or no dma-buf fails with EBADF, EINVAL (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file) {
      expect((yield* refused(app.toHandle(file, 77))).code).toBe('EBADF');
      expect((yield* refused(app.toHandle(file, -1))).code).toBe('EBADF');
      const plain = new KernelFile(rig.kernel, 'a file', { *release(): Task {} });
      const fd = yield* app.process.fds.install(plain);
      expect((yield* refused(app.toHandle(file, fd ?? -1))).code).toBe('EINVAL');
    });
  });

  test('at a driver that does not import fails with EINVAL, but knows its own (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const display = new Display(rig.kernel, rig.at('03:00.0'));
    Object.assign(display.drm.driver, { gemPrimeImportSgTable: undefined });
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      const other = yield* app.open(OTHER_CARD);
      const refusal = yield* refused(app.toHandle(other, fd));
      expect(why(refusal)).toEqual(['EINVAL', 'driver-does-not-import']);
      const { handle: own } = yield* app.createDumb(other);
      expect(yield* app.toHandle(other, yield* app.toFd(other, own))).toBe(own);
    });
  });

  test('passes on what the exporter says to attach and map, and keeps nothing', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        const error = yield* refused(app.toFd(file, 1));
        const exporter = new FakeExporter({ mapError: error });
        const buf = yield* rig.export(exporter);
        const fd = yield* buf.fd(app.process);
        expect(yield* refused(app.toHandle(file, fd))).toBe(error);
        expect(exporter.calls.slice(-1)).toEqual(['detach 0000:03:00.0']);
        expect(buf.file.refs.value).toBe(1);
        expect(file.dev.objectNameLock.value).toBeNull();
      })(),
    );
  });

  test('maps for both directions, once, until the object goes (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    const exporter = new FakeExporter();
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        const fd = yield* (yield* rig.export(exporter)).fd(app.process);
        const handle = yield* app.toHandle(file, fd);
        yield* app.toHandle(file, fd);
        yield* app.process.close(fd);
        expect(exporter.calls).toEqual(['attach 0000:03:00.0', 'map bidirectional locked']);
        yield* app.gemClose(file, handle);
      })(),
    );
    expect(exporter.calls.slice(2)).toEqual([
      'unmap bidirectional locked',
      'detach 0000:03:00.0',
      'release',
    ]);
  });

  test('at vgem attaches and never maps (E.4)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const exporter = new FakeExporter();
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const fd = yield* (yield* rig.export(exporter)).fd(app.process);
        yield* app.toHandle(file, fd);
        yield* app.process.close(fd);
        yield* app.close(file);
      })(),
    );
    expect(exporter.calls).toEqual(['attach vgem', 'detach vgem', 'release']);
  });

  test('shares the reservation of the buffer (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    new Display(rig.kernel, rig.at('03:00.0'));
    withBuffer(rig, function* (file, handle) {
      const fd = yield* app.toFd(file, handle);
      const other = yield* app.open(OTHER_CARD);
      const imported = yield* app.toHandle(other, fd);
      const resv = file.objects.value.get(handle)?.resv;
      expect(app.bufOf(fd).resv).toBe(resv);
      expect(other.objects.value.get(imported)?.resv).toBe(resv);
    });
  });
});

describe('The last handle of an exported object', () => {
  test('being closed while another thread exports makes that fail with ENOENT (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    withBuffer(rig, function* (file, handle) {
      // The handle is found, but its claim was dropped already.
      const object = file.objects.value.get(handle);
      yield* object?.handleCount.write(0) ?? [];
      const refusal = yield* refused(app.toFd(file, handle));
      expect(why(refusal)).toEqual(['ENOENT', 'last-handle-is-being-closed']);
      yield* object?.handleCount.write(1) ?? [];
    });
  });
});
