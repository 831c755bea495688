/**
 * Goal: whatever the core cannot get, the call that needed it says so, and nothing is left of it.
 * Method: the same program again and again, each time another step refused: sync files of several
 * fences, polls with both slots taken, exporters with and without hidden pages; reference A.3, A.7,
 * A.12, A.14, A.16, B.2, B.5, B.6.
 */

import { describe, expect, test } from 'vitest';
import { isDmaBufError } from '../../src/base/index.ts';
import { DmaBuf, KernelModule, POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { AuditRig, READ, WRITE } from './audit-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, PEER_OPS } from './kernel-rig.ts';

/** What a program fails for, over all single failures; none may warn. */
function reasonsOf(body: (rig: AuditRig) => Task): ReadonlySet<string> {
  const rigs: AuditRig[] = [];
  const make = (): AuditRig => {
    const rig = new AuditRig();
    rigs.push(rig);
    return rig;
  };
  const reasons = AuditRig.reasonsOf(make, body);
  expect(rigs.flatMap(({ warnings }) => warnings)).toEqual([]);
  // A reference that an error path forgot would keep the fence.
  const fences = rigs.flatMap((rig) => rig.fences);
  expect(fences.filter(({ refs }) => refs.value !== 0)).toEqual([]);
  return reasons;
}

describe('A program with one failure', () => {
  test('while files of several fences go in and out (A.16, B.2, B.5, B.6)', () => {
    const reasons = reasonsOf(function* (rig): Task {
      const fd = yield* rig.buffer();
      const [one, other, third] = yield* rig.timelines(3);
      const both = yield* rig.merge(one.point, other.point);
      yield* rig.importSync(fd, WRITE, yield* rig.merge(both, third.point));
      yield* rig.exportSync(fd, READ);
      yield* rig.info(yield* rig.exportSync(fd, READ | WRITE));
      yield* rig.goOn(one.timeline);
      yield* rig.importSync(fd, READ, both);
      yield* rig.exportSync(fd, WRITE);
    });
    expect([...reasons]).toEqual(
      expect.arrayContaining([
        'no-memory-for-fences',
        'no-memory-for-a-snapshot',
        'no-memory-for-a-fence-array',
        'no-memory-to-export-a-sync-file',
        'no-memory-to-merge-fences',
        'no-memory-for-a-sync-file',
        'no-descriptor-to-export-to',
        'no-descriptor-for-a-new-file',
      ]),
    );
  });

  test('while both slots of its poll are taken (A.9)', () => {
    const reasons = reasonsOf(function* (rig): Task {
      const fd = yield* rig.buffer();
      yield* rig.importSync(fd, WRITE, yield* rig.pending(1));
      expect(yield* rig.ready(fd, POLLIN | POLLOUT)).toBe(0);
      yield* rig.importSync(fd, READ, yield* rig.pending(2));
      expect(yield* rig.ready(fd, POLLIN | POLLOUT)).toBe(0);
      yield* rig.setName(yield* rig.sys.dup(fd), 'polled');
      yield* rig.sys.close(fd);
      yield* rig.exportSync(fd + 1, WRITE);
      yield* rig.advance(1);
    });
    expect(reasons.has('no-memory-for-fences')).toBe(true);
  });

  test('while it imports: a refused import leaves the buffer’s fences as they were (A.16)', () => {
    for (let failAt = 1, isOver = false; !isOver; failAt += 1) {
      const rig = new AuditRig();
      const { scheduler } = rig;
      rig.do(importTwice(rig, failAt));
      isOver = scheduler.fallible < failAt;
      Object.assign(scheduler, { failAt: 0 });
      rig.leavesNothing();
    }
  });

  /** The second import may fail; then only the first has happened. */
  function* importTwice(rig: AuditRig, failAt: number): Task {
    const fd = yield* rig.buffer();
    const [one, other, third] = yield* rig.timelines(3);
    yield* rig.importSync(fd, WRITE, one.point);
    const both = yield* rig.merge(other.point, third.point);
    const { resv } = yield* rig.bufOf(fd);
    Object.assign(rig.scheduler, { failAt, fallible: 0 });
    let imported = 0;
    try {
      yield* rig.importSync(fd, WRITE, both);
      imported = 2;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      expect(error.code).toBe('ENOMEM');
    }
    const { fallible } = rig.scheduler;
    Object.assign(rig.scheduler, { failAt: 0 });
    const fences = yield* resv.getFences('bookkeep');
    expect(fences).toHaveLength(1 + imported);
    for (const fence of fences) yield* fence.put();
    Object.assign(rig.scheduler, { failAt, fallible });
  }
});

/** Exports, attaches, maps, unmaps and lets go; stops where something is refused. */
function* life(rig: CoreRig, exporter: FakeExporter, importer: Importer): Task {
  const { ops } = exporter;
  const { owner, isStatic } = importer;
  const info = { exporterName: 'fake', ops, size: 4096, priv: exporter, owner };
  const buf = yield* DmaBuf.export(rig.kernel, info);
  try {
    const how = isStatic ? null : PEER_OPS;
    const attachment = yield* buf.dynamicAttach(rig.at('03:00.0'), how);
    try {
      const table = yield* attachment.mapAttachmentUnlocked('bidirectional');
      yield* attachment.unmapAttachmentUnlocked(table, 'bidirectional');
    } finally {
      yield* buf.detach(attachment);
    }
    yield* buf.fd(rig.process);
    yield* buf.getDmaBuf();
  } finally {
    yield* buf.put();
  }
}

interface Importer {
  readonly owner: KernelModule;
  readonly isStatic: boolean;
}

describe.each([
  { debugDmaBuf: false, isDynamic: false, isStatic: true },
  { debugDmaBuf: false, isDynamic: true, isStatic: true },
  { debugDmaBuf: true, isDynamic: false, isStatic: true },
  { debugDmaBuf: true, isDynamic: true, isStatic: true },
  { debugDmaBuf: true, isDynamic: true, isStatic: false },
])('A driver with one failure, %o', ({ debugDmaBuf, isDynamic, isStatic }) => {
  test('exports, attaches, maps and makes a descriptor, or leaves nothing (A.3, A.4, A.14)', () => {
    const reasons: string[] = [];
    for (let failAt = 1, isOver = false; !isOver; failAt += 1) {
      const rig = new CoreRig({}, { debugDmaBuf });
      const exporter = new FakeExporter({ isDynamic });
      const owner = new KernelModule(rig.scheduler, 'module');
      Object.assign(rig.scheduler, { failAt, fallible: 0 });
      const error = rig.do(errorOf(life(rig, exporter, { owner, isStatic })));
      if (error !== null) reasons.push(error);
      isOver = rig.scheduler.fallible < failAt;
      Object.assign(rig.scheduler, { failAt: 0 });
      rig.do(rig.process.exit());
      expect([exporter.pins, exporter.tables, rig.warnings]).toEqual([0, [], []]);
      expect([rig.kernel.bufferList.value, owner.value.references]).toEqual([0, 0]);
      const pairs = (word: string) => exporter.calls.filter((call) => call.startsWith(word));
      expect(pairs('attach')).toHaveLength(pairs('detach').length);
      expect(pairs('map')).toHaveLength(pairs('unmap').length);
    }
    expect(reasons).toEqual([
      'no-memory-for-a-dma-buf',
      'no-memory-for-an-attachment',
      ...(debugDmaBuf ? ['no-memory-to-copy-the-table'] : []),
      'descriptor-table-is-full',
    ]);
  });
});

function* errorOf(task: Task): Task<string | null> {
  try {
    yield* task;
    return null;
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    return error.reason;
  }
}
