/**
 * Goal: the release comes after the last reference, once, later and elsewhere: never under a lock
 * of who dropped it. Method: every kind of putter, under many schedules; reference A.5, A.6.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { DmaBuf, DmaFence, DmaResv, KernelFile } from '../../src/framework/index.ts';
import { Mutex, type Task } from '../../src/machine/index.ts';
import { oneStep, refused } from '../machine/fabric-rig.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS, ScriptedStrategy } from './kernel-rig.ts';

/** Who released a buffer, and what stood in the trace right before. */
function releaser(rig: KernelRig): string {
  const [begin, ...others] = rig.events('buffer.release').filter((event) => {
    return event.kind === 'buffer.release' && event.phase === 'begin';
  });
  expect(others).toEqual([]);
  return begin?.task ?? 'nobody';
}

describe('The release of a buffer (A.5)', () => {
  test('comes after the third drop of two copies and an importer (S003-17)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fd = rig.do(buf.fd(rig.process));
    const copy = rig.do(rig.process.dup(fd));
    const imported = rig.do(DmaBuf.get(rig.process, copy));
    rig.do(rig.process.close(fd));
    rig.do(rig.process.close(copy));
    expect(buf.priv.calls).toEqual([]);
    rig.do(imported.put());
    expect(buf.priv.calls).toEqual(['release']);
    expect(rig.events('buffer.put')).toMatchObject([{ buffer: 1, last: true }]);
  });

  test('is done by a user thread on its way out of the system call, not before', () => {
    const rig = new KernelRig();
    const exporter = new FakeExporter();
    const seen: string[] = [];
    function* call(): Task {
      const buf = yield* rig.export(exporter);
      yield* buf.put();
      yield* rig.scheduler.sleep(1);
      seen.push(...exporter.calls, 'end of the call');
    }
    function* program(): Task {
      yield* rig.process.syscall(call());
      seen.push(...exporter.calls);
    }
    rig.user(program());
    expect(rig.run().findings).toEqual([]);
    expect(seen).toEqual(['end of the call', 'release']);
    expect(releaser(rig)).toBe('thread');
  });

  test('is done on the way out of a call that fails, too', () => {
    const rig = new KernelRig();
    const exporter = new FakeExporter();
    function* call(): Task {
      const buf = yield* rig.export(exporter);
      yield* buf.put();
      yield* rig.process.close(99);
    }
    rig.user(refused(rig.process.syscall(call())));
    expect(rig.run().findings).toEqual([]);
    expect(exporter.calls).toEqual(['release']);
  });

  test.each(['kernel', 'device', 'remote'] as const)(
    'is left to a worker by a %s actor',
    (role) => {
      const rig = new KernelRig();
      const buf = rig.do(rig.export());
      rig.scheduler.spawn(buf.put(), { name: 'putter', role });
      expect(rig.run().findings).toEqual([]);
      expect(releaser(rig)).toBe('kworker/fput');
    },
  );

  test('never runs under a lock of the last putter, in any of 200 schedules (DB-002)', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const rig = new KernelRig();
      const lock = new Mutex(rig.scheduler, 'list lock');
      const exporter = new FakeExporter({
        *onRelease(): Task {
          yield* lock.lock();
          yield* lock.unlock();
        },
      });
      const buf = rig.do(rig.export(exporter));
      function* put(): Task {
        yield* lock.lock();
        yield* buf.put();
        yield* rig.scheduler.sleep(10);
        yield* lock.unlock();
      }
      function* get(): Task {
        yield* buf.getDmaBuf();
      }
      rig.do(get());
      rig.user(rig.process.syscall(put()));
      rig.kthread(put());
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
      expect(exporter.calls.filter((call) => call.startsWith('release'))).toHaveLength(1);
    }
  });

  test('takes the buffer off the list, asks the exporter, then looks at the rest (DB-008)', () => {
    const rig = new KernelRig();
    const seen: unknown[] = [];
    const exporter = new FakeExporter({
      *onRelease(buf): Task {
        seen.push([...rig.warnings], rig.kernel.bufferList.value, buf.attachments.value.length);
      },
    });
    const buf = rig.do(rig.export(exporter));
    rig.do(buf.dynamicAttach(rig.at('03:00.0'), PEER_OPS));
    expect(rig.kernel.bufferList.value).toBe(1);
    rig.do(buf.put());
    expect(seen).toEqual([[], 0, 1]);
    expect(rig.warnings).toEqual(['dma_buf_release: 1 attachments are still on the list']);
    expect(rig.kinds('buffer.put', 'buffer.release', 'kernel.warn')).toEqual([
      'buffer.put',
      'buffer.release',
      'kernel.warn',
      'buffer.release',
    ]);
  });

  test('lets the fences of its own reservation go, after the exporter, and no others', () => {
    const rig = new KernelRig();
    const resv = new DmaResv(rig.kernel, 'shared');
    const counts = (shared: DmaResv | null): readonly number[] => {
      const seen: number[] = [];
      const exporter = new FakeExporter({
        *onRelease(): Task {
          seen.push(fence.refs.value);
        },
      });
      const info = { exporterName: 'fake', ops: exporter.ops, size: 1, priv: exporter };
      const buf = rig.do(DmaBuf.export(rig.kernel, { ...info, resv: shared }));
      const origin = { driver: 'card', timeline: 'jobs', context: 1, seqno: 1 };
      const fence = new DmaFence(rig.kernel, origin);
      function* add(): Task {
        yield* buf.resv.reserveFences(1);
        yield* buf.resv.addFence(fence, 'bookkeep');
      }
      rig.do(locked(buf.resv, add()));
      rig.do(buf.put());
      return [...seen, fence.refs.value];
    };
    expect(counts(null)).toEqual([2, 1]);
    expect(counts(resv)).toEqual([2, 2]);
  });

  test('may drop the last reference of another buffer', () => {
    const rig = new KernelRig();
    const inner = rig.do(rig.export());
    const outer = new FakeExporter({ onRelease: () => inner.put() });
    const buf = rig.do(rig.export(outer));
    rig.user(rig.process.syscall(buf.put()));
    expect(rig.run().findings).toEqual([]);
    expect([outer.calls, inner.priv.calls]).toEqual([['release'], ['release']]);
    const byWorker = rig.do(rig.export(new FakeExporter()));
    rig.do(byWorker.put());
    expect(rig.kernel.bufferList.value).toBe(0);
  });
});

describe('A dead buffer (A.6)', () => {
  test('is not revived: get is a kernel warning, try-get says no (DB-003)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    rig.do(buf.put());
    expect(rig.do(buf.tryGet())).toBe(false);
    rig.do(buf.getDmaBuf());
    expect(buf.file.refs.value).toBe(0);
    expect(rig.warnings).toEqual([
      'refcount: dma-buf 1 file incremented from zero; use after free',
    ]);
    expect(rig.events('buffer.try-get')).toMatchObject([{ buffer: 1, ok: false }]);
    expect(buf.priv.calls).toEqual(['release']);
  });

  test('and a live one: try-get takes a reference, which holds the release off (S003-13)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    expect(rig.do(buf.tryGet())).toBe(true);
    rig.do(buf.put());
    expect(buf.priv.calls).toEqual([]);
    rig.do(buf.put());
    expect(buf.priv.calls).toEqual(['release']);
  });

  test('is dead from the last put on, though its release has yet to run (S003-14)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const seen: unknown[] = [];
    function* call(): Task {
      yield* buf.put();
      seen.push(yield* buf.tryGet(), [...buf.priv.calls], rig.kernel.bufferList.value);
    }
    rig.user(rig.process.syscall(call()));
    rig.run();
    expect(seen).toEqual([false, [], 1]);
    expect(buf.priv.calls).toEqual(['release']);
  });
});

describe('The end of a process', () => {
  test('closes its descriptors in order and gives its pages back', () => {
    const rig = new KernelRig();
    const { process } = rig;
    function* program(): Task {
      for (let i = 0; i < 3; i += 1) yield* (yield* rig.export()).fd(process);
      yield* process.allocate(2 * 4096);
      yield* process.allocate(4096, 1);
      yield* process.exit();
    }
    rig.user(program());
    expect(rig.run().findings).toEqual([]);
    expect(rig.events('fd.close')).toMatchObject([{ fd: 3 }, { fd: 4 }, { fd: 5 }]);
    expect(rig.kernel.bufferList.value).toBe(0);
    expect([...process.fds.value]).toEqual([]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
  });

  test('leaves alone what another process holds', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    rig.do(buf.fd(rig.process));
    function* share(): Task {
      yield* buf.getDmaBuf();
    }
    rig.do(share());
    rig.do(rig.process.exit());
    expect(buf.priv.calls).toEqual([]);
    rig.do(buf.put());
    expect(buf.priv.calls).toEqual(['release']);
  });
});

describe('Memory of a process', () => {
  test('is ENOMEM when no pages are left: no-pages-left', () => {
    const rig = new KernelRig();
    const half = 512 * 2 ** 20;
    // Each node has one GiB, less what the firmware keeps.
    for (const _node of rig.machine.spec.memory) rig.do(rig.process.allocate(half));
    const error = rig.do(refused(rig.process.allocate(half)));
    expect(error).toMatchObject({ code: 'ENOMEM', call: 'mmap', reason: 'no-pages-left' });
  });

  test('comes in whole pages', () => {
    const rig = new KernelRig();
    expect(() => rig.do(rig.process.allocate(100))).toThrow('whole pages');
  });
});

describe('A release that nobody comes back for', () => {
  test('runs at the end of a failing dup', () => {
    const rig = new KernelRig();
    const { fds } = rig.process;
    const buf = rig.do(rig.export());
    const fd = rig.do(buf.fd(rig.process));
    const other = new KernelFile(rig.kernel, 'other', { *release(): Task {} });
    function* fill(): Task {
      while ((yield* fds.install(other)) !== null) yield* other.get();
    }
    rig.do(fill());
    function* closer(): Task {
      yield* rig.process.close(fd);
      yield* fds.install(other);
    }
    rig.user(refused(rig.process.dup(fd)), 'dup');
    rig.user(closer(), 'close');
    rig.run(new ScriptedStrategy(['dup', 'close', 'close', 'close', 'dup', 'dup']));
    expect(buf.file.refs.value).toBe(0);
    expect(buf.priv.calls).toEqual(['release']);
  });

  test('runs when the thread that put it off ends', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    rig.user(buf.put());
    rig.run();
    expect(buf.priv.calls).toEqual(['release']);
  });
});

describe('A file that is no buffer', () => {
  test('is released as one is', () => {
    const rig = new KernelRig();
    const released: string[] = [];
    const file = new KernelFile(rig.kernel, 'eventfd', {
      *release(): Task {
        released.push('eventfd');
      },
    });
    const fd = rig.do(oneStep(rig.process.fds.install(file))) ?? expect.fail('a descriptor');
    rig.user(rig.process.close(fd));
    expect(rig.run().findings).toEqual([]);
    expect(released).toEqual(['eventfd']);
  });
});
