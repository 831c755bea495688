/** Ways to fail that need a particular moment or a machine that is full. */

import { describe, expect, test } from 'vitest';
import { joinBytes, v4l2Plane } from '../../src/base/index.ts';
import { scalerWork, VB2_DMA_CONTIG, VB2_DMA_SG, VB2_VMALLOC } from '../../src/drivers/index.ts';
import { vb2CreateBufs, vb2Reqbufs } from '../../src/drivers/videobuf2/queue-memory.ts';
import { vb2Streamoff } from '../../src/drivers/videobuf2/queue-stream.ts';
import type { Vb2Queue } from '../../src/drivers/videobuf2/queue.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CAPTURE, IMAGE, MMAP, OUTPUT, PAGE, VideoRig } from './videobuf2-rig.ts';

function* why(call: Task<unknown>): Task<string> {
  const { code, reason } = yield* refused(call);
  return `${code} ${reason}`;
}

describe('A video queue', () => {
  test('gets no new buffers while somebody still wakes up in DQBUF (E.9)', () => {
    const rig = new VideoRig();
    const [queue] = rig.camera().queues;
    rig.do(wakeSlowly(rig, queue ?? expect.fail('no queue')));
    rig.expectNothingLeft();
  });

  test('refuses data that begin behind their end (E.9)', () => {
    const rig = new VideoRig();
    rig.display({}, { type: 10, planeSizes: [PAGE] });
    rig.do(dataBehindEnd(rig));
  });

  test('is not read while a program queues buffers, nor if it does not capture', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.display();
    rig.do(readInVain(rig));
  });

  test('is found by its type in a device that has two', () => {
    const rig = new VideoRig();
    const device = rig.at('03:00.0');
    rig.camera({
      device,
      work: scalerWork(rig.machine, device),
      queues: [
        { type: OUTPUT, memOps: VB2_DMA_CONTIG, planeSizes: [IMAGE] },
        { type: CAPTURE, memOps: VB2_DMA_CONTIG, planeSizes: [PAGE] },
      ],
    });
    rig.do(findQueue(rig));
    rig.expectNothingLeft();
  });
});

describe('Memory of single pages', () => {
  test.each([VB2_DMA_SG, VB2_VMALLOC])('is ENOMEM on a full machine ($name)', (memOps) => {
    const rig = new VideoRig();
    const [queue] = rig.camera({}, { memOps }).queues;
    rig.do(fillMemory(rig, queue ?? expect.fail('no queue')));
  });

  test.each([VB2_DMA_SG, VB2_VMALLOC])('is mapped no farther than it goes ($name)', (memOps) => {
    const rig = new VideoRig();
    const [queue] = rig.camera({}, { memOps }).queues;
    rig.do(mapTooFar(rig, queue ?? expect.fail('no queue')));
    rig.expectNothingLeft();
  });
});

describe('A buffer of a video queue', () => {
  test('leaves no page and no reference, whichever allocation fails (E.9)', () => {
    let failures = 0;
    for (let failAt = 1; failAt < 200; failAt += 1) {
      const rig = new VideoRig();
      // As `SchedulerOptions.failAt`, but the rig makes its scheduler itself.
      Reflect.set(rig.scheduler, 'failAt', failAt);
      rig.camera({}, { memOps: VB2_DMA_SG });
      rig.display();
      rig.try(exportAndImport(rig));
      if (rig.scheduler.fallible < failAt) break;
      failures += 1;
      expect(rig.machine.memory.pagesInUse).toBe(rig.pagesBefore);
      expect(rig.kernel.bufferList.value).toBe(0);
    }
    expect(failures).toBeGreaterThan(8);
  });
});

/** The sleeper is awake, but has not got the lock back. */
function* wakeSlowly(rig: VideoRig, queue: Vb2Queue): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  yield* rig.streamon(file, CAPTURE);
  rig.user(rig.dqbuf(file, CAPTURE), 'sleeper');
  yield* rig.scheduler.sleep(1);
  yield* queue.lock.lock();
  yield* vb2Streamoff(queue, CAPTURE);
  expect(yield* why(vb2Reqbufs(queue, MMAP, 1))).toBe('EBUSY somebody-waits-for-buffers');
  yield* vb2Reqbufs(queue, MMAP, 0);
  expect(yield* why(vb2CreateBufs(queue, MMAP, 1, 0))).toBe(
    'EBUSY somebody-waits-for-a-first-buffer',
  );
  yield* queue.lock.unlock();
  yield* rig.scheduler.sleep(1);
  rig.scheduler.findings.splice(0);
  yield* rig.end(file);
}

function* dataBehindEnd(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(file, 10, MMAP, 1);
  const planes = yield* rig.planesAt();
  const wish = { index: 0, length: 1, m: { planes: BigInt(planes) } };
  const plane = v4l2Plane.encode({ bytesused: 8, dataOffset: 8 });
  yield* rig.process.mm.store(planes, joinBytes(plane));
  expect(yield* why(rig.qbuf(file, 10, wish))).toBe('EINVAL data-begin-behind-their-end');
}

function* readInVain(rig: VideoRig): Task {
  const camera = yield* rig.open('/dev/video0');
  const display = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(camera, CAPTURE, MMAP, 1);
  const read = camera.operations.read ?? expect.fail('no read');
  expect(yield* why(read(camera, 1))).toBe('EBUSY program-queues-buffers-itself');
  expect(yield* why(read(display, 1))).toBe('EINVAL device-does-not-capture');
}

function* findQueue(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  expect(yield* why(rig.reqbufs(file, 9, MMAP, 1))).toBe('EINVAL device-has-no-such-queue');
  yield* rig.reqbufs(file, OUTPUT, MMAP, 1);
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const [one, other] = [
    yield* rig.querybuf(file, OUTPUT, 0),
    yield* rig.querybuf(file, CAPTURE, 0),
  ];
  expect(one.m.offset).not.toBe(other.m.offset);
  expect([one.length, other.length]).toEqual([IMAGE, PAGE]);
  yield* rig.mmap(file, other.m.offset ?? 0, { size: PAGE });
  yield* rig.end(file);
}

/** All but one page are taken. */
function* fillMemory(rig: VideoRig, queue: Vb2Queue): Task {
  const { memory } = rig.machine;
  const owner = queue.planeOwner;
  for (let pages = 2 ** 17; pages >= 1; pages /= 2) {
    while ((yield* memory.allocate(pages)) !== null);
  }
  const failed = yield* refused(queue.info.memOps.alloc(owner, 2 * PAGE));
  expect(failed).toMatchObject({ code: 'ENOMEM', reason: 'no-page-left-for-a-plane' });
}

function* mapTooFar(rig: VideoRig, queue: Vb2Queue): Task {
  const memory = yield* queue.info.memOps.alloc(queue.planeOwner, 2 * PAGE);
  const wish = { size: 2 * PAGE, read: true, write: true, isShared: true, file: null };
  const far = rig.process.mm.map({ ...wish, pgoff: 1 }, (vma) => memory.mmap(vma));
  expect(yield* why(far)).toBe('ENXIO map-leaves-the-video-memory');
  yield* memory.put();
}

/** Whatever fails on the way, the program ends. */
function* exportAndImport(rig: VideoRig): Task {
  const camera = yield* rig.open('/dev/video0');
  const display = yield* rig.open('/dev/video1');
  try {
    yield* rig.reqbufs(camera, CAPTURE, MMAP, 2);
    const fd = yield* rig.expbuf(camera, CAPTURE, 0);
    yield* rig.expbuf(camera, CAPTURE, 1);
    yield* rig.reqbufs(display, OUTPUT, 4, 1);
    yield* rig.qbuf(display, OUTPUT, { index: 0, memory: 4, m: { fd } });
  } finally {
    yield* rig.end(camera, display);
  }
}
