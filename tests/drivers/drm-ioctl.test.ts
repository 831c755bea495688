/** What the DRM core says to an ioctl before any driver is asked, and the calls that all answer. */

import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  DRM_CAP,
  DRM_IOCTL,
  drmGemClose,
  drmGetCap,
  drmModeCreateDumb,
  drmVersion,
  ioctlNumber,
} from '../../src/base/index.ts';
import { Display } from '../../src/drivers/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig } from './drm-rig.ts';

const CARD = '/dev/dri/card0';
const RENDER = '/dev/dri/renderD128';

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** Asks for a capability. */
function* cap(rig: DrmRig, path: string, capability: number): Task<bigint> {
  const file = yield* rig.app.open(path);
  const args = { capability: BigInt(capability) };
  return (yield* rig.app.ioctl(file, DRM_IOCTL.GET_CAP, drmGetCap, args)).value;
}

describe('A DRM node', () => {
  test('is there as card and, if the driver renders, as render node (E.4)', () => {
    const rig = new DrmRig();
    const display = new Display(rig.kernel, rig.at('03:00.0'));
    expect(rig.vgem.cardPath).toBe(CARD);
    expect(rig.vgem.renderPath).toBe(RENDER);
    expect(display.drm.cardPath).toBe('/dev/dri/card1');
    expect(display.drm.renderPath).toBeNull();
    expect(rig.kernel.nodes.find('/dev/dri/renderD129')).toBeNull();
  });

  test('does not open without memory, and keeps no reference then', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.failNth(1);
    expect(why(rig.do(refused(app.open(CARD))))).toEqual(['ENOMEM', 'no-memory-for-drm-file']);
    expect(rig.vgem.refs.value).toBe(1);
  });
});

describe('An ioctl on a DRM node', () => {
  test('with an unknown number fails with EINVAL, the core’s and the driver’s (N7) (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const refusals = rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const found: DmaBufError[] = [];
        for (const nr of [0x3f, 0x40, 0x43, 0x9f, 0xff]) {
          found.push(yield* refused(app.rawIoctl(file, ioctlNumber('none', 'd', nr, 0), 0)));
        }
        return found;
      })(),
    );
    expect(refusals).toHaveLength(5);
    for (const one of refusals) expect(why(one)).toEqual(['EINVAL', 'no-such-drm-ioctl']);
  });

  test('of another magic fails with ENOTTY (N7) (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    const request = ioctlNumber('rw', 'b', 0, 64);
    const refusal = rig.do(refused(openAndAsk(rig, CARD, request)));
    expect(why(refusal)).toEqual(['ENOTTY', 'magic-is-not-of-drm']);
    expect(app.process.fds.value.size).toBe(0);
  });

  test('and open and mmap fail with ENODEV once the device is unplugged (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file);
        const offset = yield* app.mapDumb(file, handle);
        yield* rig.vgem.unplug();
        // Also what would be refused otherwise.
        for (const request of [DRM_IOCTL.VERSION, ioctlNumber('none', 'b', 0, 0)]) {
          const refusal = yield* refused(app.rawIoctl(file, request, 0));
          expect(why(refusal)).toEqual(['ENODEV', 'ioctl-on-unplugged-drm-device']);
        }
        const opened = yield* refused(app.open(CARD));
        expect(why(opened)).toEqual(['ENODEV', 'drm-node-of-unplugged-device']);
        const mapped = yield* refused(app.mmap(file, { offset }));
        expect(why(mapped)).toEqual(['ENODEV', 'map-of-unplugged-drm-device']);
        yield* app.close(file);
      })(),
    );
    expect(rig.vgem.refs.value).toBe(1);
  });

  test('that needs the card fails with EACCES on a render node (N26) (E.4) (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(RENDER);
        for (const call of [
          app.createDumb(file),
          app.mapDumb(file, 1),
          app.ioctl(file, DRM_IOCTL.MODE_DESTROY_DUMB, drmGemClose, { handle: 1 }),
        ]) {
          expect(why(yield* refused(call))).toEqual(['EACCES', 'ioctl-not-for-render-nodes']);
        }
      })(),
    );
  });

  test('reads its argument before it asks for permission', () => {
    const rig = new DrmRig();
    const refusal = rig.do(refused(openAndAsk(rig, RENDER, DRM_IOCTL.MODE_CREATE_DUMB)));
    expect(refusal.code).toBe('EFAULT');
  });

  test('with a pointer that is none fails with EFAULT, whatever the number', () => {
    const rig = new DrmRig();
    for (const arg of [0, -1, 1.5, 2 ** 47, 2 ** 63, Number.NaN]) {
      const refusal = rig.do(refused(openAndAsk(rig, CARD, DRM_IOCTL.GEM_CLOSE, arg)));
      expect(refusal.code).toBe('EFAULT');
    }
  });

  test('goes by its number: a shorter struct is filled up with zeros', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const at = yield* app.scratch();
        yield* app.process.mm.store(at, drmModeCreateDumb.encode({ height: 8, width: 8, bpp: 8 }));
        // Only the first three fields go in, and only they come back.
        yield* app.rawIoctl(file, ioctlNumber('rw', 'd', 0xb2, 12), at);
        const told = drmModeCreateDumb.decode(yield* app.process.mm.load(at, 32));
        expect(told).toMatchObject({ height: 8, width: 8, bpp: 8, handle: 0, size: 0n });
        expect([...file.objects.value.keys()]).toEqual([1]);
      })(),
    );
  });

  test('gives its argument back also when it fails', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const at = yield* app.scratch();
        const args = { height: 0, width: 8, bpp: 8, handle: 7, pitch: 7, size: 7n };
        yield* app.process.mm.store(at, drmModeCreateDumb.encode(args));
        yield* refused(app.rawIoctl(file, DRM_IOCTL.MODE_CREATE_DUMB, at));
        const told = drmModeCreateDumb.decode(yield* app.process.mm.load(at, 32));
        expect(told).toEqual({ ...args, flags: 0, handle: 0, pitch: 0, size: 0n });
      })(),
    );
  });
});

describe('GEM_CLOSE', () => {
  test('of an unknown handle fails with EINVAL (G.3)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        for (const handle of [0, 1, 2 ** 32 - 1]) {
          const refusal = yield* refused(app.gemClose(file, handle));
          expect(why(refusal)).toEqual(['EINVAL', 'no-gem-handle-to-close']);
        }
      })(),
    );
  });

  test('makes the number free for the next object', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle: one } = yield* app.createDumb(file);
        const { handle: two } = yield* app.createDumb(file);
        yield* app.gemClose(file, one);
        const { handle: next } = yield* app.createDumb(file);
        expect([one, two, next]).toEqual([1, 2, 1]);
      })(),
    );
  });
});

describe('GET_CAP', () => {
  test('says that every driver imports and exports (E.5)', () => {
    expect(doCap(new DrmRig(), CARD, DRM_CAP.PRIME)).toBe(3n);
  });

  test('tells vgem’s dumb buffers only to who has a display, as Linux does', () => {
    const rig = new DrmRig();
    new Display(rig.kernel, rig.at('03:00.0'), ['syncobj']);
    expect(doCap(rig, '/dev/dri/card1', DRM_CAP.DUMB_BUFFER)).toBe(1n);
    expect(doCap(rig, '/dev/dri/card1', 0x15)).toBe(0n);
    const refusal = rig.do(refused(cap(rig, CARD, DRM_CAP.DUMB_BUFFER)));
    expect(why(refusal)).toEqual(['EOPNOTSUPP', 'capability-of-displays-only']);
  });

  test('tells whether there are sync objects', () => {
    const rig = new DrmRig();
    new Display(rig.kernel, rig.at('03:00.0'), ['syncobj']);
    expect(doCap(rig, CARD, DRM_CAP.SYNCOBJ)).toBe(0n);
    expect(doCap(rig, '/dev/dri/card1', DRM_CAP.SYNCOBJ_TIMELINE)).toBe(1n);
    expect(doCap(rig, CARD, 6)).toBe(1n);
  });

  test('of what nobody knows fails with EINVAL on a display', () => {
    const rig = new DrmRig();
    new Display(rig.kernel, rig.at('03:00.0'));
    const refusal = rig.do(refused(cap(rig, '/dev/dri/card1', 0x99)));
    expect(why(refusal)).toEqual(['EINVAL', 'no-such-capability']);
  });
});

describe('VERSION', () => {
  test('tells the whole length of a text and writes what there is room for', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(RENDER);
        const at = yield* app.scratch();
        const name = at + 1024;
        const told = yield* app.ioctl(file, DRM_IOCTL.VERSION, drmVersion, {
          name: BigInt(name),
          nameLen: 2n,
        });
        expect(told).toMatchObject({ versionMajor: 1, nameLen: 4n, descLen: 20n, dateLen: 1n });
        const text = yield* app.process.mm.load(name as typeof at, 4);
        expect(String.fromCharCode(...text)).toBe('vg\0\0');
      })(),
    );
  });

  test('fails with EFAULT when a text has nowhere to go', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(RENDER);
        const args = { desc: 2n ** 63n, descLen: 99n };
        const refusal = yield* refused(app.ioctl(file, DRM_IOCTL.VERSION, drmVersion, args));
        expect(refusal.code).toBe('EFAULT');
      })(),
    );
  });
});

function doCap(rig: DrmRig, path: string, capability: number): bigint {
  return rig.do(cap(rig, path, capability));
}

function* openAndAsk(rig: DrmRig, path: string, request: number, arg = 0): Task {
  const file = yield* rig.app.open(path);
  yield* rig.app.rawIoctl(file, request, arg);
}
