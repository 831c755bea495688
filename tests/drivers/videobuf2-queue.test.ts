import { describe, expect, test } from 'vitest';
import { V4L2_BUF_CAP, v4l2Format, VIDIOC, v4l2Capability } from '../../src/base/index.ts';
import { testPattern, VB2_DMA_SG, VB2_VMALLOC } from '../../src/drivers/index.ts';
import { POLLERR, POLLIN, PollTable } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CAPTURE, DMABUF, IMAGE, MMAP, OUTPUT, PAGE, VideoRig } from './videobuf2-rig.ts';

const QUEUED = 2;
const DONE = 4;
const ERROR = 0x40;
const PREPARED = 0x400;

/** Code and reason of what a call that must fail fails with. */
function* why(call: Task<unknown>): Task<string> {
  const { code, reason } = yield* refused(call);
  return `${code} ${reason}`;
}

describe('A video device', () => {
  test('captures a picture into memory of its own, and the program sees it (E.9)', () => {
    for (const memOps of [undefined, VB2_DMA_SG, VB2_VMALLOC]) {
      const rig = new VideoRig();
      rig.camera({}, memOps === undefined ? {} : { memOps });
      rig.do(captureTwo(rig));
      rig.expectNothingLeft();
    }
  });

  test('hands out what a program queues to it (E.9)', () => {
    const rig = new VideoRig();
    rig.display();
    rig.do(showOne(rig));
    expect(rig.sink.pictures.map((picture) => [...picture])).toEqual([[1, 2, 3]]);
    rig.expectNothingLeft();
  });

  test('says what it is and which pictures it has', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(describeCamera(rig));
  });

  test('answers what it does not know with ENOTTY, and a bad pointer with EFAULT (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(unknownCalls(rig));
  });

  test('can be read, and is nobody else’s meanwhile (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(readIt(rig));
    rig.expectNothingLeft();
  });

  test('wakes who polls for a picture', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(pollIt(rig));
  });
});

describe('REQBUFS and CREATE_BUFS', () => {
  test('refuse in the kernel’s order (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(refuseBuffers(rig));
    rig.expectNothingLeft();
  });

  test('make more buffers of larger size, up to the limit (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(createMore(rig));
    rig.expectNothingLeft();
  });

  test('give ENOMEM when there is no page (E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, { planeSizes: [2 ** 32 - PAGE] });
    rig.do(tooMuch(rig));
  });

  test('fall back to fewer buffers when pages are scarce', () => {
    const rig = new VideoRig();
    rig.camera({}, { planeSizes: [2 ** 29] });
    expect(rig.do(scarce(rig))).toBeLessThan(8);
  });
});

describe('QBUF, PREPARE_BUF and DQBUF', () => {
  test('refuse in the kernel’s order (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(refuseQueueing(rig));
    rig.expectNothingLeft();
  });

  test('refuse an output of more bytes than there are (E.9)', () => {
    const rig = new VideoRig();
    rig.display();
    rig.do(refuseOutput(rig));
  });

  test('need an array of planes with a multi-planar queue (E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, { type: 9, planeSizes: [PAGE, PAGE] });
    rig.do(refusePlanes(rig));
  });

  test('keep a second sleeper out, and a signal ends the sleep', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(sleepInDqbuf(rig));
    rig.expectNothingLeft();
  });

  test('a buffer prepared ahead is not prepared again (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(prepareAhead(rig));
  });
});

describe('STREAMON and STREAMOFF', () => {
  test('refuse in the kernel’s order, and come twice without harm (E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, { minQueuedBuffers: 2 });
    rig.do(refuseStreams(rig));
    rig.expectNothingLeft();
  });

  test('stopping gives every buffer back, also one that the hardware had begun', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(stopInTheMiddle(rig));
    rig.expectNothingLeft();
  });
});

describe('A map of video memory', () => {
  test('must be shared, allowed, and of one plane (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(mapIt(rig));
    rig.expectNothingLeft();
  });
});

function* captureTwo(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const made = yield* rig.reqbufs(file, CAPTURE, MMAP, 2);
  expect(made.count).toBe(2);
  expect(made.capabilities & V4L2_BUF_CAP.SUPPORTS_ORPHANED_BUFS).not.toBe(0);
  const { m, length } = yield* rig.querybuf(file, CAPTURE, 1);
  expect(length).toBe(IMAGE);
  const map = yield* rig.mmap(file, m.offset ?? 0, { write: false });
  for (const index of [0, 1]) {
    expect((yield* rig.qbuf(file, CAPTURE, { index })).flags & QUEUED).toBe(QUEUED);
  }
  yield* rig.streamon(file, CAPTURE);
  for (const index of [0, 1]) {
    const done = yield* rig.dqbuf(file, CAPTURE);
    expect(done).toMatchObject({ index, sequence: index, bytesused: IMAGE });
    expect(done.flags & (QUEUED | DONE | ERROR)).toBe(0);
  }
  const seen = yield* rig.process.mm.load(map.start, IMAGE);
  expect(seen).toEqual(testPattern(1, IMAGE));
  yield* rig.end(file);
}

function* showOne(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(file, OUTPUT, MMAP, 1);
  const map = yield* rig.mmap(file, 0);
  yield* rig.process.mm.store(map.start, Uint8Array.of(1, 2, 3));
  yield* rig.qbuf(file, OUTPUT, { index: 0, bytesused: 3 });
  yield* rig.streamon(file, OUTPUT);
  expect((yield* rig.dqbuf(file, OUTPUT)).bytesused).toBe(3);
  yield* rig.end(file);
}

function* describeCamera(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const capability = yield* rig.call(file, VIDIOC.QUERYCAP, v4l2Capability, {});
  expect(capability.deviceCaps).toBe(0x500_0001);
  const format = yield* rig.call(file, VIDIOC.G_FMT, v4l2Format, { type: CAPTURE });
  expect(format.fmt.pix?.sizeimage).toBe(IMAGE);
  const other = rig.call(file, VIDIOC.G_FMT, v4l2Format, { type: OUTPUT });
  expect(yield* why(other)).toBe('EINVAL format-of-another-type');
}

function* unknownCalls(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  expect(yield* why(rig.ioctl(file, 0x1234, 0))).toBe('ENOTTY no-such-video-command');
  for (const request of Object.values(VIDIOC)) {
    expect((yield* refused(rig.ioctl(file, request, 0x1000))).code).toBe('EFAULT');
  }
}

function* readIt(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const { read } = file.operations;
  if (read === undefined) return expect.fail('no read');
  const first = yield* read(file, 100);
  const rest = yield* read(file, 10 * PAGE);
  expect([...first, ...rest]).toEqual([...testPattern(0, IMAGE)]);
  for (const call of [
    rig.reqbufs(file, CAPTURE, MMAP, 1),
    rig.createBufs(file, { type: CAPTURE, memory: MMAP, count: 1 }),
    rig.qbuf(file, CAPTURE, { index: 0 }),
    rig.prepare(file, CAPTURE, { index: 0 }),
    rig.dqbuf(file, CAPTURE),
    rig.streamon(file, CAPTURE),
    rig.streamoff(file, CAPTURE),
    rig.expbuf(file, CAPTURE, 0),
    rig.mmap(file, 0),
  ]) {
    expect(yield* why(call)).toBe('EBUSY queue-is-being-read');
  }
  // Only asking is allowed.
  yield* rig.createBufs(file, { type: CAPTURE, memory: MMAP, count: 0 });
  const other = yield* rig.open('/dev/video0');
  expect(yield* why(read(other, 1))).toBe('EBUSY video-is-of-another-file');
  yield* rig.end(other, file);
}

function* pollIt(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const poll = file.operations.poll ?? expect.fail('no poll');
  expect(yield* poll(file, new PollTable(POLLIN))).toBe(POLLERR);
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  yield* rig.qbuf(file, CAPTURE, { index: 0 });
  yield* rig.streamon(file, CAPTURE);
  const table = new PollTable(POLLIN);
  expect(yield* poll(file, table)).toBe(0);
  expect(table.entries).toHaveLength(1);
  yield* rig.scheduler.sleep(2_000_000);
  expect(yield* poll(file, new PollTable(POLLIN))).toBe(POLLIN);
  yield* rig.end(file);
}

function* refuseBuffers(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const other = yield* rig.open('/dev/video0');
  const userptr = 2;
  expect(yield* why(rig.reqbufs(file, CAPTURE, userptr, 1))).toBe(
    'EINVAL queue-does-not-take-such-memory',
  );
  expect(yield* why(rig.reqbufs(file, OUTPUT, MMAP, 1))).toBe('EINVAL buffers-of-another-type');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 2);
  expect(yield* why(rig.reqbufs(other, CAPTURE, MMAP, 1))).toBe('EBUSY queue-is-of-another-file');
  expect(yield* why(rig.createBufs(file, { type: CAPTURE, memory: DMABUF, count: 1 }))).toBe(
    'EINVAL buffers-have-other-memory',
  );
  expect(
    yield* why(rig.createBufs(file, { type: CAPTURE, memory: MMAP, count: 1, size: IMAGE - 1 })),
  ).toBe('EINVAL image-does-not-fit-such-buffers');
  yield* rig.streamon(file, CAPTURE);
  expect(yield* why(rig.reqbufs(file, CAPTURE, MMAP, 0))).toBe('EBUSY queue-is-streaming');
  yield* rig.streamoff(file, CAPTURE);
  // Another kind of memory takes the place of the first.
  yield* rig.reqbufs(file, CAPTURE, DMABUF, 1);
  expect((yield* rig.reqbufs(file, CAPTURE, DMABUF, 0)).count).toBe(0);
  // Without buffers the queue is anybody's.
  expect((yield* rig.reqbufs(other, CAPTURE, MMAP, 100)).count).toBe(32);
  yield* rig.end(file, other);
}

function* createMore(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 2);
  const size = 4 * PAGE;
  const made = yield* rig.createBufs(file, { type: CAPTURE, memory: MMAP, count: 40, size });
  expect(made).toMatchObject({ index: 2, count: 30, maxNumBuffers: 32 });
  expect((yield* rig.querybuf(file, CAPTURE, 1)).length).toBe(IMAGE);
  expect((yield* rig.querybuf(file, CAPTURE, 31)).length).toBe(size);
  const more = rig.createBufs(file, { type: CAPTURE, memory: MMAP, count: 1 });
  expect(yield* why(more)).toBe('ENOBUFS queue-has-all-buffers-it-can');
  yield* rig.end(file);
}

function* tooMuch(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const reason = yield* why(rig.reqbufs(file, CAPTURE, MMAP, 1));
  expect(reason).toBe('ENOMEM no-memory-for-a-buffer');
}

function* scarce(rig: VideoRig): Task<number> {
  const file = yield* rig.open('/dev/video0');
  return (yield* rig.reqbufs(file, CAPTURE, MMAP, 8)).count;
}

function* refuseQueueing(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0', { isNonBlocking: true });
  const other = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const expected = [
    [rig.qbuf(file, OUTPUT, { index: 7 }), 'EINVAL buffer-of-another-type'],
    [rig.qbuf(file, CAPTURE, { index: 7, memory: DMABUF }), 'EINVAL no-such-buffer'],
    [rig.qbuf(file, CAPTURE, { index: 0, memory: DMABUF }), 'EINVAL buffer-with-other-memory'],
    [rig.querybuf(file, OUTPUT, 0), 'EINVAL query-of-another-type'],
    [rig.querybuf(file, CAPTURE, 1), 'EINVAL no-such-buffer'],
    [rig.qbuf(other, CAPTURE, { index: 0 }), 'EBUSY queue-is-of-another-file'],
    [rig.dqbuf(file, OUTPUT), 'EINVAL dequeue-of-another-type'],
    [rig.dqbuf(file, CAPTURE), 'EINVAL queue-does-not-stream'],
  ] as const;
  for (const [call, reason] of expected) expect(yield* why(call)).toBe(reason);
  // Anybody may look.
  yield* rig.querybuf(other, CAPTURE, 0);
  yield* rig.qbuf(file, CAPTURE, { index: 0 });
  expect(yield* why(rig.qbuf(file, CAPTURE, { index: 0 }))).toBe('EINVAL buffer-is-queued-already');
  yield* rig.streamon(file, CAPTURE);
  expect(yield* why(rig.dqbuf(file, CAPTURE))).toBe('EAGAIN no-buffer-is-done');
  yield* rig.end(file, other);
}

function* refuseOutput(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(file, OUTPUT, MMAP, 1);
  const tooMany = rig.qbuf(file, OUTPUT, { index: 0, bytesused: IMAGE + 1 });
  expect(yield* why(tooMany)).toBe('EINVAL more-bytes-used-than-there-are');
}

function* refusePlanes(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, 9, MMAP, 1);
  expect(yield* why(rig.qbuf(file, 9, { index: 0, length: 2 }))).toBe('EINVAL planes-are-missing');
  const planes = BigInt(yield* rig.planesAt());
  const one = rig.qbuf(file, 9, { index: 0, length: 1, m: { planes } });
  expect(yield* why(one)).toBe('EINVAL planes-are-missing');
  const nine = rig.qbuf(file, 9, { index: 0, length: 9, m: { planes } });
  expect(yield* why(nine)).toBe('EINVAL more-planes-than-there-can-be');
  const far = rig.qbuf(file, 9, { index: 0, length: 2, m: { planes: 0xfff0n } });
  expect((yield* refused(far)).code).toBe('EFAULT');
  yield* rig.qbuf(file, 9, { index: 0, length: 2, m: { planes } });
}

function* sleepInDqbuf(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  yield* rig.streamon(file, CAPTURE);
  const sleeper = rig.user(rig.dqbuf(file, CAPTURE), 'sleeper');
  yield* rig.scheduler.sleep(1);
  // Arguments are in the same place, so this one asks with the sleeper's.
  const second = rig.ioctl(file, VIDIOC.DQBUF, yield* rig.arguments());
  expect(yield* why(second)).toBe('EBUSY somebody-else-waits-for-a-buffer');
  yield* rig.streamoff(file, CAPTURE);
  yield* rig.scheduler.sleep(1);
  expect(rig.scheduler.findings.map(({ title }) => title)).toEqual([
    'EINVAL: ioctl(VIDIOC_DQBUF): queue does not stream',
  ]);
  expect(sleeper.step).toBe(null);
  rig.scheduler.findings.splice(0);
  yield* rig.streamon(file, CAPTURE);
  const killed = rig.user(rig.dqbuf(file, CAPTURE), 'killed');
  yield* rig.scheduler.sleep(1);
  yield* rig.kernel.signals.kill(killed);
  yield* rig.scheduler.sleep(1);
  expect(rig.scheduler.findings.map(({ title }) => title.split(':')[0])).toEqual(['EINTR']);
  rig.scheduler.findings.splice(0);
  yield* rig.end(file);
}

function* prepareAhead(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  expect((yield* rig.prepare(file, CAPTURE, { index: 0 })).flags).toBe(PREPARED);
  expect(yield* why(rig.prepare(file, CAPTURE, { index: 0 }))).toBe(
    'EINVAL buffer-is-prepared-already',
  );
  expect((yield* rig.qbuf(file, CAPTURE, { index: 0 })).flags).toBe(QUEUED);
}

function* refuseStreams(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  expect(yield* why(rig.streamon(file, OUTPUT))).toBe('EINVAL stream-of-another-type');
  expect(yield* why(rig.streamoff(file, OUTPUT))).toBe('EINVAL end-of-another-stream');
  expect(yield* why(rig.streamon(file, CAPTURE))).toBe('EINVAL too-few-buffers-to-stream');
  // The device asks for two at least.
  expect((yield* rig.reqbufs(file, CAPTURE, MMAP, 1)).count).toBe(2);
  yield* rig.streamon(file, CAPTURE);
  yield* rig.streamon(file, CAPTURE);
  yield* rig.qbuf(file, CAPTURE, { index: 1 });
  yield* rig.scheduler.sleep(5_000_000);
  expect(rig.events('dma.write')).toEqual([]);
  yield* rig.qbuf(file, CAPTURE, { index: 0 });
  expect((yield* rig.dqbuf(file, CAPTURE)).index).toBe(0);
  yield* rig.streamoff(file, CAPTURE);
  yield* rig.streamoff(file, CAPTURE);
  yield* rig.end(file);
}

function* stopInTheMiddle(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 3);
  for (const index of [0, 1, 2]) yield* rig.qbuf(file, CAPTURE, { index });
  yield* rig.streamon(file, CAPTURE);
  yield* rig.scheduler.sleep(1_500_000);
  yield* rig.streamoff(file, CAPTURE);
  for (const index of [0, 1, 2]) {
    expect((yield* rig.querybuf(file, CAPTURE, index)).flags).toBe(0);
  }
  yield* rig.end(file);
}

function* mapIt(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, DMABUF, 1);
  expect(yield* why(rig.mmap(file, 0))).toBe('EINVAL nothing-of-the-queue-to-map');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 2);
  const expected = [
    [rig.mmap(file, 0, { isShared: false }), 'EINVAL video-map-is-private'],
    [rig.mmap(file, 0, { read: false }), 'EINVAL video-map-lacks-a-right'],
    [rig.mmap(file, 3 * PAGE), 'EINVAL no-plane-at-the-offset'],
    [rig.mmap(file, 2 ** 30), 'EINVAL no-queue-at-the-offset'],
    [rig.mmap(file, 0, { size: 3 * PAGE }), 'EINVAL map-longer-than-the-plane'],
  ] as const;
  for (const [call, reason] of expected) expect(yield* why(call)).toBe(reason);
  const map = yield* rig.mmap(file, 0);
  expect((yield* rig.querybuf(file, CAPTURE, 0)).flags).toBe(1);
  // The memory outlives its buffer while somebody maps it.
  yield* rig.reqbufs(file, CAPTURE, MMAP, 0);
  yield* rig.process.mm.store(map.start, Uint8Array.of(5));
  expect([...(yield* rig.process.mm.load(map.start, 1))]).toEqual([5]);
  yield* rig.end(file);
}
