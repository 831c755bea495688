/**
 * The way of an ioctl on a DRM node: which one it is, its argument copied in, permission, the call,
 * the argument copied back, also if the call failed.
 *
 * @source `drm_ioctl()`, drivers/gpu/drm/drm_ioctl.c, v7.2; reference/linux-dma-buf.md E.4, G.3
 */

import {
  DmaBufError,
  DRM_CAP,
  DRM_IOCTL,
  drmGemClose,
  drmGetCap,
  drmPrimeHandle,
  type DrmVersion,
  drmVersion,
  drmModeCreateDumb,
  drmModeDestroyDumb,
  drmModeMapDumb,
  ioctlParts,
  type UserAddr,
} from '../../base/index.ts';
import type { Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import type { DrmDevice } from './drm-device.ts';
import { type DrmIoctl, drmIoctl } from './drm-driver.ts';
import type { DrmFile } from './drm-file.ts';
import { createDumb, destroyDumb, mapDumb } from './dumb-buffers.ts';
import { gemHandleDelete } from './gem-handles.ts';
import { primeFdToHandle, primeHandleToFd } from './prime.ts';
import { SYNCOBJ_IOCTLS } from './syncobj.ts';

/** `DRM_IOCTL_BASE`: `'d'`. */
const MAGIC = 0x64;
/** Numbers of drivers' own ioctls begin and end here. */
const [COMMAND_BASE, COMMAND_END] = [0x40, 0xa0] as const;

/** What GET_CAP says to PRIME: import 1 and export 2. */
const PRIME_CAP_ALL = 3n;

/** Capabilities that only a driver with a display answers; see `drm.h`. */
const MODESET_CAPS: readonly number[] = [
  DRM_CAP.DUMB_BUFFER,
  ...[2, 3, 4, 7, 8, 9, 0x10, 0x11, 0x12, 0x15],
];
const CAP_TIMESTAMP_MONOTONIC = 6;

/**
 * Runs one ioctl.
 *
 * @param arg - Where the argument is.
 * @throws {@link DmaBufError} in this order: `ENODEV` the hardware is gone; `ENOTTY` not DRM's
 *   magic; `EINVAL` an unknown number; `EFAULT`; `EACCES` not on a render node; what the call says;
 *   `EFAULT` at the copy back, whatever the call said.
 * @context May sleep; no lock held.
 */
export function* drmIoctlCall(file: DrmFile, request: number, arg: number, process: Process): Task {
  const { dev } = file;
  if (yield* dev.isUnplugged()) {
    throw new DmaBufError('ENODEV', 'ioctl', 'ioctl-on-unplugged-drm-device');
  }
  const asked = ioctlParts(request);
  if (asked.magic !== MAGIC) throw new DmaBufError('ENOTTY', 'ioctl', 'magic-is-not-of-drm');
  const ioctl = findIoctl(dev, asked.nr);
  if (ioctl === null) {
    throw new DmaBufError('EINVAL', 'ioctl', 'no-such-drm-ioctl', { detail: { nr: asked.nr } });
  }
  const own = ioctlParts(ioctl.request);
  const both = (asked.direction === 'rw' ? 'rwnone' : asked.direction) as string;
  const isIn = both.includes('w') && own.direction.includes('w');
  const isOut = both.includes('r') && own.direction.includes('r');
  // Shorter structs of older programs are filled up with zeros; what newer ones add is ignored.
  const data = new Uint8Array(Math.max(asked.size, own.size));
  const at = arg as UserAddr;
  if (isIn) data.set(yield* process.mm.load(at, asked.size));
  try {
    if (file.isRender && !ioctl.isForRender) {
      throw new DmaBufError('EACCES', 'ioctl', 'ioctl-not-for-render-nodes');
    }
    yield* ioctl.run(file, data, process);
  } finally {
    if (isOut) yield* process.mm.store(at, data.subarray(0, asked.size));
  }
}

function findIoctl({ driver }: DrmDevice, nr: number): DrmIoctl | null {
  const isDrivers = nr >= COMMAND_BASE && nr < COMMAND_END;
  const table = isDrivers ? driver.ioctls : CORE_IOCTLS;
  return table.find(({ request }) => ioctlParts(request).nr === nr) ?? null;
}

/** Those that the core answers for every driver. */
const CORE_IOCTLS: readonly DrmIoctl[] = [
  drmIoctl(DRM_IOCTL.VERSION, drmVersion, true, version),
  drmIoctl(DRM_IOCTL.GET_CAP, drmGetCap, true, function* ({ dev }, { capability }) {
    return { value: capValue(dev, capability) };
  }),
  drmIoctl(DRM_IOCTL.GEM_CLOSE, drmGemClose, true, function* (file, { handle }) {
    yield* gemHandleDelete(file, handle);
    return {};
  }),
  drmIoctl(DRM_IOCTL.PRIME_HANDLE_TO_FD, drmPrimeHandle, true, primeHandleToFd),
  drmIoctl(DRM_IOCTL.PRIME_FD_TO_HANDLE, drmPrimeHandle, true, primeFdToHandle),
  drmIoctl(DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, false, createDumb, {
    handle: 0,
    pitch: 0,
    size: 0n,
  }),
  drmIoctl(DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb, false, mapDumb, { offset: 0n }),
  drmIoctl(DRM_IOCTL.MODE_DESTROY_DUMB, drmModeDestroyDumb, false, destroyDumb),
  ...SYNCOBJ_IOCTLS,
];

/** `drm_getcap()`. */
function capValue(dev: DrmDevice, capability: bigint): bigint {
  const cap = Number(capability);
  if (cap === DRM_CAP.PRIME) return PRIME_CAP_ALL;
  if (cap === CAP_TIMESTAMP_MONOTONIC) return 1n;
  if (cap === DRM_CAP.SYNCOBJ || cap === DRM_CAP.SYNCOBJ_TIMELINE) {
    return dev.has('syncobj') ? 1n : 0n;
  }
  if (!dev.has('modeset')) {
    throw new DmaBufError('EOPNOTSUPP', 'GET_CAP', 'capability-of-displays-only');
  }
  if (!MODESET_CAPS.includes(cap)) {
    throw new DmaBufError('EINVAL', 'GET_CAP', 'no-such-capability', { detail: { cap } });
  }
  return cap === DRM_CAP.DUMB_BUFFER && dev.driver.dumbCreate !== undefined ? 1n : 0n;
}

/** `drm_version()`: texts go where there is room for them; their whole length is told. */
function* version({ dev }: DrmFile, args: DrmVersion, process: Process): Task<Partial<DrmVersion>> {
  const { name, description, version: numbers } = dev.driver;
  const [versionMajor, versionMinor, versionPatchlevel] = numbers;
  // Linux gives no date any more.
  return {
    versionMajor,
    versionMinor,
    versionPatchlevel,
    nameLen: yield* copyField(process, args.name, args.nameLen, name),
    dateLen: yield* copyField(process, args.date, args.dateLen, '0'),
    descLen: yield* copyField(process, args.desc, args.descLen, description),
  };
}

function* copyField(process: Process, at: bigint, room: bigint, text: string): Task<bigint> {
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const length = Math.min(Number(room), bytes.length);
  if (length > 0 && at !== 0n) {
    yield* process.mm.store(Number(at) as UserAddr, bytes.subarray(0, length));
  }
  return BigInt(bytes.length);
}
