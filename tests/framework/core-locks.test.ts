/**
 * Goal: every verb and every callback of the core has the lock context that the convention gives
 * it, and locks are taken in one order everywhere. Method: drivers that break each rule; the order
 * of locks over the traces of all stories; reference A.18.
 */

import { describe, expect, test } from 'vitest';
import type { TraceEvent } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  type Attachment,
  bufinfo,
  DmaBuf,
  type DmaBufOps,
  IosysMap,
  type SgTable,
} from '../../src/framework/index.ts';
import { Mutex, MachinePlan, PRESETS, Scheduler, type Task } from '../../src/machine/index.ts';
import { Production, SCENARIOS } from '../../src/scenarios/index.ts';
import { LockGraph } from './core-lock-graph.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

type Ops = DmaBufOps<FakeExporter>;
type Buffer = DmaBuf<FakeExporter>;

interface World {
  readonly rig: KernelRig;
  readonly buf: Buffer;
  readonly attachment: Attachment;
}

/** Callbacks with a body before them: what a driver does there that it must not. */
function withBody(
  exporter: FakeExporter,
  body: (buf: Buffer) => Task,
): Record<string, Partial<Ops>> {
  const { ops } = exporter;
  return {
    pin: {
      *pin(attachment): Task {
        yield* body(attachment.buf);
      },
    },
    unpin: {
      *unpin(attachment): Task {
        yield* body(attachment.buf);
      },
    },
    map_dma_buf: {
      *mapDmaBuf(attachment, direction): Task<SgTable> {
        yield* body(attachment.buf);
        return yield* ops.mapDmaBuf(attachment, direction);
      },
    },
    unmap_dma_buf: {
      *unmapDmaBuf(attachment): Task {
        yield* body(attachment.buf);
      },
    },
    vmap: {
      *vmap(buf): Task<IosysMap> {
        yield* body(buf);
        return new IosysMap(buf.kernel.machine, [], false);
      },
    },
    vunmap: {
      *vunmap(buf): Task {
        yield* body(buf);
      },
    },
    attach: {
      *attach(buf): Task {
        yield* body(buf);
      },
    },
    detach: {
      *detach(buf): Task {
        yield* body(buf);
      },
    },
    begin_cpu_access: {
      *beginCpuAccess(buf): Task {
        yield* body(buf);
      },
    },
    end_cpu_access: {
      *endCpuAccess(buf): Task {
        yield* body(buf);
      },
    },
  };
}

/** Everything that an importer may ask, as it must ask it. */
function* everything({ rig, buf }: Omit<World, 'attachment'>): Task {
  const attachment = yield* buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS);
  yield* locked(buf.resv, attachment.pin());
  const table = yield* attachment.mapAttachmentUnlocked('to-device');
  yield* attachment.unmapAttachmentUnlocked(table, 'to-device');
  yield* locked(buf.resv, attachment.unpin());
  if (buf.ops.vmap !== undefined) yield* buf.vunmapUnlocked(yield* buf.vmapUnlocked());
  yield* buf.beginCpuAccess('to-device');
  yield* buf.endCpuAccess('to-device');
  yield* buf.detach(attachment);
}

function boot(callback: string, body: (buf: Buffer) => Task) {
  const rig = new KernelRig();
  const exporter = new FakeExporter({ isDynamic: true });
  const vmap: Partial<Ops> = {
    *vmap(buf): Task<IosysMap> {
      return new IosysMap(buf.kernel.machine, [], false);
    },
  };
  const extra = callback === 'vunmap' ? vmap : {};
  const changed = withBody(exporter, body)[callback] ?? expect.fail(callback);
  const ops: Ops = { ...exporter.ops, ...extra, ...changed };
  const info = { exporterName: 'fake', ops, size: 4096, priv: exporter };
  return { rig, buf: rig.do(DmaBuf.export(rig.kernel, info)) };
}

const LOCKED = ['pin', 'unpin', 'map_dma_buf', 'unmap_dma_buf', 'vmap', 'vunmap'];
const UNLOCKED = ['attach', 'detach', 'begin_cpu_access', 'end_cpu_access'];

function* lock({ resv }: Buffer): Task {
  yield* resv.lock();
}

function* unlock({ resv }: Buffer): Task {
  yield* resv.unlock();
}

describe('A callback of an exporter (A.18)', () => {
  test.each(LOCKED)('%s that takes the reservation waits for ever (LK-003)', (callback) => {
    const { rig, buf } = boot(callback, lock);
    rig.kthread(everything({ rig, buf }), 'importer');
    const { status, blocked } = rig.run();
    expect(status).toBe('deadlock');
    expect(blocked.find(({ actor }) => actor === 'importer')).toMatchObject({
      cell: 'dma-buf 1 resv',
      holds: ['dma-buf 1 resv'],
    });
  });

  test.each(LOCKED)('%s that gives the reservation back is reported (AC-22)', (callback) => {
    const { rig, buf } = boot(callback, unlock);
    rig.try(everything({ rig, buf }));
    expect(rig.warnings[0]).toBe(`${callback}: gave dma-buf 1 resv back`);
  });

  test.each(UNLOCKED)('%s may take the reservation, and give it back', (callback) => {
    const { rig, buf } = boot(callback, function* (own): Task {
      yield* locked(own.resv, lockHeldNote(own));
    });
    rig.do(everything({ rig, buf }));
    expect(rig.warnings).toEqual([]);
  });

  test.each(UNLOCKED)('%s that keeps the reservation is reported (AC-22)', (callback) => {
    const { rig, buf } = boot(callback, lock);
    rig.try(everything({ rig, buf }));
    expect(rig.warnings[0]).toBe(`${callback}: kept dma-buf 1 resv`);
  });
});

function* lockHeldNote({ resv }: Buffer): Task {
  resv.assertHeld('the test');
}

describe("An importer's invalidate callback (A.18)", () => {
  test.each(['attach', 'detach'])('that does %s waits for ever (LK-004)', (verb) => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const ops = {
      allowPeer2Peer: true,
      *invalidateMappings(attachment: Attachment): Task {
        if (verb === 'attach') yield* attachment.buf.attach(attachment.device);
        else yield* attachment.buf.detach(attachment);
      },
    };
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
    rig.kthread(locked(buf.resv, buf.invalidateMappings()), 'exporter');
    expect(rig.run().status).toBe('deadlock');
  });

  test('that gives the reservation back is reported (AC-22)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const ops = {
      allowPeer2Peer: true,
      *invalidateMappings({ buf: { resv } }: Attachment): Task {
        yield* resv.unlock();
      },
    };
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
    rig.try(locked(buf.resv, buf.invalidateMappings()));
    expect(rig.warnings[0]).toBe('invalidate_mappings: gave dma-buf 1 resv back');
  });
});

describe('With the reservation held (A.18)', () => {
  test.each([
    ['fd', 'dma_buf_fd', ({ rig, buf }: World) => buf.fd(rig.process)],
    ['get', 'dma_buf_get', ({ rig }: World) => DmaBuf.get(rig.process, 3)],
  ] as const)('%s is a kernel warning (LK-002)', (_, call, verb) => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const attachment = rig.do(buf.attach(rig.at('03:00.0')));
    if (call === 'dma_buf_get') rig.do(buf.fd(rig.process));
    rig.do(locked<unknown>(buf.resv, verb({ rig, buf, attachment })));
    expect(rig.warnings).toEqual([`${call}: called with dma-buf 1 resv held`]);
  });

  test.each(['map', 'unmap', 'vmap', 'vunmap'])(
    '%s without it in the name waits for ever (LK-002)',
    (verb) => {
      const { rig, buf } = boot('vmap', function* (): Task {});
      const attachment = rig.do(buf.attach(rig.at('03:00.0')));
      const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
      const map = rig.do(buf.vmapUnlocked());
      const calls: Record<string, () => Task<unknown>> = {
        map: () => attachment.mapAttachmentUnlocked('to-device'),
        unmap: () => attachment.unmapAttachmentUnlocked(table, 'to-device'),
        vmap: () => buf.vmapUnlocked(),
        vunmap: () => buf.vunmapUnlocked(map),
      };
      rig.kthread(locked<unknown>(buf.resv, calls[verb]?.() ?? expect.fail(verb)));
      expect(rig.run().status).toBe('deadlock');
    },
  );
});

describe('The order of locks (AC-22)', () => {
  test('has no circle over all stories on all presets', () => {
    const graph = new LockGraph();
    for (const scenario of SCENARIOS) {
      for (const spec of PRESETS) {
        const production = new Production(scenario, new MachinePlan(spec));
        for (let seed = 0; seed < 2; seed += 1) {
          const trace: TraceEvent[] = [];
          const scheduler = new Scheduler({ sink: (event) => void trace.push(event) });
          production.boot(scheduler);
          scheduler.run(new RandomStrategy(seed));
          graph.add(trace);
        }
      }
    }
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    rig.do(everything({ rig, buf }));
    rig.do(bufinfo(rig.kernel));
    graph.add(rig.trace);
    expect(graph.circle()).toBeNull();
    // The device's memory lock, and the list's, each before a reservation.
    expect(graph.size).toBeGreaterThanOrEqual(2);
  });

  test('that is turned round in one place is found, with both stacks, though nobody waited', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const own = new Mutex(rig.scheduler, 'driver lock');
    function* inOrder(): Task {
      yield* own.lock();
      yield* locked(buf.resv, lockHeldNote(buf));
      yield* own.unlock();
    }
    function* turnedRound(): Task {
      yield* own.lock();
      yield* own.unlock();
    }
    rig.kthread(inOrder(), 'reset');
    rig.run();
    rig.kthread(locked(buf.resv, turnedRound()), 'mover');
    expect(rig.run().status).toBe('done');
    const graph = new LockGraph();
    graph.add(rig.trace);
    const stacks = graph.circle()?.map(({ held, taken, stack }) => [held, taken, stack]);
    expect(stacks).toEqual([
      ['driver lock', 'dma-buf # resv', expect.stringMatching(/^reset, .* holding driver lock$/)],
      ['dma-buf # resv', 'driver lock', expect.stringMatching(/^mover, .* dma-buf 1 resv$/)],
    ]);
  });
});
