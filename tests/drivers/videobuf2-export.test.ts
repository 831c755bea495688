import { describe, expect, test } from 'vitest';
import { O } from '../../src/base/index.ts';
import {
  testPattern,
  VB2_DMA_CONTIG_ADDRESSES,
  VB2_DMA_SG,
  VB2_VMALLOC,
} from '../../src/drivers/index.ts';
import {
  type Attachment,
  declareCoherentMemory,
  type DmaBuf,
  reserveMemory,
  type SgTable,
} from '../../src/framework/index.ts';
import type { DmaDirection } from '../../src/base/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { CAPTURE, DMABUF, IMAGE, MMAP, OUTPUT, PAGE, VideoRig } from './videobuf2-rig.ts';

const ALLOCATORS = [
  ['dma-contig', {}, 'videobuf2_dma_contig'],
  ['dma-sg', { memOps: VB2_DMA_SG }, 'videobuf2_dma_sg'],
  ['vmalloc', { memOps: VB2_VMALLOC }, 'videobuf2_vmalloc'],
] as const;

function* why(call: Task<unknown>): Task<string> {
  const { code, reason } = yield* refused(call);
  return `${code} ${reason}`;
}

function* map(attachment: Attachment, direction: DmaDirection): Task<SgTable> {
  return yield* locked(attachment.buf.resv, attachment.mapAttachment(direction));
}

function* unmap(attachment: Attachment, table: SgTable, direction: DmaDirection): Task {
  yield* locked(attachment.buf.resv, attachment.unmapAttachment(table, direction));
}

describe.each(ALLOCATORS)('A buffer exported from a %s queue', (_name, queue, exporterName) => {
  test('is another dma-buf each time, of the same memory (N28, E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, queue);
    rig.do(exportTwice(rig, exporterName));
    rig.expectNothingLeft();
  });

  test('keeps one mapping for each attachment, of one direction at a time (E.9)', () => {
    const rig = new VideoRig(wideMachine({ iommu: 'translated' }));
    rig.camera({}, queue);
    const domain = rig.at('0a:00.0').domain.value;
    rig.do(mapCached(rig));
    expect(domain?.value).toEqual([]);
    rig.expectNothingLeft();
  });

  test('answers EIO when it cannot be mapped (E.9)', () => {
    const rig = new VideoRig(wideMachine({ iommu: 'translated' }));
    rig.camera({}, queue);
    rig.do(mapWithoutAddresses(rig));
    rig.expectNothingLeft();
  });

  test('outlives its buffer, orphaned (E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, queue);
    rig.do(orphan(rig));
    rig.expectNothingLeft();
  });

  test('can be mapped by programs and by the kernel, and bracketed (E.9)', () => {
    const rig = new VideoRig(wideMachine({ coherentDma: false }));
    rig.camera({}, queue);
    rig.do(touch(rig));
    rig.expectNothingLeft();
  });
});

describe('EXPBUF', () => {
  test('refuses in the kernel’s order (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(refuseExports(rig));
    rig.expectNothingLeft();
  });

  test('refuses an allocator that does not export (E.9)', () => {
    const rig = new VideoRig();
    rig.camera({}, { canExport: false });
    rig.do(refuseWithoutExporter(rig));
  });

  test('leaves nothing behind when the table of descriptors is full (E.9)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(exportWithoutDescriptor(rig));
    rig.expectNothingLeft();
  });

  test('refuses memory without pages at once, with a warning (E.9, I.4, S002-21)', () => {
    const rig = new VideoRig();
    rig.camera();
    rig.do(exportPoolMemory(rig));
    expect(rig.warnings).toEqual(['vb2_dc_get_dmabuf: there is no table of pages for the memory']);
  });

  test('of device addresses works without pages, and touches no cache (S002-11, S002-18)', () => {
    const rig = new VideoRig(wideMachine({ iommu: 'translated', coherentDma: false }));
    rig.camera({}, { memOps: VB2_DMA_CONTIG_ADDRESSES });
    rig.do(exportAddresses(rig));
  });
});

describe('The turns of a dma-sg queue', () => {
  test('are synced: the program sees what the device wrote, on a machine without coherence', () => {
    const rig = new VideoRig(wideMachine({ coherentDma: false }));
    rig.camera({}, { memOps: VB2_DMA_SG });
    rig.do(syncTurns(rig));
    expect(rig.events('cache.invalidate').length).toBeGreaterThan(0);
  });
});

function* exportTwice(rig: VideoRig, exporterName: string): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const one = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  const other = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  expect(one.number).not.toBe(other.number);
  expect(one).toMatchObject({ size: 2 * PAGE, exporterName });
  yield* rig.qbuf(file, CAPTURE, { index: 0 });
  yield* rig.streamon(file, CAPTURE);
  yield* rig.dqbuf(file, CAPTURE);
  for (const buf of [one, other]) {
    expect(yield* kernelBytes(buf)).toEqual(testPattern(0, IMAGE));
  }
  yield* rig.end(file);
}

function* kernelBytes(buf: DmaBuf): Task<Uint8Array> {
  const view = yield* locked(buf.resv, buf.vmap());
  const bytes = yield* view.load(0, IMAGE);
  yield* locked(buf.resv, buf.vunmap(view));
  return bytes;
}

function* mapCached(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const buf = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  const { domain } = rig.at('0a:00.0');
  const attachment = yield* buf.attach(rig.at('0a:00.0'));
  const first = yield* map(attachment, 'to-device');
  yield* unmap(attachment, first, 'to-device');
  expect(domain.value?.value).not.toEqual([]);
  expect(yield* map(attachment, 'to-device')).toBe(first);
  const second = yield* map(attachment, 'from-device');
  expect(second).not.toBe(first);
  expect(domain.value?.value.every(({ writable }) => writable)).toBe(true);
  const other = yield* buf.attach(rig.at('09:00.0'));
  expect(yield* map(other, 'from-device')).not.toBe(second);
  yield* buf.detach(attachment);
  yield* buf.detach(other);
  yield* rig.end(file);
}

function* mapWithoutAddresses(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const buf = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  const fn = rig.at('0a:00.0');
  useUpAddresses(fn);
  const attachment = yield* buf.attach(fn);
  const failed = yield* why(map(attachment, 'to-device'));
  expect(failed).toBe('EIO video-memory-cannot-be-mapped');
  yield* buf.detach(attachment);
  yield* rig.end(file);
}

function* orphan(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const fd = yield* rig.expbuf(file, CAPTURE, 0);
  const held = rig.machine.memory.pagesInUse;
  yield* rig.reqbufs(file, CAPTURE, MMAP, 0);
  expect(rig.machine.memory.pagesInUse).toBe(held);
  yield* file.put();
  const buf = yield* rig.bufferOf(fd);
  const attachment = yield* buf.attach(rig.at('0a:00.0'));
  const { entries } = yield* map(attachment, 'to-device');
  const [entry] = entries;
  const { ok } = yield* rig.machine.dma.read(
    rig.at('0a:00.0'),
    entry?.address ?? expect.fail('no entry'),
    16,
  );
  expect(ok).toBe(true);
  yield* buf.detach(attachment);
  yield* rig.process.exit();
}

function* touch(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const buf = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  const view = yield* rig.mmap(buf.file, 0, { size: PAGE });
  yield* buf.beginCpuAccess('to-device');
  yield* rig.process.mm.store(view.start, Uint8Array.of(9));
  yield* buf.endCpuAccess('to-device');
  const map = yield* locked(buf.resv, buf.vmap());
  expect([...(yield* map.load(0, 1))]).toEqual([9]);
  yield* map.store(1, Uint8Array.of(8));
  yield* locked(buf.resv, buf.vunmap(map));
  expect([...(yield* rig.process.mm.load(view.start, 2))]).toEqual([9, 8]);
  yield* rig.end(file);
}

function* refuseExports(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  const other = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, DMABUF, 1);
  expect(yield* why(rig.expbuf(file, CAPTURE, 1))).toBe('EINVAL no-such-buffer');
  expect(yield* why(rig.expbuf(file, OUTPUT, 0, { flags: 0x800 }))).toBe(
    'EINVAL memory-is-not-ours',
  );
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const expected = [
    [rig.expbuf(file, OUTPUT, 0, { flags: O.NONBLOCK, plane: 5 }), 'EINVAL export-flags-unknown'],
    [rig.expbuf(file, OUTPUT, 0, { plane: 5 }), 'EINVAL export-of-another-type'],
    [rig.expbuf(file, CAPTURE, 0, { plane: 1 }), 'EINVAL no-such-plane'],
    [rig.expbuf(other, CAPTURE, 0), 'EBUSY queue-is-of-another-file'],
  ] as const;
  for (const [call, reason] of expected) expect(yield* why(call)).toBe(reason);
  const readOnly = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0, { flags: O.RDONLY }));
  expect(readOnly.file.mode).toMatchObject({ read: true, write: false });
  yield* rig.end(file, other);
}

function* refuseWithoutExporter(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  expect(yield* why(rig.expbuf(file, CAPTURE, 0))).toBe('EINVAL allocator-does-not-export');
}

function* exportWithoutDescriptor(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const fd = yield* rig.expbuf(file, CAPTURE, 0);
  for (;;) {
    try {
      yield* rig.process.dup(fd);
    } catch {
      break;
    }
  }
  expect((yield* refused(rig.expbuf(file, CAPTURE, 0))).code).toBe('EMFILE');
  yield* rig.end(file);
}

function* declarePool(rig: VideoRig, at: string): Task {
  const fn = rig.at(at);
  const range = yield* reserveMemory(rig.machine, 16 * PAGE);
  const domain = fn.domain.value;
  const rights = { readable: true, writable: true };
  const address = domain === null ? null : yield* domain.mapAnywhere([range], rights);
  declareCoherentMemory(rig.machine, fn, range, address ?? (range.phys as never));
}

function* exportPoolMemory(rig: VideoRig): Task {
  yield* declarePool(rig, '03:00.0');
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const failed = yield* refused(rig.expbuf(file, CAPTURE, 0));
  expect(failed).toMatchObject({ code: 'EINVAL', reason: 'memory-cannot-be-exported' });
  expect(failed.detail).toEqual({ code: 'ENXIO', reason: 'coherent-memory-without-pages' });
  yield* rig.end(file);
}

function* exportAddresses(rig: VideoRig): Task {
  yield* declarePool(rig, '03:00.0');
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const buf = yield* rig.bufferOf(yield* rig.expbuf(file, CAPTURE, 0));
  const fn = rig.at('0a:00.0');
  const attachment = yield* buf.attach(fn);
  const { entries } = yield* map(attachment, 'to-device');
  expect(entries).toHaveLength(1);
  expect(fn.domain.value?.value).toHaveLength(1);
  yield* buf.detach(attachment);
  expect(fn.domain.value?.value).toEqual([]);
  expect(rig.events('cache.clean', 'cache.invalidate')).toEqual([]);
  yield* rig.end(file);
}

function* syncTurns(rig: VideoRig): Task {
  const file = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(file, CAPTURE, MMAP, 1);
  const view = yield* rig.mmap(file, 0);
  yield* rig.streamon(file, CAPTURE);
  for (const frame of [0, 1, 2]) {
    yield* rig.qbuf(file, CAPTURE, { index: 0 });
    yield* rig.dqbuf(file, CAPTURE);
    expect(yield* rig.process.mm.load(view.start, IMAGE)).toEqual(testPattern(frame, IMAGE));
  }
  yield* rig.end(file);
}
