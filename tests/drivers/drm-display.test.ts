/** A picture drawn by a program in one device's buffer and read by another device. */

import { describe, expect, test } from 'vitest';
import { dmaAddr, type DmaAddr, type DmaBufError, PAGE_SIZE } from '../../src/base/index.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import { drmGemPrimeDmabufOps } from '../../src/drivers/drm/prime-export.ts';
import {
  declareCoherentMemory,
  DmaFence,
  reserveMemory,
  type SgTable,
} from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { DrmRig } from './drm-rig.ts';

const CARD = '/dev/dri/card0';
const OTHER_CARD = '/dev/dri/card1';
/** Two pages. */
const SIZE = { width: 1024, height: 2 };

const MACHINES: readonly (readonly [string, MachineSpec])[] = [
  ['without an IOMMU', wideMachine()],
  ['behind an IOMMU', wideMachine({ iommu: 'translated' })],
  ['whose caches devices do not see', wideMachine({ coherentDma: false })],
  ['with both', wideMachine({ iommu: 'translated', coherentDma: false })],
];

/** Code and reason of a refusal. */
function why({ code, reason }: DmaBufError): readonly string[] {
  return [code, reason];
}

/** vgem and a display. */
class DisplayRig extends DrmRig {
  readonly display: Display;

  constructor(spec?: MachineSpec) {
    super(spec);
    this.display = new Display(this.kernel, this.at('03:00.0'));
  }

  /** vgem's file, and a descriptor of a buffer of two pages into which `bytes` were drawn. */
  *draw(bytes: readonly number[]): Task<{ file: DrmFile; handle: number; fd: number }> {
    const { app } = this;
    const file = yield* app.open(CARD);
    const { handle } = yield* app.createDumb(file, SIZE);
    const offset = yield* app.mapDumb(file, handle);
    const map = yield* app.mmap(file, { offset, size: 2 * PAGE_SIZE });
    yield* app.poke(map, PAGE_SIZE - 1, bytes);
    yield* app.munmap(map);
    return { file, handle, fd: yield* app.toFd(file, handle) };
  }

  /** Makes the next pages lie apart. */
  *scatter(): Task {
    const { memory } = this.machine;
    const [one, two, three] = [
      yield* memory.allocate(1),
      yield* memory.allocate(1),
      yield* memory.allocate(1),
    ];
    if (one !== null) yield* memory.free(one, 1);
    if (three !== null) yield* memory.free(three, 1);
    expect(two).not.toBeNull();
  }
}

describe('A picture drawn in a vgem buffer', () => {
  test.each(MACHINES)('is what the display reads on a machine %s (E.5)', (_, spec) => {
    const rig = new DisplayRig(spec);
    const { app, display } = rig;
    rig.do(
      (function* () {
        const { fd } = yield* rig.draw([1, 2, 3]);
        const other = yield* app.open(OTHER_CARD);
        yield* display.show(other, yield* app.toHandle(other, fd));
        const { bytes, ok } = yield* display.scanOut();
        expect(ok).toBe(true);
        expect(bytes).toHaveLength(2 * PAGE_SIZE);
        expect([...bytes.slice(PAGE_SIZE - 2, PAGE_SIZE + 3)]).toEqual([0, 1, 2, 3, 0]);
      })(),
    );
    expect(rig.machine.faults).toEqual([]);
    expect(rig.warnings).toEqual([]);
  });

  test('changes on the display when the program draws on', () => {
    const rig = new DisplayRig(wideMachine({ iommu: 'translated', coherentDma: false }));
    const { app, display } = rig;
    rig.do(
      (function* () {
        const { file, handle, fd } = yield* rig.draw([1]);
        const other = yield* app.open(OTHER_CARD);
        yield* display.show(other, yield* app.toHandle(other, fd));
        yield* display.scanOut();
        const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
        yield* app.poke(map, 0, [8]);
        expect((yield* display.scanOut()).bytes[0]).toBe(8);
      })(),
    );
  });

  test('in pages that lie apart is refused with EINVAL without an IOMMU (E.5)', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        yield* app.scratch();
        yield* rig.scatter();
        const { fd } = yield* rig.draw([1]);
        const other = yield* app.open(OTHER_CARD);
        const refusal = yield* refused(app.toHandle(other, fd));
        expect(why(refusal)).toEqual(['EINVAL', 'import-is-not-contiguous']);
        expect(refusal.detail).toMatchObject({ size: 2 * PAGE_SIZE, contiguous: PAGE_SIZE });
        expect(app.bufOf(fd).attachments.value).toEqual([]);
        expect(other.objects.value.size).toBe(0);
      })(),
    );
  });

  test('in pages that lie apart is one piece behind an IOMMU (E.5)', () => {
    const rig = new DisplayRig(wideMachine({ iommu: 'translated' }));
    const { app, display } = rig;
    rig.do(
      (function* () {
        yield* app.scratch();
        yield* rig.scatter();
        const { fd } = yield* rig.draw([1, 2]);
        const other = yield* app.open(OTHER_CARD);
        yield* display.show(other, yield* app.toHandle(other, fd));
        const { bytes } = yield* display.scanOut();
        expect([...bytes.slice(PAGE_SIZE - 1, PAGE_SIZE + 1)]).toEqual([1, 2]);
      })(),
    );
  });

  test('is not read before the fence of who draws is signaled', () => {
    const rig = new DisplayRig();
    const { app, display } = rig;
    const fence = new DmaFence(rig.kernel, {
      driver: 'test',
      timeline: 'painter',
      context: 1,
      seqno: 1,
    });
    rig.kthread(
      (function* (): Task {
        const { file, handle, fd } = yield* rig.draw([1]);
        const { resv } = app.bufOf(fd);
        yield* resv.lock();
        yield* resv.reserveFences(1);
        yield* resv.addFence(fence, 'write');
        yield* resv.unlock();
        const other = yield* app.open(OTHER_CARD);
        yield* display.show(other, yield* app.toHandle(other, fd));
        rig.kthread(paint(file, handle), 'painter');
        expect((yield* display.scanOut()).bytes[0]).toBe(6);
      })(),
    );
    function* paint(file: DrmFile, handle: number): Task {
      yield* rig.scheduler.sleep(1000);
      const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
      yield* app.poke(map, 0, [6]);
      yield* fence.signal();
    }
    expect(rig.run().status).toBe('done');
    expect(rig.scheduler.findings.filter(({ kind }) => kind !== 'leak')).toEqual([]);
  });
});

describe('A display', () => {
  test.each(MACHINES)('shows a dumb buffer of its own on a machine %s', (_, spec) => {
    const rig = new DisplayRig(spec);
    const { app, display } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        const { handle } = yield* app.createDumb(file, SIZE);
        const offset = yield* app.mapDumb(file, handle);
        const map = yield* app.mmap(file, { offset, size: 2 * PAGE_SIZE });
        yield* app.poke(map, PAGE_SIZE, [5]);
        yield* display.show(file, handle);
        expect((yield* display.scanOut()).bytes[PAGE_SIZE]).toBe(5);
      })(),
    );
  });

  test('shows nothing at first, and nothing any more when the file is closed', () => {
    const rig = new DisplayRig();
    const { app, display } = rig;
    rig.do(
      (function* () {
        expect(why(yield* refused(display.scanOut()))).toEqual(['ENODEV', 'nothing-is-shown']);
        const file = yield* app.open(OTHER_CARD);
        const { handle } = yield* app.createDumb(file);
        expect((yield* refused(display.show(file, 9))).code).toBe('ENOENT');
        yield* display.show(file, handle);
        yield* app.gemClose(file, handle);
        expect((yield* display.scanOut()).ok).toBe(true);
        yield* app.close(file);
      })(),
    );
    expect(rig.do(refused(display.scanOut())).reason).toBe('nothing-is-shown');
    expect(rig.machine.memory.pagesInUse).toBe(1);
  });

  test('keeps a picture when another file is closed', () => {
    const rig = new DisplayRig();
    const { app, display } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        const { handle } = yield* app.createDumb(file);
        yield* display.show(file, handle);
        const other = yield* app.open(OTHER_CARD);
        yield* app.close(other);
      })(),
    );
    expect(rig.do(display.scanOut()).ok).toBe(true);
  });

  test('has no memory for a second buffer: ENOMEM, and nothing is left', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        yield* app.scratch();
        rig.failNth(1);
        const object = yield* refused(app.createDumb(file));
        expect(why(object)).toEqual(['ENOMEM', 'no-memory-for-dma-object']);
        rig.failNth(2);
        expect((yield* refused(app.createDumb(file))).code).toBe('ENOMEM');
        rig.failNth(3);
        const handle = yield* refused(app.createDumb(file));
        expect(why(handle)).toEqual(['ENOMEM', 'no-memory-for-gem-handle']);
        expect(file.objects.value.size).toBe(0);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(1);
  });

  test('lends pages of its buffers to others, and takes their pins', () => {
    const rig = new DisplayRig(wideMachine({ coherentDma: false }));
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(OTHER_CARD);
        const { handle } = yield* app.createDumb(file);
        const map = yield* app.mmap(file, { offset: yield* app.mapDumb(file, handle) });
        yield* app.poke(map, 2, [7]);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        const attachment = yield* buf.attach(rig.at('04:00.0'));
        const table = yield* locked(buf.resv, attachment.mapAttachment('to-device'));
        const { bytes } = yield* rig.machine.dma.read(rig.at('04:00.0'), firstOf(table), 3);
        expect([...bytes]).toEqual([0, 0, 7]);
        yield* locked(buf.resv, attachment.unmapAttachment(table, 'to-device'));
        yield* buf.detach(attachment);
      })(),
    );
    expect(rig.warnings).toEqual([]);
  });

  test('with memory of its own without pages cannot lend it: ENXIO at map (I.4)', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const fn = rig.at('03:00.0');
        const range = yield* reserveMemory(rig.machine, 16 * PAGE_SIZE);
        declareCoherentMemory(rig.machine, fn, range, dmaAddr(range.phys));
        const file = yield* app.open(OTHER_CARD);
        const { handle } = yield* app.createDumb(file);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        const attachment = yield* buf.attach(rig.at('04:00.0'));
        const refusal = yield* refused(locked(buf.resv, attachment.mapAttachment('to-device')));
        expect(refusal.code).toBe('ENXIO');
        // The kernel itself can use it.
        const map = yield* buf.vmapUnlocked();
        yield* map.store(0, Uint8Array.of(1));
        yield* buf.vunmapUnlocked(map);
        yield* buf.detach(attachment);
      })(),
    );
  });
});

describe('The generic exporter', () => {
  test('pins at attach and unpins at detach, and its pages stay meanwhile (E.5)', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file, SIZE);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        const before = rig.machine.memory.pagesInUse;
        const one = yield* buf.attach(rig.at('03:00.0'));
        const other = yield* buf.attach(rig.at('04:00.0'));
        expect(rig.machine.memory.pagesInUse).toBe(before + 2);
        yield* buf.detach(one);
        const table = yield* locked(buf.resv, other.mapAttachment('bidirectional'));
        yield* locked(buf.resv, other.unmapAttachment(table, 'bidirectional'));
        yield* buf.detach(other);
        yield* app.gemClose(file, handle);
      })(),
    );
    expect(rig.warnings).toEqual([]);
  });

  test('has neither pin nor CPU access: a static exporter that syncs nothing (E.5)', () => {
    expect(drmGemPrimeDmabufOps.pin).toBeUndefined();
    expect(drmGemPrimeDmabufOps.unpin).toBeUndefined();
    expect(drmGemPrimeDmabufOps.beginCpuAccess).toBeUndefined();
    expect(drmGemPrimeDmabufOps.endCpuAccess).toBeUndefined();
  });

  test('fails to attach with ENOMEM when there are no pages to pin', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file, SIZE);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        rig.failNth(2);
        expect((yield* refused(buf.attach(rig.at('03:00.0')))).code).toBe('ENOMEM');
        expect(buf.resv.lockCell.value.owner).toBeNull();
      })(),
    );
  });

  test('refuses to attach with ENOSYS if the driver has no table, to map as well (E.5)', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file, SIZE);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        const before = yield* buf.attach(rig.at('04:00.0'));
        Object.assign(file.objects.value.get(handle) ?? {}, { getSgTable: undefined });
        const refusal = yield* refused(buf.attach(rig.at('03:00.0')));
        expect(why(refusal)).toEqual(['ENOSYS', 'object-has-no-sg-table']);
        const map = yield* refused(locked(buf.resv, before.mapAttachment('to-device')));
        expect(why(map)).toEqual(['ENOSYS', 'object-lost-its-sg-table']);
        yield* buf.detach(before);
      })(),
    );
    expect(rig.warnings).toEqual(['drm_gem_map_dma_buf: the object has no table']);
  });

  test.each(MACHINES)('maps into the kernel, past the cache, on a machine %s (E.5)', (_, spec) => {
    const rig = new DisplayRig(spec);
    const { app, display } = rig;
    rig.do(
      (function* () {
        for (const card of [CARD, OTHER_CARD]) {
          const file = yield* app.open(card);
          const { handle } = yield* app.createDumb(file);
          const fd = yield* app.toFd(file, handle);
          const buf = app.bufOf(fd);
          const map = yield* buf.vmapUnlocked();
          yield* map.store(4, Uint8Array.of(3));
          const other = yield* app.open(OTHER_CARD);
          yield* display.show(other, yield* app.toHandle(other, fd));
          expect((yield* display.scanOut()).bytes[4]).toBe(3);
          yield* buf.vunmapUnlocked(map);
        }
      })(),
    );
    expect(rig.warnings).toEqual([]);
  });

  test('says EOPNOTSUPP to vmap if the object has none', () => {
    const rig = new DisplayRig();
    const { app } = rig;
    rig.do(
      (function* () {
        const file = yield* app.open(CARD);
        const { handle } = yield* app.createDumb(file, SIZE);
        const buf = app.bufOf(yield* app.toFd(file, handle));
        Object.assign(file.objects.value.get(handle) ?? {}, { vmap: undefined });
        const refusal = yield* refused(buf.vmapUnlocked());
        expect(why(refusal)).toEqual(['EOPNOTSUPP', 'object-has-no-vmap']);
      })(),
    );
  });
});

function firstOf({ entries }: SgTable): DmaAddr {
  return entries[0]?.address ?? expect.fail('the table is empty');
}
