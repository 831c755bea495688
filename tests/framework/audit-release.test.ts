/**
 * Goal: a buffer comes and goes in the kernel's order, step by step. Method: an exporter, fences, a
 * module and a program that write down what they see at each step; reference A.3, A.4, A.5, A.12.
 */

import { describe, expect, test } from 'vitest';
import {
  DmaBuf,
  DmaFence,
  DmaResv,
  KernelModule,
  PollTable,
  POLLIN,
} from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

/** A module that writes down when it is put, and how often the kernel had warned by then. */
function noisyModule(rig: KernelRig, log: string[]): KernelModule {
  const owner = new KernelModule(rig.scheduler, 'exporter module');
  const put = owner.put.bind(owner);
  Object.assign(owner, {
    put() {
      log.push(`module put after ${rig.warnings.length} warnings`);
      return put();
    },
  });
  return owner;
}

/** A fence that writes down when it is let go. */
function noisyFence(rig: KernelRig, log: string[]): DmaFence {
  const origin = { driver: 'card', timeline: 'ring', context: 7, seqno: 1 };
  const ops = {
    *release(): Atomic {
      log.push('fence let go');
    },
  };
  return new DmaFence(rig.kernel, origin, { ops });
}

/** A buffer with a fence, a name and an attachment that nobody takes back; then the last put. */
function lifeOf(shared: DmaResv | null, rig: CoreRig): readonly string[] {
  const log: string[] = [];
  const exporter = new FakeExporter({
    *onRelease(buf): Task {
      const isLive = yield* buf.tryGet();
      const isListed = (yield* rig.kernel.bufferList.read()).includes(buf as DmaBuf);
      log.push(`release: live ${isLive}, listed ${isListed}, name ${buf.name.value}`);
      log.push(`release: ${buf.attachments.value.length} attached, ${rig.warnings.length} warned`);
    },
  });
  const owner = noisyModule(rig, log);
  const { ops } = exporter;
  const info = { exporterName: 'fake', ops, size: 4096, priv: exporter, owner, resv: shared };
  const buf = rig.do(DmaBuf.export(rig.kernel, info));
  const fence = noisyFence(rig, log);
  function* story(): Task {
    yield* buf.name.write('frame');
    yield* buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS);
    yield* buf.resv.lock();
    yield* buf.resv.reserveFences(1);
    yield* buf.resv.addFence(fence, 'bookkeep');
    yield* buf.resv.unlock();
    yield* fence.put();
    yield* buf.put();
    const isListed = (yield* rig.kernel.bufferList.read()).includes(buf as DmaBuf);
    log.push(`dead: live ${yield* buf.tryGet()}, listed ${isListed}`);
  }
  rig.user(rig.process.syscall(story()));
  expect(rig.run().status).toBe('done');
  expect([buf.isFreed, owner.value.references]).toEqual([true, 0]);
  return log;
}

describe('The end of a buffer (A.5)', () => {
  const BEGIN = [
    'dead: live false, listed true',
    'release: live false, listed false, name frame',
    'release: 1 attached, 0 warned',
  ];

  test('is dead, off the list, asks the exporter, drops fences, puts the module', () => {
    const log = lifeOf(null, new CoreRig());
    expect(log).toEqual([...BEGIN, 'fence let go', 'module put after 1 warnings']);
  });

  test('leaves the fences of a reservation that is not its own', () => {
    const rig = new CoreRig();
    const resv = new DmaResv(rig.kernel, 'shared');
    expect(lifeOf(resv, rig)).toEqual([...BEGIN, 'module put after 1 warnings']);
    expect(rig.do(resv.getFences('bookkeep'))).toHaveLength(1);
  });

  test('with a map of the kernel and a pending poll is a BUG for the map, and stops there', () => {
    const rig = new CoreRig();
    const buf = rig.do(rig.exportRam());
    rig.do(rig.publish(buf, 'write'));
    rig.do(buf.vmapUnlocked());
    buf.priv.calls.length = 0;
    function* story(): Task {
      yield* buf.file.operations.poll?.(buf.file, new PollTable(POLLIN)) ?? expect.fail('poll');
      yield* buf.put();
      yield* buf.put();
    }
    expect(rig.try(story()).outcome.findings).toMatchObject([
      { kind: 'oops', title: 'dma_buf_release: the kernel still maps dma-buf 1' },
    ]);
    expect(buf.priv.calls).toEqual([]);
  });

  test('by close or exit is no dma_buf_put in the trace (A.4)', () => {
    const rig = new KernelRig();
    const closed = rig.do(rig.export());
    rig.do(rig.process.close(rig.do(closed.fd(rig.process))));
    const left = rig.do(rig.export());
    rig.do(left.fd(rig.process));
    rig.do(rig.process.exit());
    expect(rig.kinds('buffer.put', 'buffer.release')).toEqual(Array(4).fill('buffer.release'));
  });
});

describe('An export that lacks several things (A.3)', () => {
  /** What it is refused for, and how often the module was asked. */
  function refusal(change: object, isLive: boolean) {
    const rig = new KernelRig();
    const exporter = new FakeExporter({ isDynamic: true });
    const owner = new KernelModule(rig.scheduler, 'module');
    if (!isLive) rig.do(unload(owner));
    const base = { exporterName: 'fake', ops: exporter.ops, size: 1, priv: exporter, owner };
    Object.assign(rig.scheduler, { failAt: 1, fallible: 0 });
    const { reason } = rig.do(refused(DmaBuf.export(rig.kernel, { ...base, ...change })));
    expect([rig.kernel.bufferList.value, owner.value.references]).toEqual([0, 0]);
    return { reason, warnings: rig.warnings.length };
  }

  function* unload(owner: KernelModule): Task {
    yield* owner.unload();
  }

  const { mapDmaBuf, unmapDmaBuf, release, pin } = new FakeExporter({ isDynamic: true }).ops;

  test('is refused for what is mandatory first, then pins, the module, and memory last', () => {
    const half = { mapDmaBuf, unmapDmaBuf, release, pin };
    const reasons = [
      refusal({ priv: null, ops: half }, false),
      refusal({ ops: half }, false),
      refusal({}, false),
      refusal({}, true),
    ];
    expect(reasons).toEqual([
      { reason: 'exporter-lacks-what-is-mandatory', warnings: 1 },
      { reason: 'pin-without-unpin', warnings: 1 },
      { reason: 'module-is-being-unloaded', warnings: 0 },
      { reason: 'no-memory-for-a-dma-buf', warnings: 0 },
    ]);
  });
});

describe('An attachment that comes while memory is taken back (A.12, A.17)', () => {
  test('is not told between the exporter’s yes and the list: it finds out when it maps', () => {
    const rig = new KernelRig();
    const told: string[] = [];
    const ops = {
      allowPeer2Peer: true,
      *invalidateMappings(): Task {
        told.push('told');
      },
    };
    const exporter = new FakeExporter({
      onAttach: (buf) => locked(buf.resv, buf.invalidateMappings()),
    });
    const buf = rig.do(rig.export(exporter));
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), ops));
    expect(told).toEqual([]);
    rig.do(locked(buf.resv, buf.invalidateMappings()));
    expect(told).toEqual(['told']);
    expect(rig.warnings).toEqual([]);
  });

  test('that the exporter refuses was never there: no detach, nothing on the list (A.12)', () => {
    const rig = new KernelRig();
    const exporter = new FakeExporter();
    const buf = rig.do(rig.export(exporter));
    Object.assign(exporter.options, {
      *onAttach(): Task {
        yield* buf.attachments.read();
        throw yield* refused(rig.process.close(99));
      },
    });
    expect(rig.do(refused(buf.attach(rig.at('03:00.0')))).code).toBe('EBADF');
    expect(exporter.calls).toEqual(['attach 0000:03:00.0']);
    expect(buf.attachments.value).toEqual([]);
    expect(buf.file.refs.value).toBe(1);
  });
});
