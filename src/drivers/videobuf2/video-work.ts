/**
 * What video hardware does with its buffers: paints a test picture, looks at one, or makes a
 * smaller one of it. Bytes go by DMA where the hardware has it; else the CPU moves them.
 *
 * @source drivers/media/test-drivers/vivid, s5p-mfc and exynos-gsc as users of videobuf2, v7.2;
 *   thread S002
 */

import { addressPlus } from '../../base/index.ts';
import type { Device, Machine, Task } from '../../machine/index.ts';
import type { SgEntry } from '../../framework/index.ts';
import { memoryOf, type PlaneRecord, type Vb2Buffer } from './buffer.ts';
import type { EngineJob, EngineWork } from './engine.ts';
import type { PlaneAccess } from './memory.ts';

/** What a consumer saw. */
export interface VideoSink {
  /** Pictures, oldest first: the bytes that the hardware got, all planes in a row. */
  readonly pictures: Uint8Array[];
}

/** The picture that test hardware paints: another one for each frame. */
export function testPattern(frame: number, size: number): Uint8Array {
  return Uint8Array.from(
    { length: size },
    (_, i) => (frame * 37 + i * 7 + (i >> 8) * 13 + 1) & 0xff,
  );
}

/** Hardware that paints test pictures into capture buffers. */
export function captureWork(machine: Machine, device: Device): EngineWork {
  return (job) => capture(machine, device, job);
}

/** Hardware that looks at output buffers; what `accept` does not like is given back as an error. */
export function sinkWork(
  machine: Machine,
  device: Device,
  sink: VideoSink,
  accept: (picture: Uint8Array, frame: number) => boolean = () => true,
): EngineWork {
  return (job) => consume(machine, device, job, sink, accept);
}

/** Hardware that reads a picture and writes one of half the size: each second byte. */
export function scalerWork(machine: Machine, device: Device): EngineWork {
  return (job) => scale(machine, device, job);
}

function* capture(machine: Machine, device: Device, job: EngineJob): Task<boolean> {
  const [buffer] = job.buffers;
  if (buffer === undefined) return false;
  const { planes } = yield* buffer.read();
  const sizes = planes.map(({ minLength }) => minLength);
  const picture = testPattern(
    job.sequence,
    sizes.reduce((sum, size) => sum + size, 0),
  );
  return yield* writePicture(machine, device, planes, picture);
}

function* consume(
  machine: Machine,
  device: Device,
  job: EngineJob,
  sink: VideoSink,
  accept: (picture: Uint8Array, frame: number) => boolean,
): Task<boolean> {
  const picture = yield* readPicture(machine, device, job.buffers[0]);
  if (picture === null) return false;
  sink.pictures.push(picture);
  return accept(picture, job.sequence);
}

function* scale(machine: Machine, device: Device, job: EngineJob): Task<boolean> {
  const [source, target] = job.buffers;
  const picture = yield* readPicture(machine, device, source);
  if (picture === null || target === undefined) return false;
  const { planes } = yield* target.read();
  const half = picture.filter((_, i) => i % 2 === 0);
  return yield* writePicture(machine, device, planes, half);
}

/** Null: the hardware did not get all of it. */
function* readPicture(
  machine: Machine,
  device: Device,
  buffer: Vb2Buffer | undefined,
): Task<Uint8Array | null> {
  if (buffer === undefined) return null;
  const bytes: number[] = [];
  for (const plane of (yield* buffer.read()).planes) {
    const access = memoryOf(plane)?.access;
    if (access === undefined) return null;
    const piece = yield* readPlane(machine, device, access, plane.bytesused);
    if (piece === null) return null;
    bytes.push(...piece);
  }
  return Uint8Array.from(bytes);
}

function* readPlane(
  machine: Machine,
  device: Device,
  access: PlaneAccess,
  size: number,
): Task<Uint8Array | null> {
  if (access.by === 'cpu') return yield* access.map.load(0, size);
  const bytes = new Uint8Array(size);
  for (const { entry, done, length } of pieces(access.entries, size)) {
    const { bytes: piece, ok } = yield* machine.dma.read(device, entry.address, length);
    if (!ok) return null;
    bytes.set(piece, done);
  }
  return bytes;
}

/** Fills the planes one after the other. */
function* writePicture(
  machine: Machine,
  device: Device,
  planes: readonly PlaneRecord[],
  picture: Uint8Array,
): Task<boolean> {
  let at = 0;
  for (const plane of planes) {
    const access = memoryOf(plane)?.access;
    if (access === undefined) return false;
    const bytes = picture.subarray(at, at + plane.minLength);
    at += bytes.length;
    if (access.by === 'cpu') yield* access.map.store(0, bytes);
    else yield* writeByDma(machine, device, access.entries, bytes);
  }
  return true;
}

function* writeByDma(
  machine: Machine,
  device: Device,
  entries: readonly SgEntry[],
  bytes: Uint8Array,
): Task {
  for (const { entry, done, length } of pieces(entries, bytes.length)) {
    yield* machine.dma.write(device, entry.address, bytes.subarray(done, done + length));
  }
}

/** Entry by entry, up to `size` bytes; hardware moves a page at a time. */
function* pieces(
  entries: readonly SgEntry[],
  size: number,
): Generator<{ readonly entry: SgEntry; readonly done: number; readonly length: number }> {
  let done = 0;
  for (const entry of entries) {
    for (let at = 0; at < entry.length && done < size; at += BURST_SIZE) {
      const length = Math.min(BURST_SIZE, entry.length - at, size - done);
      yield { entry: { address: addressPlus(entry.address, at), length }, done, length };
      done += length;
    }
  }
}

/** Bytes that hardware moves at once. */
const BURST_SIZE = 4096;
