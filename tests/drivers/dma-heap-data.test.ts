/**
 * Goal: a program and devices see each other's bytes in a heap's buffer, if the CPU's accesses are
 * in their bracket; and on a machine whose devices do not see the cache, not without.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DMA_BUF_SYNC, type DmaDirection } from '../../src/base/index.ts';
import type { Attachment, DmaBuf, SgTable, Vma } from '../../src/framework/index.ts';
import type { PciFunction, Task } from '../../src/machine/index.ts';
import { locked } from '../framework/kernel-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { CMA, FAR, HeapRig, NEAR, SYSTEM } from './dma-heap-rig.ts';

const { READ, WRITE, RW, END } = DMA_BUF_SYNC;
const KIB = 1024;
/** In the second chunk of a buffer of 68 KiB, across its edge. */
const PLACE = 64 * KIB - 2;

/** A buffer that a program has mapped, and one or more devices. */
class Scene {
  readonly rig: HeapRig;
  readonly buf: DmaBuf;
  readonly vma: Vma;
  readonly devices: { device: PciFunction; attachment: Attachment; table: SgTable }[] = [];

  constructor(rig: HeapRig, buf: DmaBuf, vma: Vma) {
    this.rig = rig;
    this.buf = buf;
    this.vma = vma;
  }

  /** Maps the buffer for a device. */
  *join(address: string, direction: DmaDirection = 'bidirectional'): Task {
    const device = this.rig.at(address);
    const attachment = yield* this.buf.attach(device);
    const table = yield* locked(this.buf.resv, attachment.mapAttachment(direction));
    this.devices.push({ device, attachment, table });
  }

  /** Unmaps it for all devices. */
  *leave(direction: DmaDirection = 'bidirectional'): Task {
    for (const { attachment, table } of this.devices.splice(0)) {
      yield* locked(this.buf.resv, attachment.unmapAttachment(table, direction));
      yield* this.buf.detach(attachment);
    }
  }

  *deviceWrites(bytes: readonly number[], offset = PLACE, which = 0): Task {
    const { device, table } = this.devices[which] ?? expect.fail('a device');
    yield* this.rig.deviceWrites(device, table, offset, bytes);
  }

  *deviceReads(length: number, offset = PLACE, which = 0): Task<number[]> {
    const { device, table } = this.devices[which] ?? expect.fail('a device');
    return yield* this.rig.deviceReads(device, table, offset, length);
  }

  *stores(bytes: readonly number[], offset = PLACE): Task {
    yield* this.rig.stores(this.vma, offset, bytes);
  }

  *loads(length: number, offset = PLACE): Task<number[]> {
    return yield* this.rig.loads(this.vma, offset, length);
  }

  *sync(flags: number): Task {
    yield* this.rig.sync(this.buf, flags);
  }

  /** How often a cache was cleaned or invalidated so far. */
  get maintenance(): number {
    return this.rig.kinds('cache.clean', 'cache.invalidate').length;
  }
}

interface Setting {
  readonly path: string;
  readonly coherentDma: boolean;
}

/** Plays a scene to its end, with one device unless told otherwise; then nothing may be left. */
function play(
  { path, coherentDma }: Setting,
  body: (scene: Scene) => Task,
  devices: readonly string[] = [NEAR],
  stale: readonly RegExp[] = [],
): void {
  const rig = new HeapRig(wideMachine({ coherentDma, iommu: 'translated' }));
  rig.do(
    (function* (): Task {
      const buf = yield* rig.alloc(path, 68 * KIB);
      const scene = new Scene(rig, buf, yield* rig.mmap(buf));
      for (const device of devices) yield* scene.join(device);
      yield* body(scene);
      yield* scene.leave();
      yield* rig.end();
    })(),
  );
  expect(rig.warnings).toEqual([]);
  expect(rig.stale).toEqual(stale.map((pattern) => expect.stringMatching(pattern)));
  expect(rig.machine.faults).toEqual([]);
  expect(rig.machine.memory.pagesInUse).toBe(0);
  expect(rig.area.value).toEqual([]);
}

const HEAPS = [SYSTEM, CMA];
const SETTINGS: readonly Setting[] = HEAPS.flatMap((path) =>
  [true, false].map((coherentDma) => ({ path, coherentDma })),
);

describe.each(SETTINGS)('A buffer of $path, coherent DMA $coherentDma', (setting) => {
  test('shows a device what the program wrote in its bracket, and back (AC-18)', () => {
    play(setting, function* (scene): Task {
      yield* scene.sync(WRITE);
      yield* scene.stores([1, 2, 3, 4]);
      yield* scene.sync(WRITE | END);
      expect(yield* scene.deviceReads(4)).toEqual([1, 2, 3, 4]);
      yield* scene.deviceWrites([5, 6, 7, 8]);
      yield* scene.sync(READ);
      expect(yield* scene.loads(4)).toEqual([5, 6, 7, 8]);
      yield* scene.sync(READ | END);
    });
  });

  test('shows all parties the same bytes, whoever writes and in which order (AC-18)', () => {
    const write = fc.record({
      who: fc.integer({ min: -1, max: 1 }),
      offset: fc.integer({ min: 0, max: 68 * KIB - 8 }),
      bytes: fc.array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 8 }),
    });
    fc.assert(
      fc.property(fc.array(write, { minLength: 1, maxLength: 8 }), (writes) => {
        const expected = new Uint8Array(68 * KIB);
        play(
          setting,
          function* (scene): Task {
            for (const { who, offset, bytes } of writes) {
              expected.set(bytes, offset);
              if (who >= 0) yield* scene.deviceWrites(bytes, offset, who);
              yield* scene.sync(RW);
              if (who < 0) yield* scene.stores(bytes, offset);
              const seen = [...expected.subarray(offset, offset + 8)];
              expect(yield* scene.loads(8, offset)).toEqual(seen);
              yield* scene.sync(RW | END);
              for (const device of [0, 1]) {
                expect(yield* scene.deviceReads(8, offset, device)).toEqual(seen);
              }
            }
            yield* scene.sync(READ);
            expect(yield* scene.loads(68 * KIB, 0)).toEqual([...expected]);
          },
          [NEAR, FAR],
        );
      }),
      { numRuns: 10 },
    );
  });

  test('shows the program after the unmap what the device wrote', () => {
    play(setting, function* (scene): Task {
      expect(yield* scene.loads(2)).toEqual([0, 0]);
      yield* scene.deviceWrites([5, 6]);
      yield* scene.leave();
      expect(yield* scene.loads(2)).toEqual([5, 6]);
    });
  });

  test('shows a device at its map what the program wrote before', () => {
    const body = function* (scene: Scene): Task {
      yield* scene.stores([1, 2]);
      yield* scene.join(NEAR);
      expect(yield* scene.deviceReads(2)).toEqual([1, 2]);
    };
    play(setting, body, []);
  });
});

describe.each(HEAPS)('Where devices do not see the cache, a buffer of %s', (path) => {
  const setting = { path, coherentDma: false };

  test('is stale for the program that forgets to begin (AC-18)', () => {
    play(
      setting,
      function* (scene): Task {
        expect(yield* scene.loads(2)).toEqual([0, 0]);
        yield* scene.deviceWrites([5, 6]);
        expect(yield* scene.loads(2)).toEqual([0, 0]);
        yield* scene.sync(READ);
        expect(yield* scene.loads(2)).toEqual([5, 6]);
        yield* scene.sync(READ | END);
      },
      [NEAR],
      [/^cpu reads stale bytes/],
    );
  });

  test('is stale for the device if the program forgets to end (AC-18)', () => {
    play(
      setting,
      function* (scene): Task {
        yield* scene.sync(WRITE);
        yield* scene.stores([1, 2]);
        expect(yield* scene.deviceReads(2)).toEqual([0, 0]);
        yield* scene.sync(WRITE | END);
        expect(yield* scene.deviceReads(2)).toEqual([1, 2]);
      },
      [NEAR],
      [/^0000:03:00.0 reads stale bytes/],
    );
  });

  test('is stale for the program that begins in the wrong direction (AC-18)', () => {
    play(
      setting,
      function* (scene): Task {
        expect(yield* scene.loads(2)).toEqual([0, 0]);
        yield* scene.deviceWrites([5, 6]);
        yield* scene.sync(WRITE);
        expect(yield* scene.loads(2)).toEqual([0, 0]);
        yield* scene.sync(WRITE | END);
        yield* scene.sync(READ);
        expect(yield* scene.loads(2)).toEqual([5, 6]);
        yield* scene.sync(READ | END);
      },
      [NEAR],
      [/^cpu reads stale bytes/],
    );
  });

  test('is lost where both write one line, the program outside its bracket (AC-18)', () => {
    play(setting, function* (scene): Task {
      yield* scene.stores([1]);
      yield* scene.deviceWrites([6], PLACE + 1);
      yield* scene.sync(READ);
      expect(yield* scene.loads(2)).toEqual([0, 6]);
      yield* scene.sync(READ | END);
    });
  });

  test('syncs only attachments that are mapped at that moment (E.3)', () => {
    play(setting, function* (scene): Task {
      yield* scene.leave();
      yield* scene.buf.detach(yield* scene.buf.attach(scene.rig.at(FAR)));
      const idle = yield* scene.buf.attach(scene.rig.at(FAR));
      const before = scene.maintenance;
      yield* scene.sync(RW);
      yield* scene.sync(RW | END);
      expect(scene.maintenance).toBe(before);
      yield* scene.join(NEAR);
      const mapped = scene.maintenance;
      yield* scene.sync(RW);
      yield* scene.sync(RW | END);
      const { entries } = scene.devices[0]?.table ?? expect.fail('a table');
      expect(scene.maintenance - mapped).toBeGreaterThanOrEqual(2 * entries.length);
      yield* scene.buf.detach(idle);
    });
  });
});

describe.each(HEAPS)('The bracket of a buffer of %s', (path) => {
  test('is not counted: END without START is fine (N6, E.3)', () => {
    play({ path, coherentDma: false }, function* (scene): Task {
      yield* scene.sync(RW | END);
      yield* scene.sync(RW | END);
      yield* scene.sync(RW);
      yield* scene.sync(RW);
    });
  });
});
