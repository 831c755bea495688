import { describe, expect, test } from 'vitest';
import {
  DmaBufError,
  physAddr,
  v4l2Plane,
  joinBytes,
  type UserAddr,
} from '../../src/base/index.ts';
import { testPattern, VB2_DMA_SG, VB2_VMALLOC } from '../../src/drivers/index.ts';
import { DmaBuf, type DmaBufOps, DmaFence, IosysMap } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { type ExporterOptions, FakeExporter, locked } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { CAPTURE, DMABUF, IMAGE, MMAP, OUTPUT, PAGE, VideoRig } from './videobuf2-rig.ts';

const ALLOCATORS = [
  ['dma-contig', {}],
  ['dma-sg', { memOps: VB2_DMA_SG }],
  ['vmalloc', { memOps: VB2_VMALLOC }],
] as const;

function* why(call: Task<unknown>): Task<string> {
  const { code, reason } = yield* refused(call);
  return `${code} ${reason}`;
}

/** A buffer of an exporter of no memory, and its descriptor. */
function* fake(
  rig: VideoRig,
  options: ExporterOptions = {},
  size = 2 * PAGE,
): Task<{ readonly buf: DmaBuf<FakeExporter>; readonly fd: number; readonly calls: string[] }> {
  const exporter = new FakeExporter(options);
  const buf = yield* rig.export(exporter, size);
  return { buf, fd: yield* rig.give(buf), calls: exporter.calls };
}

/** Leaves no two free pages side by side, for as many pages as an image needs. */
function* scatterPages(rig: VideoRig): Task<() => Task> {
  const { memory } = rig.machine;
  const taken: number[] = [];
  for (let i = 0; i < 16; i += 1) taken.push((yield* memory.allocate(1)) ?? expect.fail('no page'));
  for (const [i, phys] of taken.entries()) {
    if (i % 2 === 0) yield* memory.free(physAddr(phys), 1);
  }
  return function* tidy(): Task {
    for (const [i, phys] of taken.entries()) {
      if (i % 2 === 1) yield* memory.free(physAddr(phys), 1);
    }
  };
}

describe('A dma-contig queue', () => {
  test('refuses a scattered buffer with EFAULT, and leaves nothing attached (N29, E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, { memOps: VB2_DMA_SG });
    rig.display();
    rig.do(scattered(rig, 'EFAULT contiguous-chunk-is-too-small'));
    rig.expectNothingLeft();
  });

  test('takes the same buffer behind an IOMMU, where it is in one piece (E.9)', () => {
    const rig = new VideoRig(wideMachine({ iommu: 'translated' }));
    rig.camera({}, { memOps: VB2_DMA_SG });
    rig.display();
    rig.do(scattered(rig, null));
    rig.expectNothingLeft();
  });
});

describe.each(ALLOCATORS)('A %s queue that imports', (_name, queue) => {
  test('shows the picture that another device painted into its own memory (E.9)', () => {
    for (const coherentDma of [true, false]) {
      const rig = new VideoRig(wideMachine({ iommu: 'translated', coherentDma }));
      rig.camera();
      rig.display({}, queue);
      rig.do(cameraToDisplay(rig));
      expect(rig.sink.pictures).toEqual([0, 1, 2].map((frame) => testPattern(frame, IMAGE)));
      rig.expectNothingLeft();
    }
  });

  test('refuses descriptors and lengths in the kernel’s order (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.display({}, queue);
    rig.do(refuseImports(rig));
    rig.expectNothingLeft();
  });
});

describe.each(ALLOCATORS.slice(0, 2))('The attachment of a %s queue', (_name, queue) => {
  test('keeps the buffer attached over turns, until another comes or the queue goes (E.9)', () => {
    const rig = new VideoRig();
    rig.display(
      {
        work: function* nothing() {
          return true;
        },
      },
      queue,
    );
    rig.do(keepMapped(rig));
    rig.expectNothingLeft();
  });

  test('shares one attachment among planes of the same buffer (E.9)', () => {
    const rig = new VideoRig();
    const work = function* nothing(): Task<boolean> {
      return true;
    };
    rig.display({ work }, { ...queue, type: 10, planeSizes: [PAGE, PAGE] });
    rig.do(sharePlanes(rig));
    rig.expectNothingLeft();
  });
});

describe('What an exporter says', () => {
  test('comes through when it refuses the attachment, and is EINVAL at the map (E.9)', () => {
    const rig = new VideoRig();
    rig.display();
    rig.do(exporterRefuses(rig));
    rig.expectNothingLeft();
  });

  test('is EFAULT when a vmalloc queue cannot vmap (E.9)', () => {
    const rig = new VideoRig();
    rig.display({}, { memOps: VB2_VMALLOC });
    rig.do(vmapRefused(rig));
  });

  test('stops the kernel when a vmalloc queue gives io memory back as plain memory (E.9)', () => {
    const rig = new VideoRig();
    rig.display({}, { memOps: VB2_VMALLOC });
    const { outcome } = rig.try(ioMemory(rig));
    expect(outcome.status).toBe('oops');
  });
});

describe('Fences', () => {
  test('of implicit synchronisation are neither waited for nor added (E.9)', () => {
    const rig = new VideoRig();
    rig.display({
      work: function* nothing() {
        return true;
      },
    });
    rig.do(fences(rig));
  });
});

function* scattered(rig: VideoRig, expected: string | null): Task {
  const tidy = yield* scatterPages(rig);
  const camera = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(camera, CAPTURE, MMAP, 1);
  const fd = yield* rig.expbuf(camera, CAPTURE, 0);
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  const queued = rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd } });
  if (expected === null) yield* queued;
  else {
    expect(yield* why(queued)).toBe(expected);
    const { attachments } = yield* rig.bufferOf(fd);
    expect(attachments.value).toEqual([]);
  }
  yield* rig.end(camera, display);
  yield* tidy();
}

function* cameraToDisplay(rig: VideoRig): Task {
  const camera = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(camera, CAPTURE, MMAP, 2);
  const fds = [yield* rig.expbuf(camera, CAPTURE, 0), yield* rig.expbuf(camera, CAPTURE, 1)];
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 2);
  yield* rig.streamon(camera, CAPTURE);
  yield* rig.streamon(display, OUTPUT);
  for (const frame of [0, 1, 2]) {
    yield* rig.qbuf(camera, CAPTURE, { index: frame % 2 });
    const { index, bytesused } = yield* rig.dqbuf(camera, CAPTURE);
    const wish = { index, bytesused, memory: DMABUF, m: { fd: fds[index] ?? -1 } };
    const queued = yield* rig.qbuf(display, OUTPUT, wish);
    expect(queued.length).toBe(2 * PAGE);
    yield* rig.dqbuf(display, OUTPUT, DMABUF);
  }
  yield* rig.end(camera, display);
}

function* refuseImports(rig: VideoRig): Task {
  const camera = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(camera, CAPTURE, MMAP, 1);
  const fd = yield* rig.expbuf(camera, CAPTURE, 0);
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  const other = yield* rig.process.fds.install(yield* rig.open('/dev/video1'));
  const base = { index: 0, memory: DMABUF };
  const noDmaBuf = 'EINVAL queued-descriptor-is-no-dma-buf';
  const expected = [
    [{ ...base, m: { fd: -1 } }, noDmaBuf],
    [{ ...base, m: { fd: 77 } }, noDmaBuf],
    [{ ...base, m: { fd: other ?? 0 } }, noDmaBuf],
    [{ ...base, m: { fd }, length: IMAGE - 1 }, 'EINVAL plane-is-too-short'],
    [{ ...base, m: { fd }, length: 2 * PAGE + 1 }, 'EFAULT buffer-is-smaller-than-the-plane'],
    [
      { ...base, m: { fd }, length: IMAGE, bytesused: IMAGE + 1 },
      'EINVAL more-bytes-used-than-there-are',
    ],
  ] as const;
  for (const [wish, reason] of expected) {
    expect(yield* why(rig.qbuf(display, OUTPUT, wish))).toBe(reason);
    expect(yield* why(rig.prepare(display, OUTPUT, wish))).toBe(reason);
  }
  const { attachments, file } = yield* rig.bufferOf(fd);
  expect(attachments.value).toEqual([]);
  expect(file.refs.value).toBe(1);
  yield* rig.qbuf(display, OUTPUT, { ...base, m: { fd } });
  expect(yield* why(rig.expbuf(display, OUTPUT, 0))).toBe('EINVAL memory-is-not-ours');
  yield* rig.end(camera, display);
}

function* keepMapped(rig: VideoRig): Task {
  const one = yield* fake(rig);
  const other = yield* fake(rig);
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  yield* rig.streamon(display, OUTPUT);
  for (let turn = 0; turn < 3; turn += 1) {
    yield* rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd: one.fd } });
    yield* rig.dqbuf(display, OUTPUT, DMABUF);
  }
  const device = '0000:04:00.0';
  expect(one.calls).toEqual([`attach ${device}`, 'map to-device locked']);
  expect(one.buf.file.refs.value).toBe(2);
  // The descriptor may go: the queue has a reference.
  yield* rig.process.close(one.fd);
  yield* rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd: other.fd } });
  expect(one.calls.slice(2, 4)).toEqual(['unmap to-device locked', `detach ${device}`]);
  yield* rig.dqbuf(display, OUTPUT, DMABUF);
  // Another length is another plane.
  const wish = { index: 0, memory: DMABUF, m: { fd: other.fd }, length: IMAGE };
  yield* rig.qbuf(display, OUTPUT, wish);
  expect(other.calls).toHaveLength(6);
  yield* rig.streamoff(display, OUTPUT);
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 0);
  expect(other.calls.slice(6)).toEqual(['unmap to-device locked', `detach ${device}`]);
  yield* rig.end(display);
}

function* sharePlanes(rig: VideoRig): Task {
  const { buf, fd, calls } = yield* fake(rig);
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, 10, DMABUF, 1);
  const at: UserAddr = yield* rig.planesAt();
  const plane = v4l2Plane.encode({ m: { fd }, bytesused: 1 });
  yield* rig.process.mm.store(at, joinBytes(plane, plane));
  const wish = { index: 0, memory: DMABUF, length: 2, m: { planes: BigInt(at) } };
  yield* rig.qbuf(display, 10, wish);
  expect(calls).toEqual(['attach 0000:04:00.0', 'map to-device locked']);
  expect(buf.file.refs.value).toBe(3);
  const told = v4l2Plane.decode(yield* rig.process.mm.load(at, v4l2Plane.size));
  expect(told.length).toBe(2 * PAGE);
  yield* rig.reqbufs(display, 10, DMABUF, 0);
  expect(buf.file.refs.value).toBe(1);
  expect(calls).toHaveLength(4);
  yield* rig.end(display);
}

function* exporterRefuses(rig: VideoRig): Task {
  const refusal = new DmaBufError('EOPNOTSUPP', 'attach', 'test-refuses');
  const one = yield* fake(rig, {
    *onAttach() {
      throw refusal;
    },
  });
  const mapError = new DmaBufError('ENODEV', 'map', 'test-does-not-map');
  const other = yield* fake(rig, { mapError });
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  const base = { index: 0, memory: DMABUF };
  expect((yield* refused(rig.qbuf(display, OUTPUT, { ...base, m: { fd: one.fd } }))).code).toBe(
    'EOPNOTSUPP',
  );
  expect(yield* why(rig.qbuf(display, OUTPUT, { ...base, m: { fd: other.fd } }))).toBe(
    'EINVAL exporter-does-not-map-for-the-queue',
  );
  expect(other.buf.attachments.value).toEqual([]);
  for (const { buf } of [one, other]) expect(buf.file.refs.value).toBe(1);
  yield* rig.end(display);
}

function* vmapRefused(rig: VideoRig): Task {
  const { fd, buf } = yield* fake(rig);
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  expect(yield* why(rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd } }))).toBe(
    'EFAULT no-kernel-map-of-the-buffer',
  );
  expect(buf.file.refs.value).toBe(1);
  yield* rig.end(display);
}

function* ioMemory(rig: VideoRig): Task {
  const exporter = new FakeExporter();
  const start = rig.at('03:00.0').barStart(2);
  const ops: DmaBufOps<FakeExporter> = {
    ...exporter.ops,
    *vmap() {
      return new IosysMap(rig.machine, [{ phys: start, size: 2 * PAGE }], true);
    },
  };
  const info = { exporterName: 'fake', ops, size: 2 * PAGE, priv: exporter };
  const fd = yield* rig.give(yield* DmaBuf.export(rig.kernel, info));
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  yield* rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd } });
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 0);
}

function* fences(rig: VideoRig): Task {
  const { buf, fd } = yield* fake(rig);
  const origin = { driver: 'test', timeline: 'test', context: 1, seqno: 1 };
  const fence = new DmaFence(rig.kernel, origin);
  yield* locked(buf.resv, publish(buf, fence));
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(display, OUTPUT, DMABUF, 1);
  yield* rig.streamon(display, OUTPUT);
  yield* rig.qbuf(display, OUTPUT, { index: 0, memory: DMABUF, m: { fd } });
  yield* rig.dqbuf(display, OUTPUT, DMABUF);
  expect(rig.events('resv.add-fence')).toHaveLength(1);
  yield* fence.signal();
  expect(yield* buf.resv.testSignaled('bookkeep')).toBe(true);
  yield* rig.end(display);
}

function* publish(buf: DmaBuf, fence: DmaFence): Task {
  yield* buf.resv.reserveFences(1);
  yield* buf.resv.addFence(fence, 'write');
}
