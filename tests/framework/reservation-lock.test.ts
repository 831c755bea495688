/**
 * Goal: who must hold the reservation and does not is reported; who must not and does waits for
 * ever, and the report names the lock and its holder. Method: each verb both ways; reference A.18.
 */

import { describe, expect, test } from 'vitest';
import { physAddr } from '../../src/base/index.ts';
import {
  type Attachment,
  DmaBuf,
  DmaFence,
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  type SgTable,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

interface World {
  readonly rig: KernelRig;
  readonly buf: DmaBuf<FakeExporter>;
  readonly attachment: Attachment;
}

function boot(): World {
  const rig = new KernelRig();
  const buf = rig.do(rig.export(new FakeExporter({ isDynamic: true })));
  const attachment = rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
  return { rig, buf, attachment };
}

function* mapOnly({ attachment }: World): Task {
  yield* attachment.mapAttachment('bidirectional');
}

function* unmapOnly({ buf, attachment }: World): Task {
  const table = yield* locked(buf.resv, attachment.mapAttachment('bidirectional'));
  yield* attachment.unmapAttachment(table, 'bidirectional');
}

function* addOnly({ rig, buf }: World): Task {
  yield* buf.resv.lock();
  yield* buf.resv.reserveFences(1);
  const fence = new DmaFence(rig.kernel, { driver: 'd', timeline: 't', context: 1, seqno: 1 });
  yield* buf.resv.lockCell.unlock();
  yield* buf.resv.addFence(fence, 'read');
}

function* reserveOnly({ buf }: World): Task {
  yield* buf.resv.reserveFences(1);
}

/** A table of the helper for device memory. */
function* mapPhysVec({ rig, attachment }: World): Task<SgTable> {
  const owner = rig.at('04:00.0');
  const provider = rig.kernel.p2pdmaOf(owner).provider(2) ?? expect.fail('a provider');
  const physVec = [{ paddr: physAddr(owner.barStart(2)), length: 4096 }];
  return yield* dmaBufPhysVecToSgt(attachment, provider, physVec, 'bidirectional');
}

function* freePhysVec(world: World): Task {
  const { buf, attachment } = world;
  const table = yield* locked(buf.resv, mapPhysVec(world));
  yield* dmaBufFreeSgt(attachment, table, 'bidirectional');
}

/** Each verb that needs the lock, and what the kernel calls it. */
const VERBS: readonly (readonly [string, string, (world: World) => Task<unknown>])[] = [
  ['mapping (LK-001)', 'dma_buf_map_attachment', mapOnly],
  ['unmapping (LK-001)', 'dma_buf_unmap_attachment', unmapOnly],
  ['pinning (LK-001)', 'dma_buf_pin', ({ attachment }) => attachment.pin()],
  ['unpinning (LK-001)', 'dma_buf_unpin', ({ attachment }) => attachment.unpin()],
  ['invalidating (LK-005)', 'dma_buf_invalidate_mappings', ({ buf }) => buf.invalidateMappings()],
  ['making room for fences', 'dma_resv_reserve_fences', reserveOnly],
  ['adding a fence (FN-001)', 'dma_resv_add_fence', addOnly],
  ['mapping device memory', 'dma_buf_phys_vec_to_sgt', mapPhysVec],
  ['taking that back', 'dma_buf_free_sgt', freePhysVec],
];

describe('Without the reservation', () => {
  test.each(VERBS)('%s is reported as %s', (_, call, verb) => {
    const world = boot();
    world.rig.do(verb(world));
    expect(world.rig.warnings).toEqual([`${call}: called without dma-buf 1 resv`]);
  });

  test.each(VERBS)('%s is reported though another actor holds it', (_, call, verb) => {
    const world = boot();
    const { rig, buf } = world;
    function* hold(): Task {
      yield* buf.resv.lock();
      yield* rig.scheduler.sleep(1000);
      yield* buf.resv.unlock();
    }
    rig.kthread(hold(), 'holder');
    rig.kthread(verb(world), 'verb');
    rig.run();
    expect(rig.warnings).toEqual([`${call}: called without dma-buf 1 resv`]);
  });

  test.each(['map', 'pin'] as const)('with it, %s is not reported', (verb) => {
    const { rig, buf, attachment } = boot();
    const task = verb === 'map' ? attachment.mapAttachment('to-device') : attachment.pin();
    rig.do(locked<unknown>(buf.resv, task));
    expect(rig.warnings).toEqual([]);
  });
});

describe('With the reservation held', () => {
  const DEADLOCK =
    'kthread waits for ever to lock dma-buf 1 resv (because of: kthread) holding dma-buf 1 resv';

  test.each([
    ['dynamicAttach', ({ buf, rig }: World) => buf.dynamicAttach(rig.at('04:00.0'), PEER_OPS)],
    ['attach', ({ buf, rig }: World) => buf.attach(rig.at('04:00.0'))],
    ['detach', ({ buf, attachment }: World) => buf.detach(attachment)],
  ] as const)('%s waits for ever for its own lock (LK-002)', (_, verb) => {
    const world = boot();
    world.rig.kthread(locked<unknown>(world.buf.resv, verb(world)));
    const outcome = world.rig.run();
    expect(outcome.status).toBe('deadlock');
    expect(outcome.findings).toMatchObject([{ kind: 'deadlock', title: DEADLOCK }]);
  });

  test('an importer that locks in its invalidate callback waits for ever (LK-004)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const ops = {
      allowPeer2Peer: true,
      *invalidateMappings(attachment: Attachment): Task {
        yield* attachment.buf.resv.lock();
      },
    };
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
    rig.kthread(locked(buf.resv, buf.invalidateMappings()));
    expect(rig.run().findings).toMatchObject([{ kind: 'deadlock', title: DEADLOCK }]);
  });

  test('an exporter that locks in its map callback waits for ever (LK-003)', () => {
    const rig = new KernelRig();
    const exporter = new FakeExporter();
    const ops = {
      ...exporter.ops,
      *mapDmaBuf({ buf }: Attachment<FakeExporter>): Task<SgTable> {
        yield* buf.resv.lock();
        return { entries: [] };
      },
    };
    const info = { exporterName: 'fake', ops, size: 4096, priv: exporter };
    const buf = rig.do(DmaBuf.export(rig.kernel, info));
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    rig.kthread(locked(buf.resv, attachment.mapAttachment('to-device')));
    expect(rig.run().findings).toMatchObject([{ kind: 'deadlock', title: DEADLOCK }]);
  });

  test('the last put is no trouble: the release comes later', () => {
    const { rig, buf, attachment } = boot();
    rig.do(buf.detach(attachment));
    rig.kthread(locked(buf.resv, buf.put()));
    expect(rig.run().findings).toEqual([]);
    expect(buf.priv.calls.at(-1)).toBe('release');
  });
});
