/** PRIME on one device: which descriptor, which buffer, which handle. */

import { describe, expect, test } from 'vitest';
import { DRM_IOCTL, drmPrimeHandle } from '../../src/base/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig } from './drm-rig.ts';

describe('PRIME_HANDLE_TO_FD', () => {
  test('gives two descriptors of one buffer when called twice (N22) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open('/dev/dri/card0');
        const { handle } = yield* app.createDumb(file);
        const one = yield* app.toFd(file, handle);
        const other = yield* app.toFd(file, handle);
        expect(other).not.toBe(one);
        expect(app.bufOf(other)).toBe(app.bufOf(one));
        expect(app.bufOf(one).exporterName).toBe('drm');
      })(),
    );
  });

  test('refuses flags that it does not know (N25) (E.5)', () => {
    const rig = new DrmRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open('/dev/dri/card0');
        const { handle } = yield* app.createDumb(file);
        const { code, reason } = yield* refused(app.toFd(file, handle, 1));
        expect([code, reason]).toEqual(['EINVAL', 'prime-flags-unknown']);
      })(),
    );
  });
});
void [DRM_IOCTL, drmPrimeHandle];
