/**
 * Taking the buffers that a program names as the planes of one of the queue's own, and letting go
 * of them. What was taken before and is named again is kept, attached and mapped.
 *
 * @source `__prepare_dmabuf()`, `__vb2_plane_dmabuf_put()`, v7.2; reference/linux-dma-buf.md E.9
 */

import { DmaBufError, isDmaBufError } from '../../base/index.ts';
import { DmaBuf, type Process } from '../../framework/index.ts';
import type { Task } from '../../machine/index.ts';
import { PLANE_EMPTY, type PlaneRecord, type PlaneRequest, type Vb2Buffer } from './buffer.ts';
import type { PlaneOwner, Vb2MemOps } from './memory.ts';

/** A buffer that the program named for a plane. */
interface NamedPlane extends PlaneRequest {
  readonly dbuf: DmaBuf;
}

/** Where the planes are taken to. */
export interface ImportPlace {
  readonly owner: PlaneOwner;
  readonly memOps: Vb2MemOps;
}

/**
 * Makes the named buffers the memory of `buffer`.
 *
 * @throws {@link DmaBufError} `EINVAL` a descriptor is no dma-buf, or a plane too short; what
 *   attach and map say. The buffer has no memory then, if it got that far.
 * @context May sleep; the queue's lock is held.
 */
export function* importPlanes(
  place: ImportPlace,
  process: Process,
  buffer: Vb2Buffer,
  wanted: readonly PlaneRequest[],
): Task {
  const { planes } = yield* buffer.read();
  const named = yield* nameAll(process, planes, wanted);
  const isKept = named.every(({ dbuf, length }, i) => {
    return dbuf === planes[i]?.dbuf && length === planes[i]?.length;
  });
  if (isKept) {
    for (const { dbuf } of named) yield* dbuf.put();
    yield* updatePlanes(buffer, (plane, i) => ({ ...plane, ...saidOf(named[i]) }));
    return;
  }
  yield* releasePlanes(buffer);
  for (const [i, one] of named.entries()) {
    try {
      yield* acquire(place, buffer, i, one);
    } catch (error) {
      // What was not taken yet has a reference each; the others have their planes'.
      for (const { dbuf } of named.slice(i)) yield* dbuf.put();
      yield* releasePlanes(buffer);
      throw error;
    }
  }
}

/**
 * Unmaps and detaches whatever other devices' memory the buffer has.
 *
 * @context May sleep; the queue's lock is held.
 */
export function* releasePlanes(buffer: Vb2Buffer): Task {
  const { planes } = yield* buffer.read();
  yield* updatePlanes(buffer, (plane) => {
    return plane.imported === null ? plane : { ...PLANE_EMPTY, minLength: plane.minLength };
  });
  for (const { dbuf, imported, isDuplicate } of planes) {
    if (dbuf === null || imported === null) continue;
    if (!isDuplicate) {
      yield* imported.unmapDmabuf();
      yield* imported.detachDmabuf();
    }
    yield* dbuf.put();
  }
}

/** Looks all descriptors up; each result has a reference. All of them, or an error. */
function* nameAll(
  process: Process,
  planes: readonly PlaneRecord[],
  wanted: readonly PlaneRequest[],
): Task<readonly NamedPlane[]> {
  const named: NamedPlane[] = [];
  try {
    for (const [i, plane] of planes.entries()) {
      const request = wanted[i] as PlaneRequest;
      const dbuf = yield* getBuffer(process, request.fd);
      const length = request.length === 0 ? dbuf.size : request.length;
      named.push({ ...request, length, dbuf });
      if (length < plane.minLength) {
        throw new DmaBufError('EINVAL', 'ioctl(VIDIOC_QBUF)', 'plane-is-too-short', {
          detail: { plane: i, length, minLength: plane.minLength },
        });
      }
    }
  } catch (error) {
    for (const { dbuf } of named) yield* dbuf.put();
    throw error;
  }
  return named;
}

/** Whatever is wrong with the descriptor, the program is told the same. */
function* getBuffer(process: Process, fd: number): Task<DmaBuf> {
  try {
    return yield* DmaBuf.get(process, fd);
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    throw new DmaBufError('EINVAL', 'ioctl(VIDIOC_QBUF)', 'queued-descriptor-is-no-dma-buf', {
      cause: error,
      detail: { fd },
    });
  }
}

/** Attaches and maps for one plane, or shares an earlier plane's attachment. */
function* acquire(place: ImportPlace, buffer: Vb2Buffer, at: number, named: NamedPlane): Task {
  const { owner, memOps } = place;
  const { dbuf, length } = named;
  const { planes } = yield* buffer.read();
  const earlier = planes.slice(0, at).find((plane) => plane.dbuf === dbuf);
  if (earlier !== undefined) {
    const taken = { dbuf, imported: earlier.imported, isDuplicate: true };
    yield* updatePlanes(buffer, (plane, i) =>
      i === at ? { ...plane, ...saidOf(named), ...taken } : plane,
    );
    return;
  }
  const imported = yield* memOps.attachDmabuf(owner, dbuf, length);
  try {
    yield* imported.mapDmabuf();
  } catch (error) {
    yield* imported.detachDmabuf();
    throw error;
  }
  yield* updatePlanes(buffer, (plane, i) =>
    i === at ? { ...plane, ...saidOf(named), dbuf, imported, isDuplicate: false } : plane,
  );
}

function saidOf(named: NamedPlane | undefined): Partial<PlaneRecord> {
  if (named === undefined) return {};
  const { bytesused, length, fd, dataOffset } = named;
  return { bytesused, length, fd, dataOffset };
}

function* updatePlanes(
  buffer: Vb2Buffer,
  change: (plane: PlaneRecord, index: number) => PlaneRecord,
): Task {
  const record = yield* buffer.read();
  yield* buffer.write({ ...record, planes: record.planes.map(change) });
}
