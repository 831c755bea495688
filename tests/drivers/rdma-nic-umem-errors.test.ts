/**
 * Goal: the ways to get user memory fail as Linux's do and leave nothing. Method: each of three,
 * with an exporter that refuses, and with a card that is only software.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError } from '../../src/base/index.ts';
import { UmemDmabuf, type UmemWindow } from '../../src/drivers/rdma-nic/umem-dmabuf.ts';
import type { DmaBuf } from '../../src/framework/index.ts';
import type { Device, Task } from '../../src/machine/index.ts';
import {
  type ExporterOptions,
  FakeExporter,
  KernelRig,
  locked,
  PEER_OPS,
} from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';

type Getter = (device: Device | null, window: UmemWindow) => Task<UmemDmabuf<number>>;

/** Every way to an attachment. */
const GETTERS: readonly (readonly [string, Getter])[] = [
  ['get', (device, window) => UmemDmabuf.get(device, window, PEER_OPS, 0)],
  ['getPinned', (device, window) => UmemDmabuf.getPinned(device, window, 0)],
  [
    'getPinnedRevocableAndLock',
    (device, window) => UmemDmabuf.getPinnedRevocableAndLock(device, window, 0),
  ],
];
const PINNED = GETTERS.slice(1);

interface Scene {
  readonly rig: KernelRig;
  readonly exporter: FakeExporter;
  readonly buf: DmaBuf<FakeExporter>;
  readonly window: UmemWindow;
}

function scene(options: ExporterOptions = {}): Scene {
  const rig = new KernelRig();
  const exporter = new FakeExporter({ isDynamic: true, ...options });
  const buf = rig.do(rig.export(exporter));
  const fd = rig.do(buf.fd(rig.process));
  return { rig, exporter, buf, window: { process: rig.process, fd, offset: 0, size: 4096 } };
}

function expectUntouched({ exporter, buf }: Scene): void {
  expect(buf.file.refs.value).toBe(1);
  expect(buf.attachments.value).toEqual([]);
  expect([exporter.pins, exporter.tables]).toEqual([0, []]);
  expect(buf.resv.lockCell.value.owner).toBeNull();
}

describe('A card that is only software', () => {
  test.each(GETTERS)('is refused by %s as the core does it (S000-2, S000-3, F.1)', (_, getter) => {
    const all = scene();
    const error = all.rig.do(refused(getter(null, all.window)));
    expect([error.code, error.reason]).toEqual(['EINVAL', 'no-dma-device']);
    expect(error.detail.class).toBe('importer-bug');
    expectUntouched(all);
    expect(all.exporter.calls).toEqual([]);
  });
});

describe('An exporter that refuses', () => {
  const refusal = (code: 'EBUSY' | 'ENOMEM'): DmaBufError =>
    new DmaBufError(code, 'fake', 'fake-exporter-refuses');

  test.each(GETTERS)('to attach is passed on by %s, and is no bug (S000-15, F.1)', (_, getter) => {
    const all = scene({
      *onAttach() {
        throw refusal('EBUSY');
      },
    });
    const error = all.rig.do(refused(getter(all.rig.at('03:00.0'), all.window)));
    expect([error.code, error.detail.class]).toEqual(['EBUSY', undefined]);
    expectUntouched(all);
    expect(all.rig.warnings).toEqual([]);
  });

  test.each(PINNED)('to pin is passed on by %s, and it is detached (F.1)', (_, getter) => {
    const all = scene({ pinError: refusal('ENOMEM') });
    const error = all.rig.do(refused(getter(all.rig.at('03:00.0'), all.window)));
    expect(error.code).toBe('ENOMEM');
    expectUntouched(all);
    expect(all.exporter.calls.at(-1)).toBe('detach 0000:03:00.0');
  });

  test.each(PINNED)('to map is passed on by %s, and it is unpinned (F.1)', (_, getter) => {
    const all = scene({ mapError: refusal('ENOMEM') });
    const error = all.rig.do(refused(getter(all.rig.at('03:00.0'), all.window)));
    expect(error.code).toBe('ENOMEM');
    expectUntouched(all);
    expect(all.exporter.calls.slice(-2)).toEqual(['unpin locked', 'detach 0000:03:00.0']);
  });
});

describe('User memory', () => {
  function* twice({ rig, window, exporter }: Scene): Task<readonly number[]> {
    const umem = yield* UmemDmabuf.get(rig.at('03:00.0'), window, PEER_OPS, 0);
    const counts: number[] = [];
    const note = (): void => void counts.push(exporter.tables.length);
    yield* locked(umem.resv, umem.unmapPages());
    for (const step of ['map', 'map', 'unmap', 'unmap', 'map'] as const) {
      yield* locked<unknown>(umem.resv, step === 'map' ? umem.mapPages() : umem.unmapPages());
      note();
    }
    yield* umem.release();
    note();
    return counts;
  }

  test('is mapped once and unmapped once, however often that is asked (F.1)', () => {
    const all = scene();
    expect(all.rig.do(twice(all))).toEqual([1, 1, 0, 0, 1, 0]);
    expectUntouched(all);
  });
});
